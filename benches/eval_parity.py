"""pass@1 of the same model on the same questions by `counterpoint eval` and by transformers.

usage: eval_parity.py [--model configs/arith] [--data configs/arith/eval.jsonl] [--samples 16] [--max-new-tokens 6] ...
Needs torch and transformers (make python-env). Both sample at temperature 1 without filters, each with its own noise, and
all texts are judged by the same verifier. Printed: both pass@1 with their standard errors over prompts, and the difference
over its own standard error, which is smaller, since the prompts are the same: from the spread of the K answers to each. They
agree if that is within 2.58 standard errors (99 %). Then, at temperature 0, how many answers are the same tokens. Exits with 0
if they agree and all greedy answers but one in a hundred, which a tie may explain, are equal.
"""
import argparse, json, math, os, subprocess, sys, tempfile, time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='configs/arith')
    parser.add_argument('--data', default='configs/arith/eval.jsonl', help='JSONL with "prompt" (text or messages) and "answer"')
    parser.add_argument('--verifier', default='exact')
    parser.add_argument('--samples', type=int, default=16)
    parser.add_argument('--max-new-tokens', type=int, default=6)
    parser.add_argument('--limit', type=int, help='the first so many questions only')
    parser.add_argument('--batch', type=int, default=64, help='prompts in a batch of transformers')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--binary', default='target/release/counterpoint')
    return parser.parse_args()


def counterpoint(options, arguments, **more):
    done = subprocess.run([options.binary, *arguments], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f'counterpoint {arguments[0]} failed:\n{done.stderr}')
    return done.stdout


def ours(options, questions):
    """The report of `counterpoint eval`, and per question how many of its answers are right."""
    with tempfile.TemporaryDirectory() as scratch:
        file = os.path.join(scratch, 'samples.jsonl')
        report = json.loads(counterpoint(options, [
            'eval', '--model', options.model, '--data', options.data, '--verifier', options.verifier, '--samples',
            str(options.samples), '--max-new-tokens', str(options.max_new_tokens), '--seed', str(options.seed), '--device',
            options.device, '--limit', str(len(questions)), '--max-prompt-tokens', '100000', '--samples-out', file]))
        right = {}
        with open(file) as lines:
            next(lines)
            for line in map(json.loads, lines):
                right[line['prompt_id']] = right.get(line['prompt_id'], 0) + (line['verdict'] == 'correct')
    if len(right) != len(questions):
        sys.exit(f'counterpoint answered {len(right)} of {len(questions)} questions: do the others fit the context?')
    # The lines are in the order of the data's ids only by chance; the ids of a file end in its line numbers.
    return report, [right[name] for name in sorted(right, key=lambda name: int(name.rsplit(':', 1)[1]))]


class Peer:
    def __init__(self, options):
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side='left')
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).to(options.device).eval()
        ends = self.model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends])

    def tokens(self, prompt):
        if isinstance(prompt, str):
            return self.tokenizer(prompt)['input_ids']
        return self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)['input_ids']

    def answers(self, prompts, samples, greedy):
        """Per prompt, `samples` lists of tokens, each up to and with the token that ended it."""
        how = {'do_sample': False} if greedy else {
            'do_sample': True, 'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, 'num_return_sequences': samples}
        out = []
        for at in range(0, len(prompts), self.options.batch):
            ids = [self.tokens(p) for p in prompts[at:at + self.options.batch]]
            batch = self.tokenizer.pad({'input_ids': ids}, return_tensors='pt').to(self.options.device)
            with torch.no_grad():
                made = self.model.generate(input_ids=batch['input_ids'], attention_mask=batch['attention_mask'],
                                           max_new_tokens=self.options.max_new_tokens, **how)
            out += [self.trimmed(row) for row in made[:, batch['input_ids'].shape[1]:].tolist()]
        return [out[i:i + samples] for i in range(0, len(out), samples)]

    def trimmed(self, tokens):
        end = next((i + 1 for i, token in enumerate(tokens) if token in self.ends), len(tokens))
        return tokens[:end]


def theirs(peer, options, questions):
    """Per question how many of transformers' answers are right; an answer that the limit cut off is wrong, as by default."""
    answered = peer.answers([q['prompt'] for q in questions], options.samples, greedy=False)
    texts = [[peer.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in answers] for answers in answered]
    lines = ''.join(json.dumps({'response': text, 'answer': q['answer']}) + '\n' for q, row in zip(questions, texts) for text in row)
    verdicts = iter(counterpoint(options, ['verify', '--verifier', options.verifier], input=lines).splitlines())
    whole = [[answer[-1] in peer.ends for answer in answers] for answers in answered]
    return [sum((json.loads(next(verdicts))['verdict'] == 'correct') & ended for ended in row) for row in whole]


def over_prompts(right, samples):
    """pass@1 and its standard error between prompts."""
    means = [r / samples for r in right]
    mean = sum(means) / len(means)
    return mean, math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) * (len(means) - 1)))


def of_sampling(right, samples):
    """The variance of pass@1 that the noise of sampling alone gives it."""
    return sum(r / samples * (1 - r / samples) / (samples - 1) for r in right) / len(right) ** 2


def greedy(peer, options, questions):
    asked = [{'prompt' if isinstance(q['prompt'], str) else 'messages': q['prompt'], 'id': str(i)} for i, q in enumerate(questions)]
    made = counterpoint(options, [
        'generate', '--model', options.model, '--device', options.device, '--temperature', '0', '--max-new-tokens',
        str(options.max_new_tokens), '--max-prompt-tokens', '100000'], input=''.join(json.dumps(a) + '\n' for a in asked))
    answers = peer.answers([q['prompt'] for q in questions], 1, greedy=True)
    return sum(json.loads(line)['tokens'] == answer[0] for line, answer in zip(made.splitlines(), answers, strict=True))


def main():
    options = arguments()
    if options.samples < 2:
        sys.exit('--samples must be at least 2: the spread of the answers to a question is what the difference is held against')
    with open(options.data) as lines:
        questions = [json.loads(line) for line in lines if line.strip()][:options.limit]
    torch.manual_seed(options.seed)
    begun = time.time()
    report, mine = ours(options, questions)
    seconds = time.time() - begun
    peer, begun = Peer(options), time.time()
    other = theirs(peer, options, questions)
    print(f'{len(questions)} questions x {options.samples} samples at temperature 1, verifier {options.verifier}')
    print(f'  counterpoint eval  pass@1 {report["pass@1"]:.4f} +- {report["standard_error"]["pass@1"]:.4f}  ({seconds:.1f} s, loading included)')
    mean, error = over_prompts(other, options.samples)
    print(f'  transformers       pass@1 {mean:.4f} +- {error:.4f}  ({time.time() - begun:.1f} s)')
    if abs(report['pass@1'] - over_prompts(mine, options.samples)[0]) > 1e-9:
        sys.exit('the report and the samples file of counterpoint disagree')
    spread = math.sqrt(of_sampling(mine, options.samples) + of_sampling(other, options.samples))
    difference = report['pass@1'] - mean
    within = abs(difference) <= 2.58 * spread
    print(f'  difference {difference:+.4f}, {difference / spread if spread else 0.0:+.2f} standard errors of sampling ({spread:.4f}): '
          f'{"equal" if within else "NOT equal"} within the sampling error')
    same = greedy(peer, options, questions)
    print(f'  temperature 0: {same} of {len(questions)} answers are the same tokens')
    return 0 if within and same >= 0.99 * len(questions) else 1


sys.exit(main())
