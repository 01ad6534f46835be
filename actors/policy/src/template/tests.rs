use super::*;

fn compiled(source: &str, options: &ChatOptions) -> Result<ChatTemplate, String> {
    ChatTemplate::new(source, BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]), options)
}

fn render(source: &str, content: &str) -> Result<String, String> {
    let template = compiled(source, &ChatOptions::default())?;
    template.render(&[ChatMessage::new("user", content)]).map_err(|e| e.to_string())
}

/// A golden file: templates, line by line, with chats and what jinja2 makes of them. In minijinja's values maps have an
/// order.
fn golden(text: &str) -> Vec<(String, String, Value)> {
    let file: Value = serde_json::from_str(text).unwrap();
    let text = |value: &Value, name: &str| value.get_attr(name).unwrap().to_string();
    let lines = |case: &Value| -> Vec<String> {
        case.get_attr("template").unwrap().try_iter().unwrap().map(|line| line.to_string()).collect()
    };
    let case = |case: Value| (text(&case, "name"), lines(&case).join("\n"), case.get_attr("chats").unwrap());
    file.get_attr("cases").unwrap().try_iter().unwrap().map(case).collect()
}

fn message(value: Value) -> Value {
    let fields = value.try_iter().unwrap().map(|name| (name.to_string(), value.get_item(&name).unwrap()));
    as_transformers_does(fields.collect())
}

/// Renders each chat and compares: with the text, or with a failure.
fn texts_are_equal(cases: Vec<(String, String, Value)>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, source, chats) in cases {
        for (number, chat) in chats.try_iter().unwrap().enumerate() {
            let given = chat.get_attr("variables").unwrap();
            let options = ChatOptions { date: Some("2024-07-26".into()), ..ChatOptions::default() };
            let messages = chat.get_attr("messages").unwrap().try_iter().unwrap().map(message).collect();
            let made = compiled(&source, &options).and_then(|mut template| {
                // Past the options, which do not keep the order of keys.
                template.variables = context! { ..given, ..template.variables };
                template.render_values(messages).map_err(|e| e.to_string())
            });
            let wanted = chat.get_attr("text").unwrap();
            match (&made, wanted.as_str()) {
                (Ok(made), Some(wanted)) if made == wanted => {}
                (Err(_), None) => {}
                _ => wrong.push(format!("{name}, chat {number}:\n  we   {made:?}\n  they {:?}", wanted.as_str())),
            }
        }
    }
    wrong
}

#[test]
fn texts_are_those_of_jinja2() {
    let wrong = texts_are_equal(golden(include_str!("../../tests/data/chat_templates.json")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_construct_gives_what_transformers_gives() {
    let cases = golden(include_str!("../../tests/golden/templates.json"));
    assert!(cases.len() >= 40, "{}", cases.len());
    let wrong = texts_are_equal(cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn variables_reach_the_template_and_win_over_special_tokens() {
    let variables = serde_json::json!({"enable_thinking": false, "bos_token": "<bos>", "tools": [{"name": "f"}]});
    let options = ChatOptions { variables: variables.as_object().unwrap().clone(), ..ChatOptions::default() };
    let source = "{{ bos_token }}{{ enable_thinking is false }}{{ tools[0].name }}{{ documents }}";
    assert_eq!(compiled(source, &options).unwrap().render(&[]).unwrap(), "<bos>TruefNone");
    let own = serde_json::json!({"messages": []});
    let options = ChatOptions { variables: own.as_object().unwrap().clone(), ..ChatOptions::default() };
    assert!(options.check().unwrap_err().to_string().contains("the variable \"messages\" is the chat's own"));
    let options = ChatOptions { date: Some("26 Jul".into()), ..ChatOptions::default() };
    assert!(options.check().unwrap_err().to_string().contains("got \"26 Jul\""));
}

#[test]
fn a_system_prompt_goes_before_chats_that_have_none() {
    let options = ChatOptions { system_prompt: Some("Be brief.".into()), ..ChatOptions::default() };
    let template = compiled("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", &options).unwrap();
    let [system, user] = [ChatMessage::new("system", "mine"), ChatMessage::new("user", "q")];
    assert_eq!(template.render(std::slice::from_ref(&user)).unwrap(), "system:Be brief.;user:q;");
    assert_eq!(template.render(&[system, user]).unwrap(), "system:mine;user:q;");
}

#[test]
fn an_error_is_one_line_with_its_place() {
    let error = render("{{ raise_exception('no\nway') }}", "").unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("the template refuses this chat: no way") && error.contains("chat:1"), "{error}");
}

#[test]
fn a_template_sees_no_files() {
    assert!(render("{% include '/etc/passwd' %}", "").is_err());
}

#[test]
fn what_costs_too_much_is_stopped() {
    let bombs = [
        "{{ ('a' * 10000000000)|length }}",
        "{{ ([1] * 10000000000)|length }}",
        "{{ range(10000000000)|list|length }}",
        "{{ 'a'|indent(10000000000) }}",
        "{{ 'a'|center(10000000000) }}",
        "{{ 'a'.ljust(10000000000) }}",
        "{{ '1'.zfill(10000000000) }}",
        "{{ '{:10000000000}'.format(1) }}",
        "{{ '%10000000000d'|format(1) }}",
        "{% set ns = namespace(s='a' * 64) %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', 'aaaa') %}{% endfor %}",
        "{% macro m(x) %}{{ m(x) ~ m(x) }}{% endmacro %}{{ m(1) }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(90000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}1{% endfor %}{% endfor %}",
    ];
    for bomb in bombs {
        let error = render(bomb, "").unwrap_err();
        assert_eq!(error.lines().count(), 1, "{bomb}: {error}");
    }
    // Deep values are compared and dropped by recursion, on a stack that is deep enough.
    let deep = "{% set ns = namespace(s=[1]) %}{% for i in range(90000) %}{% set ns.s = [ns.s] %}{% endfor %}\
                {{ ns.s == [ns.s] }}{{ ns.s | length }}";
    assert_eq!(render(deep, "").as_deref(), Ok("False1"));
    let long = "a".repeat(MOST_SOURCE + 1);
    assert!(render(&long, "").unwrap_err().contains("at most 262144 are read"));
}
