"""The race: time to an accuracy of 0.60 on held-out two-digit arithmetic, Counterpoint against two PyTorch peers.

usage (by `make bench-race`): race.py [--seeds 1] [--target 0.6] [--only counterpoint,packed_nft,torch_nft] [key=value ...]

Same start (configs/arith), same data and held-out prompts, same K, learning rate, steps per publish and threads, and about
the same number of mixed groups per step: the peers filter 128 prompts without refilling and train them in 4 parts, which
is about 24 mixed groups a step, and publish once for the 4; Counterpoint trains 24 and publishes every 4 steps
(configs/race.toml). All three evaluate 256 prompts with 8 samples each, every 20 optimiser steps; set-up and evaluations
are not counted. One after the other, on a machine that should be quiet. key=value goes to Counterpoint's config.
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "configs" / "arith"
LIMIT = 900  # seconds for one run, a hang included


def counterpoint(seed, target, overrides):
    with tempfile.TemporaryDirectory() as run:
        command = [ROOT / "target/release/counterpoint", "run", ROOT / "configs/race.toml", f"run.dir={run}", f"run.seed={seed}",
                   f"run.target_accuracy={target}", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT, stderr=subprocess.DEVNULL)
        evals = [json.loads(line) for line in open(pathlib.Path(run) / "eval.jsonl")]
        summary = json.load(open(pathlib.Path(run) / "summary.json"))
    reached = next((e["seconds_training"] for e in evals if e["accuracy"] >= target), None)
    judged = summary["ledger"]["trained"] + sum(summary["ledger"]["dropped"].values())
    return {"seconds": reached, "steps": summary["steps"], "accuracy": evals[-1]["accuracy"],
            "sampled": judged * 8, "trained": summary["ledger"]["trained"] * 8}


def peer(script, options, seed, target):
    command = [sys.executable, ROOT / "benches/peers" / script, MODEL, "--target", str(target), "--seed", str(seed), *options]
    out = subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    last = lines[-1]
    rounds = last.get("step", 0)
    mixed = statistics.mean(line["mixed"] for line in lines if "mixed" in line)
    return {"seconds": last["seconds"] if last["accuracy"] >= target else None, "steps": rounds * 4, "accuracy": last["accuracy"],
            "sampled": rounds * 128 * 8, "trained": round(rounds * 128 * 8 * mixed)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--target", type=float, default=0.6)
    parser.add_argument("--only", default="counterpoint,packed_nft,torch_nft")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    # The peers run as their users run them: with OpenMP's own waiting, which on a quiet machine is faster for them.
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    common = ["--prompts", "128", "--k", "8", "--lr", "1e-4"]
    racers = {
        "counterpoint": lambda seed: counterpoint(seed, options.target, options.overrides),
        "packed_nft": lambda seed: peer("packed_nft.py", [*common, "--mb", "4", "--max", str(LIMIT - 60)], seed, options.target),
        "torch_nft": lambda seed: peer("torch_nft.py", [*common, "--minibatches", "4", "--max-seconds", str(LIMIT - 60)], seed, options.target),
    }
    results = {name: [] for name in options.only.split(",")}
    for seed in range(1, options.seeds + 1):
        for name in results:
            started = time.time()
            result = racers[name](seed)
            results[name].append(result)
            print(f"seed {seed} {name}: {json.dumps(result)} (wall {time.time() - started:.0f} s)", flush=True)
    medians = {}
    print(f"\n| program | seconds to {options.target} (median, all) | steps | answers sampled | answers trained | against Counterpoint |\n|---|---|---|---|---|---|")
    for name, runs in results.items():
        times = [run["seconds"] for run in runs if run["seconds"] is not None]
        medians[name] = statistics.median(times) if len(times) == len(runs) else None
        seconds = "not reached" if medians[name] is None else f"{medians[name]:.1f} ({', '.join(f'{t:.1f}' for t in times)})"
        ours = medians.get("counterpoint")
        ratio = f"{medians[name] / ours:.2f}x" if ours and medians[name] else "-"
        mean = lambda key: round(statistics.mean(run[key] for run in runs))
        print(f"| {name} | {seconds} | {mean('steps')} | {mean('sampled')} | {mean('trained')} | {ratio} |")


if __name__ == "__main__":
    main()
