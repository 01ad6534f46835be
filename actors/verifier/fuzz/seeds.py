"""Writes the cases of ../tests/cases as seeds into corpus/{latex,extract,judge}: what libFuzzer starts from besides seeds/."""

import hashlib
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


def write(target, text):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    # libFuzzer names what it finds by SHA-1 too, so nothing is there twice.
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


for path in sorted((HERE.parent / "tests/cases").glob("math-*.jsonl")):
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        write("latex", case["answer"])
        write("extract", case["response"])
        write("judge", case["answer"] + "\n" + case["response"])
