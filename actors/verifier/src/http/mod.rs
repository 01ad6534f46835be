//! The kind `http`: a server judges, reached by POST over HTTP/1.1, with or without TLS.
//!
//! **Contract.** One request with all responses of a question, or one for each, as the [`Dialect`] says. One deadline holds
//! for all of it: waiting for a connection, connecting, sending, every read, every retry and the pauses between. Whatever the
//! server does within it costs void verdicts with a reason and nothing else:
//!
//! | what happens | tried again | reason |
//! |---|---|---|
//! | no connection | yes | `unavailable` |
//! | the connection breaks, before or within the reply | yes | `crash` |
//! | status 429 or 5xx | yes, not before a `Retry-After` | `HTTP 503 ...` |
//! | any other status, a redirect that is not followed, TLS | no | `HTTP 404 ...`, `TLS: ...` |
//! | a reply that is not of the dialect | no | `protocol` |
//! | a reply longer than `max_reply_bytes`, read no further | no | `output_limit` |
//! | the deadline | | `timeout` |
//! | the circuit breaker is open, nothing was sent | | `unavailable` |
//!
//! A redirect is followed only to the same scheme, host and port, and only with 307 or 308, which keep the POST. A retry that
//! could not end before the deadline is not waited for: the verdicts are void at once, with the reason of the last attempt.
//!
//! **Secrets.** Header values are filled in from the environment when the verifier starts. They, and the user, password and
//! query of the address, are in no log line, error, `Debug` or verdict, also where a server echoes them.
//!
//! **Limits.** No HTTP/2, no compressed replies, no proxies, no client certificates. `stop` forgets the connections and what
//! the circuit breaker knew.

mod backoff;
mod breaker;
mod client;
mod dialect;
mod failure;
mod options;
mod secret;
mod slow;
mod tls;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use counterpoint_rollout::{Verdict, VoidReason};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::client::Client;
pub use self::dialect::{Dialect, Scores};
use self::dialect::{Judgement, Wire};
use self::failure::Failure;
pub use self::options::HttpOptions;
pub use self::secret::Secret;
use self::secret::shown;
use crate::{Home, Mode, Pace, Question, Verifier, VerifierError};

/// The verifier of the kind `http`.
pub struct HttpVerifier {
    options: HttpOptions,
    url: Url,
    wire: Arc<Wire>,
    /// From the start, or from the first question after a stop, until a stop.
    client: Mutex<Option<Arc<Client>>>,
    /// Set in a self-test.
    pace: Option<Pace>,
}

impl HttpVerifier {
    /// Reads no environment and connects to nothing: that is for [`Verifier::start`].
    ///
    /// # Errors
    /// Options that make no sense.
    pub fn new(options: HttpOptions) -> Result<Self, VerifierError> {
        let url = options.checked().map_err(VerifierError::Setup)?;
        let HttpOptions { dialect, scores, ref reward_key, .. } = options;
        let wire = Arc::new(Wire { dialect, scores, reward_key: reward_key.clone() });
        Ok(Self { options, url, wire, client: Mutex::new(None), pace: None })
    }

    fn build(&self) -> Result<Arc<Client>, VerifierError> {
        let environment = |name: &str| std::env::var(name).ok();
        let client = Client::build(&self.options, &self.url, &environment)?;
        Ok(Arc::new(client.paced(self.pace)))
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        // Holds one pointer, which is there or not.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Result<Arc<Client>, VerifierError> {
        let mut slot = self.slot();
        if let Some(client) = &*slot {
            return Ok(Arc::clone(client));
        }
        let client = self.build()?;
        Ok(Arc::clone(slot.insert(client)))
    }

