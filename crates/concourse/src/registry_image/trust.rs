//! Signatures: `content_trust` (a put signs on a Notary server) and `cosign` (a put signs, a get refuses what is unsigned).
//!
//! Keys are opened before anything is pushed, and nothing of them is ever written to a disk. A put whose signing was asked
//! for and failed has failed.

use std::sync::Arc;

use skycap_image::{Descriptor, Event, Progress, Secret};
use skycap_registry::cosign::{self, PrivateKey, PublicKey};
use skycap_registry::notary::{ContentTrust, Signer, Target};
use skycap_registry::{ClientCertificate, Credentials, Place, Settings};

use super::source::secret;
use crate::Failure;
use crate::protocol::{DecodeError, Value};

/// What helps with a key that cannot be used.
const KEY: &str = "a key is PEM text, with its -----BEGIN line and all line feeds; its password must fit";
/// The actions that a Notary server is asked for.
const SCOPES: &str = "push,pull";

/// `content_trust`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContentTrustSource {
    server: String,
    repository_key_id: String,
    repository_key: Secret,
    repository_passphrase: Secret,
    tls_key: Secret,
    tls_cert: String,
    scopes: String,
    username: String,
    password: Secret,
}

/// `cosign`.
#[derive(Clone, Debug, Default)]
pub(crate) struct CosignSource {
    public_key: String,
    private_key: Secret,
    password: Secret,
}

impl ContentTrustSource {
    /// Reads the object; `null` says nothing.
    pub(crate) fn decode(value: &Value<'_>, target: &mut Option<Self>) -> Result<(), DecodeError> {
        if value.is_null() {
            return Ok(());
        }
        let trust = target.get_or_insert_default();
        value.object_of("resource.ContentTrust", |key, value| match key {
            "server" => value.string(&mut trust.server),
            "repository_key_id" => value.string(&mut trust.repository_key_id),
            "repository_key" => secret(value, &mut trust.repository_key),
            "repository_passphrase" => secret(value, &mut trust.repository_passphrase),
            "tls_key" => secret(value, &mut trust.tls_key),
            "tls_cert" => value.string(&mut trust.tls_cert),
            "scopes" => value.string(&mut trust.scopes),
            "username" => value.string(&mut trust.username),
            "password" => secret(value, &mut trust.password),
            _ => Err(value.unknown()),
        })
    }

    /// Opens the key. `registry` is who we are to the registry, and to the Notary server unless it has users of its own.
    fn open(&self, registry: Credentials) -> Result<Signer, Failure> {
        let has_user = !self.username.is_empty() || !self.password.is_empty();
        let credentials = if has_user {
            Credentials::Basic { username: self.username.clone(), password: self.password.clone() }
        } else {
            registry
        };
        let certificate = match (self.tls_cert.is_empty(), self.tls_key.is_empty()) {
            (true, true) => None,
            (false, false) => Some(ClientCertificate { certificate: self.tls_cert.clone(), key: self.tls_key.clone() }),
            _ => return Err(Failure::new("content_trust: tls_cert and tls_key only work together")),
        };
        let trust = ContentTrust {
            server: (!self.server.is_empty()).then(|| self.server.clone()),
            key_id: self.repository_key_id.clone(),
            key: self.repository_key.clone(),
            passphrase: self.repository_passphrase.clone(),
            client_certificate: certificate,
            actions: if self.scopes.is_empty() { SCOPES.to_owned() } else { self.scopes.clone() },
            credentials,
        };
        trust.open().map_err(|error| Failure::from(error).with_hint(KEY))
    }
}

impl CosignSource {
    /// Reads the object; `null` says nothing.
    pub(crate) fn decode(value: &Value<'_>, target: &mut Option<Self>) -> Result<(), DecodeError> {
        if value.is_null() {
            return Ok(());
        }
        let cosign = target.get_or_insert_default();
        value.object(|key, value| match key {
            "public_key" => value.string(&mut cosign.public_key),
            "private_key" => secret(value, &mut cosign.private_key),
            "password" => secret(value, &mut cosign.password),
            _ => Err(value.unknown()),
        })
    }

    /// The key that a get verifies with, if there is one.
    pub(super) fn verifier(&self) -> Result<Option<PublicKey>, Failure> {
        if self.public_key.is_empty() {
            return Ok(None);
        }
        let key = PublicKey::parse(&self.public_key);
        key.map(Some).map_err(|error| Failure::from(error).with_hint(KEY).during("cosign.public_key"))
    }

    /// Whether a put signs and whether a get verifies.
    pub(super) fn does(&self) -> (bool, bool) {
        (!self.private_key.is_empty(), !self.public_key.is_empty())
    }

    fn signer(&self) -> Result<Option<PrivateKey>, Failure> {
        if self.private_key.is_empty() {
            return Ok(None);
        }
        let key = PrivateKey::open(&self.private_key, &self.password);
        key.map(Some).map_err(|error| Failure::from(error).with_hint(KEY).during("cosign.private_key"))
    }
}

/// What a put signs with.
pub(super) struct Signers {
    notary: Option<Signer>,
    cosign: Option<PrivateKey>,
}

impl Signers {
    /// Opens the keys. `registry` is who we are to the registry.
    pub(super) fn open(
        content_trust: Option<&ContentTrustSource>,
        cosign: Option<&CosignSource>,
        registry: &Credentials,
    ) -> Result<Self, Failure> {
        Ok(Self {
            notary: content_trust.map(|trust| trust.open(registry.clone())).transpose()?,
            cosign: cosign.map(CosignSource::signer).transpose()?.flatten(),
        })
    }

    /// Signs what was pushed under these tags: the very digest that a version names.
    pub(super) fn sign(
        &self,
        place: &Place,
        pushed: &Descriptor,
        tags: &[String],
        settings: &Settings,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), Failure> {
        if let Some(key) = &self.cosign {
            cosign::sign(place, pushed, key).map_err(|error| Failure::from(error).during("signing image failed"))?;
            progress.event(Event::Note(&format!("signed {} with cosign's key", pushed.digest)));
        }
        if let Some(signer) = &self.notary {
            let target = |tag: &String| Target { name: tag.clone(), digest: pushed.digest, size: pushed.size };
            let targets: Vec<Target> = tags.iter().map(target).collect();
            let signed = signer.sign(settings, progress, place.repository(), &targets);
            signed.map_err(|error| Failure::from(error).during("signing image failed"))?;
            progress.event(Event::Note(&format!("signed tag(s) {}", tags.join(", "))));
        }
        Ok(())
    }
}
