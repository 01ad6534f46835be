//! The options of the kind `http`, and what is checked of them before anything is connected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dialect::{Dialect, Scores};
use super::secret::{Secret, has_variables};
use crate::config::LONGEST_DEADLINE;

/// Options of the kind `http`: a server that judges, over POST requests.
///
/// ```toml
/// [verifier]
/// name = "graders"
///
/// [verifier.define.graders]
/// kind = "http"
/// url = "https://graders.example/judge"
/// headers = { Authorization = "Bearer ${REWARD_TOKEN}" }
/// ```
///
/// ```
/// use counterpoint_verifier::{Dialect, HttpOptions, parse_options};
///
/// let table = serde_json::json!({"url": "http://127.0.0.1:5000/get_reward", "dialect": "openrlhf"});
/// let options: HttpOptions = parse_options(table)?;
/// assert_eq!((options.dialect, options.retries), (Dialect::Openrlhf, 3));
/// # Ok::<(), counterpoint_verifier::VerifierError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Where to POST, with `http://` or `https://`. Required.
    pub url: Secret,
    /// What is said. Default: `counterpoint`.
    pub dialect: Dialect,
    /// What scores mean: `unit` (0 to 1) or `signed` (-1 to 1). Anything outside is void. Default: `unit`.
    pub scores: Scores,
    /// Dialect `slime`: the field of the score, where the reply is an object. Default: `score`.
    pub reward_key: String,
    /// More headers. `${NAME}` stands for an environment variable, read when the verifier starts; values are never shown. A
    /// password or token must be written so, because the configuration itself is printed and kept. Default: none.
    pub headers: BTreeMap<String, Secret>,
    /// PEM file of the certificate authorities to trust, in place of the system's. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the run refuses to start while nothing answers at the address. Default: true.
    pub check_at_start: bool,
    /// Seconds for one question: waiting for a connection, all attempts and all pauses between them included. Never longer
    /// than what `verifier.deadline_seconds` leaves. Default: as long as that.
    pub deadline_seconds: Option<f64>,
    /// How often a request is sent again after a failed connection, a status 429 or 5xx. At most 20. Default: 3.
    pub retries: u32,
    /// Seconds before the first of these; doubled from one to the next, up to 10, and shortened at random by up to half. A
    /// `Retry-After` of the server comes on top. Default: 0.2.
    pub backoff_seconds: f64,
    /// How many requests may be under way at once. At most 10000. Default: 16.
    pub connections: usize,
    /// The longest reply, in bytes; a longer one is void. Default: 8388608 (8 MiB).
    pub max_reply_bytes: usize,
    /// After so many failed requests in a row the server is left alone, and answers are void (`unavailable`) at once; 0 is
    /// never. Default: 5.
    pub breaker_failures: u32,
    /// Seconds until a single request tries the server again. Default: 10.
    pub breaker_pause_seconds: f64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            dialect: Dialect::Counterpoint,
            scores: Scores::Unit,
            reward_key: "score".into(),
            headers: BTreeMap::new(),
            ca_file: None,
            check_at_start: true,
            deadline_seconds: None,
            retries: 3,
            backoff_seconds: 0.2,
            connections: 16,
            max_reply_bytes: 8 << 20,
            breaker_failures: 5,
            breaker_pause_seconds: 10.0,
        }
    }
}

/// Headers whose value is a secret by their nature.
const SECRET_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];

/// Headers that the client sets itself.
const OWN_HEADERS: [&str; 5] = ["host", "content-length", "content-type", "transfer-encoding", "connection"];

impl HttpOptions {
    /// The address.
    ///
    /// # Errors
    /// Everything that is wrong with the options, on one line.
    pub(super) fn checked(&self) -> Result<Url, String> {
        let mut problems = Vec::new();
        let url = address(self.url.expose()).map_err(|error| problems.push(format!("url: {error}")));
        if self.ca_file.is_some() && url.as_ref().is_ok_and(|url| url.scheme() == "http") {
            problems.push("ca_file: has no use without TLS; let url begin with https://".into());
        }
        self.check_headers(&mut problems);
        self.check_numbers(&mut problems);
        match url {
            Ok(url) if problems.is_empty() => Ok(url),
            _ => Err(problems.join("; ")),
        }
    }

