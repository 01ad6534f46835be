# Counterpoint. `make quickstart` and `make test` each do everything they need on a fresh Linux x86-64 machine that has
# cargo, pip and a C++ compiler. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN := target/release/counterpoint
# Idle OpenMP threads must sleep, not spin: two engines share the cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup build quickstart smollm2-model smollm2 test lint bench-race bench-verify bench-learner bench-generate bench-llama bench-actors bench-swap bench-overlap bench-cuda test-cuda compare-objectives mutations fuzz python-env bench-eval test-python clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## fetch libtorch once into the user's cache (a LIBTORCH of your own is respected)
	@.ci/libtorch

build: setup ## build target/release/counterpoint
	@$(CARGO) build --release --locked --workspace

quickstart: build ## train a tiny policy on arithmetic until it is visibly better (results in runs/quickstart)
	@$(BIN) run configs/quickstart.toml

smollm2-model: build ## fetch SmolLM2-135M-Instruct once (93 MB) and convert it to .cache/smollm2
	@.ci/smollm2

smollm2: smollm2-model ## teach SmolLM2-135M-Instruct one-digit sums (results in runs/smollm2; one to three minutes on two cores)
	@$(BIN) run configs/smollm2.toml

test: setup ## run all tests (no network, no GPU)
	@COUNTERPOINT_STRICT=1 $(CARGO) test --release --locked --workspace

test-python: build ## open what the program wrote in transformers and peft (fetches them, 0.3 GB, into .cache and the user's cache)
	@environment=$$(.ci/python) && eval "$$environment" && $$PYTHON -m unittest discover -s tests/python

lint: setup ## rustfmt, clippy with warnings as errors, cargo-deny where it is installed
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
	  else echo "lint: cargo-deny is not installed, its checks are skipped (cargo install cargo-deny)"; fi

python-env: ## a Python environment with torch and transformers for the peers (3 GB, not needed by anything else)
	@test -x .venv/bin/python || python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benches/peers/requirements.txt

bench-race: build python-env ## race to 0.60 against the two PyTorch peers: same start, data, settings, threads
	@.venv/bin/python benches/race.py

bench-verify: build ## verdicts per second and the time of one, against math-verify, on one core
	@test -x .venv/bin/python || python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r benches/verify-requirements.txt
	@.venv/bin/python benches/verify.py

bench-learner: build python-env ## trained tokens per second against transformers, and the ceiling; then peak memory at 150,000 entries
	@$(CARGO) bench --quiet --locked --bench learner --no-run
	@.venv/bin/python benches/learner.py
	@.venv/bin/python benches/learner.py --memory

bench-generate: build python-env ## sampled tokens per second against transformers and llama.cpp, and the ceiling
	@$(CARGO) bench --quiet --locked --bench generate --no-run
	@.venv/bin/python benches/generate.py

bench-llama: build python-env ## the same for SmolLM2 alone, with llama.cpp, which pip builds from source (ten minutes)
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check llama-cpp-python==0.3.36
	@$(CARGO) bench --quiet --locked --bench generate --no-run
	@.venv/bin/python benches/generate.py --only smollm2

bench-actors: setup ## completions per second through the actors alone, with a generator and a learner that do no work
	@$(CARGO) bench --quiet --locked --bench actors -- 10000000 5

bench-swap: smollm2-model ## how long new weights make decoding stand still, how fast they are copied, and 1,000 swaps' memory
	@$(CARGO) bench --quiet --locked --bench swap -- configs/arith 256 1000 1
	@$(CARGO) bench --quiet --locked --bench swap -- .cache/smollm2 64 10 1

bench-overlap: build ## asynchrony against taking turns: long-tailed answers, a verifier of 200 ms, staleness 0 to 16 (ten minutes)
	@python3 benches/overlap.py

bench-cuda: setup ## on an NVIDIA GPU: decode and optimiser steps against what the device can do, and both at once on two streams
	@$(CARGO) bench --quiet --locked --bench cuda -- 135m 1.5b 7b

test-cuda: setup ## on an NVIDIA GPU: the tests that the CPU is the measure of
	@COUNTERPOINT_STRICT=1 $(CARGO) test --release --locked --workspace --test cuda -- --ignored --test-threads=1

compare-objectives: build ## the objectives side by side on the quickstart task: a table and benches/objectives.svg
	@python3 benches/compare_objectives.py

bench-eval: build python-env ## pass@1 by `counterpoint eval` and by transformers: same model, questions and settings
	@.venv/bin/python benches/eval_parity.py

mutations: setup ## break the learner's maths in five ways; tests must fail each time (five minutes)
	@.ci/mutations

FUZZ_SECONDS ?= 600
fuzz: ## fuzz the maths verifier, FUZZ_SECONDS for each target (needs cargo-fuzz; see actors/verifier/fuzz/README.md)
	@python3 actors/verifier/fuzz/seeds.py
	@cd actors/verifier && for target in latex extract judge; do \
	  mkdir -p fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -dict=fuzz/latex.dict -max_len=4096 -len_control=0 -timeout=10 -max_total_time=$(FUZZ_SECONDS); done

clean: ## remove what was built here (the libtorch cache of the user stays)
	@$(CARGO) clean
	@rm -rf .venv .cache
