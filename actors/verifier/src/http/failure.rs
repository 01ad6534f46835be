//! What can go wrong between a question and its verdicts, and what follows from it: the void verdict's reason, whether to try
//! again, the label in metrics, and whether the server counts as down.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use counterpoint_rollout::{VoidReason, telemetry};
use reqwest::StatusCode;

/// Why there is no reply, or none that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// The deadline passed. `fair`: after the server had had time enough.
    Timeout { fair: bool },
    /// The circuit breaker is open: the server was not asked.
    Refused,
    /// No connection came about.
    Connect(String),
    /// The connection broke before the reply was complete.
    Lost(String),
    /// The server's certificate or its TLS is not to our liking, or ours not to its.
    Tls(String),
    /// A status other than success.
    Status {
        status: StatusCode,
        /// The beginning of the reply, for the log.
        body: String,
        /// How long the server asks us to wait.
        retry_after: Option<Duration>,
    },
    /// A redirect that is not followed, and why.
    Redirect(StatusCode, String),
    /// The reply is longer than it may be, in bytes.
    TooLong(usize),
    /// The reply is not what the dialect says.
    Protocol(String),
}

impl Failure {
    /// The void verdict's reason.
    pub(super) fn reason(&self) -> VoidReason {
        match self {
            Self::Timeout { .. } => VoidReason::Timeout,
            Self::Refused | Self::Connect(_) => VoidReason::Unavailable,
            Self::Lost(_) => VoidReason::Crash,
            Self::Tls(error) => VoidReason::Verifier(format!("TLS: {error}")),
            Self::Status { status, .. } => VoidReason::Verifier(format!("HTTP {status}")),
            Self::Redirect(status, why) => VoidReason::Verifier(format!("HTTP {status}: {why}")),
            Self::TooLong(_) => VoidReason::OutputLimit,
            Self::Protocol(_) => VoidReason::Protocol,
        }
    }

    /// How long to wait, at least, before another attempt; `None` if another would end the same.
    ///
    /// Judging twice does no harm, so a connection that broke halfway is tried again too: often the server had just closed
    /// one that was idle.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Connect(_) | Self::Lost(_) => Some(Duration::ZERO),
            Self::Status { status, retry_after, .. } if overloaded(*status) => Some(retry_after.unwrap_or_default()),
            _ => None,
        }
    }

    /// Whether it speaks for a server that is down or overloaded, rather than for a wrong request or reply.
    pub(super) fn server_is_down(&self) -> bool {
        match self {
            Self::Timeout { fair } => *fair,
            Self::Connect(_) | Self::Lost(_) => true,
            Self::Status { status, .. } => overloaded(*status),
            Self::Refused | Self::Tls(_) | Self::Redirect(..) | Self::TooLong(_) | Self::Protocol(_) => false,
        }
    }

    /// Counts it in the metrics.
    pub(super) fn count(&self) {
        if let Some(code) = self.code() {
            telemetry::verifier_http_failed(code);
        }
    }

    /// The label in metrics; `None` if nothing was sent.
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused => return None,
            Self::Timeout { .. } => "timeout",
            Self::Connect(_) | Self::Lost(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => "429",
            Self::Status { status, .. } if status.is_server_error() => "5xx",
            Self::Status { status, .. } if status.is_client_error() => "4xx",
            Self::Redirect(..) => "redirect",
            Self::Status { .. } | Self::TooLong(_) | Self::Protocol(_) => "protocol",
        })
    }
}

fn overloaded(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { .. } => f.write_str("no complete reply within the deadline"),
            Self::Refused => f.write_str("not asked: the server failed too often just now"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Lost(error) => write!(f, "the connection broke: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Status { status, body, .. } if body.is_empty() => write!(f, "HTTP {status}"),
            Self::Status { status, body, .. } => write!(f, "HTTP {status}: {body}"),
            Self::Redirect(status, why) => write!(f, "HTTP {status}: {why}"),
            Self::TooLong(limit) => write!(f, "the reply is longer than {limit} bytes (max_reply_bytes)"),
            Self::Protocol(error) => write!(f, "not a reply of this dialect: {error}"),
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let connecting = error.is_connect();
        // The address may hold secrets; whoever logs the failure names the server.
        let error = error.without_url();
        if let Some(tls) = cause::<rustls::Error>(&error) {
            Self::Tls(tls.to_string())
        } else if connecting {
            Self::Connect(root(&error))
        } else if cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
            Self::Protocol(format!("no HTTP: {}", root(&error)))
        } else {
            Self::Lost(root(&error))
        }
    }
}

/// The error itself and what caused it, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // `io::Error::source` skips the error that it wraps.
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => error.source(),
    })
}

fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The text of the innermost cause: the outer ones only say that a request failed.
fn root(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, retry_after: Option<Duration>) -> Failure {
        Failure::Status { status: StatusCode::from_u16(code).unwrap(), body: "a page".into(), retry_after }
    }

    #[test]
    fn connections_and_overload_are_tried_again_and_nothing_else_is() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(status(429, second).retry_after(), second);
        assert_eq!(status(503, None).retry_after(), Some(Duration::ZERO));
        assert_eq!(Failure::Connect("refused".into()).retry_after(), Some(Duration::ZERO));
        assert_eq!(Failure::Lost("reset".into()).retry_after(), Some(Duration::ZERO));
        for failure in [
            status(404, second),
            status(408, None),
            status(600, None),
            Failure::Timeout { fair: true },
            Failure::Refused,
            Failure::Tls("expired".into()),
            Failure::Redirect(StatusCode::FOUND, "to nowhere".into()),
            Failure::TooLong(1),
            Failure::Protocol("a poem".into()),
        ] {
            assert_eq!(failure.retry_after(), None, "{failure}");
        }
    }

    #[test]
    fn every_failure_is_counted_under_a_code_of_the_table() {
        let failures = [
            Failure::Connect(String::new()),
            Failure::Timeout { fair: false },
            status(429, None),
            status(599, None),
            status(404, None),
            Failure::Redirect(StatusCode::FOUND, String::new()),
            Failure::Tls(String::new()),
            Failure::Protocol(String::new()),
        ];
        assert_eq!(failures.map(|failure| failure.code().unwrap()), telemetry::HTTP_ERROR_CODES);
        assert_eq!(Failure::Refused.code(), None);
        assert_eq!(status(600, None).code(), Some("protocol"));
    }

    #[test]
    fn a_reason_names_the_status_and_keeps_the_servers_page_out() {
        assert_eq!(status(404, None).reason(), VoidReason::Verifier("HTTP 404 Not Found".into()));
        assert_eq!(status(404, None).to_string(), "HTTP 404 Not Found: a page");
    }

    #[test]
    fn the_wrapped_cause_of_an_io_error_is_found() {
        let inner = rustls::Error::HandshakeNotComplete;
        let outer = io::Error::other(io::Error::other(inner.clone()));
        assert_eq!(cause::<rustls::Error>(&outer), Some(&inner));
        assert_eq!(root(&outer), inner.to_string());
    }
}
