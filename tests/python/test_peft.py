"""An adapter after training opens in peft, and is there what it is here; an adapter that peft saved is the same here as there."""

import json
import pathlib
import tempfile
import unittest

from common import MODEL, counterpoint, train  # first: it sets what transformers reads when it is imported

try:
    from peft import LoraConfig, PeftModel, get_peft_model
except ImportError as missing:
    raise unittest.SkipTest(f"peft is not installed: {missing}")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = ["15+93=108", "7-52=-45", "12*11=132", "0+0="]


class Adapter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.scratch = pathlib.Path(scratch.name)
        settings = ["lora.rank=4", "lora.alpha=6", "lora.use_rslora=true", "learner.learning_rate=1e-2"]
        cls.run_dir = train(scratch.name, "run.max_steps=6", *settings)
        cls.path = cls.run_dir / "checkpoints" / "latest"
        tokenizer = AutoTokenizer.from_pretrained(cls.path)
        cls.ids = [tokenizer(text).input_ids for text in TEXTS]

    def base(self):
        return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()

    def scores(self, path):
        lines = counterpoint("score", "--model", path, lines=[{"ids": line} for line in self.ids])
        return [torch.tensor(line["logprobs"]) for line in lines]

    def assert_same(self, model, scores):
        for line, found in zip(self.ids, scores):
            with torch.no_grad():
                logprobs = model(torch.tensor([line])).logits[0, :-1].log_softmax(-1)
            expected = logprobs.gather(1, torch.tensor(line[1:])[:, None])[:, 0]
            self.assertLess((expected - found).abs().max().item(), 1e-4)

    def test_peft_opens_it_with_the_logits_of_counterpoint(self):
        model = PeftModel.from_pretrained(self.base(), self.path).eval()
        scores = self.scores(self.path)
        self.assert_same(model, scores)
        moved = max((a - b).abs().max().item() for a, b in zip(scores, self.scores(MODEL)))
        self.assertGreater(moved, 1e-2, "the adapter changes nothing")
        self.assert_same(model.merge_and_unload(), scores)

    def test_transformers_opens_it_by_the_base_that_it_names(self):
        self.assert_same(AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval(), self.scores(self.path))

    def test_peft_would_have_written_the_same_tensors(self):
        model = PeftModel.from_pretrained(self.base(), self.path)
        again = self.scratch / "again"
        model.save_pretrained(again)
        name = "adapter_model.safetensors"
        self.assertEqual((again / name).read_bytes(), (self.path / name).read_bytes())
        ours, theirs = (json.loads((path / "adapter_config.json").read_text()) for path in (self.path, again))
        for key in ours:
            with self.subTest(key):
                value = sorted(theirs[key]) if key == "target_modules" else theirs[key]
                self.assertEqual(ours[key], value)

    def test_an_adapter_that_peft_saved_is_merged_as_peft_does(self):
        torch.manual_seed(3)
        config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=9, target_modules=["q_proj", "v_proj", "down_proj"],
                            init_lora_weights=False)
        model = get_peft_model(self.base(), config).eval()
        saved, merged = self.scratch / "saved", self.scratch / "merged"
        model.save_pretrained(saved)
        counterpoint("merge", "--base", MODEL, "--adapter", saved, "--out", merged)
        self.assert_same(model, self.scores(merged))
        self.assert_same(model.merge_and_unload(), self.scores(merged))

    def test_the_card_is_that_of_an_adapter(self):
        self.assertIn("library_name: peft\n", (self.path / "README.md").read_text())


if __name__ == "__main__":
    unittest.main()