    async fn judge(&self, question: &Question) -> Vec<Judgement> {
        let answers = question.responses.len();
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(server = shown(&self.url), %error, "the verifier cannot start again");
                return void(answers, &VoidReason::Unavailable);
            }
        };
        let deadline = client.deadline(question);
        let bodies = self.wire.requests(question);
        // The responses are spread evenly over the requests: all in one, or one in each.
        let share = answers / bodies.len().max(1);
        let mut replies: Vec<Result<Vec<u8>, Failure>> =
            vec![Err(Failure::Lost("the task ended".into())); bodies.len()];
        let mut calls = JoinSet::new();
        for (index, body) in bodies.into_iter().enumerate() {
            let client = Arc::clone(&client);
            calls.spawn(async move { (index, client.post(&body, deadline).await) });
        }
        // Dropping the set, with this future, ends the calls. One that panicked leaves its place as it is.
        while let Some(ended) = calls.join_next().await {
            if let Ok((index, reply)) = ended {
                replies[index] = reply;
            }
        }
        let judged = |reply| self.judged(&client, reply, question, share);
        replies.into_iter().flat_map(judged).collect()
    }

    /// What a reply, or the lack of one, means for the responses it is about.
    fn judged(
        &self,
        client: &Client,
        reply: Result<Vec<u8>, Failure>,
        question: &Question,
        share: usize,
    ) -> Vec<Judgement> {
        let judgements = reply.and_then(|reply| {
            let refuse = |error| {
                let failure = Failure::Protocol(error);
                failure.count();
                failure
            };
            self.wire.judgements(&reply, question).map_err(refuse)
        });
        match judgements {
            Ok(judgements) => judgements.into_iter().map(|judgement| cleaned(client, judgement)).collect(),
            Err(failure) => {
                let (server, failed) = (shown(&self.url), client.clean(&failure.to_string()));
                let prompt = client.clean(&question.prompt.id);
                match failure {
                    // The breaker said so when it opened.
                    Failure::Refused => tracing::debug!(server, prompt, failed, "no verdicts"),
                    _ => tracing::warn!(server, prompt, failed, "the verifier's server gave no verdicts"),
                }
                let reason = match failure.reason() {
                    VoidReason::Verifier(reason) => VoidReason::Verifier(client.clean(&reason)),
                    other => other,
                };
                void(share, &reason)
            }
        }
    }
}

/// A judgement without anything that a server should not have echoed.
fn cleaned(client: &Client, judgement: Judgement) -> Judgement {
    let verdict = match judgement.verdict {
        Verdict::Void(VoidReason::Verifier(reason)) => Verdict::Void(VoidReason::Verifier(client.clean(&reason))),
        other => other,
    };
    Judgement { verdict, reason: judgement.reason.map(|reason| client.clean(&reason)) }
}

fn void(answers: usize, reason: &VoidReason) -> Vec<Judgement> {
    vec![Verdict::Void(reason.clone()).into(); answers]
}

#[async_trait]
impl Verifier for HttpVerifier {
    async fn verify(&self, question: &Question) -> Vec<Verdict> {
        self.judge(question).await.into_iter().map(|judgement| judgement.verdict).collect()
    }

    async fn start(&self, _home: &Home) -> Result<(), VerifierError> {
        if self.slot().is_some() {
            return Ok(());
        }
        let client = self.build()?;
        if self.url.scheme() == "http" && !self.options.headers.is_empty() && !is_local(&self.url) {
            tracing::warn!(
                server = shown(&self.url),
                "the headers of the verifier's requests are sent without encryption"
            );
        }
        if self.options.check_at_start {
            client.reach().await?;
        }
        // Kept only now: a start that failed must not make the next one succeed.
        self.slot().get_or_insert(client);
        Ok(())
    }

    async fn stop(&self) {
        self.slot().take();
    }

    /// Asks the server, once more.
    async fn explain(&self, question: &Question) -> Option<Vec<Value>> {
        let asked = Instant::now();
        let judgements = self.judge(question).await;
        let milliseconds = asked.elapsed().as_millis() as u64;
        let explain = |Judgement { verdict, reason }| {
            let reason = match &verdict {
                Verdict::Void(void) => Some(void.to_string()),
                _ => reason,
            };
            json!({
                "server": shown(&self.url),
                "dialect": self.options.dialect,
                "verdict": verdict.label(),
                "score": verdict.score(),
                "reason": reason,
                "milliseconds": milliseconds,
            })
        };
        Some(judgements.into_iter().map(explain).collect())
    }

    fn slowly(&self, pace: Pace) -> Option<Arc<dyn Verifier>> {
        // The options were checked when this one was made.
        let slow = Self::new(self.options.clone()).ok()?;
        Some(Arc::new(Self { pace: Some(pace), ..slow }))
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }
}

fn is_local(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

impl fmt::Debug for HttpVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpVerifier").field("url", &shown(&self.url)).field("options", &self.options).finish()
    }
}
