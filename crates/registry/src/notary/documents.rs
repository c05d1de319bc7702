//! The documents of The Update Framework as Notary writes them.
//!
//! What is signed is canonical JSON: keys sorted, no white space. A key's id is the SHA-256 of its own canonical JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use skycap_image::{Digest, Kind, SourceError};

use crate::keys::{ED25519, Form, SigningKey, is_signed, pem};

/// Something that has a place among targets.
pub(super) trait Signable {
    /// Its name.
    fn name(&self) -> &str;
    /// What the documents say about it.
    fn entry(&self) -> Value;
}

/// A document and who signed it. The signed part is kept as it was sent.
#[derive(Deserialize)]
pub(super) struct Envelope {
    signed: Box<RawValue>,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
    method: String,
    sig: String,
}

impl Envelope {
    fn read(role: &str, bytes: &[u8]) -> Result<Self, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| unreadable(role, error))
    }

    /// A document with our signature.
    pub fn sign(document: Value, key_id: &str, key: &SigningKey) -> Result<Vec<u8>, SourceError> {
        let signed = canonical(document);
        let signature = STANDARD.encode(key.sign(signed.as_bytes())?);
        let signatures = json!([{"keyid": key_id, "method": "ecdsa", "sig": signature}]);
        Ok(format!("{{\"signed\":{signed},\"signatures\":{signatures}}}").into_bytes())
    }

    /// The document, if enough of a role's keys signed it and it has not expired.
    fn verified(&self, role: &str, keys: &BTreeMap<String, Key>, rule: &Role) -> Result<Value, SourceError> {
        let message = self.signed.get().as_bytes();
        let is_good = |signature: &&Signature| {
            let key = keys.get(&signature.keyid).filter(|_| rule.keyids.contains(&signature.keyid));
            let bytes = STANDARD.decode(&signature.sig);
            key.zip(bytes.ok()).is_some_and(|(key, bytes)| key.made(&signature.method, message, &bytes))
        };
        let signers: BTreeSet<&str> =
            self.signatures.iter().filter(is_good).map(|signature| &*signature.keyid).collect();
        if signers.len() < rule.threshold.max(1) {
            return Err(SourceError::new(
                Kind::Corrupt,
                format!("the {role} document is not signed by whom the root names"),
            ));
        }
        let document: Value = serde_json::from_str(self.signed.get()).map_err(|error| unreadable(role, error))?;
        let kind = if role.starts_with("targets/") { "targets" } else { role };
        if !document["_type"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(kind)) {
            return Err(SourceError::new(Kind::Corrupt, format!("the {role} document is of another type")));
        }
        let until = document["expires"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        if until.is_none_or(|until| until < Timestamp::now()) {
            return Err(SourceError::new(Kind::Corrupt, format!("the {role} document has expired")));
        }
        Ok(document)
    }
}

fn unreadable(what: &str, error: serde_json::Error) -> SourceError {
    SourceError::caused(Kind::Corrupt, format!("the {what} document cannot be read"), error)
}

/// Canonical JSON.
fn canonical(value: Value) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let ordered: BTreeMap<String, Value> =
                    map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                Value::Object(ordered.into_iter().collect())
            }
            Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    sorted(value).to_string()
}

/// A public key.
#[derive(Clone, Deserialize)]
pub(super) struct Key {
    keytype: String,
    keyval: KeyValue,
}

#[derive(Clone, Deserialize)]
struct KeyValue {
    public: String,
}

impl Key {
    /// Our own.
    pub fn of(key: &SigningKey) -> Self {
        Self { keytype: "ecdsa".to_owned(), keyval: KeyValue { public: STANDARD.encode(key.public()) } }
    }

