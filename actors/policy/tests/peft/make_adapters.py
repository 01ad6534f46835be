"""Makes the golden adapters beside this file: LoRA adapters of the models in ../golden, saved by PEFT, with the logits of
PEFT's own merge.

    pip install torch==2.11.0 transformers==5.24.0 peft==0.21.2     # the CPU build of torch will do
    python actors/policy/tests/peft/make_adapters.py

Each case is a directory as `PeftModel.save_pretrained` writes it (adapter_config.json, adapter_model.safetensors) and
`golden.safetensors`: token ids and the float32 logits of `merge_and_unload`. A and B are drawn from a generator seeded by
the case's name. `tests/models/peft.rs` folds the adapters in and compares.
"""

import json
import pathlib
import zlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
LENGTH = 24
VOCABULARY = 48

# name -> base, settings of the adapter
CASES = {
    "qwen2": ("qwen2", dict(r=4, lora_alpha=6, target_modules="all-linear")),
    "qwen3": ("qwen3", dict(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True)),
    "smollm2": ("smollm2", dict(r=4, lora_alpha=4, layers_to_transform=[0, 2], target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])),
    "llama3": ("llama3", dict(r=3, lora_alpha=5, target_modules=["k_proj", "o_proj", "gate_proj"], lora_dropout=0.1)),
}

for name, (base, settings) in CASES.items():
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model = AutoModelForCausalLM.from_pretrained(
        HERE.parent / "golden" / base, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(VOCABULARY, (2, LENGTH), generator=generator)
    with torch.no_grad():
        before = model(ids).logits
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        for key, value in adapted.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        directory = HERE / name
        adapted.save_pretrained(directory)
        logits = adapted.merge_and_unload()(ids).logits
    assert (logits - before).abs().max() > 0.05, f"{name}: the adapter changes nothing"
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    # Where the file was made is nobody's business.
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file({"input_ids": ids, "logits": logits.contiguous()}, directory / "golden.safetensors")
    print(name, f"{(logits - before).abs().max():.2f}", sum(f.stat().st_size for f in directory.iterdir()), "bytes")
