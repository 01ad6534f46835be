//! The run's port: `/metrics`, `/healthz`, `/readyz`, `/status` (JSON) and `/`, a status page.
//!
//! [`bind`] comes before anything heavy, so that a port in use ends the run in its first second; [`Bound::serve`] starts
//! answering; [`Server::stop`] ends it after the requests that are being answered. Read only: every other method than GET
//! and HEAD is refused. On a loopback address only requests whose Host header names loopback are answered, so that a web
//! page cannot read a run's status through a name that resolves to 127.0.0.1 (DNS rebinding).

mod exposition;
mod page;

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::TelemetryConfig;
use crate::status::StatusBoard;

pub use exposition::Exporter;

/// How long requests in progress may take after [`Server::stop`].
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Somebody else listens there.
    #[error("telemetry.port: {host}:{port} is in use; choose another or 0")]
    InUse {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
    },
    /// The name is unknown, the address is not this machine's, or the port needs privileges.
    #[error("telemetry.host: cannot listen on {host}:{port}: {source}")]
    Bind {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// A port that is ours but does not answer yet: connections wait in its queue.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the configured port.
pub fn bind(config: &TelemetryConfig) -> Result<Bound, HttpError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::InUse { host: config.host.clone(), port: config.port },
        _ => HttpError::Bind { host: config.host.clone(), port: config.port, source },
    };
    let addresses: Vec<SocketAddr> = (config.host.as_str(), config.port).to_socket_addrs().map_err(failed)?.collect();
    let listener = TcpListener::bind(addresses.as_slice()).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// The address, with the port that was chosen where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts answering; must be called within a tokio runtime. Not ready until [`Server::set_ready`] says so.
    pub fn serve(self, exporter: Exporter, board: StatusBoard) -> std::io::Result<Server> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let ready = Arc::new(AtomicBool::new(false));
        let app = router(Shared { exporter, board, ready: ready.clone() }, self.address.ip().is_loopback());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // An error of the channel means that the server's owner is gone: stop as well.
            let served = axum::serve(listener, app).with_graceful_shutdown(async move { drop(stopped.await) });
            if let Err(error) = served.await {
                tracing::warn!("the status server ended: {error}");
            }
        });
        Ok(Server { address: self.address, ready, stop, task })
    }
}

/// A server that answers until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/readyz` says from now on: true from the first lease to the drain.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Takes no new connection, answers what was asked, waits at most two seconds for that.
    pub async fn stop(self) {
        let Self { stop, mut task, .. } = self;
        drop(stop);
        if tokio::time::timeout(STOP_DEADLINE, &mut task).await.is_err() {
            tracing::debug!("the status server still had a connection open after {STOP_DEADLINE:?}");
            task.abort();
        }
    }
}

#[derive(Clone)]
struct Shared {
    exporter: Exporter,
    board: StatusBoard,
    ready: Arc<AtomicBool>,
}

fn router(shared: Shared, loopback_only: bool) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/status.js", get(async || typed("text/javascript; charset=utf-8", page::SCRIPT.to_owned())))
        .route(
            "/",
            get(async |State(shared): State<Shared>| {
                typed("text/html; charset=utf-8", page::render(&shared.board.snapshot()))
            }),
        )
        .with_state(shared)
        .layer(axum::middleware::from_fn(harden));
    if loopback_only { router.layer(axum::middleware::from_fn(refuse_foreign_hosts)) } else { router }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    typed("text/plain; version=0.0.4; charset=utf-8", shared.exporter.render())
}

async fn readyz(State(shared): State<Shared>) -> Response {
    if shared.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        let phase = shared.board.snapshot().phase.label();
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {phase}\n")).into_response()
    }
}

async fn status(State(shared): State<Shared>) -> Response {
    axum::Json(shared.board.snapshot()).into_response()
}

fn typed(content_type: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// Headers that keep a browser from running, framing or caching anything but this page.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn refuse_foreign_hosts(request: Request<Body>, next: Next) -> Response {
    if names_loopback(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this server answers to localhost, 127.0.0.1 and [::1] only\n")
            .into_response()
    }
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
