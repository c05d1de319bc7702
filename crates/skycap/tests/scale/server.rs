//! A registry that makes what it serves, keeps nothing of what it is sent, and counts. It serves one image as
//! `big/image:latest`, in parts if asked to, and cuts connections if told to.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use skycap_image::Digest;

use crate::image::Image;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What was asked for and how much went over.
#[derive(Default)]
pub struct Counts {
    pub requests: AtomicU64,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    pub cuts: AtomicU64,
    /// How often each blob was asked for from its beginning.
    pub blobs: Mutex<BTreeMap<String, u64>>,
}

pub struct Server {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

struct Shared {
    image: Image,
    /// Tags that are listed: so many, so many on a page.
    tags: (u64, u64),
    /// A connection is cut after so many bytes of a blob.
    cut: Option<u64>,
    counts: Arc<Counts>,
}

impl Server {
    pub fn start(image: Image) -> Self {
        Self::with(image, (1, 1), None)
    }

    pub fn cutting(image: Image, after: u64) -> Self {
        Self::with(image, (1, 1), Some(after))
    }

    pub fn with(image: Image, tags: (u64, u64), cut: Option<u64>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::new(Shared { image, tags, cut, counts: Arc::clone(&counts) });
        // It listens until the process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { address, counts }
    }

    /// The image that is served.
    pub fn image(&self) -> String {
        format!("{}/big/image:latest", self.address)
    }

    /// How often one of these blobs was asked for from its beginning, at most.
    pub fn most_fetches(&self, blobs: &[Digest]) -> u64 {
        let counts = self.counts.blobs.lock().unwrap();
        blobs.iter().filter_map(|blob| counts.get(&blob.to_string()).copied()).max().unwrap_or(0)
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 20, stream);
        let mut writer = BufWriter::with_capacity(1 << 16, stream);
        while let Some(request) = read_request(&mut reader)? {
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
            self.answer(&request, &mut reader, &mut writer)?;
            writer.flush()?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request, body: &mut impl BufRead, out: &mut impl Write) -> io::Result<()> {
        let received = read_body(request, body)?;
        self.counts.received.fetch_add(received, Ordering::Relaxed);
        let rest = request.path.strip_prefix("/v2/").unwrap_or_default();
        let rest = rest.strip_prefix("big/image/").unwrap_or(rest);
        let digest = Digest::sha256(&self.image.manifest).to_string();
        match (request.method.as_str(), rest) {
            ("GET", "") => head(out, "200 OK", &[("content-length", "2")]).and_then(|()| out.write_all(b"{}")),
            ("GET", "tags/list") => self.list(request, out),
            (method @ ("GET" | "HEAD"), path) if path.starts_with("manifests/") => {
                let name = &path["manifests/".len()..];
                if name != "latest" && name != digest && !name.starts_with('v') {
                    return json(out, "404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none"}]}"#);
                }
                let length = self.image.manifest.len().to_string();
                let headers =
                    [("content-type", MANIFEST), ("docker-content-digest", &digest), ("content-length", &length)];
                head(out, "200 OK", &headers)?;
                if method == "GET" { out.write_all(&self.image.manifest) } else { Ok(()) }
            }
            (method @ ("GET" | "HEAD"), path) if path.starts_with("blobs/sha256:") => {
                self.blob(request, method == "HEAD", &path["blobs/".len()..], out)
            }
            ("POST", _) => {
                let location = "/v2/big/copy/blobs/uploads/0123456789abcdef";
                head(out, "202 Accepted", &[("location", location), ("range", "0-0"), ("content-length", "0")])
            }
            ("PATCH", _) => {
                let range = format!("0-{}", received.saturating_sub(1));
                head(out, "202 Accepted", &[("location", &request.path), ("range", &range), ("content-length", "0")])
            }
            ("PUT", _) => {
                let digest = request.parameter("digest").map(|digest| digest.replace("%3A", ":"));
                let digest = digest.unwrap_or_else(|| Digest::sha256(&self.image.manifest).to_string());
                head(out, "201 Created", &[("docker-content-digest", &digest), ("content-length", "0")])
            }
            _ => json(out, "404 Not Found", r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"none"}]}"#),
        }
    }

    fn blob(&self, request: &Request, only_head: bool, digest: &str, out: &mut impl Write) -> io::Result<()> {
        let pushed_elsewhere = request.path.starts_with("/v2/big/copy/");
        let Some(blob) = self.image.blobs.get(digest).filter(|_| !pushed_elsewhere) else {
            return json(out, "404 Not Found", r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"none"}]}"#);
        };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (start, end) = match range {
            Some((start, end)) => {
                (start.parse().unwrap(), end.parse().map_or(blob.size, |end: u64| (end + 1).min(blob.size)))
            }
            None => (0, blob.size),
        };
        let (length, content_range) = ((end - start).to_string(), format!("bytes {start}-{}/{}", end - 1, blob.size));
        let mut headers = vec![("content-length", length.as_str()), ("accept-ranges", "bytes")];
        headers.push(("docker-content-digest", digest));
        if range.is_some() {
            headers.push(("content-range", &content_range));
        }
        head(out, if range.is_some() { "206 Partial Content" } else { "200 OK" }, &headers)?;
        if only_head {
            return Ok(());
        }
        if start == 0 {
            *self.counts.blobs.lock().unwrap().entry(digest.to_owned()).or_default() += 1;
        }
        let wanted = end - start;
        let allowed = self.cut.map_or(wanted, |cut| cut.min(wanted));
        let sent = io::copy(&mut blob.from(start).take(allowed), out)?;
        self.counts.sent.fetch_add(sent, Ordering::Relaxed);
        if sent < wanted {
            out.flush()?;
            self.counts.cuts.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    /// Tags are `v0000000` and so on.
    fn list(&self, request: &Request, out: &mut impl Write) -> io::Result<()> {
        let (all, page) = self.tags;
        let number = |tag: &str| tag.trim_start_matches('v').parse::<u64>().map_or(0, |last| last + 1);
        let start = request.parameter("last").map_or(0, number);
        let end = (start + request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(page).min(page)).min(all);
        let tags: Vec<String> = (start..end).map(|number| format!("\"v{number:07}\"")).collect();
        let body = format!("{{\"name\":\"big/image\",\"tags\":[{}]}}", tags.join(","));
        let link = format!("</v2/big/image/tags/list?last=v{:07}&n={page}>; rel=\"next\"", end.saturating_sub(1));
        let length = body.len().to_string();
        let mut headers = vec![("content-type", "application/json"), ("content-length", length.as_str())];
        if end < all {
            headers.push(("link", &link));
        }
        head(out, "200 OK", &headers)?;
        out.write_all(body.as_bytes())
    }
}

fn head(out: &mut impl Write, status: &str, headers: &[(&str, &str)]) -> io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\n")?;
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")
}

fn json(out: &mut impl Write, status: &str, body: &str) -> io::Result<()> {
    head(out, status, &[("content-type", "application/json"), ("content-length", &body.len().to_string())])?;
    out.write_all(body.as_bytes())
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request { method, path, query, headers }))
}

/// Reads a body to its end and keeps nothing.
fn read_body(request: &Request, body: &mut impl BufRead) -> io::Result<u64> {
    if request.header("transfer-encoding") != Some("chunked") {
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        return io::copy(&mut body.take(length), &mut io::sink());
    }
    let mut all = 0;
    loop {
        let mut line = String::new();
        body.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        all += io::copy(&mut body.by_ref().take(length), &mut io::sink())?;
        body.read_line(&mut line)?;
        if length == 0 {
            return Ok(all);
        }
    }
}
