"""A verifier plug-in that misbehaves on demand, for tests. It judges by equality until it is its turn to misbehave.

    bad_plugin.py --mode MODE             misbehaves at every request that has the response "misbehave"
    bad_plugin.py --mode MODE --every 3   misbehaves at every third request
    bad_plugin.py --mode ask              the prompt's column "misbehave" names the mode, request by request

Modes that concern the start (no-hello, bad-hello, old-hello, dies, slow-start) take effect at once. --mark TEXT is put on
the command line of every process that it leaves behind, so that a test can look for them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

MODES = {}


def mode(function):
    MODES[function.__name__.replace("_", "-")] = function
    return function


# Each mode gets the request and the answer that would be right. It may return lines to write instead; otherwise the plug-in
# goes on with the next request.


@mode
def hang(request, right):
    time.sleep(600)


@mode
def ignore_term(request, right):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(600)


@mode
def never(request, right):
    return []


@mode
def crash(request, right):
    os.kill(os.getpid(), signal.SIGSEGV)


@mode
def exit(request, right):
    os._exit(0)


@mode
def raise_error(request, right):
    raise ValueError("the plug-in has a bug")


@mode
def answer_and_exit(request, right):
    write(right)
    os._exit(0)


@mode
def fork_and_exit(request, right):
    leave_behind()
    os._exit(0)


@mode
def fork_and_hang(request, right):
    leave_behind()
    time.sleep(600)


@mode
def fork_and_go_on(request, right):
    leave_behind()
    return [right]


@mode
def fork_chain(request, right):
    # A process that is always about to be replaced by its child.
    if os.fork() == 0:
        end = time.time() + 600
        while time.time() < end:
            if os.fork() > 0:
                os._exit(0)
            time.sleep(0.0005)
        os._exit(0)
    time.sleep(600)


@mode
def zombies(request, right):
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    return [right]


@mode
def flood(request, right):
    # 64 MiB without a line break.
    for _ in range(1024):
        os.write(1, b"x" * 65536)


@mode
def flood_lines(request, right):
    while True:
        os.write(1, b"{}\n" * 20000)


@mode
def flood_stderr(request, right):
    for number in range(20000):
        os.write(2, b"line %d\n" % number)
    return [right]


@mode
def flood_stderr_line(request, right):
    for _ in range(256):
        os.write(2, b"y" * 65536)
    return [right]


@mode
def wrong_id(request, right):
    return [dict(right, id=request["id"] + 1000)]


@mode
def twice(request, right):
    return [right, right]


@mode
def unasked(request, right):
    return [right, dict(right, id=request["id"] + 1)]


@mode
def invalid_utf8(request, right):
    os.write(1, b'{"id": %d, "verdicts": ["\xff\xfe"]}\n' % request["id"])
    return []


@mode
def nan(request, right):
    return [dict(right, verdicts=[{"score": float("nan")}] * len(right["verdicts"]))]


@mode
def out_of_range(request, right):
    return [dict(right, verdicts=[{"score": 1.5}] * len(right["verdicts"]))]


@mode
def wrong_count(request, right):
    return [dict(right, verdicts=right["verdicts"] + ["correct"])]


@mode
def no_json(request, right):
    os.write(1, b"DEBUG: judging\n")
    return [right]


@mode
def error(request, right):
    return [{"id": request["id"], "error": "cannot judge this"}]


@mode
def close_stdin(request, right):
    os.close(0)
    time.sleep(600)


@mode
def close_stdin_after(request, right):
    write(right)
    os.close(0)
    time.sleep(600)


@mode
def close_stdout(request, right):
    os.close(1)
    time.sleep(600)


@mode
def stop_reading(request, right):
    # The answer comes, but no later request is ever read.
    write(right)
    time.sleep(600)


@mode
def slow(request, right):
    time.sleep(0.3)
    return [right]


def leave_behind():
    """Processes that try to outlive us, each in another way."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)", OPTIONS.mark]
    subprocess.Popen(sleeper)
    subprocess.Popen(sleeper, start_new_session=True)
    # Without the environment that it would inherit, and deaf.
    deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", deaf, OPTIONS.mark], start_new_session=True, env={})
    # A daemon: double fork, own session, no inherited files.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            os.execve(sleeper[0], sleeper, {})
        os._exit(0)
    # Let them get as far as their own session.
    time.sleep(0.1)


def write(message):
    os.write(1, (json.dumps(message) + "\n").encode())


def start(name):
    if name == "dies":
        sys.exit("the plug-in has no licence")
    if name == "slow-start":
        time.sleep(600)
    if name == "bad-hello":
        print("Loading the model ...", flush=True)
    if name == "old-hello":
        write({"protocol": "counterpoint-verifier", "version": 0})
    if name not in ("no-hello", "bad-hello", "old-hello"):
        write({"protocol": "counterpoint-verifier", "version": 1, "name": "bad plug-in"})


def main():
    start(OPTIONS.mode)
    for number, line in enumerate(sys.stdin, 1):
        request = json.loads(line)
        name = request["prompt"]["info"].get("misbehave") if OPTIONS.mode == "ask" else OPTIONS.mode
        due = number % OPTIONS.every == 0 if OPTIONS.every else "misbehave" in request["responses"]
        answer = request["prompt"]["answer"]
        right = {"id": request["id"]}
        right["verdicts"] = ["correct" if response == answer else "incorrect" for response in request["responses"]]
        misbehave = MODES.get(name) if due or OPTIONS.mode == "ask" else None
        for message in misbehave(request, right) if misbehave else [right]:
            write(message)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="good")
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--mark", default="counterpoint-test")
    OPTIONS = parser.parse_args()
    main()
