//! Docker Content Trust: a tag and the digest it stands for, signed with the repository's key and published on a Notary
//! server (version 1), where `docker trust inspect` and `notary` find it.
//!
//! A repository of a Notary server is a set of signed documents of The Update Framework. We add to what is there: fetch and
//! verify root, timestamp, snapshot and targets, put the target into the document that our key may sign, and publish that
//! one; the server makes snapshot and timestamp, whose keys it holds. Where nothing is there yet, root and targets are made.

mod documents;
mod server;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use skycap_image::{Digest, Event, Kind, Progress, Repository, Secret, SourceError};

use crate::keys::{ENCRYPTED, Form, SigningKey, private_der};
use crate::{ClientCertificate, Credentials, Settings};
use documents::{Envelope, Key, Root, Signable, expires, key_id};
use server::Server;

/// Docker's own Notary server, for images on Docker Hub.
const DOCKERS_SERVER: &str = "https://notary.docker.io";
const DOCKER_HUB: &str = "docker.io";
/// Years that documents are good for, as `notary` has it.
const TARGETS_YEARS: i16 = 3;
const ROOT_YEARS: i16 = 10;

/// How to sign.
#[derive(Clone, Debug)]
pub struct ContentTrust {
    /// The Notary server's URL; without it Docker's for Docker Hub, else the registry's own host.
    pub server: Option<String>,
    /// The id of the key, as `docker trust key` shows it.
    pub key_id: String,
    /// The private key in PEM, as it lies in `~/.docker/trust/private`.
    pub key: Secret,
    /// What opens it.
    pub passphrase: Secret,
    /// Shown to the Notary server, should it ask who we are.
    pub client_certificate: Option<ClientCertificate>,
    /// The actions that a token is asked for: `push,pull`.
    pub actions: String,
    /// Who we are to the Notary server.
    pub credentials: Credentials,
}

/// A name and what it stands for.
#[derive(Clone, Debug)]
pub struct Target {
    /// A tag.
    pub name: String,
    /// The digest of the manifest that was pushed.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A key that has been opened: whatever is wrong with it has been said.
pub struct Signer {
    trust: ContentTrust,
    key: SigningKey,
}

impl ContentTrust {
    /// Opens the key. Asks nobody.
    pub fn open(self) -> Result<Signer, SourceError> {
        let failed = |error: SourceError| SourceError { what: format!("content_trust: {}", error.what), ..error };
        let der = private_der(&self.key, &self.passphrase, ENCRYPTED);
        let key = der.and_then(|der| SigningKey::from_pkcs8(&der, Form::Fixed)).map_err(failed)?;
        let found = key_id(&Key::of(&key));
        if found != self.key_id {
            let what = format!("content_trust: repository_key has the id {found}, not {}", self.key_id);
            return Err(SourceError::new(Kind::Denied, what));
        }
        Ok(Signer { trust: self, key })
    }
}

impl Signer {
    /// Publishes targets of a repository. `settings` are those of the registry; the Notary server's certificate is always
    /// verified.
    pub fn sign(
        &self,
        settings: &Settings,
        progress: &Arc<dyn Progress>,
        repository: &Repository,
        targets: &[Target],
    ) -> Result<(), SourceError> {
        let gun = gun(repository);
        let failed = |error: SourceError| SourceError { what: format!("cannot sign {gun}: {}", error.what), ..error };
        let server = Server::connect(&self.trust, settings, progress, repository, &gun).map_err(failed)?;
        let published = match server.get("root", None).map_err(failed)? {
            Some(root) => self.extend(&server, &root, targets),
            None => self.initialise(&server, targets, &**progress),
        };
        published.map_err(failed)
    }

