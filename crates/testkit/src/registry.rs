//! A small HTTP server with a script: for each request the script says what to answer, or to pass the request on to a real
//! server behind it and then to spoil the answer. It remembers every request, so that a test can look for what should not
//! have been sent. One connection serves one request.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bodies beyond this are not what tests are made of.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// What stands behind `?`.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How many requests of the same method and path came before.
    pub seen: usize,
}

impl Request {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `GET /v2/`, without the query.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What a script says to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    upstream: bool,
    hang_up: bool,
    query: Option<String>,
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    without_length: bool,
    flip: Option<usize>,
    cut: Option<usize>,
    pause: Option<(usize, Duration)>,
    wait: Duration,
}

impl Reply {
    fn new(upstream: bool) -> Self {
        Self {
            upstream,
            hang_up: false,
            query: None,
            status: None,
            headers: Vec::new(),
            body: None,
            without_length: false,
            flip: None,
            cut: None,
            pause: None,
            wait: Duration::ZERO,
        }
    }

    /// An answer of the script's own.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::new(false) }
    }

    /// The answer of the server behind this one; what else is set replaces a part of it.
    pub fn forward() -> Self {
        Self::new(true)
    }

    /// The answer of the server behind this one under another status: it did what it was asked and does not say so.
    pub fn forward_as(status: u16) -> Self {
        Self { status: Some(status), ..Self::new(true) }
    }

    /// The answer of the server behind this one to another query.
    pub fn forward_query(query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..Self::new(true) }
    }

    /// No answer: the connection is closed.
    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::new(false) }
    }

    /// Sets a header, instead of any of that name. `content-length` is otherwise the body's.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_lowercase(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Changes one byte of the body.
    #[must_use]
    pub fn flip(mut self, at: usize) -> Self {
        self.flip = Some(at);
        self
    }

    /// Does not say how long the body is: its end is that of the connection.
    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.without_length = true;
        self
    }

    /// Closes the connection after so many bytes of the body.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Pauses after so many bytes of the body.
    #[must_use]
    pub fn pause(mut self, after: usize, time: Duration) -> Self {
        self.pause = Some((after, time));
        self
    }

    /// Waits before the first byte of the answer.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    upstream: Option<SocketAddr>,
    requests: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

/// The server; it stops when it is dropped.
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Scripted {
    /// Serves on a free port of 127.0.0.1.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        Self::before(None, script)
    }

    /// Serves in front of another server, where [`Reply::forward`] leads.
    pub fn in_front_of(
        upstream: SocketAddr,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::before(Some(upstream), script)
    }

    fn before(
        upstream: Option<SocketAddr>,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (requests, stop) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { script: Box::new(script), upstream, requests, stop });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that goes away in the middle is part of the test.
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines of everything that was asked so far, such as `GET /v2/`.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let Some(mut request) = read_request(stream)? else { return Ok(()) };
        {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            request.seen = requests.iter().filter(|earlier| earlier.line() == request.line()).count();
            requests.push(request.clone());
        }
        let reply = (self.script)(&request);
        if reply.hang_up {
            return Ok(());
        }
        std::thread::sleep(reply.wait);
        let (status, headers, body) = self.answer(&request, &reply)?;
        write_answer(stream, &request, &reply, status, &headers, &body)
    }

    /// Status, headers and body.
    fn answer(&self, request: &Request, reply: &Reply) -> io::Result<(u16, HashMap<String, String>, Vec<u8>)> {
        let (mut status, mut headers, mut body) = match self.upstream {
            Some(upstream) if reply.upstream => {
                ask(upstream, request, reply.query.as_deref().unwrap_or(&request.query))?
            }
            _ => (200, HashMap::new(), Vec::new()),
        };
        status = reply.status.unwrap_or(status);
        if let Some(other) = &reply.body {
            body.clone_from(other);
            headers.remove("content-length");
        }
        if let Some(byte) = reply.flip.and_then(|at| body.get_mut(at)) {
            *byte ^= 1;
        }
        headers.entry("content-length".to_owned()).or_insert_with(|| body.len().to_string());
        if reply.without_length {
            headers.remove("content-length");
        }
        headers.extend(reply.headers.iter().cloned());
        headers.insert("connection".to_owned(), "close".to_owned());
        Ok((status, headers, body))
    }
}

fn write_answer(
    mut stream: &TcpStream,
    request: &Request,
    reply: &Reply,
    status: u16,
    headers: &HashMap<String, String>,
    body: &[u8],
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = body.get(..reply.cut.unwrap_or(body.len())).unwrap_or(body);
    let (first, rest) = body.split_at(reply.pause.map_or(0, |(after, _)| after.min(body.len())));
    stream.write_all(first)?;
    if let Some((_, time)) = reply.pause {
        std::thread::sleep(time);
    }
    stream.write_all(rest)
}

fn read_request(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let headers = read_headers(&mut reader)?;
    let mut body = Vec::new();
    reader.take(length(&headers)).read_to_end(&mut body)?;
    Ok(Some(Request { method, path, query, headers, body, seen: 0 }))
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(headers) };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

fn length(headers: &[(String, String)]) -> u64 {
    let text = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.as_str());
    text.and_then(|text| text.parse().ok()).unwrap_or(0).min(LARGEST)
}

/// Passes a request on.
fn ask(upstream: SocketAddr, request: &Request, query: &str) -> io::Result<(u16, HashMap<String, String>, Vec<u8>)> {
    let mut stream = TcpStream::connect(upstream)?;
    let question = if query.is_empty() { "" } else { "?" };
    let mut head = format!("{} {}{question}{query} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    stream.write_all(&request.body)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
    let headers = read_headers(&mut reader)?;
    let mut body = Vec::new();
    if request.method != "HEAD" {
        reader.take(length(&headers)).read_to_end(&mut body)?;
    }
    Ok((status, headers.into_iter().collect(), body))
}
