"""What the tests in this folder share: the program, and runs of it in a scratch directory."""

import json
import os
import pathlib
import subprocess

# Nothing is fetched, and no bars are drawn between the tests' dots.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "counterpoint"
MODEL = ROOT / "configs" / "arith"

# No call of the program takes longer than seconds; one that hangs must not hang the tests.
DEADLINE = 240


def counterpoint(*arguments, lines=()):
    """Runs the program on lines of JSON, from the project's root, and returns what it writes, a value per line."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    ended = subprocess.run([PROGRAM, *map(str, arguments)], cwd=ROOT, input=text, capture_output=True, text=True, timeout=DEADLINE)
    if ended.returncode != 0:
        raise AssertionError(f"{arguments} ended with {ended.returncode}:\n{ended.stderr}")
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def train(scratch, *settings):
    """Trains the tests' configuration in `scratch` and returns the run's directory."""
    run = pathlib.Path(scratch) / "run"
    counterpoint("run", "tests/data/test.toml", f"run.dir={run}", *settings)
    return run
