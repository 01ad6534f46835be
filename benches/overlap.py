"""What asynchrony is worth: answers of very different lengths, a verifier that takes 200 ms, and staleness from 0 to 16.

usage (by `make bench-overlap`): overlap.py [--repeats 5] [--steps 60] [--staleness 0,1,2,4,8,16] [key=value ...]

The task (configs/overlap.toml): "17 23+45=" is answered with the sum and a countdown from 17. The sum decides whether an answer is
right, the countdown how long it is; lengths are log-normal, from 5 to 100 tokens. `counterpoint sft` teaches the arithmetic policy the
form first, and to doubt its sums, so that there is something to learn. Then runs of the real binary, the same number of
steps each, on the same two cores: every staleness once, 0 and 2 so often as --repeats says (each repeat with its own seed, taking
turns), and a compute-bound pair whose verifier does not wait. Everything printed is from the runs' own directories.
Five repeats take ten minutes on two cores. key=value goes to every run.
"""

import argparse
import collections
import itertools
import json
import math
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "counterpoint"
CONFIG = ROOT / "configs" / "overlap.toml"
HOME = ROOT / "runs" / "overlap"  # the paths in CONFIG
SHORTEST, LONGEST = 5, 100        # tokens of a right answer, its end included
DELAY = 0.2                       # seconds a verdict takes
SYNC, ASYNC = 0, 2
LIMIT = 900                       # seconds for one run, a hang included
LEARNING, DOUBTING = 480, 50      # steps of the warm-up, 64 questions each
WARM_UP = [f"run.max_steps={LEARNING + DOUBTING}", "feed.prompts_per_step=64", "feed.shuffle=false",
           "learner.learning_rate=1e-3", "learner.lr_scheduler_type=linear", "learner.warmup_steps=20", "run.seed=1"]


# --- questions and model


def countdowns(rng):
    """Where countdowns begin, for ever: so that lengths are log-normal, cut off at two standard deviations on either side."""
    middle, deviation = (math.log(SHORTEST) + math.log(LONGEST)) / 2, math.log(LONGEST / SHORTEST) / 4
    while True:
        length = math.exp(rng.gauss(middle, deviation))
        if SHORTEST <= length <= LONGEST:
            yield max(1, round((length - 4) / 2))  # two digits of a sum, a blank, the end, and two per number


def question(sum_, start):
    answer = sum_["answer"] + " " + "".join(f"{n:02}" for n in range(start, 0, -1))
    return {"prompt": f"{start} {sum_['prompt']}", "answer": answer}


def write_questions(name, sums, starts):
    with open(HOME / f"{name}.jsonl", "w") as out:
        for sum_ in sums:
            out.write(json.dumps(question(sum_, next(starts))) + "\n")


