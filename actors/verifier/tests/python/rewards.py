"""Reward functions as users of verl and TRL write them, for the tests of reward_adapter.py."""

import asyncio
import sys

print("loading the rewards")


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    print("judging", solution_str)
    if solution_str == "crash":
        raise ValueError("cannot parse \ud800")
    if solution_str == "dict":
        return {"score": 0.5, "acc": True}
    if solution_str == "none":
        return None
    if solution_str == "nan":
        return float("nan")
    if solution_str == "source":
        return data_source == "gsm8k" and extra_info == {"index": 7}
    if solution_str == "read":
        return len(sys.stdin.read())
    return 1.0 if solution_str == ground_truth else 0.0


def signed(data_source, solution_str, ground_truth, extra_info, **kwargs):
    return 1 if solution_str == ground_truth else -1


def half(data_source, solution_str, ground_truth, extra_info):
    return 2.0 if solution_str == "two" else 0.0


async def later(data_source, solution_str, ground_truth, extra_info):
    await asyncio.sleep(0)
    return solution_str == ground_truth


def accuracy_reward(completions, solution, **kwargs):
    print("judging", len(completions))
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    if "crash" in texts:
        raise KeyError("solution")
    if "few" in texts:
        return [1.0]
    return [None if text == "skip" else float(text == truth) for text, truth in zip(texts, solution)]


def columns_reward(prompts, completions, answer, level, **kwargs):
    asked = prompts[0] if isinstance(prompts[0], str) else prompts[0][-1]["content"]
    return [float(asked == "2 + 2" and truth == "4" and rank == 3) for truth, rank in zip(answer, level)]
