//! One server: sends a body until there is a reply, the deadline passes, or another attempt makes no sense.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use counterpoint_rollout::clock;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Body, Response, StatusCode, Url};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::backoff::{self, Backoff};
use super::breaker::{Breaker, Pass};
use super::failure::Failure;
use super::options::{HttpOptions, seconds};
use super::secret::{Environment, Redactor, expand, shown};
use super::slow::SlowBody;
use super::tls;
use crate::{Pace, Question, VerifierError};

/// How many redirects are followed before one reply.
const MAX_REDIRECTS: usize = 5;

/// How long the text of an error page may take to follow its status.
const ERROR_PAGE_DEADLINE: Duration = Duration::from_millis(200);

/// Shorter than servers commonly keep an idle connection (uvicorn: 5 s), so that few requests meet one being closed.
const IDLE: Duration = Duration::from_secs(4);

/// A call that failed on its deadline speaks against the server only if it had this much time, or half of what it may have:
/// the question may have come late.
const FAIR: Duration = Duration::from_secs(1);

/// Taken off the deadline of a question, so that the reason for a void verdict arrives before the deadline does.
const MARGIN: Duration = Duration::from_millis(100);

/// The client of one server.
pub(super) struct Client {
    http: reqwest::Client,
    tls: Arc<ClientConfig>,
    url: Url,
    headers: HeaderMap,
    redactor: Redactor,
    connections: Semaphore,
    breaker: Mutex<Breaker>,
    backoff: Backoff,
    retries: u32,
    max_reply_bytes: usize,
    deadline: Option<Duration>,
    /// How slowly to send; as fast as it goes, except in a self-test.
    pace: Option<Pace>,
}

