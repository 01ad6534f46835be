"""A verifier of one's own in Python: an answer is right if it has the parity of the truth.

    [verifier.define.parity]
    kind = "process"
    command = ["python3", "examples/parity_verifier.py"]
"""

from counterpoint_verifier import serve


def even(number):
    try:
        return int(number) % 2 == 0
    except ValueError:
        return None


serve(lambda response, answer, prompt: even(response) is not None and even(response) == even(answer))
