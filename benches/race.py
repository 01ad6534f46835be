"""The race: seconds of training to an accuracy on held-out two-digit arithmetic, Counterpoint against three PyTorch peers.

usage (by `make bench-race`): race.py [--seeds 3] [--only counterpoint,own,packed_nft,torch_nft,trl_grpo] [key=value ...]

Same start (configs/arith), same data and held-out prompts, same K, learning rate, steps per publish and threads, and about
the same number of mixed groups per step: the peers filter 128 prompts without refilling and train them in 4 parts, which
is about 24 mixed groups a step, and publish once for the 4; Counterpoint trains 24 and publishes every 4 steps
(configs/race.toml). "own" is Counterpoint with settings of its own (OWN below), against torch_nft at the settings above and,
to 0.45, against TRL's GRPOTrainer. All evaluate 256 prompts with 8 samples each, Counterpoint and the NFT peers every 20
optimiser steps, TRL every 5 of its larger ones; set-up and evaluations are not counted. One after the other, on a machine that
should be quiet. key=value goes to Counterpoint's config.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "configs" / "arith"
LIMIT = 900  # seconds for one run, a hang included
FAR, NEAR = 0.60, 0.45
# Tuned with seed 11, which is none of the race's: many questions with few answers each make a step less noisy than few with
# many; a high rate that falls, long averages and flat samples make it short.
OWN = ["feed.answers_per_prompt=4", "feed.prompts_per_step=48", "objective.weight=sqrt", "generator.temperature=1.5",
       "learner.learning_rate=3.5e-4", "learner.warmup_steps=10", "learner.lr_scheduler_type=linear", "learner.min_lr_ratio=0.1",
       "run.max_steps=280", "learner.adam_beta1=0.95", "learner.adam_beta2=0.98", "weight_sync.every=1", "replay.max_staleness=2"]
# (slower, faster, accuracy, the goal of the project)
CLAIMS = [("torch_nft", "counterpoint", FAR, 4), ("packed_nft", "counterpoint", FAR, 1.3), ("torch_nft", "own", FAR, 8),
          ("trl_grpo", "own", NEAR, 10)]


def reached(evaluations, target):
    """Seconds of training at the first of [(seconds, accuracy)] that is at least the target."""
    return next((seconds for seconds, accuracy in evaluations if accuracy >= target), None)


def counterpoint(seed, overrides):
    with tempfile.TemporaryDirectory() as run:
        command = [ROOT / "target/release/counterpoint", "run", ROOT / "configs/race.toml", f"run.dir={run}", f"run.seed={seed}",
                   f"run.target_accuracy={FAR}", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT, stderr=subprocess.DEVNULL)
        evals = [json.loads(line) for line in open(pathlib.Path(run) / "eval.jsonl")]
        summary = json.load(open(pathlib.Path(run) / "summary.json"))
        answers = tomllib.loads((pathlib.Path(run) / "config.toml").read_text())["feed"]["answers_per_prompt"]
    evaluations = [(line["seconds_training"], line["accuracy"]) for line in evals]
    judged = summary["ledger"]["trained"] + sum(summary["ledger"]["dropped"].values())
    return {"evaluations": evaluations, "steps": summary["steps"],
            "sampled": judged * answers, "trained": summary["ledger"]["trained"] * answers}


def peer(script, options, seed, target):
    command = [sys.executable, ROOT / "benches/peers" / script, MODEL, "--target", str(target), "--seed", str(seed), *options]
    out = subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]  # TRL prints Python's dictionaries too
    return [line for line in lines if "accuracy" in line]


def nft_peer(script, options, seed):
    common = ["--prompts", "128", "--k", "8", "--lr", "1e-4"]
    lines = peer(script, [*common, *options], seed, FAR)
    rounds = lines[-1].get("step", 0)
    mixed = statistics.mean(line["mixed"] for line in lines if "mixed" in line)
    return {"evaluations": [(line["seconds"], line["accuracy"]) for line in lines], "steps": rounds * 4,
            "sampled": rounds * 128 * 8, "trained": round(rounds * 128 * 8 * mixed)}


def trl_grpo(seed):
    lines = peer("trl_grpo.py", ["--max-seconds", str(LIMIT - 60)], seed, NEAR)
    steps = lines[-1]["step"]
    # It trains every answer that it samples, those of groups without a difference too.
    return {"evaluations": [(line["seconds"], line["accuracy"]) for line in lines], "steps": steps,
            "sampled": steps * 32 * 8, "trained": steps * 32 * 8}


RACERS = {
    "counterpoint": counterpoint,
    "own": lambda seed, overrides: counterpoint(seed, [*OWN, *overrides]),
    "packed_nft": lambda seed, _: nft_peer("packed_nft.py", ["--mb", "4", "--max", str(LIMIT - 60)], seed),
    "torch_nft": lambda seed, _: nft_peer("torch_nft.py", ["--minibatches", "4", "--max-seconds", str(LIMIT - 60)], seed),
    "trl_grpo": lambda seed, _: trl_grpo(seed),
}


def summed_up(runs, target):
    """(median or None if a run did not get there, text)"""
    times = [reached(run["evaluations"], target) for run in runs]
    if None in times:
        return None, "not reached" if times == [None] * len(times) else "not always reached"
    return statistics.median(times), f"{statistics.median(times):.1f} ({', '.join(f'{t:.1f}' for t in times)})"


def report(results):
    print(f"\n| program | seconds to {FAR:.2f}: median (all) | to {NEAR:.2f} | steps | answers sampled | answers trained |")
    print("|---|---|---|---|---|---|")
    for name, runs in results.items():
        mean = lambda key: f"{round(statistics.mean(run[key] for run in runs)):,}"
        far = "not run so far" if name == "trl_grpo" else summed_up(runs, FAR)[1]
        print(f"| {name} | {far} | {summed_up(runs, NEAR)[1]} | {mean('steps')} | {mean('sampled')} | {mean('trained')} |")
    print()
    for slower, faster, target, goal in CLAIMS:
        if slower in results and faster in results:
            one, other = summed_up(results[slower], target)[0], summed_up(results[faster], target)[0]
            ratio = f"{one / other:.2f}x" if one and other else "no figure"
            print(f"to {target:.2f}, {faster} against {slower}: {ratio} (goal {goal}x)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(RACERS))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    # The peers run as their users run them: with OpenMP's own waiting, which on a quiet machine is faster for them.
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    results = {name: [] for name in options.only.split(",")}
    for seed in range(1, options.seeds + 1):
        for name in results:
            started = time.time()
            result = RACERS[name](seed, options.overrides)
            results[name].append(result)
            times = {f"{target:.2f}": reached(result["evaluations"], target) for target in (NEAR, FAR)}
            print(f"seed {seed} {name}: seconds to {json.dumps(times)}, {result['steps']} steps (wall {time.time() - started:.0f} s)",
                  flush=True)
    report(results)


if __name__ == "__main__":
    main()
