"""Runs reward functions written for verl or TRL, unchanged, as a Counterpoint verifier. One file, no dependencies.

    command = ["python3", "reward_adapter.py", "--verl", "my_reward.py"]             # calls compute_score
    command = ["python3", "reward_adapter.py", "--verl", "my_reward.py:my_function"]
    command = ["python3", "reward_adapter.py", "--trl", "my_reward.py:accuracy_reward"]

--verl: f(data_source=..., solution_str=..., ground_truth=..., extra_info=...), once per response; returns a number, a bool, or a
    dict with "score". data_source and extra_info are the columns of these names if the data has them, else the prompt's
    source and all its other columns. async functions are awaited.
--trl: f(prompts=..., completions=..., **columns), once per group; returns a list of numbers or None. A chat prompt makes
    completions chats too, [[{"role": "assistant", "content": ...}]], as TRL has it. The columns are the data's other columns,
    and `answer` with the truth (under another name too, with --truth-column solution), each a list with one value per response.

Results outside 0 to 1 are void, unless --range LOW HIGH says how to map them: with --range -1 1, -1 is wrong, 1 is right and 0
is a score of one half. None is void, and so is an exception, with its text as the reason. What the function prints goes
into Counterpoint's log.
"""

import argparse
import asyncio
import importlib.util
import inspect
import json
import os
import sys
import traceback

HELLO = {"protocol": "counterpoint-verifier", "version": 1}


def main():
    # Before the user's file is loaded: it may print.
    requests, replies = take_over_the_streams()
    options = read_options()
    if options.verl:
        function, judge = load(options.verl, "compute_score"), judge_verl
    else:
        function, judge = load(options.trl, None), judge_trl
    write(replies, HELLO)
    for line in requests:
        request = json.loads(line)
        verdicts = judge(function, request["prompt"], request["responses"], options)
        write(replies, {"id": request["id"], "verdicts": verdicts})


def read_options():
    parser = argparse.ArgumentParser(description="Runs a reward function of verl or TRL as a Counterpoint verifier.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--verl", metavar="FILE[:FUNCTION]", help="verl's compute_score")
    kind.add_argument("--trl", metavar="FILE:FUNCTION", help="a reward function of TRL")
    parser.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"), default=(0.0, 1.0), help="default: 0 1")
    parser.add_argument("--truth-column", default="answer", metavar="NAME", help="TRL: another name for the truth")
    options = parser.parse_args()
    low, high = options.range
    if not low < high:
        parser.error("--range: LOW must be less than HIGH, got %r %r" % (low, high))
    return options


def load(place, default):
    """The function at FILE:FUNCTION."""
    path, colon, name = place.rpartition(":")
    if not colon:
        path, name = place, default
    if name is None:
        sys.exit("--trl: name the function, as in %s:my_reward" % place)
    path = os.path.abspath(path)
    sys.path.insert(0, os.path.dirname(path))  # Its own imports.
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    if spec is None:
        sys.exit("%s is no Python file" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        sys.exit("%s has no function `%s`" % (path, name))
    return getattr(module, name)


def judge_verl(function, prompt, responses, options):
    info = prompt["info"]
    arguments = {
        "data_source": info.get("data_source", prompt["source"]),
        "ground_truth": prompt["answer"],
        "extra_info": info.get("extra_info", info),
    }

    def score(response):
        result = call(function, dict(arguments, solution_str=response))
        return result["score"] if isinstance(result, dict) else result

    return [attempt(lambda: verdict(score(response), options)) for response in responses]


def judge_trl(function, prompt, responses, options):
    count = len(responses)
    columns = dict(prompt["info"], answer=prompt["answer"])
    columns[options.truth_column] = prompt["answer"]
    arguments = {name: [value] * count for name, value in columns.items()}
    if "messages" in prompt:
        arguments["prompts"] = [prompt["messages"]] * count
        arguments["completions"] = [[{"role": "assistant", "content": response}] for response in responses]
    else:
        arguments["prompts"] = [prompt["text"] if "text" in prompt else prompt["tokens"]] * count
        arguments["completions"] = list(responses)

    def scores():
        results = list(call(function, arguments))
        if len(results) != count:
            raise ValueError("%d rewards for %d completions" % (len(results), count))
        return [attempt(lambda: verdict(result, options)) for result in results]

    verdicts = attempt(scores)
    return verdicts if isinstance(verdicts, list) else [verdicts] * count


def call(function, arguments):
    result = function(**arguments)
    return asyncio.run(wait_for(result)) if inspect.isawaitable(result) else result


async def wait_for(result):
    return await result


def verdict(result, options):
    if result is None:
        return {"void": "the reward function returned None"}
    if isinstance(result, (str, bytes)):
        return {"void": "the reward function returned the text %r" % result}
    low, high = options.range
    score = (float(result) - low) / (high - low)
    if not 0.0 <= score <= 1.0:
        return {"void": "reward %r is not within %r and %r (--range)" % (float(result), low, high)}
    return {"score": score}


def attempt(function):
    try:
        return function()
    except Exception as error:  # A fault of the function must not look like a wrong answer.
        traceback.print_exc()
        return {"void": "%s: %s" % (type(error).__name__, error)}


def take_over_the_streams():
    """The protocol's streams, for nobody else: what the function reads or prints must not get between the lines."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, replies


def write(replies, message):
    replies.write(json.dumps(message, ensure_ascii=False, allow_nan=False) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