    fn check_headers(&self, problems: &mut Vec<String>) {
        for (name, template) in &self.headers {
            let mut problem = |text: &str| problems.push(format!("headers.{name}: {text}"));
            let lower = name.to_ascii_lowercase();
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                problem("no header can have this name");
            } else if OWN_HEADERS.contains(&lower.as_str()) {
                problem("is set by Counterpoint itself; leave it out");
            }
            match has_variables(template) {
                Err(error) => problem(&error),
                Ok(false) if SECRET_HEADERS.contains(&lower.as_str()) => {
                    problem("take the secret from an environment variable, as in `Bearer ${REWARD_TOKEN}`");
                }
                Ok(_) => {}
            }
        }
    }

    fn check_numbers(&self, problems: &mut Vec<String>) {
        let longest = LONGEST_DEADLINE.as_secs_f64();
        let deadline = self.deadline_seconds.map(|seconds| ("deadline_seconds", seconds));
        let durations =
            [("backoff_seconds", self.backoff_seconds), ("breaker_pause_seconds", self.breaker_pause_seconds)];
        for (name, seconds) in durations.into_iter().chain(deadline) {
            if !(seconds > 0.0 && seconds <= longest) {
                problems.push(format!("{name}: must be > 0 and at most {longest}, got {seconds}"));
            }
        }
        if self.retries > 20 {
            problems.push(format!("retries: must be at most 20, got {}", self.retries));
        }
        if !(1..=10_000).contains(&self.connections) {
            problems.push(format!("connections: must be at least 1 and at most 10000, got {}", self.connections));
        }
        if self.max_reply_bytes == 0 {
            problems.push("max_reply_bytes: must be at least 1, got 0".into());
        }
    }
}

fn address(text: &str) -> Result<Url, String> {
    if text.is_empty() {
        return Err("the address of the server is missing".into());
    }
    // Neither here: the text may hold a password.
    let url = Url::parse(text).map_err(|error| format!("no address: {error}; one is http://host:port/path"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("must begin with http:// or https://, got `{}:`", url.scheme()));
    }
    match url.host_str() {
        Some(host) if !host.is_empty() && url.port_or_known_default() != Some(0) => Ok(url),
        _ => Err("names no host, or port 0".into()),
    }
}

/// An option in seconds that was checked.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).map_or(LONGEST_DEADLINE, |duration| duration.min(LONGEST_DEADLINE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(table: Value) -> String {
        serde_json::from_value::<HttpOptions>(table).unwrap().checked().map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_defaults_need_an_address_and_nothing_else() {
        assert_eq!(problems(json!({})), "url: the address of the server is missing");
        let options = HttpOptions { url: "https://host/judge".into(), ..Default::default() };
        assert_eq!(options.checked().unwrap().as_str(), "https://host/judge");
        let again = serde_json::to_value(&options).unwrap();
        assert_eq!(serde_json::from_value::<HttpOptions>(again).unwrap(), options);
    }

    #[test]
    fn an_address_that_cannot_be_posted_to_is_refused_without_repeating_it() {
        for (url, error) in [
            ("hunter2:8000/x", "must begin with http:// or https://, got `hunter2:`"),
            ("/judge", "no address: relative URL without a base; one is http://host:port/path"),
            ("http://", "no address: empty host; one is http://host:port/path"),
            ("http://host:0/", "names no host, or port 0"),
            ("http://u:hunter2@host:99999/", "no address: invalid port number; one is http://host:port/path"),
        ] {
            assert_eq!(problems(json!({"url": url})), format!("url: {error}"));
        }
    }

    #[test]
    fn authorities_for_an_address_without_tls_are_a_mistake() {
        let table = json!({"url": "http://h", "ca_file": "ca.pem"});
        assert_eq!(problems(table), "ca_file: has no use without TLS; let url begin with https://");
    }

    #[test]
    fn every_value_out_of_range_is_named_at_once() {
        let table = json!({"url": "http://h", "deadline_seconds": 0, "retries": 21, "backoff_seconds": -1,
                           "connections": 0, "max_reply_bytes": 0, "breaker_pause_seconds": 1e9});
        assert_eq!(
            problems(table),
            "backoff_seconds: must be > 0 and at most 86400, got -1; \
             breaker_pause_seconds: must be > 0 and at most 86400, got 1000000000; \
             deadline_seconds: must be > 0 and at most 86400, got 0; retries: must be at most 20, got 21; \
             connections: must be at least 1 and at most 10000, got 0; max_reply_bytes: must be at least 1, got 0"
        );
    }

    #[test]
    fn a_secret_in_the_configuration_itself_is_refused_and_not_repeated() {
        let headers =
            json!({"Authorization": "Bearer hunter2", "X-Run": "7", "a b": "", "Host": "x", "Cookie": "${A", });
        let problems = problems(json!({"url": "http://h", "headers": headers}));
        assert_eq!(
            problems,
            "headers.Authorization: take the secret from an environment variable, as in `Bearer ${REWARD_TOKEN}`; \
             headers.Cookie: `${` is never closed with `}`; headers.Host: is set by Counterpoint itself; leave it out; \
             headers.a b: no header can have this name"
        );
    }

    #[test]
    fn debug_shows_no_address_and_no_header() {
        let headers = BTreeMap::from([("X-Run".to_owned(), Secret::from("hunter2"))]);
        let options = HttpOptions { url: "http://u:hunter2@h/".into(), headers, ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
