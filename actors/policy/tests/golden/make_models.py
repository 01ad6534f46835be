"""Makes the golden models beside this file: tiny random models of every family and rope type, with their logits.

    pip install torch==2.11.0 transformers==5.24.0 numpy     # the CPU build of torch will do
    python actors/policy/tests/golden/make_models.py [CASE ...]

Each case is a directory as `save_pretrained` writes it (config.json, safetensors, an index if sharded) and
`golden.safetensors`: token ids (2, LENGTH) and the float32 logits that transformers computes for them from the stored
weights, with eager attention. `tests/models/families.rs` compares ours with them.

Weights are drawn from a generator seeded by the case's name, so running this again gives the same files but for the last
bits of the logits. A case is refused if its logits would hardly change without the feature that it is there for: such a
golden would prove nothing. Some configs are rewritten in the dialect of transformers 4 (rope_theta, rope_scaling,
torch_dtype), which the program has to read as well.
"""

import json
import pathlib
import shutil
import sys
import zlib

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

HERE = pathlib.Path(__file__).parent
LENGTH = 96  # longer than every window and every context before scaling
VOCABULARY = 48
MOST_BYTES = 400_000

SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=1, pad_token_id=0,
)


def rope(kind, theta=10_000.0, **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


LLAMA3 = rope("llama3", 500_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = rope("yarn", 1_000_000.0, factor=4.0, original_max_position_embeddings=32)

# name -> config, format of the stored weights, dialect of config.json, shards, and the same config without its feature
CASES = {
    "qwen2": dict(
        config=Qwen2Config(**SIZES), without=None, dtype=torch.bfloat16, dialect=4),
    "qwen2-window": dict(
        config=Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=24, max_window_layers=1),
        without=dict(use_sliding_window=False, layer_types=["full_attention"] * 3), dtype=torch.bfloat16, dialect=4),
    "qwen2-yarn": dict(
        config=Qwen2Config(**SIZES, rope_parameters=YARN, tie_word_embeddings=True),
        without=dict(rope_parameters=rope("default", 1_000_000.0)), dtype=torch.float16, dialect=4),
    "qwen3": dict(
        config=Qwen3Config(**SIZES, head_dim=12, rope_parameters=rope("default", 1_000_000.0)),
        without=None, dtype=torch.bfloat16, dialect=5, shards=3),
    "qwen3-tied-window": dict(
        config=Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True, attention_bias=True, use_sliding_window=True,
                           sliding_window=9, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        without=dict(use_sliding_window=False, layer_types=["full_attention"] * 3), dtype=torch.bfloat16, dialect=5),
    "qwen3-yarn-mscale": dict(
        config=Qwen3Config(**SIZES, head_dim=24,
                           rope_parameters=rope("yarn", factor=3.5, original_max_position_embeddings=32, mscale=1.4,
                                                mscale_all_dim=0.6, beta_fast=8, beta_slow=2, truncate=False)),
        without=dict(rope_parameters=rope("yarn", factor=3.5, original_max_position_embeddings=32)),
        dtype=torch.bfloat16, dialect=5),
    "llama3": dict(
        config=LlamaConfig(**SIZES, rope_parameters=LLAMA3),
        without=dict(rope_parameters=rope("default", 500_000.0)), dtype=torch.bfloat16, dialect=4, shards=2),
    "llama-linear-biased": dict(
        config=LlamaConfig(**SIZES, attention_bias=True, rope_parameters=rope("linear", factor=4.0)),
        without=dict(rope_parameters=rope("default")), dtype=torch.float32, dialect=4),
    "llama-yarn": dict(
        config=LlamaConfig(**SIZES, head_dim=20,
                           rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32,
                                                attention_factor=1.3)),
        without=dict(rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32)),
        dtype=torch.bfloat16, dialect=5),
    "smollm2": dict(
        config=LlamaConfig(**{**SIZES, "hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3},
                           tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=rope("default", 100_000.0)),
        without=None, dtype=torch.bfloat16, dialect=4),
    "mistral": dict(
        config=MistralConfig(**SIZES, sliding_window=16, head_dim=16, rms_norm_eps=1e-5),
        without=dict(sliding_window=None), dtype=torch.bfloat16, dialect=4),
    "mistral-linear": dict(
        config=MistralConfig(**SIZES, sliding_window=None, rope_parameters=rope("linear", 1_000_000.0, factor=2.5)),
        without=dict(rope_parameters=rope("default", 1_000_000.0)), dtype=torch.float32, dialect=5),
}


def model_of(config):
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def draw(model, generator, dtype):
    """Weights large enough that attention is far from uniform, exact in `dtype`."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            matrix = parameter.dim() == 2
            scale = 1.0 if "embed_tokens" in name or "lm_head" in name else 1.6
            value = scale * noise / parameter.shape[-1] ** 0.5 if matrix else 0.2 * noise
            if "norm" in name:
                value = value + (2.0 if "q_norm" in name or "k_norm" in name else 1.0)
            parameter.copy_(value.to(dtype).float())


def logits_of(model, ids):
    with torch.no_grad():
        return model.float().eval()(ids, use_cache=False).logits


def old_dialect(directory):
    """Rewrites config.json as transformers 4 wrote it."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    config["transformers_version"] = "4.51.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(name, config, without, dtype, dialect, shards=1):
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model = model_of(config)
    draw(model, generator, dtype)
    ids = torch.randint(0, VOCABULARY, (2, LENGTH), generator=generator)
    weights, logits = model.state_dict(), logits_of(model, ids)
    if without is not None:
        plain = model_of(type(config)(**{**config.to_dict(), **without}))
        plain.load_state_dict(weights)
        effect = (logits_of(plain, ids) - logits).abs().max().item()
        assert effect > 0.05, f"{name}: without its feature the logits change by {effect} only"
    size = sum(p.numel() for p in model.parameters()) * dtype.itemsize
    saved = AutoModelForCausalLM.from_config(config).to(dtype)
    saved.load_state_dict(weights)
    saved.save_pretrained(directory, max_shard_size=-(-size // shards) + 2048 if shards > 1 else "1GB")
    (directory / "generation_config.json").unlink(missing_ok=True)
    if dialect == 4:
        old_dialect(directory)
    # What counts is what transformers makes of the directory.
    reread = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    assert torch.equal(logits_of(reread, ids), logits), f"{name} is not what was meant"
    save_file({"input_ids": ids, "logits": logits.contiguous()}, directory / "golden.safetensors")
    total = sum(path.stat().st_size for path in directory.iterdir())
    assert total < MOST_BYTES, f"{name} takes {total} bytes"
    files = len(list(directory.glob("model*.safetensors")))
    assert files == shards, f"{name} has {files} files of weights, not {shards}"
    print(f"{name}: {total} bytes, logits within ±{logits.abs().max():.1f}")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or CASES
    for name in chosen:
        make(name, **CASES[name])


if __name__ == "__main__":
    main()
