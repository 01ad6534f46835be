# Runs a program and then its tests in one interpreter, and reports how each went. The task comes on standard input, as JSON;
# reports go to what was standard output, each line with the task's token in front, which the program is not told.
import json
import os
import sys
import types


def main():
    # Taken before the program can put something else in their places.
    exit, write, dumps, run, fetch = os._exit, os.write, json.dumps, exec, find
    task = json.loads(sys.stdin.buffer.read())
    token = task.pop("token")
    reports = os.dup(1)
    os.dup2(2, 1)

    def say(kind, what=""):
        line = (token + " " + kind + " " + what.replace("\n", " ") + "\n").encode("utf-8", "replace")
        while line:
            line = line[write(reports, line):]

    def describe(error):
        try:
            return (type(error).__name__ + ": " + str(error))[:200]
        except BaseException:
            return "an exception that cannot be shown"

    def stop(kind, error):
        say(kind, describe(error))
        exit(0)

    say("ready")
    try:
        setup = compile(task["setup"], "setup", "exec", dont_inherit=True, optimize=0)
        tests = [compile(test, "test", "exec", dont_inherit=True, optimize=0) for test in task["tests"]]
    except (SyntaxError, ValueError) as error:
        stop("malformed", error)
    # A module by itself, so that dataclasses, pickle and the like find what they look for.
    module = sys.modules["answer"] = types.ModuleType("answer")
    space = module.__dict__
    try:
        run(setup, space)
    except BaseException as error:
        stop("malformed", error)
    try:
        run(compile(task["code"], "answer.py", "exec", dont_inherit=True), space)
        function = fetch(space, task["function"]) if task["function"] else None
    except BaseException as error:
        stop("broken", error)
    for test in tests:
        try:
            run(test, space)
        except BaseException as error:
            say("fail", describe(error))
        else:
            say("pass")
    for arguments in task["calls"]:
        try:
            result = dumps(function(*arguments), allow_nan=False)
        except BaseException as error:
            say("fail", describe(error))
        else:
            say("value", result)
    exit(0)


def find(space, name):
    # Some data sets want the function as a method of a class `Solution`.
    if name not in space and "Solution" in space:
        return getattr(space["Solution"](), name)
    return space[name]


main()
