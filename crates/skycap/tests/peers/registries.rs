//! Registries that run: ours in this process, ours as the program, and Debian's `docker-registry` (distribution). Each is
//! started once and shared by the tests, which use repositories of their own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use skycap_image::Secret;
use skycap_registry::server::{Options, Server, Tls};
use skycap_registry::{Client, Credentials, Retries, Settings};
use skycap_testkit::registry::{Reply, Scripted};
use tempfile::TempDir;

use crate::process::{Background, Events, certificates, free_port, lasting, program, run, scratch, wait_for_port};
use crate::rooms::{Access, Peer, Registry};
use crate::tokens::{ISSUER, SERVICE, Tokens, basic};

const USER: &str = "robot";
/// All secrets of tests begin like this: a search through all output proves that none gets there.
const PASSWORD: &str = "hunter2-peers-password";

/// A registry, and what it needs to run.
struct Running {
    registry: Registry,
    _dir: TempDir,
    _server: Option<Server>,
    _process: Option<Background>,
    _front: Option<Scripted>,
}

type Shared = OnceLock<Result<Running, String>>;

fn peer(name: &'static str, shared: &'static Shared, start: fn() -> Result<Running, String>) -> Result<Peer, String> {
    let running = shared.get_or_init(start).as_ref().map_err(Clone::clone)?;
    let dir = scratch();
    Ok(Peer { name, keeps_manifests: true, access: Access::Registry(running.registry.clone()), dir })
}

macro_rules! shared {
    ($($name:ident: $label:literal, $start:expr;)*) => { $(
        pub fn $name() -> Result<Peer, String> {
            static SHARED: Shared = OnceLock::new();
            peer($label, &SHARED, $start)
        }
    )* };
}

shared! {
    embedded: "the embedded registry", || start_embedded(false);
    embedded_tls_basic: "the embedded registry with TLS and a password", || start_embedded(true);
    scripted: "the testkit's server before the embedded registry", start_scripted;
    served: "skycap registry serve", || start_served(false);
    served_tls_basic: "skycap registry serve with TLS and a password", || start_served(true);
    distribution: "docker-registry", || start_distribution(&Way::default());
    distribution_tls: "docker-registry with TLS", || start_distribution(&Way { tls: true, ..Way::default() });
    distribution_basic: "docker-registry with a password", || start_distribution(&Way { basic: true, ..Way::default() });
    distribution_bearer: "docker-registry with tokens", || start_distribution(&Way { bearer: true, ..Way::default() });
}

/// Retries that do not wait long, and what happens is kept.
pub fn client() -> (Client, Arc<Events>) {
    let events = Arc::new(Events::default());
    let retries =
        Retries { first: Duration::from_millis(5), attempts: 4, limit: Duration::from_secs(3), rate_limited: true };
    let settings = Settings { retries, stall: Duration::from_secs(20), ..Settings::default() };
    (Client::new(settings, events.clone()).unwrap(), events)
}

fn registry(address: String, ca: Option<String>, locked: bool, tokens: Option<Arc<Tokens>>) -> Registry {
    let (client, events) = client();
    let credentials = if locked {
        Credentials::Basic { username: USER.to_owned(), password: Secret::new(PASSWORD) }
    } else {
        Credentials::Anonymous
    };
    Registry { address, ca, credentials, client, events, tokens }
}

fn start_embedded(secured: bool) -> Result<Running, String> {
    let dir = lasting();
    let mut options = Options::default();
    let mut ca = None;
    if secured {
        certificates(dir.path())?;
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        options.tls = Some(Tls { certificate: text("tls.crt"), key: Secret::new(text("tls.key")) });
        options.basic_auth = Some((USER.to_owned(), Secret::new(PASSWORD)));
        ca = Some(text("ca.crt"));
    }
    let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), &dir.path().join("registry"), options).unwrap();
    let registry = registry(server.address().to_string(), ca, secured, None);
    Ok(Running { registry, _dir: dir, _server: Some(server), _process: None, _front: None })
}

fn start_scripted() -> Result<Running, String> {
    let embedded = start_embedded(false)?;
    let address = embedded.registry.address.parse().unwrap();
    let front = Scripted::in_front_of(address, |_| Reply::forward()).unwrap();
    let registry = registry(front.address().to_string(), None, false, None);
    Ok(Running { registry, _front: Some(front), ..embedded })
}

fn start_served(secured: bool) -> Result<Running, String> {
    let dir = lasting();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut arguments = vec!["registry".to_owned(), "serve".to_owned(), "--dir".to_owned(), path("data")];
    let mut ca = None;
    if secured {
        certificates(dir.path())?;
        ca = Some(std::fs::read_to_string(path("ca.crt")).unwrap());
        std::fs::write(path("password"), PASSWORD).unwrap();
        let given = [("cert", path("tls.crt")), ("key", path("tls.key"))];
        arguments.extend(given.into_iter().flat_map(|(name, file)| [format!("--tls-{name}"), file]));
        arguments.extend(["--user".to_owned(), USER.to_owned(), "--password-file".to_owned(), path("password")]);
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let process = Background::start(Path::new(env!("CARGO_BIN_EXE_skycap")), &arguments, Stdio::from(writer));
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    let address = line.trim_end().rsplit_once("://").ok_or_else(|| format!("{line:?} says no address"))?.1;
    let registry = registry(address.to_owned(), ca, secured, None);
    Ok(Running { registry, _dir: dir, _server: None, _process: Some(process), _front: None })
}

/// How a docker-registry lets clients in.
#[derive(Default)]
struct Way {
    tls: bool,
    basic: bool,
    bearer: bool,
}

fn start_distribution(way: &Way) -> Result<Running, String> {
    let binary = program("docker-registry")?;
    let dir = lasting();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let mut config = json!({
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": path("data")}, "delete": {"enabled": true}},
        "http": {"addr": format!("127.0.0.1:{port}")},
        // Without this a layer that lives elsewhere is refused.
        "validation": {"manifests": {"urls": {"allow": [".*"]}}},
    });
    let (mut ca, mut tokens) = (None, None);
    if way.tls {
        certificates(dir.path())?;
        ca = Some(std::fs::read_to_string(path("ca.crt")).unwrap());
        config["http"]["tls"] = json!({"certificate": path("tls.crt"), "key": path("tls.key")});
    }
    if way.basic {
        let users = run(dir.path(), "htpasswd", &["-Bbn", "-C", "5", USER, PASSWORD])?;
        std::fs::write(path("users"), users).unwrap();
        config["auth"] = json!({"htpasswd": {"realm": "peers", "path": path("users")}});
    }
    if way.bearer {
        let server = Tokens::start(dir.path(), basic(USER, PASSWORD))?;
        let auth: Value = json!({
            "realm": server.realm(), "service": SERVICE, "issuer": ISSUER, "rootcertbundle": path("token.crt"),
        });
        config["auth"] = json!({"token": auth});
        tokens = Some(Arc::new(server));
    }
    std::fs::write(path("config.yml"), config.to_string()).unwrap();
    let process = Background::start(&binary, &["serve", &path("config.yml")], Stdio::null());
    wait_for_port(port);
    let registry = registry(format!("127.0.0.1:{port}"), ca, way.basic || way.bearer, tokens);
    Ok(Running { registry, _dir: dir, _server: None, _process: Some(process), _front: None })
}
