//! The status page: one HTML document without outside resources. It is complete without the script, which only refreshes it
//! from `/status`.

use serde_json::Value;

use crate::status::Status;

/// Nothing but this origin's script and requests, and the document's own style.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; \
    style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Counterpoint</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
th { font-weight: normal; opacity: .75; width: 16rem; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
progress { width: 100%; }
</style>
</head>
<body>
<h1>Counterpoint</h1>
"#;

const TAIL: &str = r#"<p id="connection" role="status"></p>
<p><a href="/metrics">metrics</a> · <a href="/status">status as JSON</a> · <a href="/healthz">health</a> · <a href="/readyz">ready</a></p>
<script src="/status.js" defer></script>
</body>
</html>
"#;

/// Refreshes the page every two seconds; everything goes in as text, never as markup.
pub(super) const SCRIPT: &str = r#""use strict";
const number = (n) => Number.isInteger(n) ? String(n) : n.toFixed(4);
const text = (v) => v === null ? "–" : typeof v === "number" ? number(v)
  : Array.isArray(v) ? (v.length ? v.map(text).join("; ") : "–")
  : typeof v === "object" ? (Object.entries(v).map(([k, x]) => `${k} ${text(x)}`).join(", ") || "–") : String(v);
async function refresh() {
  const connection = document.getElementById("connection");
  try {
    const response = await fetch("/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const status = await response.json();
    document.querySelectorAll("td[data-key]").forEach((cell) => {
      cell.textContent = text(status[cell.dataset.key] ?? null);
    });
    const bar = document.querySelector("progress");
    bar.max = Math.max(1, status.max_steps);
    bar.value = status.step;
    connection.textContent = "";
  } catch (error) {
    connection.textContent = "The run does not answer: it has ended, or the connection is lost.";
  }
  setTimeout(refresh, 2000);
}
refresh();
"#;

/// The page with a status filled in.
pub(super) fn render(status: &Status) -> String {
    let mut page = HEAD.to_owned();
    let max = status.max_steps.max(1);
    page.push_str(&format!(
        "<progress max=\"{max}\" value=\"{}\" aria-label=\"steps\"></progress>\n<table>\n",
        status.step
    ));
    // Numbers and texts only: turning them into JSON cannot fail.
    if let Ok(Value::Object(fields)) = serde_json::to_value(status) {
        for (key, value) in fields {
            let (label, key, value) = (escape(&key.replace('_', " ")), escape(&key), escape(&shown(&value)));
            page.push_str(&format!("<tr><th scope=\"row\">{label}</th><td data-key=\"{key}\">{value}</td></tr>\n"));
        }
    }
    page.push_str("</table>\n");
    page.push_str(TAIL);
    page
}

fn shown(value: &Value) -> String {
    let joined = |parts: Vec<String>, by: &str| if parts.is_empty() { "–".to_owned() } else { parts.join(by) };
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.4}"),
            _ => number.to_string(),
        },
        Value::Array(items) => joined(items.iter().map(shown).collect(), "; "),
        Value::Object(fields) => joined(fields.iter().map(|(k, v)| format!("{k} {}", shown(v))).collect(), ", "),
        Value::Bool(flag) => flag.to_string(),
    }
}

/// Text as HTML text or as a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_never_becomes_markup() {
        let attack = "<script>alert('x')</script>\"&";
        let mut status = Status { error: Some(attack.into()), run_dir: attack.into(), ..Status::default() };
        status.groups_ended.insert(attack.into(), 1);
        let page = render(&status);
        assert!(!page.contains("<script>"));
        assert_eq!(page.matches("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;").count(), 3);
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = render(&Status::default());
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("//cdn"));
        assert_eq!(page.matches("src=").count(), 1);
        assert!(!page.contains("onclick") && !page.contains(" style=\""));
    }
}
