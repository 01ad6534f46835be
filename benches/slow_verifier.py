"""A verifier that takes its time, for benches/overlap.py: an answer is right if it is the truth, and every group's verdicts leave so
many seconds after the group came, however many others wait: latency, as of a judge on another machine, and no work.

    [verifier.define.slow]
    kind = "process"
    command = ["python3", "benches/slow_verifier.py", "0.2"]
    pipeline = 1024

The protocol is that of examples/counterpoint_verifier.py, which answers one request after the other and so could not do this.
"""

import collections
import json
import os
import select
import sys
import time


def reply(line):
    request = json.loads(line)
    truth = request["prompt"]["answer"]
    verdicts = ["correct" if response == truth else "incorrect" for response in request["responses"]]
    return json.dumps({"id": request["id"], "verdicts": verdicts})


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def serve(delay):
    say(json.dumps({"protocol": "counterpoint-verifier", "version": 1}))
    waiting, unread, open_ = collections.deque(), b"", True  # Every delay is the same, so the queue is in order of its due times.
    while open_ or waiting:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([0] if open_ else [], [], [], pause)
        if readable:
            chunk = os.read(0, 1 << 16)
            open_ = bool(chunk)
            *lines, unread = (unread + chunk).split(b"\n")
            waiting.extend((time.monotonic() + delay, reply(line)) for line in lines)
        while waiting and waiting[0][0] <= time.monotonic():
            say(waiting.popleft()[1])


if __name__ == "__main__":
    serve(float(sys.argv[1]))
