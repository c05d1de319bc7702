//! Keys that sign and keys that verify, in the forms in which people have them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};
use skycap_image::{Kind, Secret, SourceError};

/// What stands before a point of P-256 in a public key in DER (RFC 5480).
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The same for P-384.
const P384: &[u8] = b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00";
/// The same for Ed25519 (RFC 8410).
pub(crate) const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// How PEM calls a private key that a passphrase protects.
pub(crate) const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// How ECDSA writes a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Two numbers of a fixed size, one after the other: what TUF has.
    Fixed,
    /// A sequence in DER: what everybody else has.
    Asn1,
}

/// A private key on P-256.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pair: Arc<EcdsaKeyPair>,
}

impl SigningKey {
    /// Reads a key in PKCS #8.
    pub fn from_pkcs8(der: &[u8], form: Form) -> Result<Self, SourceError> {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm(form), &of_version_0(der), &SystemRandom::new());
        let pair = pair.map_err(|_| unusable("it is not an ECDSA key on the curve P-256 with its public half"))?;
        Ok(Self { pair: Arc::new(pair) })
    }

    /// Makes a key; the second value is its PKCS #8.
    pub fn generate(form: Form) -> Result<(Self, Pkcs8), SourceError> {
        let failed = |_| SourceError::new(Kind::Other, "cannot make a key");
        let document = EcdsaKeyPair::generate_pkcs8(algorithm(form), &SystemRandom::new()).map_err(failed)?;
        Ok((Self::from_pkcs8(document.as_ref(), form)?, Pkcs8(document.as_ref().to_vec())))
    }

    /// The public key in DER.
    pub fn public(&self) -> Vec<u8> {
        [P256, self.pair.public_key().as_ref()].concat()
    }

    /// Signs the SHA-256 of a message.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SourceError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| SourceError::new(Kind::Other, "cannot sign"))
    }
}

/// Notary says version 1 and leaves out what that version adds; without that it is a sound key of version 0.
fn of_version_0(der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    let length_of_header = if der.get(1) == Some(&0x81) { 3 } else { 2 };
    if let Some([0x02, 0x01, version @ 0x01]) = der.get_mut(length_of_header..length_of_header + 3) {
        *version = 0;
    }
    der
}

/// A private key in DER, for whoever wraps it further. It has no way to be shown.
pub(crate) struct Pkcs8(pub Vec<u8>);

fn algorithm(form: Form) -> &'static EcdsaSigningAlgorithm {
    match form {
        Form::Fixed => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Form::Asn1 => &ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}

/// Whether a public key in DER made this signature. A key of a kind that is not known made none.
pub(crate) fn is_signed(public: &[u8], form: Form, message: &[u8], signature: &[u8]) -> bool {
    let check = |algorithm: &'static dyn VerificationAlgorithm, point: &[u8]| {
        UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
    };
    if let Some(point) = public.strip_prefix(P256) {
        match form {
            Form::Fixed => check(&signature::ECDSA_P256_SHA256_FIXED, point),
            Form::Asn1 => check(&signature::ECDSA_P256_SHA256_ASN1, point),
        }
    } else if let Some(point) = public.strip_prefix(P384) {
        form == Form::Asn1 && check(&signature::ECDSA_P384_SHA384_ASN1, point)
    } else if let Some(point) = public.strip_prefix(ED25519) {
        check(&signature::ED25519, point)
    } else {
        false
    }
}

/// Whether [`is_signed`] can ever say yes for this key.
pub(crate) fn is_known(public: &[u8]) -> bool {
    [P256, P384, ED25519].iter().any(|prefix| public.starts_with(prefix))
}

/// The body of a PEM text with one of these labels. Headers (`role: targets`) are allowed.
pub(crate) fn pem(text: &str, labels: &[&str]) -> Result<Vec<u8>, SourceError> {
    let wrong = |why: String| unusable(&format!("it is no PEM text: {why}"));
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(|| wrong("there is no -----BEGIN".to_owned()))?;
    let (label, rest) = rest.split_once("-----").ok_or_else(|| wrong("the first line has no end".to_owned()))?;
    if !labels.contains(&label) {
        return Err(unusable(&format!("it is a {label}, expected {}", labels.join(" or "))));
    }
    let (body, _) =
        rest.split_once(&format!("-----END {label}-----")).ok_or_else(|| wrong("it has no end".to_owned()))?;
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(':'));
    let base64: String = lines.collect();
    STANDARD.decode(base64).map_err(|_| wrong("its body is not base64".to_owned()))
}

/// The PKCS #8 of a private key in PEM, which a passphrase may protect. `also` is what an error names beside a plain key.
pub(crate) fn private_der(text: &Secret, passphrase: &Secret, also: &str) -> Result<Vec<u8>, SourceError> {
    let text = text.reveal();
    if text.contains(&format!("-----BEGIN {ENCRYPTED}-----")) {
        return decrypted(&pem(text, &[ENCRYPTED])?, passphrase);
    }
    pem(text, &["PRIVATE KEY", also])
}

fn decrypted(der: &[u8], passphrase: &Secret) -> Result<Vec<u8>, SourceError> {
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unusable("it is not an encrypted PKCS #8 key"))?;
    let document = info.decrypt(passphrase.reveal()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(_) => unusable("the passphrase does not open it"),
        error => unusable(&format!("it cannot be opened: {error}")),
    })?;
    Ok(document.as_bytes().to_vec())
}

/// A key that cannot be used. Nothing of it is shown.
pub(crate) fn unusable(why: &str) -> SourceError {
    SourceError::new(Kind::Denied, format!("the key cannot be used: {why}"))
}
