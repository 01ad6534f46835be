use std::fs;
use std::path::Path;

use counterpoint_policy::{ChatOptions, PolicyError, Tokenizer};
use counterpoint_rollout::{ChatMessage, PromptContent};
use proptest::prelude::*;

use crate::{copy_of, model_dir};

/// In the letters that the models know: roles are written as operators.
const TEMPLATE: &str = "\
{%- if messages[0].role == 'system' %}
    {%- set start = 1 %}
{{- messages[0].content | trim }}
{% else %}
    {%- set start = 0 %}
{%- endif %}
{% for message in messages[start:] %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {{- {'user': '+', 'assistant': '-'}[message.role] + message.content.strip().replace('x', '*') + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}={% endif %}
{%- if tools is not none or documents is not none %}{{ raise_exception('no tools were given') }}{% endif %}
";

fn chat(messages: &[(&str, &str)]) -> PromptContent {
    let message = |&(role, content): &(&str, &str)| ChatMessage::new(role, content);
    PromptContent::Chat(messages.iter().map(message).collect())
}

fn text(text: &str) -> PromptContent {
    PromptContent::Text(text.to_owned())
}

/// A tokenizer whose directory was changed first.
fn changed(change: impl FnOnce(&Path)) -> Result<Tokenizer, PolicyError> {
    let copy = copy_of("tiny-qwen2");
    change(copy.path());
    Tokenizer::from_dir(copy.path())
}

fn with_template(template: &str) -> Tokenizer {
    changed(|dir| fs::write(dir.join("chat_template.jinja"), template).unwrap()).unwrap()
}

/// Sets a key of a JSON file.
fn set(path: &Path, key: &str, value: serde_json::Value) {
    let mut all: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    all[key] = value;
    fs::write(path, all.to_string()).unwrap();
}

/// What a template makes of a chat, in text.
fn rendered(tokenizer: &Tokenizer, prompt: &PromptContent) -> Result<String, String> {
    let tokens = tokenizer.encode_prompt(prompt).map_err(|e| e.to_string())?;
    Ok(tokenizer.decode(&tokens, false).unwrap())
}

proptest! {
    #[test]
    fn texts_of_the_alphabet_come_back(text in "[0-9+*= \n-]{0,40}") {
        let tokenizer = Tokenizer::from_dir(&model_dir("arith")).unwrap();
        let tokens = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokens.len(), text.len());
        prop_assert_eq!(tokenizer.decode(&tokens, true).unwrap(), text);
    }
}

#[test]
fn tokens_are_those_of_transformers() {
    let tokenizer = Tokenizer::from_dir(&model_dir("arith")).unwrap();
    assert_eq!(tokenizer.encode("15+93=").unwrap(), [3, 7, 12, 11, 5, 15]);
    assert_eq!(tokenizer.encode("1<eos>").unwrap(), [3, 1], "special tokens in a text are read, as transformers does");
    assert_eq!(tokenizer.decode(&[3, 1], true).unwrap(), "1");
    assert_eq!(tokenizer.decode(&[3, 1], false).unwrap(), "1<eos>");
    assert_eq!(tokenizer.encode_prompt(&text("1+1=")).unwrap(), tokenizer.encode("1+1=").unwrap());
    assert!(tokenizer.encode("").unwrap().is_empty());
}

#[test]
fn one_tokenizer_serves_all_threads() {
    let tokenizer = Tokenizer::from_dir(&model_dir("arith")).unwrap();
    let encode = |tokenizer: Tokenizer| std::thread::spawn(move || tokenizer.encode("12*3=").unwrap());
    let threads: Vec<_> = (0..4).map(|_| encode(tokenizer.clone())).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [3, 4, 14, 5, 15]);
    }
}

#[test]
fn end_tokens_are_collected_from_all_three_files() {
    assert_eq!(Tokenizer::from_dir(&model_dir("arith")).unwrap().eos_tokens(), [1]);
    let tokenizer = changed(|dir| {
        set(&dir.join("config.json"), "eos_token_id", 5.into());
        set(&dir.join("generation_config.json"), "eos_token_id", vec![17, 5].into());
    });
    assert_eq!(tokenizer.unwrap().eos_tokens(), [1, 5, 17]);
    let tokenizer = changed(|dir| {
        set(&dir.join("config.json"), "eos_token_id", serde_json::Value::Null);
        fs::remove_file(dir.join("generation_config.json")).unwrap();
        let token = serde_json::json!({"__type": "AddedToken", "content": "<eos>", "special": true});
        set(&dir.join("tokenizer_config.json"), "eos_token", token);
    });
    assert_eq!(tokenizer.unwrap().eos_tokens(), [1]);
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let tokenizer = changed(|dir| {
        let truncation =
            serde_json::json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        set(&dir.join("tokenizer.json"), "truncation", truncation);
    });
    assert_eq!(tokenizer.unwrap().encode("1+1=").unwrap().len(), 4);
}

#[test]
fn a_chat_goes_through_the_template() {
    let tokenizer = with_template(TEMPLATE);
    let prompt = chat(&[("system", " 7 \n"), ("user", " 2x3 "), ("assistant", "6"), ("user", "1")]);
    assert_eq!(rendered(&tokenizer, &prompt).unwrap(), "7\n+2*3<eos>-6<eos>+1<eos>=");
    assert_eq!(rendered(&tokenizer, &chat(&[("user", "1")])).unwrap(), "+1<eos>=");
}

