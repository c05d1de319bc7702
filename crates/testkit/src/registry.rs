//! A small HTTP server with a script: for each request the script says what to answer, or to pass the request on to a real
//! server behind it and then to spoil the answer. It remembers every request, so that a test can look for what should not
//! have been sent. One connection serves one request, unless a reply keeps it open.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
#[allow(clippy::struct_excessive_bools, reason = "switches of a script, independent of each other")]
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
    reset: bool,
    keep: bool,
    chunks: Option<usize>,
    trickle: Option<(usize, Duration)>,
    verbatim: Option<Vec<u8>>,
    without: Vec<String>,
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
            reset: false,
            keep: false,
            chunks: None,
            trickle: None,
            verbatim: None,
            without: Vec::new(),
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

    /// No answer: the connection is reset, as by a machine that has crashed.
    pub fn reset() -> Self {
        Self { reset: true, ..Self::hang_up() }
    }

    /// These bytes, status line and all, and then the end of the connection.
    pub fn verbatim(bytes: impl Into<Vec<u8>>) -> Self {
        Self { verbatim: Some(bytes.into()), ..Self::new(false) }
    }

    /// Resets the connection where it would close it.
    #[must_use]
    pub fn and_reset(mut self) -> Self {
        self.reset = true;
        self
    }

    /// Leaves the connection open for the next request.
    #[must_use]
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Sends the body in chunks of so many bytes. One that is cut lacks its last chunk.
    #[must_use]
    pub fn chunked(mut self, length: usize) -> Self {
        self.chunks = Some(length);
        self
    }

    /// Sends so many bytes of the body at a time, with a pause after each.
    #[must_use]
    pub fn trickle(mut self, length: usize, every: Duration) -> Self {
        self.trickle = Some((length, every));
        self
    }

    /// Sets a header, instead of any of that name. `content-length` is otherwise the body's.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_lowercase(), value.into()));
        self
    }

    /// Leaves out a header that the server behind this one sends.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.without.push(name.to_lowercase());
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
type Appetite = dyn Fn(&Request) -> Option<usize> + Send + Sync;

struct Shared {
    script: Box<Script>,
    appetite: Box<Appetite>,
    upstream: Option<SocketAddr>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
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
        Self::before(None, |_| None, script)
    }

    /// Serves, but of some requests' bodies reads only so many bytes before the script answers them.
    pub fn reading(
        upstream: Option<SocketAddr>,
        appetite: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::before(upstream, appetite, script)
    }

    /// Serves in front of another server, where [`Reply::forward`] leads.
    pub fn in_front_of(
        upstream: SocketAddr,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::before(Some(upstream), |_| None, script)
    }

    fn before(
        upstream: Option<SocketAddr>,
        appetite: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (script, appetite): (Box<Script>, Box<Appetite>) = (Box::new(script), Box::new(appetite));
        let (requests, connections, stop) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { script, appetite, upstream, requests, connections, stop });
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

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
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
        self.connections.fetch_add(1, Ordering::Relaxed);
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while self.serve_one(&mut reader, stream)? {}
        Ok(())
    }

    /// Whether the connection stays open.
    fn serve_one(&self, reader: &mut BufReader<&TcpStream>, stream: &TcpStream) -> io::Result<bool> {
        let Some(mut request) = read_head(reader)? else { return Ok(false) };
        let whole = length(&request.headers);
        let wanted = (self.appetite)(&request).map_or(whole, |limit| whole.min(limit as u64));
        (&mut *reader).take(wanted).read_to_end(&mut request.body)?;
        {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            request.seen = requests.iter().filter(|earlier| earlier.line() == request.line()).count();
            requests.push(request.clone());
        }
        let reply = (self.script)(&request);
        std::thread::sleep(reply.wait);
        if reply.hang_up {
            return end(stream, reply.reset, false).map(|()| false);
        }
        if let Some(bytes) = &reply.verbatim {
            (&mut &*stream).write_all(bytes)?;
        } else {
            let (status, headers, body) = self.answer(&request, &reply)?;
            write_answer(stream, &request, &reply, status, &headers, &body)?;
        }
        if reply.keep && !reply.reset {
            return Ok(true);
        }
        end(stream, reply.reset, wanted < whole).map(|()| false)
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
        if reply.chunks.is_some() {
            headers.remove("content-length");
            headers.insert("transfer-encoding".to_owned(), "chunked".to_owned());
        }
        headers.retain(|name, _| !reply.without.contains(name));
        headers.extend(reply.headers.iter().cloned());
        headers.insert("connection".to_owned(), if reply.keep { "keep-alive" } else { "close" }.to_owned());
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
    let cut = reply.cut.filter(|after| *after < body.len());
    let body = body.get(..cut.unwrap_or(body.len())).unwrap_or(body);
    if let Some(length) = reply.chunks {
        for chunk in body.chunks(length.max(1)) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            stream.write_all(chunk)?;
            stream.write_all(b"\r\n")?;
        }
        return if cut.is_none() { stream.write_all(b"0\r\n\r\n") } else { Ok(()) };
    }
    if let Some((length, every)) = reply.trickle {
        for piece in body.chunks(length.max(1)) {
            stream.write_all(piece)?;
            std::thread::sleep(every);
        }
        return Ok(());
    }
    let (first, rest) = body.split_at(reply.pause.map_or(0, |(after, _)| after.min(body.len())));
    stream.write_all(first)?;
    if let Some((_, time)) = reply.pause {
        std::thread::sleep(time);
    }
    stream.write_all(rest)
}

/// Closes or resets a connection. What the client still sends is read for a moment, or the system would reset the connection
/// before the client has read the answer.
fn end(mut stream: &TcpStream, reset: bool, is_unread: bool) -> io::Result<()> {
    if reset {
        // What was written gets there first.
        std::thread::sleep(Duration::from_millis(20));
        return Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?);
    }
    if is_unread {
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    // The first byte of TLS: whoever tries that first shall not wait for an answer.
    if reader.fill_buf()?.first() == Some(&0x16) || reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let headers = read_headers(reader)?;
    Ok(Some(Request { method, path, query, headers, body: Vec::new(), seen: 0 }))
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
