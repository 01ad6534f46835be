"""Verification: verdicts per second and time per verdict, Counterpoint against math-verify, on the same cases and one core.

usage (by `make bench-verify`): verify.py [--repeats 3] [--copies 100] [--core 0] [--latency BINARY]

The cases are those of actors/verifier/tests/cases (kind `math`, default options). Both programs get text and return verdicts:
Counterpoint is `counterpoint verify --verifier math --workers 1`, start-up and JSON included, on the cases written --copies
times; math-verify parses truth and response and compares, with the time limits that it has by default (an alarm signal per
call), in one process that has imported it before the clock starts. Both are bound to one core and take turns, --repeats times;
the rates are medians.
Times of single verdicts: math-verify's by a clock around each; Counterpoint's by the crate's own bench (`cargo bench -p
counterpoint-verifier --bench latency`), which also has hostile texts. On a shared machine other programs interrupt a verdict; the
rows "undisturbed" count the fastest round of each case only, for both. Agreement is with the verdicts in the case files.

Prints a table for people and, as the last line, one JSON object with all figures, times in microseconds.
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
CASES = ROOT / "actors/verifier/tests/cases"
LIMIT = 3600  # seconds for one run, a hang included


def load():
    rows = [json.loads(line) for path in sorted(CASES.glob("math-*.jsonl")) for line in open(path, encoding="utf-8")]
    return [row for row in rows if not row.get("options") and not row.get("verifier")]


def pinned(command, core):
    return ["taskset", "-c", str(core), *map(str, command)]


def distribution(times):
    times = sorted(times)
    at = lambda share: times[int((len(times) - 1) * share)] * 1e6
    return {"p50_us": at(0.5), "p99_us": at(0.99), "p99.9_us": at(0.999), "max_us": at(1)}


def math_verify():
    """One turn, in a process of its own: prints the seconds of each case and how many verdicts agree."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    rows = load()
    times, agree = [], 0
    parse("$1$")  # what it compiles on first use
    for row in rows:
        start = time.perf_counter()
        truth = parse("\\boxed{" + row["answer"] + "}")
        right = verify(truth, parse(row["response"]))
        times.append(time.perf_counter() - start)
        agree += bool(right) == row["expected"]
    print(json.dumps({"times": times, "agree": agree}))


def peer(core):
    command = pinned([sys.executable, __file__, "--peer"], core)
    return json.loads(subprocess.run(command, check=True, timeout=LIMIT, stdout=subprocess.PIPE).stdout)


def summary(turns):
    every = distribution([time for turn in turns for time in turn["times"]])
    best = distribution([min(times) for times in zip(*(turn["times"] for turn in turns))])
    rate = statistics.median(len(turn["times"]) / sum(turn["times"]) for turn in turns)
    return {"verdicts_per_second": rate, "agree": turns[0]["agree"], **every, "best": best}


def counterpoint(rows, source, binary, core):
    """One turn: its seconds, and how many verdicts on the first copy agree."""
    source.seek(0)
    command = pinned([binary, "verify", "--verifier", "math", "--workers", 1], core)
    start = time.perf_counter()
    out = subprocess.run(command, stdin=source, check=True, timeout=LIMIT, capture_output=True).stdout
    seconds = time.perf_counter() - start
    verdicts = [json.loads(line)["verdict"] == "correct" for line in out.splitlines()]
    return seconds, sum(verdict == row["expected"] for verdict, row in zip(verdicts, rows))


def take_turns(rows, options):
    lines = "".join(json.dumps({"response": row["response"], "answer": row["answer"]}) + "\n" for row in rows)
    ours, theirs = [], []
    with tempfile.TemporaryFile() as source:
        source.write((lines * options.copies).encode())
        for _ in range(options.repeats):
            if options.binary:
                ours.append(counterpoint(rows, source, options.binary, options.core))
            theirs.append(peer(options.core))
    return ours, summary(theirs)


def latency(core, binary):
    command = [binary]
    if not binary:
        command = ["cargo", "bench", "--quiet", "--locked", "-p", "counterpoint-verifier", "--bench", "latency"]
        subprocess.run([*command, "--no-run"], cwd=ROOT, check=True, timeout=LIMIT)  # on all cores
    out = subprocess.run(pinned(command, core), cwd=ROOT, check=True, timeout=LIMIT, stdout=subprocess.PIPE, text=True).stdout
    return {row["group"]: row for row in map(json.loads, filter(None, out.splitlines()))}


def table(figures, cases):
    print("\n| | verdicts/s | agrees | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|")
    for name, row in figures.items():
        agrees = f"{row['agree']} of {cases} ({row['agree'] / cases:.1%})" if "agree" in row else ""
        line(name, f"{row['verdicts_per_second']:,.0f}", agrees, row)
        if "best" in row:
            line(name + ", undisturbed", "", "", row["best"])


def line(name, rate, agrees, row):
    times = [row[field] for field in ("p50_us", "p99_us", "p99.9_us", "max_us") if field in row]
    cells = [f"{time:,.0f} µs" if time < 10_000 else f"{time / 1000:,.1f} ms" for time in times] or [""] * 4
    print("|", " | ".join([name, rate, agrees, *cells]), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--binary", default=ROOT / "target/release/counterpoint", help="`counterpoint`; empty to leave it out")
    parser.add_argument("--latency", default="", help="the latency bench, if it is built already")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return math_verify()
    rows = load()
    inside = latency(options.core, options.latency)
    ours, theirs = take_turns(rows, options)
    figures = {"counterpoint, the library": inside["cases"]}
    if ours:
        rate = options.copies * len(rows) / statistics.median(seconds for seconds, _ in ours)
        figures["counterpoint verify"] = {"verdicts_per_second": rate, "agree": ours[0][1]}
    figures["math-verify"] = theirs
    figures["counterpoint, hostile texts"] = hostile = inside["hostile"]
    table(figures, len(rows))
    print(f"\n{len(rows)} cases, one core. Slowest hostile text, undisturbed: {hostile['best']['slowest'][0][0]}.")
    for name, row in figures.items():
        if row is not theirs and row is not hostile:
            row["times_math_verify"] = row["verdicts_per_second"] / theirs["verdicts_per_second"]
            print(f"{name}: {row['times_math_verify']:,.0f} times math-verify's verdicts per second")
    print(json.dumps(figures))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
