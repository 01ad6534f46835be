"""A verifier in Python: an answer is right if it has the parity of the truth. Speaks the `process` protocol of Counterpoint."""
import json
import sys


def parity(text):
    try:
        return int(text) % 2
    except ValueError:
        return None


def say(line):
    print(json.dumps(line), flush=True)


say({"protocol": "counterpoint-verifier", "version": 1})
for line in sys.stdin:
    request = json.loads(line)
    truth = parity(request["prompt"]["answer"])
    verdicts = [truth is not None and parity(response) == truth for response in request["responses"]]
    say({"id": request["id"], "verdicts": verdicts})
