//! Against the registry that everybody runs: `docker-registry` (distribution) from Debian, with a private authority and a
//! password file.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use skycap_image::{Artifact, ImageSink, ImageSource, Kind, Name, Platform};
use skycap_registry::{Access, Client, Credentials, Place};
use tempfile::TempDir;

use crate::support::{Kept, certificates, client, image, index, noise, read, repository, settings, tag, user};

const BINARY: &str = "/usr/bin/docker-registry";

/// A registry of other people's making.
struct Distribution {
    child: Child,
    address: SocketAddr,
    ca: Option<String>,
    data: PathBuf,
    _dir: TempDir,
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Distribution {
    /// With HTTPS and the user me, or plain and open. Says why if it cannot run here.
    fn start(test: &str, secured: bool) -> Option<Self> {
        let skip = |why: &str| {
            skycap_testkit::skipped!("{test}: {why}");
            None
        };
        if !Path::new(BINARY).exists() {
            return skip("no docker-registry");
        }
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let root = dir.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n",
            root.display()
        );
        let mut ca = None;
        if secured {
            let Some((files, authority, _, _)) = certificates() else { return skip("no openssl") };
            let files = files.keep();
            let made = Command::new("htpasswd").args(["-Bbn", "me", "hunter2"]).output();
            let Some(made) = made.ok().filter(|made| made.status.success()) else { return skip("no htpasswd") };
            std::fs::write(dir.path().join("htpasswd"), made.stdout).unwrap();
            std::fs::rename(&files, dir.path().join("tls")).unwrap();
            let tls = dir.path().join("tls");
            write!(
                config,
                "  tls: {{certificate: {0}/certificate.pem, key: {0}/key.pem}}\nauth:\n  htpasswd: {{realm: r, path: {1}/htpasswd}}\n",
                tls.display(),
                dir.path().display()
            )
            .unwrap();
            ca = Some(authority);
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child =
            Command::new(BINARY).arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Self { child, address, ca, data: root, _dir: dir };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not start");
    }

    fn place(&self, client: &Client, path: &str, credentials: Credentials) -> Place {
        let ca_certs = self.ca.iter().cloned().collect();
        let access = Access { credentials, push: true, ca_certs, ..Access::default() };
        client.place(repository(self.address, path), access).unwrap()
    }
}

#[test]
fn images_go_in_and_come_out_over_https_with_a_password() {
    let test = "images_go_in_and_come_out_over_https_with_a_password";
    let Some(registry) = Distribution::start(test, true) else { return };
    let client = client();
    let place = registry.place(&client, "team/app", user("me", "hunter2"));
    let image = image("amd64", &[noise(1, 3_000_000), noise(2, 10)]);
    let pushed = place.put(&Artifact::Image(image.clone()), &[tag("1"), tag("latest")]).unwrap();
    assert_eq!(place.find(&tag("latest")).unwrap().unwrap(), pushed);
    let Artifact::Image(pulled) = place.get(&Name::Digest(pushed.digest)).unwrap() else { panic!("an image") };
    assert_eq!(pulled.raw(), image.raw());
    assert_eq!(read(&place, &pulled.layers()[0].descriptor).unwrap(), noise(1, 3_000_000));
    place.put(&index(), &[tag("multi")]).unwrap();
    let multi = place.get(&tag("multi")).unwrap();
    assert!(multi.for_platform(&Platform::new("linux", "arm64")).is_ok());
    let mut tags = place.tags().unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "latest", "multi"]);
    let names: Vec<Name> = ["1", "none", "multi"].map(tag).to_vec();
    let found: Vec<bool> = place.find_all(&names).into_iter().map(|found| found.unwrap().is_some()).collect();
    assert_eq!(found, [true, false, true]);
}

#[test]
fn a_wrong_password_and_a_missing_authority_are_told_apart() {
    let test = "a_wrong_password_and_a_missing_authority_are_told_apart";
    let Some(mut registry) = Distribution::start(test, true) else { return };
    let client = client();
    let error = registry.place(&client, "aa", user("me", "hunter2-wrong")).tags().unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.to_string().contains("UNAUTHORIZED") && !error.to_string().contains("wrong"), "{error}");
    registry.ca = None;
    let error = registry.place(&client, "aa", user("me", "hunter2")).tags().unwrap_err();
    assert!(error.to_string().contains("certificate is not valid"), "{error}");
}

#[test]
fn blobs_are_mounted_and_manifests_deleted() {
    let Some(registry) = Distribution::start("blobs_are_mounted_and_manifests_deleted", false) else { return };
    let kept = Arc::new(Kept::default());
    let client = Client::new(settings(), kept.clone()).unwrap();
    let from = registry.place(&client, "from", Credentials::Anonymous);
    let pushed = from.put(&Artifact::Image(image("amd64", &[noise(1, 100_000)])), &[tag("1")]).unwrap();
    let into = registry.place(&client, "into", Credentials::Anonymous);
    into.put(&from.get(&tag("1")).unwrap(), &[tag("1")]).unwrap();
    assert_eq!(kept.lines().iter().filter(|line| *line == "finished mounted").count(), 2, "{:?}", kept.lines());
    into.delete(&Name::Digest(pushed.digest)).unwrap();
    assert!(into.find(&tag("1")).unwrap().is_none());
    assert!(from.find(&tag("1")).unwrap().is_some());
    let Err(error) = into.get(&tag("1")) else { panic!("it was deleted") };
    assert!(error.to_string().contains("MANIFEST_UNKNOWN: manifest unknown"), "{error}");
}

#[test]
fn long_lists_of_tags_are_paged() {
    let Some(registry) = Distribution::start("long_lists_of_tags_are_paged", false) else { return };
    let client = client();
    let place = registry.place(&client, "aa", Credentials::Anonymous);
    place.put(&Artifact::Image(image("amd64", &[])), &[tag("v0000")]).unwrap();
    // A thousand pushes take it half a minute; a tag is a directory with a link in it.
    let tags = registry.data.join("docker/registry/v2/repositories/aa/_manifests/tags");
    let link = std::fs::read(tags.join("v0000/current/link")).unwrap();
    let names: Vec<Name> = (0..1050).map(|number| tag(&format!("v{number:04}"))).collect();
    for name in &names[1..] {
        let current = tags.join(name.to_string()).join("current");
        std::fs::create_dir_all(&current).unwrap();
        std::fs::write(current.join("link"), &link).unwrap();
    }
    assert_eq!(place.tags().unwrap().len(), 1050);
    assert!(place.find_all(&names).into_iter().all(|found| found.unwrap().is_some()));
}