#[test]
fn a_template_may_refuse_a_chat_and_is_heard() {
    let tokenizer = with_template(TEMPLATE);
    let error = rendered(&tokenizer, &chat(&[("assistant", "1")])).unwrap_err();
    assert!(error.starts_with("chat template: ") && error.contains("roles must alternate"), "{error}");
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    let tokenizer = with_template("1\n    {% if true %}\n2\n    {% endif %}\n3\n");
    assert_eq!(rendered(&tokenizer, &chat(&[])).unwrap(), "1\n2\n3");
}

#[test]
fn the_template_is_found_where_models_keep_it() {
    let settings = |value: serde_json::Value| {
        changed(|dir| set(&dir.join("tokenizer_config.json"), "chat_template", value)).unwrap()
    };
    assert_eq!(rendered(&settings("1".into()), &chat(&[])).unwrap(), "1");
    let named = serde_json::json!([{"name": "tool_use", "template": "1"}, {"name": "default", "template": "2"}]);
    assert_eq!(rendered(&settings(named.clone()), &chat(&[])).unwrap(), "2");
    let both = changed(|dir| {
        set(&dir.join("tokenizer_config.json"), "chat_template", named);
        fs::write(dir.join("chat_template.jinja"), "3").unwrap();
    });
    assert_eq!(rendered(&both.unwrap(), &chat(&[])).unwrap(), "3");
}

#[test]
fn a_chat_without_a_template_is_refused_and_a_text_is_not() {
    let tokenizer = Tokenizer::from_dir(&model_dir("arith")).unwrap();
    let error = rendered(&tokenizer, &chat(&[("user", "1")])).unwrap_err();
    assert!(error.contains("prompts must be text, not messages"), "{error}");
    assert!(tokenizer.encode_prompt(&text("1")).is_ok());
}

#[test]
fn a_broken_template_spoils_chats_only_and_a_costly_one_is_stopped() {
    let tokenizer = with_template("{% for %}");
    let error = rendered(&tokenizer, &chat(&[])).unwrap_err();
    assert!(error.starts_with("chat template: syntax error"), "{error}");
    assert!(tokenizer.encode_prompt(&text("1")).is_ok());
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}1{% endfor %}{% endfor %}";
    let error = rendered(&with_template(endless), &chat(&[])).unwrap_err();
    assert!(error.contains("fuel"), "{error}");
}

#[test]
fn a_template_of_the_users_wins_and_must_be_right() {
    let dir = copy_of("tiny-qwen2");
    fs::write(dir.path().join("chat_template.jinja"), "1").unwrap();
    let path = dir.path().join("mine.jinja");
    let options = ChatOptions {
        template: Some(path.clone()),
        variables: serde_json::json!({"sign": "*"}).as_object().unwrap().clone(),
        ..ChatOptions::default()
    };
    let error = |options| Tokenizer::with_options(dir.path(), options).unwrap_err().to_string();
    assert!(error(&options).contains("mine.jinja: "), "not there");
    fs::write(&path, "2{{ sign }}").unwrap();
    assert_eq!(rendered(&Tokenizer::with_options(dir.path(), &options).unwrap(), &chat(&[])).unwrap(), "2*");
    fs::write(&path, "{% if %}").unwrap();
    let text = error(&options);
    assert!(text.contains("mine.jinja: syntax error") && text.lines().count() == 1, "{text}");
}

#[test]
fn token_ids_are_a_prompt_if_the_model_has_them() {
    let tokenizer = Tokenizer::from_dir(&model_dir("arith")).unwrap();
    assert_eq!(tokenizer.encode_prompt(&PromptContent::Tokens(vec![3, 12, 15])).unwrap(), [3, 12, 15]);
    let error = tokenizer.encode_prompt(&PromptContent::Tokens(vec![3, 70_000])).unwrap_err().to_string();
    assert!(error.contains("token 70000 is outside the model's vocabulary of "), "{error}");
}

#[test]
fn missing_or_broken_files_are_named() {
    let error = |change: &dyn Fn(&Path)| changed(change).unwrap_err().to_string();
    assert!(error(&|dir| fs::remove_file(dir.join("tokenizer.json")).unwrap()).contains("tokenizer.json: "));
    assert!(
        error(&|dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap()).contains("tokenizer.json: not a tokenizer")
    );
    assert!(error(&|dir| fs::write(dir.join("tokenizer_config.json"), "{").unwrap()).contains("not JSON"));
    assert!(changed(|dir| fs::remove_file(dir.join("tokenizer_config.json")).unwrap()).is_ok());
}

#[test]
fn a_token_without_an_embedding_is_refused() {
    let tokenizer = changed(|dir| set(&dir.join("config.json"), "vocab_size", 17.into())).unwrap();
    assert!(tokenizer.encode("1+1").is_ok());
    let error = tokenizer.encode("1\n").unwrap_err().to_string();
    assert!(error.contains("token 17 is outside the model's vocabulary of 17"), "{error}");
}
