//! Keys as `cosign generate-key-pair` writes them: the private one in a box that a password opens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::Deserialize;
use skycap_image::{Secret, SourceError};

use crate::keys::{Form, SigningKey, is_known, is_signed, pem, private_der, unusable};

const BOXED: &[&str] = &["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// Deriving a key may cost this much: 256 MiB are more than cosign ever asked for.
const COSTLIEST: u64 = 256 * 1024 * 1024;
const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

/// A key that signs.
pub struct PrivateKey(SigningKey);

/// A key that verifies.
#[derive(Clone, Debug)]
pub struct PublicKey(Vec<u8>);

#[derive(Deserialize)]
struct Boxed {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Derivation {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Deserialize)]
struct Cost {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl PrivateKey {
    /// Opens `cosign.key` with its password. A key in PKCS #8 (encrypted or not) is taken as well.
    pub fn open(text: &Secret, password: &Secret) -> Result<Self, SourceError> {
        let is_boxed = BOXED.iter().any(|label| text.reveal().contains(&format!("-----BEGIN {label}-----")));
        let der = if is_boxed {
            opened(&pem(text.reveal(), BOXED)?, password)?
        } else {
            private_der(text, password, BOXED[0])?
        };
        Ok(Self(SigningKey::from_pkcs8(&der, Form::Asn1)?))
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SourceError> {
        self.0.sign(message)
    }
}

impl PublicKey {
    /// Reads `cosign.pub`: a key on P-256 or P-384, or Ed25519, in PEM.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let der = pem(text, &["PUBLIC KEY"])?;
        if is_known(&der) { Ok(Self(der)) } else { Err(unusable("it is neither on P-256, P-384 nor Ed25519")) }
    }

    pub(super) fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        is_signed(&self.0, Form::Asn1, message, signature)
    }
}

/// Opens the box: scrypt makes a key of the password, which opens a secretbox of `NaCl`.
fn opened(document: &[u8], password: &Secret) -> Result<Vec<u8>, SourceError> {
    let boxed: Boxed =
        serde_json::from_slice(document).map_err(|_| unusable("what is in the PEM is not cosign's document"))?;
    if boxed.kdf.name != "scrypt" || boxed.cipher.name != "nacl/secretbox" {
        return Err(unusable(&format!("it is protected by {} and {}", boxed.kdf.name, boxed.cipher.name)));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| unusable("a part of it is not base64"));
    let (salt, nonce, ciphertext) =
        (decode(&boxed.kdf.salt)?, decode(&boxed.cipher.nonce)?, decode(&boxed.ciphertext)?);
    let Cost { n, r, p } = boxed.kdf.params;
    let is_sane =
        n.is_power_of_two() && n.checked_mul(128 * u64::from(r)).is_some_and(|cost| cost <= COSTLIEST) && p <= 16;
    let exponent = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
    let params = scrypt::Params::new(exponent, r, p).ok().filter(|_| is_sane);
    let params = params.ok_or_else(|| unusable("deriving its key would cost too much"))?;
    let mut key = [0; KEY];
    scrypt::scrypt(password.reveal().as_bytes(), &salt, &params, &mut key)
        .map_err(|_| unusable("its key cannot be derived"))?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| unusable("its nonce has the wrong length"))?;
    open_box(&key, &nonce, &ciphertext).ok_or_else(|| unusable("the password does not open it"))
}

/// A secretbox: `XSalsa20`, whose first 32 bytes are the key of the Poly1305 that stands in front.
fn open_box(key: &[u8; KEY], nonce: &[u8; NONCE], sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, ciphertext) = sealed.split_at_checked(TAG)?;
    let mut cipher = XSalsa20::new(key.into(), nonce.into());
    let mut authentication = [0; KEY];
    cipher.apply_keystream(&mut authentication);
    let expected = Poly1305::new((&authentication).into()).compute_unpadded(ciphertext);
    // Compared without telling by the time it takes where they differ.
    let difference = expected.iter().zip(tag).fold(0, |difference, (a, b)| difference | (a ^ b));
    if difference != 0 {
        return None;
    }
    let mut plain = ciphertext.to_vec();
    cipher.apply_keystream(&mut plain);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the box is libsodium's is shown by the key pairs in `testdata/cosign`, which libsodium sealed.
    #[test]
    fn a_box_that_was_changed_or_cut_does_not_open() {
        let (key, nonce) = (&[1; KEY], &[2; NONCE]);
        let mut plain = vec![0; 64];
        let mut cipher = XSalsa20::new(key.into(), nonce.into());
        let mut authentication = [0; KEY];
        cipher.apply_keystream(&mut authentication);
        cipher.apply_keystream(&mut plain);
        let tag = Poly1305::new((&authentication).into()).compute_unpadded(&plain);
        let sealed = [tag.as_slice(), &plain].concat();
        assert_eq!(open_box(key, nonce, &sealed).unwrap(), [0; 64]);
        for at in [0, 15, 16, 79] {
            let mut wrong = sealed.clone();
            wrong[at] ^= 1;
            assert_eq!(open_box(key, nonce, &wrong), None);
        }
        assert_eq!(open_box(key, nonce, &sealed[..15]), None);
    }
}
