"""Makes the golden files of this directory: GGUF by llama.cpp's own writer, and what transformers' side has for it.

usage: python make.py    (needs gguf, transformers, tokenizers, torch, safetensors; results depend on no seed outside)

blocks.safetensors        NAME.raw: random blocks of a format; NAME.values: gguf.quants.dequantize of them
tiny-FAMILY.gguf          a random model of one layer in several formats, with a tokenizer and a chat template
tiny-FAMILY.safetensors   its weights dequantised, under Hugging Face names and in Hugging Face's row order
tokens.json               texts, and their tokens by the tokenizer of each family's transformers class
"""
import json, pathlib
import gguf, numpy as np
from gguf import GGMLQuantizationType as Q, quants
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

HERE = pathlib.Path(__file__).parent
random = np.random.default_rng(7)
FORMATS = [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]
# Where a block has its float16 scales: random bits there would be infinite now and then.
SCALES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}


def blocks():
    tensors = {}
    for kind in FORMATS:
        values, size = gguf.GGML_QUANT_SIZES[kind]
        if kind in SCALES:
            raw = random.integers(0, 256, (4, size), dtype=np.uint8)
            for at in SCALES[kind]:
                raw[:, at:at + 2] = random.normal(0, 0.1, (4, 1)).astype(np.float16).view(np.uint8)
        else:
            raw = quants.quantize(random.normal(0, 3, (4, 16)).astype(np.float32), kind).view(np.uint8)
        tensors[f'{kind.name}.raw'] = raw
        tensors[f'{kind.name}.values'] = quants.dequantize(raw.reshape(-1) if values == 1 else raw, kind).reshape(-1)
    save_file(tensors, HERE / 'blocks.safetensors')


TEXTS = [
    'Hello world, hello again', '  two spaces  lead', 'tabs\t\tand\n\n\nlines \n x\r\n', '1234567 + 89 = 3.14', "I'LL say it's we'RE don't",
    'naïve café', 'e\u0301 is not é', '日本語と中文', 'Привет', '😀👍🏽 👨‍👩‍👧', '½ ² Ⅻ ٣', '\u00a0nbsp\u3000wide', 'x=f(a[1]);//!!!',
    '<|im_start|>user\nhi<|im_end|>\n', 'a<|endoftext|>b', '<tool>x</tool>', '', ' ', '\n', '   \n  ', '🏳️‍🌈', 'snake_case CamelCase',
]
SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
USER_DEFINED = ['<tool>']


def bpe():
    """Vocabulary and merges of a small byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(tokenizer.to_str())['model']
    vocab = dict(sorted(model['vocab'].items(), key=lambda item: item[1]))
    vocab.update({text: len(vocab) + i for i, text in enumerate(USER_DEFINED)})
    return vocab, [tuple(merge) for merge in model['merges']]


def reference(pre, vocab, merges):
    """The tokenizer that models of this pre-tokenizer have."""
    plain = {text: id for text, id in vocab.items() if text not in USER_DEFINED}
    if pre == 'qwen2':
        found = Qwen2Tokenizer(vocab=plain, merges=merges)._tokenizer
    elif pre == 'gpt-2':
        found = GPT2Tokenizer(vocab=plain, merges=merges)._tokenizer
    else:
        llama = pre == 'llama-bpe'
        found = Tokenizer(models.BPE(vocab=plain, merges=merges, ignore_merges=llama))
        first = pre_tokenizers.Split(Regex(TikTokenConverter().pattern), 'isolated') if llama else pre_tokenizers.Digits(individual_digits=True)
        found.pre_tokenizer = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not llama)])
        found.decoder = decoders.ByteLevel()
        if llama:
            found.post_processor = processors.TemplateProcessing(single='<|im_start|> $A', special_tokens=[('<|im_start|>', vocab['<|im_start|>'])])
    found.add_special_tokens(SPECIAL)
    found.add_tokens(USER_DEFINED)
    return found


def permute(weights, heads):
    """As llama.cpp's converter does for its llama layout."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def unpermute(weights, heads):
    return weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


HIDDEN, INNER, HEADS, KV_HEADS, WIDTH = 32, 32, 4, 2, 8
ROWS = {'attn_q': ('self_attn.q_proj', HEADS * WIDTH, HIDDEN), 'attn_k': ('self_attn.k_proj', KV_HEADS * WIDTH, HIDDEN),
        'attn_v': ('self_attn.v_proj', KV_HEADS * WIDTH, HIDDEN), 'attn_output': ('self_attn.o_proj', HIDDEN, HEADS * WIDTH),
        'ffn_gate': ('mlp.gate_proj', INNER, HIDDEN), 'ffn_up': ('mlp.up_proj', INNER, HIDDEN), 'ffn_down': ('mlp.down_proj', HIDDEN, INNER)}


