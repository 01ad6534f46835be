"""Writes filters.json: what transformers' logits processors make of some logits.

usage: make_filters.py > filters.json   (needs torch and transformers; written with transformers 5)
"""
import json, sys

import torch
from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                          TopKLogitsWarper, TopPLogitsWarper)

OFF = {'repetition_penalty': 1.0, 'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0}
CASES = {
    'temperature': {'temperature': 0.7}, 'top-k': {'top_k': 3}, 'top-k of one': {'top_k': 1},
    'top-k beyond the vocabulary': {'top_k': 99}, 'top-p': {'top_p': 0.8}, 'small top-p': {'top_p': 0.05},
    'large top-p': {'top_p': 0.999}, 'min-p': {'min_p': 0.1}, 'min-p of one': {'min_p': 1.0},
    'penalty': {'repetition_penalty': 1.3}, 'reward of repetition': {'repetition_penalty': 0.7},
    'order': {'repetition_penalty': 1.2, 'temperature': 1.4, 'top_k': 9, 'top_p': 0.9, 'min_p': 0.05},
    'order, cold': {'repetition_penalty': 1.1, 'temperature': 0.3, 'top_k': 5, 'top_p': 0.95, 'min_p': 0.01},
}


def processors(s):
    # The order of GenerationMixin._get_logits_processor.
    out = LogitsProcessorList()
    if s['repetition_penalty'] != 1.0:
        out.append(RepetitionPenaltyLogitsProcessor(s['repetition_penalty']))
    if s['temperature'] != 1.0:
        out.append(TemperatureLogitsWarper(s['temperature']))
    if s['top_k']:
        out.append(TopKLogitsWarper(s['top_k']))
    if s['top_p'] < 1.0:
        out.append(TopPLogitsWarper(s['top_p']))
    if s['min_p'] > 0.0:
        out.append(MinPLogitsWarper(s['min_p']))
    return out


def main():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((4, 20), generator=generator) * 3
    logits[3] = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0] * 4)  # ties at the edge of top-k
    seen = torch.randint(0, 20, (4, 6), generator=generator)
    seen[:, 5] = seen[:, 0]  # the same token twice
    cases = []
    for name, settings in CASES.items():
        settings = OFF | settings
        scores = processors(settings)(seen, logits.clone())
        rows = [[None if x == float('-inf') else x for x in row] for row in scores.tolist()]
        cases.append({'name': name, **settings, 'logits': logits.tolist(), 'seen': seen.tolist(), 'scores': rows})
    json.dump(cases, sys.stdout, separators=(',', ':'))
    print()


main()