def prepare():
    """Questions, and the policy that knows the form of an answer; both the same every time."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    read = lambda name: [json.loads(line) for line in open(ROOT / "configs/arith" / f"{name}.jsonl")]
    rng = random.Random(1)
    # Two thirds of the warm-up is short: a long countdown teaches no sum, and most of a long answer is countdown.
    short = itertools.cycle(range(1, 9))
    # The last of it gives other questions' sums three times in ten, so that there is something to train away again.
    sums = read("train") * 10
    known, doubted = sums[:LEARNING * 64], sums[LEARNING * 64:(LEARNING + DOUBTING) * 64]
    others = rng.choices([sum_["answer"] for sum_ in sums], k=len(doubted))
    doubted = [sum_ if rng.random() < 0.7 else {**sum_, "answer": other} for sum_, other in zip(doubted, others)]
    all_lengths = countdowns(rng)
    write_questions("warm-up", known + doubted, (next(rng.choice([short, short, all_lengths])) for _ in itertools.count()))
    write_questions("train", read("train"), countdowns(rng))
    write_questions("eval", read("eval"), countdowns(rng))
    command = [BINARY, "sft", CONFIG, "--out", HOME / "model", "model.path=configs/arith", "data.train=runs/overlap/warm-up.jsonl",
               *WARM_UP]
    subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT, stderr=subprocess.DEVNULL)


# --- one run


def exposition(text):
    """{(name, labels as written): value}"""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def mean_length(metrics, stage):
    of = lambda part: next(value for series, value in metrics.items()
                           if series.startswith(f"counterpoint_response_tokens_{part}{{") and f'stage="{stage}"' in series)
    return of("sum") / of("count")


def seconds(metrics, actor, state):
    pattern = re.compile(rf'counterpoint_actor_state_seconds_total{{actor="{actor}[^"]*",state="{state}"}}')
    return sum(value for series, value in metrics.items() if pattern.fullmatch(series))


def train(staleness, delay, seed, steps, overrides):
    run = HOME / "run"
    shutil.rmtree(run, ignore_errors=True)
    verifier = json.dumps([sys.executable, "benches/slow_verifier.py", str(delay)])
    command = [BINARY, "run", CONFIG, f"run.seed={seed}", f"run.max_steps={steps}", f"replay.max_staleness={staleness}",
               f"verifier.define.slow.command={verifier}", *overrides]
    began = time.time()
    ended = subprocess.run(command, cwd=ROOT, timeout=LIMIT, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"staleness {staleness}: {ended.stderr.strip().splitlines()[-1]}")
    read = lambda name: [json.loads(line) for line in open(run / name)]
    summary, lines, samples = json.loads((run / "summary.json").read_text()), read("metrics.jsonl"), read("samples.jsonl")
    metrics = exposition((run / "metrics.prom").read_text())
    later = lines[1:]  # The learner cannot but wait for the first batch.
    busy, idle = (sum(line[key] for line in later) for key in ("seconds", "idle_seconds"))
    result = {
        "seconds": summary["seconds_training"], "wall": time.time() - began,
        "learner": seconds(metrics, "learner", "busy"), "generator": seconds(metrics, "generator", "busy"),
        "idle": idle / (idle + busy), "idle_whole": summary["learner_idle_share"], "generator_idle": summary["generator_idle_share"],
        "sampled": mean_length(metrics, "sampled"), "trained": mean_length(metrics, "trained"),
        "dropped": summary["ledger"]["dropped"], "issued": summary["ledger"]["issued"],
        "lengths": sorted(line["tokens"] for line in samples), "versions": max(len(line["versions"]) for line in samples) - 1,
        "staleness": statistics.mean(line["staleness_mean"] for line in lines), "staleness_max": summary["max_staleness_trained"],
        "accuracy": [(line["step"], line["accuracy"]) for line in read("eval.jsonl")],
    }
    print(f"  staleness {staleness}, verifier {delay:g} s, seed {seed}: {result['seconds']:.1f} s of training, "
          f"accuracy {result['accuracy'][0][1]:.3f} to {result['accuracy'][-1][1]:.3f}, learner idle {result['idle']:.1%} "
          f"({result['wall']:.0f} s in all)", flush=True)
    return result


# --- the report


def spread(values, form="{:.2f}"):
    """Median, and lowest and highest behind it where there are several."""
    text = form.format(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({form.format(min(values))} to {form.format(max(values))})"


def shares(runs, steps):
    """Of the synchronous step, in seconds: learner, generator, waiting. They take turns, so what neither computes is waiting."""
    of = lambda key: statistics.median(run[key] for run in runs) / steps
    step, learner, generator = of("seconds"), of("learner"), of("generator")
    return step, learner, generator, step - learner - generator


def ratios(sync, other):
    """Steps per second against staleness 0, repeat by repeat."""
    return [a["seconds"] / b["seconds"] for a, b in zip(sync, other)]


def print_pair(title, sync, async_, steps):
    step, learner, generator, waiting = shares(sync, steps)
    print(f"\n{title}: a step at staleness 0 takes {step:.2f} s: learner {learner:.2f} ({learner / step:.0%}), generator {generator:.2f} "
          f"({generator / step:.0%}), waiting {waiting:.2f} ({waiting / step:.0%})")
    print(f"  staleness {ASYNC} against 0, steps per second: {spread(ratios(sync, async_))}x")
    print(f"  bounds: one batch ahead, sync / max(learner, generator + wait) = {step / max(learner, generator + waiting):.2f}x; waits hidden, "
          f"computing in turns, sync / (learner + generator) = {step / (learner + generator):.2f}x; a learner that never waits, "
          f"sync / its time at staleness {ASYNC} = {step / shares(async_, steps)[1]:.2f}x")
    print(f"  learner idle after its first batch: {spread([run['idle'] for run in async_], '{:.1%}')}; the whole run: "
          f"{spread([run['idle_whole'] for run in async_], '{:.1%}')}; generator idle: "
          f"{spread([run['generator_idle'] for run in async_], '{:.1%}')}")
    dropped = collections.Counter()
    for run in async_:
        dropped.update(run["dropped"])
    print(f"  dropped for age: {dropped['stale'] + dropped['straggler']} of {sum(run['issued'] for run in async_)} groups (all drops: "
          f"{', '.join(f'{reason} {count}' for reason, count in dropped.items() if count) or 'none'})")
    trained = lambda runs: spread([run["trained"] / run["sampled"] - 1 for run in runs], "{:+.1%}")
    print(f"  mean trained length against mean sampled length: {trained(async_)} (staleness 0: {trained(sync)})")


def print_lengths(runs):
    lengths = sorted(length for run in runs for length in run["lengths"])
    at = lambda share: lengths[int(share * (len(lengths) - 1))]
    print(f"\nlengths sampled, tokens: shortest {lengths[0]}, 2.5 % {at(0.025)}, median {at(0.5)}, 97.5 % {at(0.975)}, longest {lengths[-1]}; "
          f"the longest answer saw {max(run['versions'] for run in runs)} changes of weights (at most {ASYNC})")


def print_curves(sync, async_):
    """At every evaluation the mean over the repeats."""
    mean = lambda runs, index: statistics.mean(run["accuracy"][index][1] for run in runs)
    print(f"\n| step | accuracy, staleness 0 | staleness {ASYNC} | difference |\n|---|---|---|---|")
    for index, (step, _) in enumerate(sync[0]["accuracy"]):
        one, other = mean(sync, index), mean(async_, index)
        print(f"| {step} | {one:.3f} | {other:.3f} | {other - one:+.3f} |")


def print_table(results, steps):
    print("\n| staleness | seconds | steps/s against 0 | learner idle | generator idle | accuracy at the end | staleness seen: mean, max |\n"
          "|---|---|---|---|---|---|---|")
    base = results[SYNC][0]["seconds"]
    for staleness, runs in results.items():
        run = runs[0]
        print(f"| {staleness} | {run['seconds']:.1f} | {base / run['seconds']:.2f}x | {run['idle']:.1%} | {run['generator_idle']:.1%} | "
              f"{run['accuracy'][-1][1]:.3f} | {run['staleness']:.2f}, {run['staleness_max']} |")
    print(f"(seed 1, {steps} steps each)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of staleness 0 and 2")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--staleness", default="0,1,2,4,8,16", help="of the table; 0 and 2 are always run")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    print("questions and warm-up", flush=True)
    prepare()
    run = lambda staleness, delay, seed: train(staleness, delay, seed, options.steps, options.overrides)
    slow = {staleness: [] for staleness in sorted({SYNC, ASYNC, *map(int, options.staleness.split(","))})}
    fast = {SYNC: [], ASYNC: []}
    for seed in range(1, options.repeats + 1):
        for staleness, runs in slow.items():
            if seed == 1 or staleness in (SYNC, ASYNC):
                runs.append(run(staleness, DELAY, seed))
    for staleness, runs in fast.items():
        runs.append(run(staleness, 0, 1))
    print_pair("verifier of 200 ms", slow[SYNC], slow[ASYNC], options.steps)
    print_lengths(slow[ASYNC])
    print_curves(slow[SYNC], slow[ASYNC])
    print_table(slow, options.steps)
    print_pair("fast verifier, compute-bound", fast[SYNC], fast[ASYNC], options.steps)


if __name__ == "__main__":
    main()
