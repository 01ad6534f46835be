"""A Counterpoint verifier in Python: one file, no dependencies, Python 3.8 or newer. Copy it next to your own file.

    from counterpoint_verifier import serve

    serve(lambda response, answer, prompt: response.strip() == answer)

The function is called once per response and returns one of

    True, False         right, wrong
    0.0 ... 1.0         a score
    None                no judgement is possible ("void"): this teaches the model nothing
    Void("why")         the same, with a reason

`answer` is the truth. `prompt` is a dict: id, text (or messages), answer, source, and info with the data's other columns. An
exception makes the response void, with the exception as the reason; its traceback goes into Counterpoint's log. So does
whatever the function prints: standard output belongs to the protocol, and `serve` puts standard error in its place.

The config:

    [verifier]
    name = "mine"

    [verifier.define.mine]
    kind = "process"
    command = ["python3", "my_verifier.py"]

Protocol version 1. One JSON object per line; a hello first, then an answer to each request:

    -> {"protocol": "counterpoint-verifier", "version": 1}
    <- {"id": 1, "prompt": {"id", "text" | "messages" | "tokens", "answer", "source", "info"}, "responses": [...], "deadline_seconds": s}
    -> {"id": 1, "verdicts": ["correct" | "incorrect" | {"score": 0.5} | {"void": "why"}, ...]}   or   {"id": 1, "error": "why"}
"""

import json
import os
import sys
import traceback


class Void:
    """No judgement is possible, for this reason."""

    def __init__(self, reason="no reason given"):
        self.reason = str(reason)


def serve(judge, group=False):
    """Answers requests until Counterpoint closes the input.

    judge(response, answer, prompt) is called for each response; with group=True it is judge(responses, answer, prompt), called
    once per request, and returns a list with one result per response.
    """
    requests, replies = _take_over_the_streams()
    _write(replies, {"protocol": "counterpoint-verifier", "version": 1})
    for line in requests:
        request = json.loads(line)
        _write(replies, {"id": request["id"], "verdicts": _verdicts(judge, group, request)})


def _take_over_the_streams():
    """The protocol's streams, for nobody else: what the judge reads or prints must not get between the lines."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, replies


def _write(replies, message):
    # NaN is no JSON, and half of a surrogate pair, which Python's texts may have, is no UTF-8 (it becomes a question mark).
    replies.write(json.dumps(message, ensure_ascii=False, allow_nan=False) + "\n")
    replies.flush()


def _verdicts(judge, group, request):
    responses, prompt = request["responses"], request["prompt"]
    if not group:
        return [_try(lambda: _verdict(judge(response, prompt["answer"], prompt))) for response in responses]
    results = _try(lambda: list(judge(responses, prompt["answer"], prompt)))
    if isinstance(results, dict):
        return [results] * len(responses)
    if len(results) != len(responses):
        return [{"void": "%d results for %d responses" % (len(results), len(responses))}] * len(responses)
    return [_try(lambda: _verdict(result)) for result in results]


def _try(function):
    try:
        return function()
    except Exception as error:  # A fault of the judge must not look like a wrong answer.
        traceback.print_exc()
        return {"void": "%s: %s" % (type(error).__name__, error)}


def _verdict(result):
    if result is None:
        return {"void": "no reason given"}
    if isinstance(result, Void):
        return {"void": result.reason}
    if isinstance(result, str):  # float("1.0") would be a score by accident.
        return {"void": "the judge returned the text %r" % result}
    score = float(result)  # Also takes a bool, and the numbers of NumPy and PyTorch.
    if not 0.0 <= score <= 1.0:
        return {"void": "score %r is not within 0 and 1" % score}
    return {"score": score}
