//! Files that are whole and contradict themselves, or need what is not there: each is refused by name.

use super::*;

#[test]
fn other_architectures_and_features_are_refused_by_name() {
    let llama = || Fixture::model("llama");
    assert_refused(&llama().text("general.architecture", "qwen3moe"), &["qwen3moe", "not supported"]);
    assert_refused(&llama().count("llama.expert_count", 8), &["llama.expert_count = 8"]);
    assert_refused(&llama().count("llama.attention.sliding_window", 4096), &["llama.attention.sliding_window = 4096"]);
    assert_refused(&llama().flag("llama.attention.causal", 0), &["llama.attention.causal"]);
    assert_refused(&llama().count("llama.rope.dimension_count", 2), &["llama.rope.dimension_count of 2"]);
    assert_refused(&llama().text("llama.rope.scaling.type", "longrope"), &["llama.rope.scaling.type", "longrope"]);
    assert_refused(&llama().real("llama.rope.scaling.attn_factor", 1.5), &["llama.rope.scaling.attn_factor = 1.5"]);
    assert_refused(&llama().count("split.count", 3), &["3 parts", "llama-gguf-split"]);
    assert_refused(&llama().counted("blk.0.ffn_up.bias", &[6]), &["blk.0.ffn_up.bias", "[6]"]);
    assert_refused(&llama().counted("blk.0.attn_q.bias", &[8]), &["a part of the attention"]);
    assert_refused(&llama().counted("blk.1.attn_q.weight", &[8, 8]), &["blk.1.attn_q.weight"]);
}

#[test]
fn other_tokenizers_are_refused_by_name() {
    let llama = || Fixture::model("llama");
    assert_refused(
        &llama().text("tokenizer.ggml.model", "llama"),
        &["tokenizer.ggml.model = \"llama\"", "SentencePiece"],
    );
    assert_refused(&llama().text("tokenizer.ggml.pre", "tekken"), &["tokenizer.ggml.pre = \"tekken\"", "llama-bpe"]);
    assert_refused(&llama().text("tokenizer.ggml.pre", "a\nb\u{1b}"), &["\"a\\nb\\u{1b}\""]);
}

#[test]
fn other_number_formats_are_refused_by_name() {
    for (id, name) in [(16, "IQ2_XXS"), (10, "Q2_K"), (39, "MXFP4"), (999, "type 999")] {
        let file = Fixture::model("llama").tensor("output_norm.weight", &[8], id, vec![0; 32]);
        assert_refused(&file, &["output_norm.weight", name, "Q4_K"]);
    }
}

#[test]
fn keys_that_are_missing_or_of_the_wrong_kind_are_named() {
    let llama = || Fixture::model("llama");
    let needed = [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_q.weight",
    ];
    for name in needed {
        assert_refused(&llama().without(name), &[name, "missing"]);
    }
    assert_refused(&llama().text("llama.block_count", "one"), &["llama.block_count", "\"one\""]);
    assert_refused(&llama().integers("llama.attention.head_count", &[2]), &["head_count", "an array of numbers"]);
    assert_refused(&llama().real("llama.attention.layer_norm_rms_epsilon", f32::NAN), &["rms_epsilon", "NaN"]);
    assert_refused(&llama().real("llama.rope.freq_base", -1.0), &["llama.rope.freq_base", "positive"]);
    assert_refused(&llama().count("llama.block_count", 0), &["llama.block_count"]);
    assert_refused(&llama().count("llama.block_count", 1 << 30), &["llama.block_count", "more than the 11 tensors"]);
    assert_refused(&llama().count("llama.attention.head_count_kv", 3), &["head_count_kv"]);
    assert_refused(&llama().count("llama.attention.head_count", u32::MAX), &["llama.attention.head_count"]);
    assert_refused(&llama().count("llama.embedding_length", 16), &["token_embd.weight", "[6, 16]", "[6, 8]"]);
}

#[test]
fn tokenizers_that_contradict_themselves_are_refused() {
    let llama = || Fixture::model("llama");
    let tokens = "tokenizer.ggml.tokens";
    let types = "tokenizer.ggml.token_type";
    assert_refused(&llama().integers(types, &[1; 5]), &[types, "5", "6"]);
    assert_refused(&llama().integers(types, &[3, 3, 1, 1, 1, 9]), &["tokenizer.ggml.token_type[5] is 9"]);
    assert_refused(&llama().texts(tokens, &["a", "b", "ab", "x", "y", "a"]), &["tokens[5] is \"a\"", "tokens[0]"]);
    let seven = llama().texts(tokens, &["a", "b", "ab", "x", "y", "z", "7"]).integers(types, &[1; 7]);
    assert_refused(&seven.count("tokenizer.ggml.eos_token_id", 0), &["7 entries", "token_embd.weight 6 rows"]);
    assert_refused(&llama().texts("tokenizer.ggml.merges", &["a b", "ab"]), &["merges[1]"]);
    assert_refused(&llama().texts("tokenizer.ggml.merges", &["a z"]), &["tokenizer", "does not work"]);
    assert_refused(&llama().count("tokenizer.ggml.eos_token_id", 6), &["eos_token_id", "is 6", "6 tokens"]);
    assert_refused(&llama().flag("tokenizer.ggml.add_bos_token", 1), &["tokenizer.ggml.bos_token_id", "missing"]);
    let no_end = llama().texts(tokens, &["p", "q", "a", "b", "ab", "1"]).without("tokenizer.ggml.eos_token_id");
    assert_refused(&no_end, &["tokenizer.ggml.eos_token_id", "missing"]);
}
