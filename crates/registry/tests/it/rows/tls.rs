//! TLS that is not as it should be, and HTTP/2 that breaks (R34, R37, R80, R83).

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use skycap_image::{Artifact, ImageSink, ImageSource, Kind, Secret, SourceError};
use skycap_registry::{Access, Client, ClientCertificate, Place, Settings};
use skycap_testkit::registry::{Reply, Scripted};
use tempfile::TempDir;

use crate::support::{Kept, image, no_secret, noise, read, server, settings, tag, user};

/// An authority and what it signed, and others.
struct Papers(TempDir);

impl Papers {
    /// `None` without openssl.
    fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
            set -e
            ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
            for ca in ca other; do openssl req -x509 $ec -keyout $ca.key -out $ca.pem -days 2 -subj /CN=$ca; done
            sign() { # name, subject alternative name, options
                openssl req $ec -keyout $1.key -out $1.csr -subj /CN=$1
                printf 'subjectAltName=%s\n' "$2" > $1.ext
                shift_name=$1; shift 2
                openssl x509 -req -in $shift_name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $shift_name.pem -extfile $shift_name.ext "$@"
            }
            sign good DNS:localhost,IP:127.0.0.1 -days 2
            sign wrong DNS:elsewhere.example -days 2
            sign client DNS:client -days 2
            openssl req -x509 $ec -keyout self.key -out self.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
            mkdir -p db && : > db/index && echo 01 > db/serial
            printf '[ca]\ndefault_ca=d\n[d]\ndir=db\ndatabase=db/index\nserial=db/serial\nnew_certs_dir=db\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' > ca.cnf
            openssl req $ec -keyout expired.key -out expired.csr -subj /CN=expired
            openssl ca -batch -config ca.cnf -extensions e -cert ca.pem -keyfile ca.key -in expired.csr -out expired.pem -notext -startdate 20200101000000Z -enddate 20200102000000Z
            openssl req $ec -keyout early.key -out early.csr -subj /CN=early
            openssl ca -batch -config ca.cnf -extensions e -cert ca.pem -keyfile ca.key -in early.csr -out early.pem -notext -startdate 20600101000000Z -enddate 20610102000000Z
        "#;
        let made = Command::new("sh").arg("-c").arg(script).current_dir(dir.path()).output();
        match made {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => panic!("openssl: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => {
                skycap_testkit::skipped!("{test}: no openssl");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// The configuration of a server that shows this certificate.
    fn server(&self, name: &str, wants_client: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(self.text(&format!("{name}.pem")).as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.text(&format!("{name}.key")).as_bytes()).unwrap();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.text("ca.pem").as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}

/// A registry in HTTPS with one tag. `answer` makes the answers' heads and bodies from requests' heads.
fn serve(config: ServerConfig, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (config, answer) = (Arc::new(config), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                let mut head = String::new();
                let mut buffer = [0; 1024];
                while !head.contains("\r\n\r\n") {
                    match tls.read(&mut buffer) {
                        Ok(count @ 1..) => head += &String::from_utf8_lossy(&buffer[..count]),
                        _ => return,
                    }
                }
                let _ = tls.write_all(answer(&head).as_bytes());
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
    address
}

fn tags(head: &str) -> String {
    let body = if head.starts_with("GET /v2/ ") { "{}" } else { r#"{"tags":["1"]}"# };
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn place_with(address: SocketAddr, settings: Settings, access: Access, kept: &Arc<Kept>) -> Place {
    let mut settings = settings;
    settings.hosts.insert("r.example".to_owned(), format!("https://localhost:{}", address.port()));
    Client::new(settings, kept.clone()).unwrap().place("r.example/aa".parse().unwrap(), access).unwrap()
}

fn trusting(papers: &Papers) -> Access {
    Access { ca_certs: vec![papers.text("ca.pem")], credentials: user("me", "hunter2-password"), ..Access::default() }
}

fn asked(place: &Place, kept: &Kept) -> Result<Vec<String>, SourceError> {
    let answer = place.tags();
    no_secret(answer.as_ref().err(), kept, &[]);
    answer
}

#[test]
fn r83_certificates_that_are_not_right_are_refused_with_the_reason() {
    let Some(papers) = Papers::new("r83_certificates_that_are_not_right_are_refused_with_the_reason") else { return };
    let kept = Arc::new(Kept::default());
    for (name, reason) in [
        ("good", ""),
        ("expired", "expired"),
        ("early", "not valid yet"),
        ("wrong", "not valid for"),
        ("self", "certificate"),
        ("other", "certificate"),
    ] {
        let address = serve(papers.server(name, false), tags);
        let started = std::time::Instant::now();
        match (asked(&place_with(address, settings(), trusting(&papers), &kept), &kept), reason) {
            (Ok(tags), "") => assert_eq!(tags, ["1"]),
            (answer, reason) => {
                let text = answer.unwrap_err().to_string();
                assert!(text.contains("TLS: ") && text.contains(reason) && !reason.is_empty(), "{name}: {text}");
                assert!(!text.contains("tried"), "a certificate does not get better: {text}");
            }
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        // Only if told so.
        let access = Access { danger_skip_tls_verification: true, ..trusting(&papers) };
        assert_eq!(asked(&place_with(address, settings(), access, &kept), &kept).unwrap(), ["1"], "{name}");
    }
    // Where plain HTTP is tried as well, the certificate is what is wrong.
    let address = serve(papers.server("self", false), tags);
    let client = Client::new(settings(), kept.clone()).unwrap();
    let name = format!("localhost:{}/aa", address.port()).parse().unwrap();
    let text = client.place(name, Access::default()).unwrap().tags().unwrap_err().to_string();
    assert!(text.contains("TLS: ") && !text.contains("tried") && !text.contains("http://"), "{text}");
    // Its own authority works, and one that is not asked for does not.
    let address = serve(papers.server("good", false), tags);
    let text = asked(&place_with(address, settings(), Access::default(), &kept), &kept).unwrap_err().to_string();
    assert!(text.contains("ca_certs"), "{text}");
}

#[test]
fn r83_what_is_skipped_for_a_registry_is_not_skipped_for_where_it_leads() {
    let Some(papers) = Papers::new("r83_what_is_skipped_for_a_registry_is_not_skipped_for_where_it_leads") else {
        return;
    };
    let kept = Arc::new(Kept::default());
    let elsewhere = serve(papers.server("self", false), tags);
    let registry = serve(papers.server("self", false), move |head| {
        if head.starts_with("GET /v2/ ") {
            return tags(head);
        }
        format!(
            "HTTP/1.1 307 Away\r\nlocation: https://localhost:{}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            elsewhere.port()
        )
    });
    let access = Access { danger_skip_tls_verification: true, ..trusting(&papers) };
    let text = asked(&place_with(registry, settings(), access, &kept), &kept).unwrap_err().to_string();
    assert!(text.contains(&format!("localhost:{}", elsewhere.port())) && text.contains("TLS: "), "{text}");
}

#[test]
fn r83_a_registry_may_want_to_know_who_we_are() {
    let Some(papers) = Papers::new("r83_a_registry_may_want_to_know_who_we_are") else { return };
    let kept = Arc::new(Kept::default());
    let address = serve(papers.server("good", true), tags);
    let text = asked(&place_with(address, settings(), trusting(&papers), &kept), &kept).unwrap_err().to_string();
    assert!(text.to_lowercase().contains("certificate"), "{text}");
    let identity =
        ClientCertificate { certificate: papers.text("client.pem"), key: Secret::new(papers.text("client.key")) };
    let settings = Settings { client_certificate: Some(identity), ..settings() };
    assert_eq!(asked(&place_with(address, settings, trusting(&papers), &kept), &kept).unwrap(), ["1"]);
}

/// Servers that do not get as far as a certificate.
#[test]
fn r83_handshakes_that_end_early_and_versions_that_are_too_old() {
    let raw = |answer: &'static [u8]| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(answer);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        address
    };
    let kept = Arc::new(Kept::default());
    for (answer, text) in [
        // What a server that knows TLS 1.0 only says to us: a fatal alert, protocol_version.
        (&[0x15, 3, 1, 0, 2, 2, 70][..], "protocol"),
        (&[0x15, 3, 3, 0, 2, 2, 40][..], "handshake"),
        (&[][..], "tried 4 times"),
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "TLS"),
    ] {
        let place = place_with(raw(answer), settings(), Access::default(), &kept);
        let error = asked(&place, &kept).unwrap_err().to_string();
        assert!(error.to_lowercase().contains(&text.to_lowercase()), "{text}: {error}");
    }
}

#[test]
fn r34_r37_nothing_leads_from_https_to_http() {
    let Some(papers) = Papers::new("r34_r37_nothing_leads_from_https_to_http") else { return };
    let kept = Arc::new(Kept::default());
    let plain = Scripted::start(|_| Reply::status(200).body(r#"{"token":"stolen","tags":["stolen"]}"#)).unwrap();
    let url = plain.url();
    let redirecting = serve(papers.server("good", false), move |head| {
        if head.starts_with("GET /v2/ ") {
            return tags(head);
        }
        format!("HTTP/1.1 302 Found\r\nlocation: {url}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    });
    let url = plain.url();
    let realm = serve(papers.server("good", false), move |_| {
        format!(
            "HTTP/1.1 401 No\r\nwww-authenticate: Bearer realm=\"{url}/token\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    });
    for address in [redirecting, realm] {
        let error = asked(&place_with(address, settings(), trusting(&papers), &kept), &kept).unwrap_err();
        assert_eq!(error.kind, Kind::Denied);
        assert!(error.to_string().contains("refused: it leaves https for http"), "{error}");
    }
    assert!(plain.requests().is_empty());
}

/// What an HTTP/2 server does to requests, in turn.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    GoAway,
    Reset,
    NoWindow,
}

#[test]
fn r80_http2_that_breaks_is_tried_again() {
    let Some(papers) = Papers::new("r80_http2_that_breaks_is_tried_again") else { return };
    let kept = Arc::new(Kept::default());
    for trouble in [Trouble::GoAway, Trouble::Reset, Trouble::NoWindow] {
        let mut config = papers.server("good", false);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = http2(config, trouble);
        let mut settings = settings();
        settings.stall = std::time::Duration::from_millis(600);
        let place = place_with(address, settings, trusting(&papers), &kept);
        let answer = asked(&place, &kept);
        assert_eq!(answer.unwrap_or_else(|error| panic!("{trouble:?}: {error}")), ["1"], "{trouble:?}");
    }
}

/// Every second request is in trouble, beginning with the first.
fn http2(config: ServerConfig, trouble: Trouble) -> SocketAddr {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let seen = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let in_trouble = seen.fetch_add(1, Ordering::SeqCst) % 2 == 0;
                        match trouble {
                            Trouble::GoAway if in_trouble => {
                                connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                                continue;
                            }
                            Trouble::Reset if in_trouble => {
                                respond.send_reset(h2::Reason::REFUSED_STREAM);
                                continue;
                            }
                            // The headers come, and of the body nothing.
                            Trouble::NoWindow if in_trouble && request.uri().path() != "/v2/" => {
                                let response = http_response();
                                let body = respond.send_response(response, false);
                                tokio::spawn(async move {
                                    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                                    drop(body);
                                });
                                continue;
                            }
                            _ => {}
                        }
                        let Ok(mut body) = respond.send_response(http_response(), false) else { continue };
                        let _ = body.send_data(bytes::Bytes::from_static(br#"{"tags":["1"]}"#), true);
                    }
                });
            }
        });
    });
    address
}

/// The embedded registry behind HTTP/2, for what is small; blobs have connections of their own, in HTTP/1.1. The first time
/// that anything is asked for, there is trouble.
fn http2_in_front_of(mut config: ServerConfig, trouble: Trouble, server: SocketAddr) -> SocketAddr {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let seen = Arc::new(Mutex::new(HashSet::new()));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        let Ok(mut registry) = tokio::net::TcpStream::connect(server).await else { return };
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut registry).await;
                        return;
                    }
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let path = request.uri().path();
                        let is_new =
                            path != "/v2/" && seen.lock().unwrap().insert(format!("{} {path}", request.method()));
                        if is_new && matches!(trouble, Trouble::GoAway) {
                            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                            continue;
                        }
                        let silent = is_new && matches!(trouble, Trouble::NoWindow) && path.contains("/manifests/");
                        let reset = is_new && matches!(trouble, Trouble::Reset);
                        tokio::spawn(passed_on(request, respond, server, reset, silent));
                    }
                });
            }
        });
    });
    address
}

