"""Makes the small tokenizers of this folder, one per kind that language models have. Needs: pip install tokenizers==0.23.*

    python actors/policy/tests/data/tokenizers/make.py

Each is trained on the few lines below, so that most characters of other scripts have no token of their own and come as bytes.
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The cat sat on the mat, and the dog did not mind it at all.",
    "What is 12 + 30? It is 42, because 12 + 30 = 42.",
    "We don't know; they've said it isn't so. Is it? Yes!",
    "Größe, façade, naïve, coöperate: words with accents.",
    "Übung macht den Meister. 日本語の文 and 中文 and русский текст.",
    "Smile 🙂 and wave 👋 twice:  two spaces,\ttabs,\nand lines.",
] * 4
SPECIAL = ["<|start|>", "<|end|>"]
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level():
    """As GPT-2, SmolLM2 and Qwen2: bytes by letters, split by the pre-tokenizer's own pattern, NFC."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def llama3():
    """As Llama 3: a pattern of its own, ignore_merges, a beginning of sequence put in front, added tokens that are words."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(GPT4), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken("the dog", normalized=False), AddedToken("日本", normalized=False)])
    start = ("<|start|>", tokenizer.token_to_id("<|start|>"))
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing("<|start|> $A", special_tokens=[start])]
    )
    return tokenizer


def sentencepiece():
    """As Llama 2 and Mistral: spaces are ▁, one stands in front of a text, characters without a token are byte tokens."""
    small = Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    letters = "▁abcdefghijklmnopqrstuvwxyzTWYIS0123456789.,?!'+=ü"
    small.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=120, limit_alphabet=len(letters), initial_alphabet=list(letters), show_progress=False),
    )
    made = json.loads(small.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    names += sorted(made["vocab"], key=made["vocab"].get)
    vocab = {name: index for index, name in enumerate(names)}
    merges = [tuple(pair) for pair in made["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace():
    """As newer exports of the same models, and as Unigram ones: Metaspace on both sides, bytes where no piece fits."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        TEXT, trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False)
    )
    pieces = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram([(name, round(score, 3)) for name, score in pieces], unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return tokenizer


def wordpiece():
    """As BERT: words and their continuations, lower case; a text does not come back as it was."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        TEXT, trainers.WordPieceTrainer(vocab_size=160, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    )
    return tokenizer


def suffixes():
    """As the first GPT: the end of a word is part of its last token; the last token of a text loses it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=160, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


for make in [byte_level, llama3, sentencepiece, metaspace, wordpiece, suffixes]:
    path = HERE / f"{make.__name__}.json"
    path.write_text(json.dumps(json.loads(make().to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size)
