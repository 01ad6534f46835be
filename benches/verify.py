"""Verification: verdicts per second and time per verdict, Counterpoint against math-verify, on the same cases and one core.

usage (by `make bench-verify`): verify.py [--repeats 3] [--copies 20] [--core 0] [--latency BINARY]

The cases are those of actors/verifier/tests/cases (kind `math`, default options). Both programs get text and return verdicts:
Counterpoint is `counterpoint verify --verifier math --workers 1`, start-up and JSON included, on the cases written --copies
times; math-verify parses truth and response and compares, with the time limits that it has by default (an alarm signal per
call), in one process that has imported it before the clock starts. Both are bound to one core. Median of --repeats.
Times of single verdicts: math-verify's by a clock around each; Counterpoint's by the crate's own bench (`cargo bench -p
counterpoint-verifier --bench latency`), which also has hostile texts. Agreement is with the verdicts in the case files.
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


def math_verify(repeats):
    """Runs in a process of its own: prints one JSON object."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    rows = load()
    rates, times, agree = [], [], 0
    parse("$1$")  # what it compiles on first use
    for repeat in range(repeats):
        begin = time.perf_counter()
        for row in rows:
            start = time.perf_counter()
            truth = parse("\\boxed{" + row["answer"] + "}")
            right = verify(truth, parse(row["response"]))
            times.append(time.perf_counter() - start)
            agree += repeat == 0 and bool(right) == row["expected"]
        rates.append(len(rows) / (time.perf_counter() - begin))
    times.sort()
    at = {f"p{share:g}": times[int((len(times) - 1) * share / 100)] * 1e6 for share in (50, 99, 99.9)}
    print(json.dumps({"per_second": statistics.median(rates), "agree": agree, **at, "max": times[-1] * 1e6}))


def counterpoint(rows, binary, copies, core, repeats):
    with tempfile.TemporaryFile() as source:
        lines = "".join(json.dumps({"response": row["response"], "answer": row["answer"]}) + "\n" for row in rows)
        source.write((lines * copies).encode())
        seconds, out = [], b""
        for _ in range(repeats):
            source.seek(0)
            start = time.perf_counter()
            command = pinned([binary, "verify", "--verifier", "math", "--workers", 1], core)
            out = subprocess.run(command, stdin=source, check=True, timeout=LIMIT, capture_output=True).stdout
            seconds.append(time.perf_counter() - start)
    verdicts = [json.loads(line)["verdict"] == "correct" for line in out.splitlines()]
    agree = sum(verdict == row["expected"] for verdict, row in zip(verdicts, rows))
    return {"per_second": copies * len(rows) / statistics.median(seconds), "agree": agree}


def latency(core, binary):
    command = [binary] if binary else ["cargo", "bench", "--quiet", "-p", "counterpoint-verifier", "--bench", "latency"]
    out = subprocess.run(pinned(command, core), cwd=ROOT, check=True, timeout=LIMIT, stdout=subprocess.PIPE, text=True).stdout
    return {row["group"]: row for row in map(json.loads, filter(None, out.splitlines()))}


def table(rows):
    print("\n| | verdicts/s | agrees | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|")
    for name, rate, agrees, times in rows:
        cells = [f"{t:,.0f} µs" if t < 10_000 else f"{t / 1000:,.0f} ms" for t in times] or ["", "", "", ""]
        print(f"| {name} | {rate:,.0f} | {agrees} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--binary", default=ROOT / "target/release/counterpoint", help="`counterpoint`; empty to leave it out")
    parser.add_argument("--latency", default="", help="the latency bench, if it is built already")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return math_verify(options.repeats)
    rows = load()
    share = lambda agree: f"{agree} of {len(rows)} ({agree / len(rows):.2%})"
    fields = ("p50_us", "p99_us", "p99.9_us", "max_us")
    inside = latency(options.core, options.latency)
    shown = [("counterpoint, the library", inside["cases"]["verdicts_per_second"], "", [inside["cases"][f] for f in fields])]
    if options.binary:
        ours = counterpoint(rows, options.binary, options.copies, options.core, options.repeats)
        shown.append(("counterpoint verify", ours["per_second"], share(ours["agree"]), []))
    command = pinned([sys.executable, __file__, "--peer", "--repeats", options.repeats], options.core)
    peer = json.loads(subprocess.run(command, check=True, timeout=LIMIT, stdout=subprocess.PIPE).stdout)
    shown.append(("math-verify", peer["per_second"], share(peer["agree"]), [peer[p] for p in ("p50", "p99", "p99.9", "max")]))
    hostile = inside["hostile"]
    shown.append(("counterpoint, hostile texts", hostile["verdicts_per_second"], "", [hostile[f] for f in fields]))
    table(shown)
    print(f"\n{len(rows)} cases, one core. Slowest case {inside['cases']['slowest']}, slowest hostile text {hostile['slowest']}.")
    for name, rate, *_ in shown[:-2]:
        print(f"{name}: {rate / peer['per_second']:,.0f} times math-verify's verdicts per second")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
