"""A checkpoint after training opens in transformers, and lies as transformers would have written it."""

import json
import pathlib
import re
import tempfile
import unittest

from common import MODEL, counterpoint, train  # first: it sets what transformers reads when it is imported

import torch
import yaml
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

SHARD = "300KB"
TEXTS = ["15+93=108", "7-52=-45", "12*11=132", "0+0="]


def tensors(file):
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


class Checkpoint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        settings = ["checkpoint.dtype=bfloat16", f"checkpoint.max_shard_size={SHARD}", "run.max_steps=4", "eval.every=2"]
        cls.run_dir = train(scratch.name, "checkpoint.every=2", *settings)
        cls.path = cls.run_dir / "checkpoints" / "latest"
        cls.reference = pathlib.Path(scratch.name) / "reference"
        cls.model = AutoModelForCausalLM.from_pretrained(cls.path, dtype="auto")
        cls.model.save_pretrained(cls.reference, max_shard_size=SHARD)
        AutoTokenizer.from_pretrained(cls.path).save_pretrained(cls.reference)

    def names(self, path):
        return {entry.name for entry in path.iterdir()}

    def test_weights_and_index_are_the_files_that_save_pretrained_writes(self):
        weights = {name for name in self.names(self.reference) if "safetensors" in name}
        self.assertGreater(len(weights), 3)
        self.assertEqual({name for name in self.names(self.path) if "safetensors" in name}, weights)
        for name in weights:
            with self.subTest(name):
                self.assertEqual((self.path / name).read_bytes(), (self.reference / name).read_bytes())

    def test_no_file_of_the_reference_is_missing_and_none_too_many(self):
        self.assertLessEqual(self.names(self.reference), self.names(self.path))
        self.assertEqual(self.names(self.path) - self.names(self.reference), {"README.md", "state"})

    def test_the_configurations_say_the_same(self):
        ours, theirs = (AutoConfig.from_pretrained(path).to_dict() for path in (self.path, self.reference))
        where = "_name_or_path"
        self.assertEqual({**ours, where: ""}, {**theirs, where: ""})
        self.assertEqual(self.model.dtype, torch.bfloat16)
        ours, theirs = (GenerationConfig.from_pretrained(path) for path in (self.path, self.reference))
        self.assertEqual(ours.eos_token_id, AutoConfig.from_pretrained(MODEL).eos_token_id)
        self.assertEqual(ours.to_diff_dict(), theirs.to_diff_dict())

    def test_what_vllm_looks_for_is_there_once(self):
        # It takes the architecture from config.json and loads every *.safetensors of the directory that the index names; a
        # second copy of the weights in the directory (consolidated*, *.bin, *.pt) would be loaded too, or instead.
        config = json.loads((self.path / "config.json").read_text())
        self.assertEqual(config["architectures"], ["Qwen2ForCausalLM"])
        self.assertIn(config.get("dtype", config.get("torch_dtype")), ["bfloat16"])
        index = json.loads((self.path / "model.safetensors.index.json").read_text())
        files = sorted(file.name for file in self.path.glob("*.safetensors"))
        self.assertEqual(sorted(set(index["weight_map"].values())), files)
        count = len(files)
        self.assertEqual(files, [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)])
        found = {name: file for file in files for name in tensors(self.path / file)}
        self.assertEqual(found, index["weight_map"])
        size = sum(t.nbytes for file in files for t in tensors(self.path / file).values())
        self.assertEqual(index["metadata"]["total_size"], size)
        others = [name for name in self.names(self.path) if re.search(r"consolidated|\.(bin|pt|pth)$", name)]
        self.assertEqual(others, [])

    def test_logits_are_those_of_counterpoint(self):
        tokenizer = AutoTokenizer.from_pretrained(self.path)
        model = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval()
        ids = [tokenizer(text).input_ids for text in TEXTS]
        scored = counterpoint("score", "--model", self.path, lines=[{"ids": line} for line in ids])
        self.assertEqual(len(scored), len(ids))
        for line, scores in zip(ids, scored):
            with torch.no_grad():
                logprobs = model(torch.tensor([line])).logits[0, :-1].log_softmax(-1)
            expected = logprobs.gather(1, torch.tensor(line[1:])[:, None])[:, 0]
            worst = (expected - torch.tensor(scores["logprobs"])).abs().max().item()
            self.assertLess(worst, 1e-4)

    def test_training_changed_the_weights_and_their_exact_state_is_kept_apart(self):
        before = tensors(MODEL / "model.safetensors")
        after = self.model.state_dict()
        self.assertEqual(before.keys(), after.keys())
        self.assertTrue(any(not torch.equal(before[name].bfloat16(), after[name]) for name in before))
        state = tensors(self.path / "state" / "weights.safetensors")["weights"]
        self.assertEqual((state.dtype, state.numel()), (torch.float32, sum(t.numel() for t in after.values())))
        embedding = after["model.embed_tokens.weight"]
        self.assertTrue(torch.equal(state[: embedding.numel()].bfloat16(), embedding.flatten()))

    def test_the_tokenizer_is_that_of_the_model(self):
        ours, theirs = AutoTokenizer.from_pretrained(self.path), AutoTokenizer.from_pretrained(MODEL)
        self.assertEqual([ours(text).input_ids for text in TEXTS], [theirs(text).input_ids for text in TEXTS])
        self.assertEqual(ours.decode(ours(TEXTS[0]).input_ids), TEXTS[0])

    def test_the_card_has_the_front_matter_of_the_hub(self):
        text = (self.path / "README.md").read_text()
        _, front, body = text.split("---\n", 2)
        front = yaml.safe_load(front)
        self.assertEqual((front["base_model"], front["library_name"]), ("arith", "transformers"))
        self.assertEqual(front["pipeline_tag"], "text-generation")
        self.assertIn("nft", front["tags"])
        evaluations = [json.loads(line) for line in (self.run_dir / "eval.jsonl").read_text().splitlines()]
        self.assertIn(f"| before training | {evaluations[0]['accuracy']:.3f} | {evaluations[0]['details']['answers']} |", body)
        self.assertIn(f"| after 4 steps (these) | {evaluations[-1]['accuracy']:.3f} |", body)

    def test_the_best_link_leads_to_a_model(self):
        best = json.loads((self.run_dir / "checkpoints" / "best.json").read_text())
        self.assertEqual((self.run_dir / "checkpoints" / "best").readlink().name, best["checkpoint"])
        AutoModelForCausalLM.from_pretrained(self.run_dir / "checkpoints" / "best")


if __name__ == "__main__":
    unittest.main()
