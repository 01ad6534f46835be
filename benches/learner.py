"""Trained answer tokens per second, side by side with transformers: same model, same batch, same threads, in one run.

usage: learner.py [--repetitions 5] [--threads 2] [--model DIR ...] [--memory]
Needs torch and transformers (make python-env; make bench-learner does it all). For each model, for K = 8 and 16: a prompt of 64 tokens per group, answers spread 1:20. The candidates take turns:
  ours      one step of NFT on groups packed as [prompt | answer 1 | ...]
  padded    transformers as most use it: every answer behind a copy of its prompt, padded to the longest of the batch
  sorted    its best effort: micro-batches of answers sorted by length, padded to the longest of each
  ceiling   the matrix products of our step alone, at the same shapes
The peers compute NFT's loss by autograd and step torch's fused AdamW. Printed: medians and spreads, ratios and the share of the
ceiling. --memory: instead, the peak memory of one of our steps on 16,384 tokens of a vocabulary of 150,000, against what the
logits in float32 and their gradient would take.
"""
import argparse, json, os, random, statistics, subprocess, sys, time

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
PROMPT, SHORTEST, LONGEST = 64, 6, 120
SORTED_ROWS = 8


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', action='append', help='model directories; default: the tiny policy, and SmolLM2 if it was fetched')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--memory', action='store_true')
    return parser.parse_args()


def groups_of(vocabulary, groups, k, seed):
    """Answers of log-uniform length."""
    draw = random.Random(seed)
    tokens = lambda n: [draw.randrange(2, vocabulary) for _ in range(n)]
    length = lambda: round(SHORTEST * (LONGEST / SHORTEST) ** draw.random())
    return [{'prompt': tokens(PROMPT), 'answers': [tokens(length()) for _ in range(k)]} for _ in range(groups)]


# Cargo hands standard input and output through.
PROGRAM = [os.environ.get('CARGO', 'cargo'), 'bench', '--quiet', '--locked', '--bench', 'learner']


def ours(work):
    done = subprocess.run(PROGRAM, input=json.dumps(work), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'the bench program failed:\n{done.stderr}')
    return json.loads(done.stdout)


class Peer:
    """NFT as a PyTorch user writes it."""

    def __init__(self, path, groups, threads):
        import torch
        from transformers import AutoModelForCausalLM
        self.torch = torch
        torch.set_num_threads(threads)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.1, fused=True)
        self.answers = []
        for group in groups:
            right = [number % 3 == 0 for number in range(len(group['answers']))]
            rate = sum(right) / len(right)
            self.answers += [(group['prompt'], answer, float(c), rate) for answer, c in zip(group['answers'], right)]
        self.tokens = sum(len(answer) for _, answer, _, _ in self.answers)

    def step(self, micro_batches):
        torch = self.torch
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        for rows in micro_batches:
            longest = max(len(prompt) + len(answer) for prompt, answer, _, _ in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            attend, trained = torch.zeros_like(ids), torch.zeros(len(rows), longest, dtype=torch.bool)
            for row, (prompt, answer, _, _) in enumerate(rows):
                end = len(prompt) + len(answer)
                ids[row, :end] = torch.tensor(prompt + answer)
                attend[row, :end] = 1
                trained[row, len(prompt):end] = True
            logits = self.model(input_ids=ids, attention_mask=attend, use_cache=False).logits[:, :-1].float()
            logp = logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
            trained = trained[:, 1:]
            old = torch.full_like(logp, -3.0)
            right = torch.tensor([[c] for _, _, c, _ in rows])
            rate = torch.tensor([[r] for _, _, _, r in rows])
            ratio = torch.exp(logp - old)
            negative = (1 - rate * ratio) / (1 - rate)
            negative = negative + (negative.clamp(min=1.0) - negative).detach()
            likelihood = torch.where(right > 0.5, ratio, negative)
            loss = -((1 - rate) * likelihood.log() * trained).sum() / 1000
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - start

    def padded(self):
        return self.step([self.answers])

    def sorted(self):
        ordered = sorted(self.answers, key=lambda a: -len(a[1]))
        return self.step([ordered[i:i + SORTED_ROWS] for i in range(0, len(ordered), SORTED_ROWS)])


def compare(options, path, groups, k):
    with open(os.path.join(path, 'config.json')) as file:
        vocabulary = json.load(file)['vocab_size']
    batch = groups_of(vocabulary, groups, k, seed=k)
    peer = Peer(path, batch, options.threads)
    work = {'model': path, 'threads': options.threads, 'steps': 3, 'groups': batch}
    times = {'ours': [], 'padded': [], 'sorted': [], 'ceiling': []}
    peer.sorted()  # the first step allocates
    for _ in range(options.repetitions):
        result = ours(work)
        assert result['tokens'] == peer.tokens, (result['tokens'], peer.tokens)
        times['ours'].append(min(result['seconds'][1:]))
        times['ceiling'].append(min(result['ceiling_seconds'][1:]))
        times['padded'].append(peer.padded())
        times['sorted'].append(peer.sorted())
    lengths = sum(PROMPT + len(a) for g in batch for a in g['answers'])
    print(f'{path}, {groups} groups, K = {k}: {peer.tokens} trained tokens, {lengths} with a prompt for each')
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f'  {name:8} {peer.tokens / median[name]:10.0f} tokens/s   {median[name]:8.3f} s ({min(values):.3f} to {max(values):.3f})')
    print(f'  ours / padded {median["padded"] / median["ours"]:.2f}, ours / sorted {median["sorted"] / median["ours"]:.2f}, '
          f'share of the ceiling {100 * median["ceiling"] / median["ours"]:.0f} %', flush=True)


def memory(options):
    vocabulary, tokens = 150_000, 16_384
    answers = [[2 + i % 1000] * 256 for i in range(tokens // 256)]
    groups = [{'prompt': [1, 2], 'answers': answers[i:i + 8]} for i in range(0, len(answers), 8)]
    work = {'vocabulary': vocabulary, 'threads': options.threads, 'steps': 1, 'micro_batch_tokens': 32768, 'groups': groups}
    result = ours(work)
    used = (result['kib_peak'] - result['kib_before']) * 1024
    logits = 2 * tokens * vocabulary * 4
    print(f'one step on {tokens} trained tokens, vocabulary {vocabulary}: {used / 2**30:.2f} GiB above the {result["kib_before"] / 2**20:.2f} GiB '
          f'before it; logits in float32 and their gradient: {logits / 2**30:.2f} GiB; {100 * used / logits:.1f} %')


if __name__ == '__main__':
    options = arguments()
    if options.memory:
        memory(options)
        sys.exit()
    models = options.model or ['configs/arith'] + (['.cache/smollm2'] if os.path.exists('.cache/smollm2') else [])
    for path in models:
        large = os.path.getsize(os.path.join(path, 'config.json')) and 'smollm2' in path
        for k in (8, 16):
            compare(options, path, (2 if large else 16) * 8 // k, k)
