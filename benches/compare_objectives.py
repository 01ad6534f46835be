"""The objectives side by side: the quickstart task, the same number of optimiser steps, several seeds each.

usage (by `make compare-objectives`): compare_objectives.py [--steps 400] [--seeds 3] [--only nft,rft,...] [--svg FILE] [key=value ...]

Same start (configs/arith), data, batch, learning rate and sampling for all (configs/quickstart.toml); every objective has the
settings of the paper that it is from, see OBJECTIVES below. Prints a table of accuracy on held-out questions and of the policy's
entropy, mean and spread (lowest to highest) over the seeds, and draws both over the steps. key=value goes to every config.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "counterpoint"
OBJECTIVES = {
    "nft": ["objective.name=nft"],
    "rft": ["objective.name=rft", "objective.weight=one"],
    "grpo": ["objective.name=grpo", "objective.reduction=seq_mean"],
    "dr_grpo": ["objective.name=dr_grpo", "objective.reduction=const_len", "objective.max_len=6"],
    "dapo": ["objective.name=dapo", "objective.clip_high=0.28"],
    "dpo": ["objective.name=dpo", "objective.beta=0.1", "objective.sft=0.1"],
    "contrast": ["objective.name=contrast"],
}
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#7f7f7f"]
LIMIT = 1800  # seconds for one run, a hang included
WINDOW = 20   # steps over which the entropy is averaged


def train(settings, steps, seed, overrides):
    """One run: {"accuracy": [(step, value)], "entropy": [(step, value)], "seconds": of training}; accuracy None if it failed."""
    with tempfile.TemporaryDirectory() as run:
        command = [BINARY, "run", ROOT / "configs/quickstart.toml", f"run.dir={run}", f"run.seed={seed}",
                   f"run.max_steps={steps}", "run.target_accuracy=1.0", "checkpoint.every=0", "telemetry.enabled=false",
                   *settings, *overrides]
        ended = subprocess.run(command, cwd=ROOT, timeout=LIMIT, capture_output=True, text=True)
        read = lambda name: [json.loads(line) for line in open(pathlib.Path(run) / name)]
        steps_done, evals = read("metrics.jsonl"), read("eval.jsonl")
    if ended.returncode != 0:
        # A policy that collapses ends its run (no mixed groups are left): that is a result. Anything else is a fault of ours.
        reason = ended.stderr.strip().splitlines()[-1]
        if "nothing to learn" not in reason:
            sys.exit(f"{' '.join(settings)}, seed {seed}: {reason}")
        print(f"  ended at step {len(steps_done)}: {reason}", flush=True)
    entropy = []
    for at in range(WINDOW, len(steps_done) + 1, WINDOW):
        entropy.append((at, statistics.mean(line["entropy"] for line in steps_done[at - WINDOW:at])))
    return {"accuracy": [(line["step"], line["accuracy"]) for line in evals], "entropy": entropy,
            "seconds": steps_done[-1]["seconds_training"] if steps_done else 0.0, "steps": len(steps_done)}


def spread(values, digits=3):
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(results, steps, out):
    print("\n| objective | accuracy halfway | accuracy at the end | entropy at the start | entropy at the end | steps | seconds of training |\n"
          "|---|---|---|---|---|---|---|", file=out)
    for name, runs in results.items():
        half = [min(run["accuracy"], key=lambda point: abs(point[0] - steps / 2))[1] for run in runs]
        end = [run["accuracy"][-1][1] for run in runs]
        first, last = ([run["entropy"][at][1] for run in runs if run["entropy"]] or [float("nan")] for at in (0, -1))
        print(f"| {name} | {spread(half)} | {spread(end)} | {spread(first, 2)} | {spread(last, 2)} | "
              f"{min(run['steps'] for run in runs)} | {spread([run['seconds'] for run in runs], 0)} |", file=out)


def curve(runs, key):
    """(step, mean over seeds) where every seed has a value."""
    by_step = [dict(run[key]) for run in runs]
    common = sorted(set.intersection(*(set(points) for points in by_step)))
    return [(step, statistics.mean(points[step] for points in by_step)) for step in common]


def panel(results, key, title, left, steps):
    """One diagram of the SVG, 400 x 300 at `left`."""
    curves = {name: curve(runs, key) for name, runs in results.items()}
    top = max((value for points in curves.values() for _, value in points), default=1.0) * 1.05
    x = lambda step: left + 50 + 330 * step / steps
    y = lambda value: 270 - 230 * value / top
    svg = [f'<text x="{left + 50}" y="22" font-weight="bold">{title}</text>',
           f'<path d="M{left + 50} 40V270H{left + 380}" fill="none" stroke="#444"/>',
           f'<text x="{left + 380}" y="288" text-anchor="end">{steps} optimiser steps</text>']
    for tick in range(5):
        value = top * tick / 4
        svg.append(f'<text x="{left + 44}" y="{y(value) + 4:.0f}" text-anchor="end">{value:.2f}</text>')
        svg.append(f'<path d="M{left + 50} {y(value):.1f}H{left + 380}" stroke="#ddd"/>')
    for (name, points), colour in zip(curves.items(), COLOURS):
        if points:
            line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
            svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return svg


def draw(results, steps, path):
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300" font-family="sans-serif" font-size="11">',
           '<rect width="900" height="300" fill="white"/>']
    svg += panel(results, "accuracy", "accuracy on held-out questions", 0, steps)
    svg += panel(results, "entropy", "entropy (nats)", 400, steps)
    for row, (name, colour) in enumerate(zip(results, COLOURS)):
        svg.append(f'<path d="M800 {54 + 18 * row}h20" stroke="{colour}" stroke-width="2"/><text x="826" y="{58 + 18 * row}">{name}</text>')
    pathlib.Path(path).write_text("\n".join([*svg, "</svg>"]) + "\n")
    print(f"\ndrawn: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(OBJECTIVES))
    parser.add_argument("--svg", default=str(ROOT / "benches" / "objectives.svg"))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    results = {}
    # Seed by seed, so that the machine's mood falls on every objective alike.
    for seed in range(1, options.seeds + 1):
        for name in options.only.split(","):
            run = train(OBJECTIVES[name], options.steps, seed, options.overrides)
            results.setdefault(name, []).append(run)
            print(f"seed {seed} {name}: accuracy {run['accuracy'][-1][1]:.3f} after {run['steps']} steps, {run['seconds']:.0f} s", flush=True)
    table(results, options.steps, sys.stdout)
    draw(results, options.steps, options.svg)


if __name__ == "__main__":
    main()