    pub fn read(bytes: &[u8]) -> Result<Self, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| unreadable("key", error))
    }

    pub fn to_json(&self) -> Value {
        json!({"keytype": self.keytype, "keyval": {"private": null, "public": self.keyval.public}})
    }

    /// Whether the owner of this key made the signature.
    fn made(&self, method: &str, message: &[u8], signature: &[u8]) -> bool {
        let Ok(bytes) = STANDARD.decode(&self.keyval.public) else { return false };
        let public = match (&*self.keytype, method) {
            ("ecdsa", "ecdsa") => Some(bytes),
            ("ecdsa-x509", "ecdsa") => of_certificate(&bytes),
            // Without anything around its 32 bytes.
            ("ed25519", "eddsa") => Some([ED25519, &bytes].concat()),
            _ => None,
        };
        public.is_some_and(|public| is_signed(&public, Form::Fixed, message, signature))
    }
}

/// The public key of a certificate in PEM.
fn of_certificate(text: &[u8]) -> Option<Vec<u8>> {
    let der = CertificateDer::from(pem(std::str::from_utf8(text).ok()?, &["CERTIFICATE"]).ok()?);
    let certificate = webpki::EndEntityCert::try_from(&der).ok()?;
    Some(certificate.subject_public_key_info().to_vec())
}

/// A key's id.
pub(super) fn key_id(key: &Key) -> String {
    Digest::sha256(canonical(key.to_json()).as_bytes()).hex()
}

#[derive(Deserialize)]
struct Role {
    keyids: Vec<String>,
    threshold: usize,
}

/// The root: which keys sign which documents.
#[derive(Deserialize)]
pub(super) struct Root {
    keys: BTreeMap<String, Key>,
    roles: BTreeMap<String, Role>,
}

impl Root {
    /// Reads a root that signs itself. It is trusted because the server gave it, as `docker push` does the first time.
    pub fn trusted(bytes: &[u8]) -> Result<Self, SourceError> {
        let envelope = Envelope::read("root", bytes)?;
        let root: Self = serde_json::from_str(envelope.signed.get()).map_err(|error| unreadable("root", error))?;
        envelope.verified("root", &root.keys, root.rule("root")?)?;
        Ok(root)
    }

    /// A document of a role, verified.
    pub fn verified(&self, role: &str, bytes: &[u8]) -> Result<Value, SourceError> {
        Envelope::read(role, bytes)?.verified(role, &self.keys, self.rule(role)?)
    }

    /// Whether a key may sign for a role.
    pub fn signs(&self, role: &str, key: &str) -> bool {
        self.roles.get(role).is_some_and(|rule| rule.keyids.iter().any(|id| id == key))
    }

    fn rule(&self, role: &str) -> Result<&Role, SourceError> {
        let missing = || SourceError::new(Kind::Corrupt, format!("the root names no keys for the role {role}"));
        self.roles.get(role).ok_or_else(missing)
    }
}

