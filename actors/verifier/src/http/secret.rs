//! Texts that may hold a secret: kept out of `Debug`, filled in from the environment, and cut out of messages.

use std::fmt;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest message that is taken over from a server, in characters.
const LONGEST_MESSAGE: usize = 300;

/// What is shorter in a query is a flag or a number: hidden, it would only take digits out of messages.
const SHORTEST_SECRET: usize = 6;

/// What stands in messages where a secret was.
const HIDDEN: &str = "***";

/// A text of the configuration that may hold a secret: its `Debug` shows nothing of it.
///
/// ```
/// let url = counterpoint_verifier::Secret::from("https://user:password@host/");
/// assert_eq!(format!("{url:?}"), "***");
/// assert_eq!(url.expose(), "https://user:password@host/");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text. It belongs into no message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A part of a template such as `Bearer ${TOKEN}`.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err("`${` is never closed with `}`".into());
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            // Whatever stands there instead of a name may be the secret itself.
            return Err("between `${` and `}` belongs the name of an environment variable".into());
        }
        pieces.extend([Piece::Text(text), Piece::Variable(name)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Whether the template takes anything from the environment.
///
/// # Errors
/// What is wrong with its form.
pub(super) fn has_variables(template: &Secret) -> Result<bool, String> {
    Ok(pieces(template.expose())?.iter().any(|piece| matches!(piece, Piece::Variable(_))))
}

/// Reads an environment variable: `None` if it is not set or no text.
pub(super) type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The template with its variables filled in.
///
/// # Errors
/// A variable that is missing or empty, by name.
pub(super) fn expand(template: &Secret, environment: Environment<'_>, hidden: &mut Redactor) -> Result<String, String> {
    let mut expanded = String::new();
    for piece in pieces(template.expose())? {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Variable(name) => match environment(name) {
                Some(value) if !value.is_empty() => {
                    expanded.push_str(&value);
                    hidden.hide(value);
                }
                Some(_) => return Err(format!("the environment variable {name} is empty")),
                None => return Err(format!("the environment variable {name} is not set (or is not UTF-8)")),
            },
        }
    }
    hidden.hide(expanded.clone());
    Ok(expanded)
}

/// Knows the secrets, and cuts them out of texts that come from outside: a server may echo what it was sent.
#[derive(Default)]
pub(super) struct Redactor(Vec<String>);

impl Redactor {
    pub(super) fn hide(&mut self, secret: String) {
        // Parsers quote what they do not understand, with escapes.
        let quoted = secret.escape_debug().to_string();
        for text in [secret, quoted] {
            if !text.is_empty() && !self.0.contains(&text) {
                self.0.push(text);
            }
        }
        // The longest first: a secret may be part of another.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Hides what may be secret in an address: the password, and the values in the query.
    pub(super) fn hide_address(&mut self, url: &Url) {
        let mut encoded = url.clone();
        if let Some(password) = url.password() {
            self.hide(password.to_owned());
            encoded.set_query(Some(&format!("p={}", password.replace('+', "%2B"))));
            encoded.query_pairs().for_each(|(_, password)| self.hide(password.into_owned()));
        }
        let raw = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
        let values = raw.map(str::to_owned).chain(url.query_pairs().map(|(_, value)| value.into_owned()));
        values.filter(|value| value.len() >= SHORTEST_SECRET).for_each(|value| self.hide(value));
    }

    /// The text on one line, without secrets and of bounded length.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.0 {
            clean = clean.replace(secret.as_str(), HIDDEN);
        }
        let line = clean.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
        line.take(LONGEST_MESSAGE).collect()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.len())
    }
}

/// An address for messages: without user, password, query and fragment, where secrets may be.
pub(super) fn shown(url: &Url) -> String {
    let query = if url.query().is_some() { "?***" } else { "" };
    format!("{}://{}{}{query}", url.scheme(), authority(url), url.path())
}

/// `host:port`.
pub(super) fn authority(url: &Url) -> String {
    // An address without a host or port was refused with the options.
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("hunter2".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(template: &str) -> Result<String, String> {
        expand(&template.into(), &environment, &mut Redactor::default())
    }

    #[test]
    fn a_template_takes_its_variables_from_the_environment_and_leaves_other_dollars_alone() {
        assert_eq!(expanded("Bearer ${TOKEN}").unwrap(), "Bearer hunter2");
        assert_eq!(expanded("${TOKEN}:${TOKEN}").unwrap(), "hunter2:hunter2");
        assert_eq!(expanded("a $b }{ c$").unwrap(), "a $b }{ c$");
        assert!(has_variables(&"x${TOKEN}".into()).unwrap());
        assert!(!has_variables(&"x$TOKEN".into()).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_without_its_text() {
        assert_eq!(
            expanded("${MISSING}").unwrap_err(),
            "the environment variable MISSING is not set (or is not UTF-8)"
        );
        assert_eq!(expanded("${EMPTY}").unwrap_err(), "the environment variable EMPTY is empty");
        for template in ["Bearer ${s3cret", "${s3cret!}", "${}"] {
            let error = has_variables(&template.into()).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_clean_text_is_one_bounded_line_without_the_secrets() {
        let mut hidden = Redactor::default();
        expand(&"Bearer ${TOKEN}".into(), &environment, &mut hidden).unwrap();
        assert_eq!(hidden.clean(" you sent\0`Bearer hunter2`,\n not hunter2!\n"), "you sent `***`,  not ***!");
        assert_eq!(hidden.clean(&"é".repeat(10_000)).chars().count(), LONGEST_MESSAGE);
        assert_eq!(format!("{hidden:?}"), "Redactor(2 secrets)");
    }

    #[test]
    fn a_secret_is_found_also_where_it_is_quoted() {
        let mut hidden = Redactor::default();
        hidden.hide("a\"b\\c".into());
        assert_eq!(hidden.clean(&format!("unknown word {:?}, a\"b\\c", "a\"b\\c")), "unknown word \"***\", ***");
    }

    #[test]
    fn the_secrets_of_an_address_are_hidden_as_written_and_as_meant() {
        let mut hidden = Redactor::default();
        hidden.hide_address(&Url::parse("http://user:a%2Bb+c@host/?v=1&key=hunter%2F2&hunter3").unwrap());
        assert_eq!(hidden.clean("a%2Bb+c a+b+c hunter%2F2 hunter/2 hunter3 v=1"), "*** *** *** *** *** v=1");
    }

    #[test]
    fn an_address_is_shown_without_user_password_and_query() {
        let url = Url::parse("https://user:hunter2@host/judge?key=hunter2#hunter2").unwrap();
        assert_eq!(shown(&url), "https://host:443/judge?***");
        assert_eq!(shown(&Url::parse("http://[::1]:8000").unwrap()), "http://[::1]:8000/");
    }
}