    /// Adds to what is there.
    fn extend(&self, server: &Server, root: &[u8], targets: &[Target]) -> Result<(), SourceError> {
        let root = Root::trusted(root)?;
        let absent = |what: &str| SourceError::new(Kind::NotFound, format!("the server has no {what}"));
        let timestamp = server.get("timestamp", None)?.ok_or_else(|| absent("timestamp"))?;
        let timestamp = root.verified("timestamp", &timestamp)?;
        let fetch = |role: &str, index: &Value| -> Result<Option<Bytes>, SourceError> {
            let Some(digest) = documents::listed(index, role)? else { return Ok(None) };
            let bytes = server.get(role, Some(&digest))?.ok_or_else(|| absent(role))?;
            if Digest::sha256(&bytes) != digest {
                return Err(SourceError::new(
                    Kind::Corrupt,
                    format!("the server's {role} is not the one that is listed"),
                ));
            }
            Ok(Some(bytes))
        };
        let snapshot = fetch("snapshot", &timestamp)?.ok_or_else(|| absent("snapshot"))?;
        let snapshot = root.verified("snapshot", &snapshot)?;
        let current = fetch("targets", &snapshot)?.ok_or_else(|| absent("targets"))?;
        let current = root.verified("targets", &current)?;

        let mut changed = Vec::new();
        for role in self.roles(&root, &current, targets)? {
            let mut document = if role == "targets" {
                current.clone()
            } else {
                match fetch(&role, &snapshot)? {
                    Some(bytes) => documents::verified_delegation(&current, &role, &bytes)?,
                    None => documents::empty_targets(),
                }
            };
            if documents::add(&mut document, targets)? {
                documents::renew(&mut document, TARGETS_YEARS)?;
                changed.push((role, self.signed(document)?));
            }
        }
        if changed.is_empty() { Ok(()) } else { server.publish(&changed) }
    }

    /// The documents that our key signs: every delegation that takes these names, else the targets themselves.
    fn roles(&self, root: &Root, current: &Value, targets: &[Target]) -> Result<Vec<String>, SourceError> {
        let delegations = documents::delegations_of(current, &self.trust.key_id, targets);
        if !delegations.is_empty() {
            return Ok(delegations);
        }
        if root.signs("targets", &self.trust.key_id) {
            return Ok(vec!["targets".to_owned()]);
        }
        let what = format!("the key {} may sign neither the targets nor a delegation of them", self.trust.key_id);
        Err(SourceError::new(Kind::Denied, what))
    }

    /// Makes a repository. Its root key is needed for nothing but to change keys, and is kept nowhere.
    fn initialise(&self, server: &Server, targets: &[Target], progress: &dyn Progress) -> Result<(), SourceError> {
        let (root_key, root_public) = documents::root_key(server.gun())?;
        let warning = format!(
            "{} had no trust data: a root key was made for it and is kept nowhere; to own the root, run `notary init` yourself before the first put",
            server.gun()
        );
        let own = Key::of(&self.key);
        let keys = [
            ("root", root_public),
            ("targets", own),
            ("snapshot", server.key("snapshot")?),
            ("timestamp", server.key("timestamp")?),
        ];
        let mut listed = Map::new();
        let mut roles = Map::new();
        for (role, key) in &keys {
            let id = key_id(key);
            listed.insert(id.clone(), key.to_json());
            roles.insert((*role).to_owned(), json!({"keyids": [id], "threshold": 1}));
        }
        let root = json!({
            "_type": "Root", "consistent_snapshot": false, "expires": expires(ROOT_YEARS)?,
            "keys": listed, "roles": roles, "version": 1,
        });
        let [(_, root_public), ..] = &keys;
        let root = Envelope::sign(root, &key_id(root_public), &root_key)?;
        let mut document = documents::empty_targets();
        documents::add(&mut document, targets)?;
        documents::renew(&mut document, TARGETS_YEARS)?;
        server.publish(&[("root".to_owned(), root), ("targets".to_owned(), self.signed(document)?)])?;
        progress.event(Event::Warning(&warning));
        Ok(())
    }

    fn signed(&self, document: Value) -> Result<Vec<u8>, SourceError> {
        Envelope::sign(document, &self.trust.key_id, &self.key)
    }
}

impl Signable for Target {
    fn name(&self) -> &str {
        &self.name
    }

    fn entry(&self) -> Value {
        json!({"hashes": {"sha256": STANDARD.encode(self.digest.as_bytes())}, "length": self.size})
    }
}

/// What a repository is called on a Notary server.
fn gun(repository: &Repository) -> String {
    let registry = if repository.is_docker_hub() { DOCKER_HUB } else { repository.registry() };
    format!("{registry}/{}", repository.path())
}

/// The server for a repository whose user names none.
fn default_server(repository: &Repository) -> String {
    if repository.is_docker_hub() { DOCKERS_SERVER.to_owned() } else { format!("https://{}", repository.registry()) }
}
