"""A verifier made with counterpoint_verifier.py that returns each kind of result, for its tests."""

import sys

from counterpoint_verifier import Void, serve

RESULTS = {
    "true": True,
    "false": False,
    "half": 0.5,
    "one": 1,
    "none": None,
    "void": Void("no unit"),
    "text": "1.0",
    "two": 2.0,
    "nan": float("nan"),
}


def judge(response, answer, prompt):
    print("a print that must not get between the lines")
    if response == "raise":
        raise RuntimeError("a bug")
    if response == "read":
        return len(sys.stdin.read()) == 0
    if response == "info":
        return prompt["info"]["unit"] == "cm" and prompt["text"] == "2 + 2"
    return RESULTS[response] if response in RESULTS else response == answer


def judge_group(responses, answer, prompt):
    if "raise" in responses:
        raise RuntimeError("a bug")
    if "few" in responses:
        return []
    return [response == answer for response in responses]


if sys.argv[1:] == ["group"]:
    serve(judge_group, group=True)
else:
    serve(judge)