def model(family, pre, tied, vocab, merges):
    writer = gguf.GGUFWriter(HERE / f'tiny-{family}.gguf', family)
    writer.add_block_count(1); writer.add_context_length(512); writer.add_embedding_length(HIDDEN); writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS); writer.add_head_count_kv(KV_HEADS); writer.add_layer_norm_rms_eps(1e-6); writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(WIDTH); writer.add_key_length(WIDTH); writer.add_value_length(WIDTH)
    kinds = [gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.USER_DEFINED if t in USER_DEFINED else gguf.TokenType.NORMAL for t in vocab]
    padding = ['[PAD0]', '[PAD1]']
    writer.add_tokenizer_model('gpt2'); writer.add_tokenizer_pre(pre); writer.add_token_list([*vocab, *padding])
    writer.add_token_types([*kinds, *[gguf.TokenType.UNUSED] * 2]); writer.add_token_merges([' '.join(merge) for merge in merges])
    writer.add_eos_token_id(vocab['<|im_end|>']); writer.add_pad_token_id(vocab['<|endoftext|>'])
    if pre == 'llama-bpe':
        writer.add_bos_token_id(vocab['<|im_start|>'])
    writer.add_chat_template("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}")
    expected, mixed = {}, iter([Q.Q4_0, Q.Q8_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.F16, Q.BF16, Q.Q8_0] * 4)

    def add(name, target, shape, kind=None):
        kind = next(mixed) if kind is None else kind  # F32 is 0
        raw = quants.quantize(random.normal(0, 0.2, shape).astype(np.float32), kind)
        values = quants.dequantize(raw, kind)
        expected[target] = np.ascontiguousarray(values)
        if family == 'llama' and ('attn_q.' in name or 'attn_k.' in name):
            # The file's rows are those of Hugging Face permuted, whole rows at a time: so is what was just made.
            expected[target] = np.ascontiguousarray(unpermute(values, HEADS if 'attn_q' in name else KV_HEADS))
            assert (permute(expected[target], HEADS if 'attn_q' in name else KV_HEADS) == values).all()
        writer.add_tensor(name, raw, raw_dtype=kind)

    rows = len(vocab) + 2
    add('token_embd.weight', 'model.embed_tokens.weight', (rows, HIDDEN), Q.Q8_0)
    add('output_norm.weight', 'model.norm.weight', (HIDDEN,), Q.F32)
    if not tied:
        add('output.weight', 'lm_head.weight', (rows, HIDDEN), Q.Q4_0)
    at = 'model.layers.0.'
    add('blk.0.attn_norm.weight', at + 'input_layernorm.weight', (HIDDEN,), Q.F32)
    add('blk.0.ffn_norm.weight', at + 'post_attention_layernorm.weight', (HIDDEN,), Q.F32)
    for name, (target, outer, inner) in ROWS.items():
        add(f'blk.0.{name}.weight', f'{at}{target}.weight', (outer, inner))
        if family == 'qwen2' and name in ('attn_q', 'attn_k', 'attn_v'):
            add(f'blk.0.{name}.bias', f'{at}{target}.bias', (outer,), Q.F32)
    if family == 'qwen3':
        add('blk.0.attn_q_norm.weight', at + 'self_attn.q_norm.weight', (WIDTH,), Q.F32)
        add('blk.0.attn_k_norm.weight', at + 'self_attn.k_norm.weight', (WIDTH,), Q.F32)
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    save_file(expected, HERE / f'tiny-{family}.safetensors', metadata={'format': 'pt'})


blocks()
vocab, merges = bpe()
model('llama', 'llama-bpe', True, vocab, merges)
model('qwen2', 'qwen2', True, vocab, merges)
model('qwen3', 'smollm', False, vocab, merges)
tokens = {pre: [reference(pre, vocab, merges).encode(text).ids for text in TEXTS] for pre in ['llama-bpe', 'qwen2', 'smollm', 'gpt-2']}
(HERE / 'tokens.json').write_text(json.dumps({'texts': TEXTS, 'tokens': tokens}, indent=None) + '\n')