/// The digest of a role's document, as a snapshot or timestamp lists it.
pub(super) fn listed(index: &Value, role: &str) -> Result<Option<Digest>, SourceError> {
    let Some(entry) = index["meta"].get(role) else { return Ok(None) };
    let hash = entry["hashes"]["sha256"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let digest = hash.filter(|bytes| bytes.len() == 32).and_then(|bytes| {
        let start = "sha256:".to_owned();
        let text = bytes.iter().try_fold(start, |mut text, byte| write!(text, "{byte:02x}").map(|()| text));
        text.ok()?.parse().ok()
    });
    digest
        .map(Some)
        .ok_or_else(|| SourceError::new(Kind::Corrupt, format!("the digest of the {role} document is not one")))
}

/// A delegation of the targets.
#[derive(Deserialize)]
struct Delegation {
    name: String,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(flatten)]
    rule: Role,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delegations {
    keys: BTreeMap<String, Key>,
    roles: Vec<Delegation>,
}

fn delegations(targets: &Value) -> Delegations {
    serde_json::from_value(targets["delegations"].clone()).unwrap_or_default()
}

/// The delegations that a key signs alone and that take all of these names.
pub(super) fn delegations_of(targets: &Value, key: &str, wanted: &[impl Signable]) -> Vec<String> {
    let takes = |role: &Delegation| {
        let all = |target: &dyn Signable| role.paths.iter().any(|path| target.name().starts_with(path.as_str()));
        role.rule.threshold <= 1
            && role.rule.keyids.iter().any(|id| id == key)
            && wanted.iter().all(|target| all(target))
    };
    delegations(targets).roles.into_iter().filter(takes).map(|role| role.name).collect()
}

/// A delegation's document, verified with the keys that the targets name.
pub(super) fn verified_delegation(targets: &Value, role: &str, bytes: &[u8]) -> Result<Value, SourceError> {
    let Delegations { keys, roles } = delegations(targets);
    let found = roles.iter().find(|delegation| delegation.name == role);
    let found = found.ok_or_else(|| SourceError::new(Kind::Corrupt, format!("there is no delegation {role}")))?;
    Envelope::read(role, bytes)?.verified(role, &keys, &found.rule)
}

/// Targets, none so far.
pub(super) fn empty_targets() -> Value {
    json!({"_type": "Targets", "delegations": {"keys": {}, "roles": []}, "expires": "", "targets": {}, "version": 0})
}

/// Puts targets into a document; whether that changes anything.
pub(super) fn add(document: &mut Value, targets: &[impl Signable]) -> Result<bool, SourceError> {
    let broken = || SourceError::new(Kind::Corrupt, "the targets document has no targets");
    let listed = document.get_mut("targets").and_then(Value::as_object_mut).ok_or_else(broken)?;
    let mut changes = false;
    for target in targets {
        let entry = target.entry();
        let same = listed.get(target.name()).is_some_and(|old| is_same(old, &entry));
        if !same {
            listed.insert(target.name().to_owned(), entry);
            changes = true;
        }
    }
    Ok(changes)
}

/// An older entry may hold more hashes, and data of its owner's.
fn is_same(old: &Value, new: &Value) -> bool {
    old["hashes"]["sha256"] == new["hashes"]["sha256"] && old["length"] == new["length"]
}

/// The next version, with time before it.
pub(super) fn renew(document: &mut Value, years: i16) -> Result<(), SourceError> {
    let broken = || SourceError::new(Kind::Corrupt, "the targets document has no version");
    let version = document["version"].as_u64().ok_or_else(broken)?;
    let fields: &mut Map<String, Value> = document.as_object_mut().ok_or_else(broken)?;
    fields.insert("version".to_owned(), json!(version + 1));
    fields.insert("expires".to_owned(), json!(expires(years)?));
    Ok(())
}

/// So many years from now.
pub(super) fn expires(years: i16) -> Result<String, SourceError> {
    let until = Zoned::new(Timestamp::now(), TimeZone::UTC).checked_add(years.years());
    let until = until.map_err(|error| SourceError::caused(Kind::Other, "the clock is too far ahead", error))?;
    Ok(until.timestamp().to_string())
}

/// A new root key, and the certificate that makes it the root of this repository.
pub(super) fn root_key(gun: &str) -> Result<(SigningKey, Key), SourceError> {
    fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> SourceError {
        SourceError::caused(Kind::Other, "cannot make a root certificate", error)
    }
    let (key, der) = SigningKey::generate(Form::Fixed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, gun);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let now = Timestamp::now().as_second();
    let years = i64::from(super::ROOT_YEARS) * 365 * 24 * 3600;
    let time = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds);
    params.not_before = time(now).map_err(failed)?;
    params.not_after = time(now + years).map_err(failed)?;
    let pair = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.0)).map_err(failed)?;
    let certificate = params.self_signed(&pair).map_err(failed)?;
    let public = STANDARD.encode(certificate.pem().replace("\r\n", "\n"));
    Ok((key, Key { keytype: "ecdsa-x509".to_owned(), keyval: KeyValue { public } }))
}
