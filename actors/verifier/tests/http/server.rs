//! A server that does exactly what a test says, well or badly, and remembers what it was asked.
#![allow(clippy::unwrap_used, dead_code, reason = "a test may; not every test needs all of it")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

/// What a server does with a request. Except after `Good`, the connection ends with it.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Status 200 with this body; the connection stays open.
    Good(String),
    /// This status line and these headers, each with its line break, and this body.
    Status(&'static str, String, String),
    /// These bytes, then the end of the stream.
    Raw(Vec<u8>),
    /// These bytes, one after each pause, and again from the start.
    Drip(&'static [u8], Duration),
    /// A body of chunks without end.
    Flood,
    /// Nothing at all, until the client goes.
    Hang,
    /// A reset connection.
    Reset,
    /// Something else, a while later.
    After(Duration, Box<Act>),
}

impl Act {
    pub(crate) fn json(body: Value) -> Self {
        Self::Good(body.to_string())
    }

    pub(crate) fn status(line: &'static str) -> Self {
        Self::Status(line, String::new(), String::new())
    }

    pub(crate) fn with(line: &'static str, header: impl Into<String>) -> Self {
        Self::Status(line, format!("{}\r\n", header.into()), String::new())
    }

    /// Finds every item of a request in Counterpoint's dialect right.
    pub(crate) fn all_right(request: &Request) -> Self {
        let items = request.json()["items"].as_array().unwrap().clone();
        let right = |item: &Value| json!({"id": item["id"], "verdict": "correct"});
        Self::json(json!({"items": items.iter().map(right).collect::<Vec<_>>()}))
    }
}

type Script = Box<dyn Fn(usize, &Request) -> Act + Send + Sync>;

struct Shared {
    script: Script,
    requests: Mutex<Vec<Request>>,
    under_way: AtomicUsize,
    peak: AtomicUsize,
    connections: AtomicUsize,
    /// Told when a client went away from a server that hangs.
    left: Notify,
}

/// A running server on a free port of this machine.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// `script` gets the number of the request, from 0, and the request.
    pub(crate) async fn start(script: impl Fn(usize, &Request) -> Act + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(script)).await
    }

    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(usize, &Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(acceptor), Box::new(script)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            requests: Mutex::default(),
            under_way: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            left: Notify::new(),
        });
        let of_tasks = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&of_tasks), tls.clone());
                shared.connections.fetch_add(1, Ordering::SeqCst);
                // The task ends with the runtime of the test; what goes wrong in it shows in what the client gets.
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &shared).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &shared).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, shared, accepting: accepting.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/judge", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests there were.
    pub(crate) fn seen(&self) -> usize {
        self.requests().len()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The largest number of requests under way at once.
    pub(crate) fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// Waits until a client has gone away from a server that hangs.
    pub(crate) async fn left(&self) {
        self.shared.left.notified().await;
    }
}

/// A stream that can be broken off.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Answers until the client goes or the script ends the connection; `None` either way.
async fn serve(mut stream: impl Stream, shared: &Shared) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let request = read(&mut stream, &mut buffer).await?;
        let number = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak.fetch_max(under_way, Ordering::SeqCst);
        let mut act = (shared.script)(number, &request);
        while let Act::After(pause, then) = act {
            sleep(pause).await;
            act = *then;
        }
        // Before the reply, after which the client may send the next request at once.
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        perform(&mut stream, act, shared).await?;
    }
}

async fn perform(stream: &mut impl Stream, act: Act, shared: &Shared) -> Option<()> {
    match act {
        Act::Good(body) => {
            let length = body.len();
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes()).await.ok()
        }
        Act::Status(line, headers, body) => {
            let length = body.len();
            let reply =
                format!("HTTP/1.1 {line}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            end(stream, reply.as_bytes()).await
        }
        Act::Raw(bytes) => end(stream, &bytes).await,
        Act::Drip(bytes, pause) => loop {
            for byte in bytes {
                stream.write_all(&[*byte]).await.ok()?;
                sleep(pause).await;
            }
        },
        Act::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
            loop {
                stream.write_all(chunk.as_bytes()).await.ok()?;
            }
        }
        Act::Hang => {
            // Ends when the client closes, with or without an error.
            let _ = stream.read(&mut [0; 64]).await;
            shared.left.notify_one();
            None
        }
        Act::Reset => {
            stream.tcp().set_zero_linger().ok()?;
            None
        }
        Act::After(..) => unreachable!("unwrapped before"),
    }
}

async fn end(stream: &mut impl Stream, bytes: &[u8]) -> Option<()> {
    stream.write_all(bytes).await.ok()?;
    stream.shutdown().await.ok()?;
    None
}

/// One request with the body that its `content-length` announces; `None` at the end of the stream.
async fn read(stream: &mut impl Stream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer.drain(..head_end + 4).collect()).unwrap();
    let mut request = Request { head, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}

async fn more(stream: &mut impl Stream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk).await.ok().filter(|&count| count > 0)?;
    buffer.extend_from_slice(&chunk[..count]);
    Some(())
}