impl Client {
    /// Reads secrets and certificates; connects to nothing.
    ///
    /// # Errors
    /// A variable or a certificate that is missing.
    pub(super) fn build(options: &HttpOptions, url: &Url, environment: Environment<'_>) -> Result<Self, VerifierError> {
        let mut redactor = Redactor::default();
        let headers = headers(options, environment, &mut redactor)?;
        let tls = tls::config(url, options.ca_file.as_deref())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&tls))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .user_agent(concat!("counterpoint/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(tls::CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(options.connections)
            .build()
            .map_err(|error| VerifierError::Setup(error.without_url().to_string()))?;
        redactor.hide_address(url);
        // What becomes of user and password on the wire.
        let request = http.post(url.clone()).build().ok();
        let basic = request.as_ref().and_then(|request| request.headers().get(AUTHORIZATION)?.to_str().ok());
        basic
            .and_then(|basic| basic.strip_prefix("Basic "))
            .into_iter()
            .for_each(|code| redactor.hide(code.to_owned()));
        Ok(Self {
            http,
            tls,
            url: url.clone(),
            headers,
            redactor,
            connections: Semaphore::new(options.connections),
            breaker: Mutex::new(Breaker::new(options.breaker_failures, seconds(options.breaker_pause_seconds))),
            backoff: Backoff::new(seconds(options.backoff_seconds)),
            retries: options.retries,
            max_reply_bytes: options.max_reply_bytes,
            deadline: options.deadline_seconds.map(seconds),
            pace: None,
        })
    }

    /// The same client, sending slowly.
    pub(super) fn paced(self, pace: Option<Pace>) -> Self {
        Self { pace, ..self }
    }

    /// Connects once and hangs up.
    ///
    /// # Errors
    /// If the server is not there.
    pub(super) async fn reach(&self) -> Result<(), VerifierError> {
        tls::reach(&self.url, &self.tls).await
    }

    /// When the reply to a question must be there.
    pub(super) fn deadline(&self, question: &Question) -> Instant {
        let (now, due) = (Instant::now(), question.due(MARGIN, 10));
        self.deadline.map_or(due, |own| due.min(now + own)).max(now)
    }

    /// A text from outside, fit for logs and files.
    pub(super) fn clean(&self, text: &str) -> String {
        self.redactor.clean(text)
    }

    /// Sends a body and returns the reply, by the deadline at the latest.
    ///
    /// # Errors
    /// The last attempt's failure.
    pub(super) async fn post(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Failure> {
        let replied = self.call(body, deadline).await;
        if let Err(failure @ Failure::Timeout { .. }) = &replied {
            // The other ones were counted attempt by attempt.
            failure.count();
        }
        replied
    }

    async fn call(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Failure> {
        // Looked at before the wait, to fail at once, and asked after it, when it may have opened.
        if self.breaker().refuses(Instant::now()) {
            return Err(Failure::Refused);
        }
        let Ok(Ok(_connection)) = timeout_at(deadline, self.connections.acquire()).await else {
            return Err(Failure::Timeout { fair: false });
        };
        let begun = Instant::now();
        let pass = self.breaker().admit(begun).ok_or(Failure::Refused)?;
        let mut passage = Passage { client: self, pass: Some(pass) };
        let fair = deadline - begun >= self.deadline.map_or(FAIR, |own| FAIR.min(own / 2));
        let replied = timeout_at(deadline, self.attempts(body, deadline)).await;
        let replied = replied.unwrap_or(Err(Failure::Timeout { fair }));
        passage.report(&replied);
        replied
    }

    async fn attempts(&self, body: &[u8], deadline: Instant) -> Result<Vec<u8>, Failure> {
        let mut attempt = 0;
        loop {
            let failure = match self.exchange(body).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            failure.count();
            let Some(asked) = failure.retry_after().filter(|_| attempt < self.retries) else { return Err(failure) };
            let pause = asked.saturating_add(self.backoff.pause(attempt, backoff::chance()));
            if pause >= deadline.saturating_duration_since(Instant::now()) {
                // Better the true reason now than a time-out later.
                return Err(failure);
            }
            attempt += 1;
            let (server, failure) = (shown(&self.url), self.clean(&failure.to_string()));
            tracing::debug!(server, failure, attempt, ?pause, "the verifier's server is asked again");
            sleep(pause).await;
        }
    }

    /// One attempt, with the redirects that it leads to.
    async fn exchange(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut url = self.url.clone();
        let mut followed = 0;
        loop {
            let body = match self.pace {
                None => Body::from(body.to_vec()),
                Some(pace) => Body::wrap(SlowBody::new(body.to_vec(), pace)),
            };
            let request = self.http.post(url.clone()).headers(self.headers.clone()).body(body);
            let response = request.send().await?;
            let status = response.status();
            if status.is_success() {
                return self.read(response).await;
            }
            if !status.is_redirection() {
                return Err(refusal(response).await);
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            url = redirected(&url, status, location).map_err(|why| Failure::Redirect(status, why))?;
            if followed == MAX_REDIRECTS {
                return Err(Failure::Redirect(status, format!("the last of {MAX_REDIRECTS} redirects in a row")));
            }
            followed += 1;
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let too_long = Err(Failure::TooLong(self.max_reply_bytes));
        if response.content_length().is_some_and(|length| length > self.max_reply_bytes as u64) {
            return too_long;
        }
        let mut reply = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if chunk.len() > self.max_reply_bytes - reply.len() {
                return too_long;
            }
            reply.extend_from_slice(&chunk);
        }
        Ok(reply)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Its methods leave a valid state behind wherever they may panic.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that the breaker let through. Dropped unreported (the group was cancelled), it says nothing of the server.
struct Passage<'a> {
    client: &'a Client,
    pass: Option<Pass>,
}

impl Passage<'_> {
    fn report(&mut self, replied: &Result<Vec<u8>, Failure>) {
        let Some(pass) = self.pass.take() else { return };
        let (mut breaker, now) = (self.client.breaker(), Instant::now());
        let server = || shown(&self.client.url);
        match replied {
            Err(Failure::Timeout { fair: false }) => breaker.withdrawn(pass, now),
            Err(failure) if failure.server_is_down() => {
                if breaker.failed(pass, now) {
                    let failure = self.client.clean(&failure.to_string());
                    tracing::warn!(server = server(), failure, "the verifier's server is left alone for a while");
                }
            }
            _ => {
                if breaker.succeeded(pass) {
                    tracing::info!(server = server(), "the verifier's server answers again");
                }
            }
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.client.breaker().withdrawn(pass, Instant::now());
        }
    }
}

fn headers(
    options: &HttpOptions,
    environment: Environment<'_>,
    redactor: &mut Redactor,
) -> Result<HeaderMap, VerifierError> {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
    for (name, template) in &options.headers {
        let refuse = |error: String| VerifierError::Setup(error).at(format!("headers.{name}"));
        let value = expand(template, environment, redactor).map_err(refuse)?;
        let bad = |_| refuse("the value has a character that a header cannot have (a line break?)".into());
        let mut value = HeaderValue::from_str(&value).map_err(bad)?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| refuse(error.to_string()))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A status that is neither success nor redirect, with what the server says to it.
async fn refusal(mut response: Response) -> Failure {
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
    let retry_after = header.and_then(|header| backoff::retry_after(header, clock::unix_seconds()));
    let body = match timeout(ERROR_PAGE_DEADLINE, response.chunk()).await {
        // Cut before it is searched for secrets: whoever logs it cuts it again.
        Ok(Ok(Some(chunk))) => String::from_utf8_lossy(&chunk[..chunk.len().min(4096)]).into_owned(),
        _ => String::new(),
    };
    Failure::Status { status, body, retry_after }
}

/// Where a redirect leads, if it may be followed.
fn redirected(from: &Url, status: StatusCode, location: Option<&str>) -> Result<Url, String> {
    let Some(mut to) = location.and_then(|location| from.join(location).ok()) else {
        return Err("a redirect to nowhere".into());
    };
    if to.origin() != from.origin() {
        return Err(format!("a redirect to {}, another server, is not followed", shown(&to)));
    }
    if ![StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&status) {
        return Err(format!("a redirect to {} that would make a GET of the POST is not followed", shown(&to)));
    }
    // What the address says of the user holds for the server. This fails only where there can be no user at all.
    let _ = to.set_username(from.username());
    let _ = to.set_password(from.password());
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(status: u16, location: &str) -> Result<String, String> {
        let from = Url::parse("http://user:pw@host:8000/a/b?key=1").unwrap();
        redirected(&from, StatusCode::from_u16(status).unwrap(), Some(location)).map(|url| url.to_string())
    }

    #[test]
    fn redirects_stay_with_the_server_and_keep_its_user() {
        for (location, url) in [
            ("/c", "http://user:pw@host:8000/c"),
            ("c/", "http://user:pw@host:8000/a/c/"),
            ("http://host:8000/c", "http://user:pw@host:8000/c"),
            ("http://other:other@HOST:8000/c", "http://user:pw@host:8000/c"),
        ] {
            assert_eq!(follow(307, location).unwrap(), url);
            assert_eq!(follow(308, location).unwrap(), url);
        }
    }

    #[test]
    fn redirects_to_other_servers_or_to_a_get_are_refused_without_their_query() {
        for location in
            ["http://evil/c?k=s", "http://host/c", "https://host:8000/c", "//host:8001/c", "http://host.evil:8000/"]
        {
            let error = follow(307, location).unwrap_err();
            assert!(error.contains("another server") && !error.contains("k=s"), "{error}");
        }
        for status in [300, 301, 302, 303, 304] {
            assert!(follow(status, "/c").unwrap_err().contains("make a GET of the POST"));
        }
        assert_eq!(follow(307, "http://[").unwrap_err(), "a redirect to nowhere");
    }

    fn client(options: HttpOptions) -> Client {
        let options = HttpOptions { url: "http://127.0.0.1:1/".into(), ..options };
        Client::build(&options, &options.checked().unwrap(), &|_| None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_the_questions_less_a_margin_or_the_own_if_that_is_sooner() {
        let (own, none) = (Some(2.0), None);
        for (own, due, left) in
            [(none, 30_000, 29_900), (none, 100, 90), (none, 0, 0), (own, 30_000, 2_000), (own, 100, 90)]
        {
            let client = client(HttpOptions { deadline_seconds: own, ..Default::default() });
            let (now, mut question) = (Instant::now(), Question::pair("", ""));
            question.deadline = now + Duration::from_millis(due);
            assert_eq!(client.deadline(&question) - now, Duration::from_millis(left));
        }
    }
}
