//! What the tests share: images of any bytes, clients that do not wait long, events that are kept.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skycap_image::{
    Artifact, BlobSource, Descriptor, Event, Image, ImageConfig, Index, MediaType, Memory, Name, Platform, Progress,
    Repository, RootFs, SourceError,
};
use skycap_registry::server::{Options, Server};
use skycap_registry::{Access, Client, Credentials, Place, Retries, Settings};
use skycap_testkit::registry::Scripted;
use skycap_testkit::secrets::assert_not_shown_in;
use tempfile::TempDir;

/// Retries without the waiting.
pub fn settings() -> Settings {
    Settings {
        retries: Retries {
            first: Duration::from_millis(5),
            attempts: 4,
            limit: Duration::from_secs(3),
            rate_limited: true,
        },
        stall: Duration::from_secs(5),
        ..Settings::default()
    }
}

pub fn client() -> Client {
    Client::new(settings(), Arc::new(skycap_image::Silent)).unwrap()
}

pub fn repository(address: SocketAddr, path: &str) -> Repository {
    format!("{address}/{path}").parse().unwrap()
}

/// A place to read from and write to, anonymously.
pub fn place(client: &Client, address: SocketAddr, path: &str) -> Place {
    place_as(client, address, path, Credentials::Anonymous)
}

pub fn place_as(client: &Client, address: SocketAddr, path: &str, credentials: Credentials) -> Place {
    client.place(repository(address, path), Access { credentials, push: true, ..Access::default() }).unwrap()
}

pub fn user(name: &str, password: &str) -> Credentials {
    Credentials::Basic { username: name.to_owned(), password: skycap_image::Secret::new(password) }
}

/// An embedded registry on a directory of its own.
pub fn server() -> (TempDir, Server) {
    server_with(Options::default())
}

pub fn server_with(options: Options) -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), options).unwrap();
    (dir, server)
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// An image in memory whose layers are these bytes. They need not be tars: a registry does not look inside.
pub fn image(architecture: &str, layers: &[Vec<u8>]) -> Image {
    let memory = Memory::default();
    let layers: Vec<Descriptor> =
        layers.iter().map(|bytes| memory.add(MediaType::OciLayerGzip, bytes.clone())).collect();
    let config = ImageConfig {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        rootfs: RootFs { diff_ids: layers.iter().map(|layer| layer.digest).collect(), ..RootFs::default() },
        ..ImageConfig::default()
    };
    Image::assemble(&config, layers, false, Arc::new(memory)).unwrap()
}

/// An index of an image for each of two platforms; they share a layer.
pub fn index() -> Artifact {
    use skycap_image::ImageSink;
    let memory = Memory::default();
    let children = ["amd64", "arm64"].map(|architecture| {
        let image = image(architecture, &[noise(1, 1000), architecture.as_bytes().to_vec()]);
        memory.put(&Artifact::Image(image), &[]).unwrap().with_platform(Platform::new("linux", architecture))
    });
    Artifact::Index(Index::assemble(children.to_vec(), false, Arc::new(memory)).unwrap())
}

pub fn tag(text: &str) -> Name {
    Name::Tag(text.to_owned())
}

/// Reads a blob whole, checked.
pub fn read(place: &dyn BlobSource, blob: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let mut reader = place.open(blob)?;
    reader.read_to_end(&mut bytes)?;
    reader.finish()?;
    Ok(bytes)
}

/// Panics if a secret stands in an error, in what was reported, or in what somebody was sent who may not see it.
pub fn no_secret(error: Option<&SourceError>, kept: &Kept, others: &[&Scripted]) {
    for line in kept.lines() {
        assert_not_shown_in("an event", line.as_bytes());
    }
    if let Some(error) = error {
        assert_not_shown_in("an error", format!("{error} {error:?}").as_bytes());
    }
    for other in others {
        for request in other.requests() {
            let shown = format!("{request:?} {}", String::from_utf8_lossy(&request.body));
            assert_not_shown_in("a request to another origin", shown.as_bytes());
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Kept(Mutex<Vec<String>>);

impl Kept {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Kept {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Started { label, .. } => format!("started {label}"),
            Event::Finished { outcome, .. } => format!("finished {outcome}"),
            Event::Note(text) => format!("note {text}"),
            Event::Warning(text) => format!("warning {text}"),
            Event::Debug(text) => format!("debug {text}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A private authority and a certificate for localhost and 127.0.0.1, in files; `None` without openssl.
pub fn certificates() -> Option<(TempDir, String, String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let script = r"
        set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out request.pem -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out certificate.pem -days 2 -extfile extensions
    ";
    let made = Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).output().ok()?;
    if !made.status.success() {
        return None;
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (ca, certificate, key) = (read("ca.pem"), read("certificate.pem"), read("key.pem"));
    Some((dir, ca, certificate, key))
}

/// An answer to a request made by hand.
pub struct Raw {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The first error's code.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// A request made by hand: what our own client would not send.
pub fn ask(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    head += &format!("content-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A server may have said all it has to say before it has read everything.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    Raw { status, headers, body }
}