/// Asks the registry in HTTP/1.1; the answer may break off after its head.
async fn passed_on(
    request: hyper::http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    server: SocketAddr,
    reset: bool,
    silent: bool,
) {
    let (head, mut body) = request.into_parts();
    let mut sent = Vec::new();
    while let Some(Ok(bytes)) = body.data().await {
        let _ = body.flow_control().release_capacity(bytes.len());
        sent.extend_from_slice(&bytes);
    }
    if reset {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return;
    }
    let raw = tokio::task::spawn_blocking(move || {
        let target = head.uri.path_and_query().unwrap().to_string();
        let kind = head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        crate::support::ask(server, head.method.as_str(), &target, &[("content-type", &kind), ("accept", "*/*")], &sent)
    });
    let raw = raw.await.unwrap();
    let mut response = hyper::http::Response::builder().status(raw.status);
    for (name, value) in raw.headers.iter().filter(|(name, _)| name != "connection" && name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let Ok(mut body) = respond.send_response(response.body(()).unwrap(), false) else { return };
    if silent {
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        return;
    }
    let _ = body.send_data(raw.body.into(), true);
}

#[test]
fn r80_a_push_and_a_pull_get_through_http2_that_breaks() {
    let Some(papers) = Papers::new("r80_a_push_and_a_pull_get_through_http2_that_breaks") else { return };
    let image = image("amd64", &[noise(1, 300_000), noise(2, 1000)]);
    for trouble in [Trouble::GoAway, Trouble::Reset, Trouble::NoWindow] {
        let (_dir, registry) = server();
        let address = http2_in_front_of(papers.server("good", false), trouble, registry.address());
        let kept = Arc::new(Kept::default());
        let mut settings = settings();
        settings.stall = std::time::Duration::from_millis(1500);
        // A connection that goes away takes along what others asked on it.
        settings.retries.attempts = 12;
        let place = place_with(address, settings, Access { push: true, ..trusting(&papers) }, &kept);
        let pushed = place.put(&Artifact::Image(image.clone()), &[tag("1")]);
        assert_eq!(pushed.unwrap_or_else(|error| panic!("{trouble:?}: {error}")), *image.descriptor());
        let Ok(Artifact::Image(pulled)) = place.get(&tag("1")) else { panic!("{trouble:?}: no image") };
        assert_eq!(pulled.raw(), image.raw(), "{trouble:?}");
        for (layer, (seed, length)) in pulled.layers().iter().zip([(1, 300_000), (2, 1000)]) {
            assert!(read(&place, &layer.descriptor).unwrap() == noise(seed, length), "{trouble:?}");
        }
        no_secret(None, &kept, &[]);
    }
}

fn http_response() -> hyper::http::Response<()> {
    hyper::http::Response::builder().status(200).body(()).unwrap()
}

/// A connection that is not TLS at all, from a registry that should speak it.
#[test]
fn r83_a_registry_that_does_not_speak_tls_is_no_reason_to_send_it_a_password() {
    let scripted = Scripted::start(|_| Reply::status(200)).unwrap();
    let kept = Arc::new(Kept::default());
    let access = Access { credentials: user("me", "hunter2-password"), ..Access::default() };
    let error = asked(&place_with(scripted.address(), settings(), access, &kept), &kept).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("tls"), "{error}");
    assert!(TcpStream::connect(scripted.address()).is_ok());
    no_secret(Some(&error), &kept, &[&scripted]);
}
