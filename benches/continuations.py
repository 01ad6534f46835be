"""Greedy continuations by counterpoint against transformers on the same model directory, in float32.

usage: continuations.py --model DIR [--binary target/release/counterpoint] [--new-tokens 64] [--device cpu]
Needs torch and transformers (make python-env). Exits with 0 if all 32 continuations are equal, but for at most one that a tie
explains: where it departs, transformers itself finds the two tokens' logits within TIE of each other.
"""
import argparse, json, subprocess, sys, time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-3  # float32 sums in another order differ by some 1e-5 in a logit

PROMPTS = [
    'The capital of France is', 'Once upon a time, in a village by the sea,', 'Water boils at', 'def fibonacci(n):\n',
    'The three primary colours are', 'To make a good cup of tea, first', 'In 1969, the first humans', 'A prime number is',
    '2 + 2 = 4\n3 + 5 = 8\n7 + 6 =', 'Dear Sir or Madam,\n', 'The mitochondria', 'import numpy as np\n\n',
    '{"name": "Alice", "age":', 'Q: Why is the sky blue?\nA:', 'La vie est', '# Introduction\n\nIn this chapter',
]
QUESTIONS = [
    'What is 7+8? Answer with the number only.', 'Name three animals that live in the sea.', 'Write a haiku about autumn.',
    'Explain photosynthesis to a child.', 'What is the opposite of "cold"?', 'Translate "good morning" into Spanish.',
    'Who wrote Romeo and Juliet?', 'List the days of the week.', 'How many legs does a spider have?', 'Tell me a joke.',
    'What does HTTP stand for?', 'Reverse the word "stone".', 'Is 91 a prime number?', 'Give me a recipe for pancakes.',
    'Sort these numbers: 5, 3, 9, 1.', 'What is the largest planet? 🪐',
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True)
    parser.add_argument('--binary', default='target/release/counterpoint')
    parser.add_argument('--new-tokens', type=int, default=64)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def ours(options, asked):
    lines = ''.join(json.dumps({'id': str(i), **prompt}) + '\n' for i, prompt in enumerate(asked))
    command = [options.binary, 'generate', '--model', options.model, '--device', options.device, '--temperature', '0',
               '--max-new-tokens', str(options.new_tokens)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'counterpoint failed:\n{done.stderr}')
    return [json.loads(line)['tokens'] for line in done.stdout.splitlines()]


def main():
    options = arguments()
    asked = [{'prompt': text} for text in PROMPTS]
    asked += [{'messages': [{'role': 'user', 'content': text}]} for text in QUESTIONS]
    begun = time.time()
    answers = ours(options, asked)
    print(f'counterpoint: {sum(map(len, answers))} tokens in {time.time() - begun:.1f} s, loading included')

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).to(options.device).eval()
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    departed, unexplained, tokens, begun = 0, 0, 0, time.time()
    for number, (prompt, answer) in enumerate(zip(asked, answers, strict=True)):
        if 'messages' in prompt:
            ids = tokenizer.apply_chat_template(prompt['messages'], add_generation_prompt=True, return_dict=True)['input_ids']
        else:
            ids = tokenizer(prompt['prompt'])['input_ids']
        ids = torch.tensor([ids], device=options.device)
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=options.new_tokens)
        wanted = out[0, ids.shape[1]:].tolist()
        tokens += len(wanted)
        # Whether the token that ends it is part of an answer is a matter of taste.
        trimmed = [answer[:-1] if answer and answer[-1] in ends else answer, wanted[:-1] if wanted[-1] in ends else wanted]
        if trimmed[0] == trimmed[1]:
            continue
        departed += 1
        at = next((i for i, (a, b) in enumerate(zip(*trimmed)) if a != b), min(map(len, trimmed)))
        with torch.no_grad():
            logits = model(out[:, :ids.shape[1] + at]).logits[0, -1]
        best = torch.topk(logits, 2).values
        gap = (best[0] - best[1]).item()
        unexplained += gap > TIE
        print(f'prompt {number} departs at token {at}: the two best logits differ by {gap:.2g}')
    print(f'transformers: {tokens} tokens in {time.time() - begun:.1f} s, one prompt at a time')
    print(f'{len(asked) - departed} of {len(asked)} continuations of up to {options.new_tokens} tokens are equal, '
          f'{unexplained} departures are no tie')
    return 0 if departed <= 1 and unexplained == 0 else 1


sys.exit(main())
