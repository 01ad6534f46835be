//! Tokenizer files and chat templates that are broken or mean: one clear line, and neither a panic nor much memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use counterpoint_policy::{StreamDecoder, Tokenizer};
use counterpoint_rollout::{ChatMessage, PromptContent};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::data;

const NAMES: [&str; 6] = ["byte_level", "llama3", "sentencepiece", "metaspace", "wordpiece", "suffixes"];

const TEMPLATE: &str = "{%- set ns = namespace(n=0) -%}{% for m in messages[::-1] if m.role != 'x' %}{% if loop.first %}\
{{ m['content'].split('a', 1)[-1] | trim | default('x', true) }}{% else %}{{ m | tojson(indent=2) }}{% endif %}\
{% set ns.n = ns.n + m.content | length %}{% endfor %}{% macro f(x, y=1) %}{{ x * y }}{% endmacro %}{{ f('ab', 3) }}\
{% generation %}{{ ns.n // 2 }} {{ '%5s' | format('a') }} {{ 'a'.center(20) }} {{ [1, 2] | join('-') }}{% endgeneration %}";

/// A model directory with one file that is not what it should be. What happens then, in one line.
fn outcome(tokenizer: &str, settings: &str, template: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("tiny-qwen2").join("config.json"), dir.path().join("config.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    // A panic within the tokenizers library is caught by the crate; none may leave it.
    catch_unwind(AssertUnwindSafe(|| used(dir.path()))).map_err(|_| "it panicked".to_owned()).unwrap()
}

/// Everything that a tokenizer is asked for.
fn used(dir: &Path) -> Result<(), String> {
    let tokenizer = Tokenizer::from_dir(dir).map_err(|e| e.to_string())?;
    let chat = PromptContent::Chat(vec![ChatMessage::new("system", "ab"), ChatMessage::new("user", "cat 🦀")]);
    let rendered = tokenizer.encode_prompt(&chat).map_err(|e| e.to_string());
    let tokens = tokenizer.encode("The cat 🦀 <|end|>").unwrap_or_else(|_| vec![1, 7, 30]);
    let whole = tokenizer.decode(&tokens, true).map_err(|e| e.to_string())?;
    let mut decoder = StreamDecoder::new(&tokenizer, true);
    let mut text = String::new();
    for &token in &tokens {
        text.push_str(&decoder.push(token).map_err(|e| e.to_string())?);
    }
    assert_eq!(text + &decoder.finish().map_err(|e| e.to_string())?, whole);
    rendered.map(drop)
}

fn file(name: &str) -> String {
    std::fs::read_to_string(data("tokenizers").join(format!("{name}.json"))).unwrap()
}

/// What does not belong anywhere.
fn odd() -> impl Strategy<Value = Value> {
    proptest::sample::select(vec![
        json!(null),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(true),
        json!(""),
        json!("x"),
        json!("</w>"),
        json!([]),
        json!({}),
        json!([[1, 2]]),
        json!({"type": "Strip", "content": " ", "start": 9, "stop": 9}),
        json!({"type": "Sequence", "decoders": []}),
        json!({"Regex": "(a*)*b"}),
        json!({"Regex": "("}),
        json!({"type": "Fuse"}),
        json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
    ])
}

/// Puts a value somewhere into a tree; `path` says where, more or less.
fn put(tree: &mut Value, path: &[usize], odd: Value, remove: bool) {
    let Some((&step, rest)) = path.split_first() else {
        *tree = odd;
        return;
    };
    match tree {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step % map.len()).unwrap().clone();
            if remove && rest.is_empty() {
                map.remove(&key);
            } else {
                put(&mut map[&key], rest, odd, remove);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let place = step % items.len();
            put(&mut items[place], rest, odd, remove);
        }
        leaf => *leaf = odd,
    }
}

fn is_one_line(outcome: Result<(), String>) {
    if let Err(line) = outcome {
        assert!(!line.is_empty() && line.lines().count() == 1, "{line:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_changed_tokenizer_is_read_or_refused(
        name in proptest::sample::select(&NAMES[..]),
        path in proptest::collection::vec(0usize..1000, 1..5),
        odd in odd(),
        remove in any::<bool>(),
    ) {
        let mut tree: Value = serde_json::from_str(&file(name)).unwrap();
        put(&mut tree, &path, odd, remove);
        is_one_line(outcome(&tree.to_string(), "{}", TEMPLATE));
    }

    #[test]
    fn a_cut_or_spoilt_tokenizer_is_refused(
        name in proptest::sample::select(&NAMES[..]), at in 0usize..2000, byte in any::<char>(), cut in any::<bool>(),
    ) {
        let text = file(name);
        let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        let rest = if cut { "" } else { text[at..].strip_prefix(|_: char| true).unwrap_or_default() };
        is_one_line(outcome(&format!("{}{byte}{rest}", &text[..at]), "{}", TEMPLATE));
    }

    #[test]
    fn changed_settings_are_read_or_refused(
        path in proptest::collection::vec(0usize..9, 1..4), odd in odd(), remove in any::<bool>(),
    ) {
        let mut tree = json!({"eos_token": {"content": "<|end|>", "lstrip": false}, "bos_token": "<|start|>",
            "chat_template": [{"name": "default", "template": "x"}], "added_tokens_decoder": {"0": {"content": "a"}}});
        put(&mut tree, &path, odd, remove);
        is_one_line(outcome(&file("byte_level"), &tree.to_string(), TEMPLATE));
    }

    #[test]
    fn a_changed_template_is_rendered_or_refused(
        edits in proptest::collection::vec((0usize..800, "[{}%()|\\[\\]'\",.:~*/=a-c0-9 -]{0,3}", 0usize..6), 1..6),
    ) {
        let mut source = TEMPLATE.to_owned();
        for (at, text, less) in edits {
            let start = at.min(source.len());
            let end = (start + less).min(source.len());
            source.replace_range(start..end, &text);
        }
        is_one_line(outcome(&file("byte_level"), "{}", &source));
    }
}

#[test]
fn mean_files_are_refused_in_one_line() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = file("byte_level").replace("\"a\":", "\"a\":4294967295, \"aa\":");
    for tokenizer in [deep.as_str(), "", "null", "{}", "[]", "\"x\"", "{\"version\":\"1.0\"}"] {
        let error = outcome(tokenizer, "{}", "").unwrap_err();
        assert!(error.contains("tokenizer.json: not a tokenizer: ") && error.lines().count() == 1, "{error}");
    }
    is_one_line(outcome(&huge, "{}", TEMPLATE));
    let error = outcome(&file("byte_level"), &deep, "").unwrap_err();
    assert!(error.contains("tokenizer_config.json: not JSON: "), "{error}");
    let templates = [
        format!("{}1{}", "{% if 1 %}".repeat(12_000), "{% endif %}".repeat(12_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(20_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(20_000)),
        format!("{{{{ a{} }}}}", ".b".repeat(20_000)),
        format!("{{{{ 'a'{} }}}}", " | upper".repeat(20_000)),
        format!("{{{{ {} }}}}", "-".repeat(20_000)),
        "{% raw %}".to_owned(),
        "\u{0}{{ '\u{0}' }}{# ".to_owned(),
    ];
    for template in templates {
        assert!(template.len() < 1 << 18, "refused for its length, not for its depth");
        is_one_line(outcome(&file("byte_level"), "{}", &template));
    }
}
