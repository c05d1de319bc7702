//! Private keys that sign. The cryptography is that of *ring*, which the registry client uses too; here are only the forms
//! that keys and signatures have in SSH.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair};

use super::wire::{put, put_natural, without_zeros};
use super::{openssh, pem};

/// A private key that can sign; it never prints.
pub struct PrivateKey {
    /// The public half, as SSH writes it.
    public: Vec<u8>,
    /// What stands beside it in its file.
    comment: String,
    signer: Signer,
}

enum Signer {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
}

/// The curves of ECDSA that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Curve {
    P256,
    P384,
}

/// Why a file gives no key. Nothing of the file's content is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none of the known forms.
    #[error("this is no private key in the form of OpenSSH, PKCS#1, PKCS#8 or SEC 1")]
    Unknown,
    /// It needs a passphrase.
    #[error("the private key is protected by a passphrase")]
    Encrypted,
    /// It is of a kind that cannot be used.
    #[error("keys of the kind {0} cannot be used")]
    Kind(String),
    /// It is damaged, or too weak.
    #[error("the private key is not accepted: {0}")]
    Rejected(String),
}

impl KeyError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Rejected(_) => None,
            Self::Encrypted => {
                Some("add the key to an agent (ssh-add) and name the agent's socket, or use a key without one")
            }
            Self::Kind(_) => {
                Some("use a key of the kind ed25519, ecdsa with nistp256 or nistp384, or rsa with 2048 to 4096 bits")
            }
        }
    }
}

/// The flags of a request to sign that ask an RSA key for a hash function.
pub(super) const RSA_SHA2_256: u32 = 2;
pub(super) const RSA_SHA2_512: u32 = 4;

/// The numbers of an RSA key as OpenSSH keeps them, the highest digit first.
pub(super) struct RsaNumbers<'n> {
    pub n: &'n [u8],
    pub e: &'n [u8],
    pub d: &'n [u8],
    pub inverse: &'n [u8],
    pub p: &'n [u8],
    pub q: &'n [u8],
}

impl PrivateKey {
    /// Reads a file of OpenSSH's form or a PEM file.
    pub fn parse(file: &[u8]) -> Result<Self, KeyError> {
        let block = pem::read(file)?;
        if block.label == openssh::LABEL { openssh::parse(&block.content) } else { pem::parse(&block) }
    }

    pub(super) fn ed25519(seed: &[u8], comment: String) -> Result<Self, KeyError> {
        Ok(Self::of_ed25519(Ed25519KeyPair::from_seed_unchecked(seed).map_err(rejected)?, comment))
    }

    pub(super) fn of_ed25519(pair: Ed25519KeyPair, comment: String) -> Self {
        let mut public = Vec::new();
        put(&mut public, b"ssh-ed25519");
        put(&mut public, pair.public_key().as_ref());
        Self { public, comment, signer: Signer::Ed25519(pair) }
    }

    pub(super) fn rsa(numbers: &RsaNumbers<'_>, comment: String) -> Result<Self, KeyError> {
        let RsaNumbers { n, e, d, inverse, p, q } = *numbers;
        let (d_p, d_q) = (remainder(d, &less_one(p)), remainder(d, &less_one(q)));
        let public_key = PublicKeyComponents { n, e };
        let all =
            KeyPairComponents { public_key, d, p, q, dP: without_zeros(&d_p), dQ: without_zeros(&d_q), qInv: inverse };
        Ok(Self::of_rsa(RsaKeyPair::from_components(&all).map_err(rejected)?, comment))
    }

    pub(super) fn of_rsa(pair: RsaKeyPair, comment: String) -> Self {
        let numbers: PublicKeyComponents<Vec<u8>> = pair.public().into();
        let mut public = Vec::new();
        put(&mut public, b"ssh-rsa");
        put_natural(&mut public, &numbers.e);
        put_natural(&mut public, &numbers.n);
        Self { public, comment, signer: Signer::Rsa(pair) }
    }

    pub(super) fn ecdsa(curve: Curve, scalar: &[u8], point: &[u8], comment: String) -> Result<Self, KeyError> {
        let mut padded = vec![0; curve.size().saturating_sub(scalar.len())];
        padded.extend_from_slice(scalar);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &padded, point, &SystemRandom::new());
        Ok(Self::of_ecdsa(curve, pair.map_err(rejected)?, comment))
    }

    pub(super) fn of_ecdsa(curve: Curve, pair: EcdsaKeyPair, comment: String) -> Self {
        let mut public = Vec::new();
        put(&mut public, curve.kind().as_bytes());
        put(&mut public, curve.name().as_bytes());
        put(&mut public, pair.public_key().as_ref());
        Self { public, comment, signer: Signer::Ecdsa(curve, pair) }
    }

    /// The public half, as SSH writes it.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// What stands beside the key in its file.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// A signature as SSH writes it. Nothing if the key cannot do what `flags` ask for: SHA-1 is not offered.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (kind, value) = match &self.signer {
            Signer::Ed25519(pair) => ("ssh-ed25519", pair.sign(data).as_ref().to_vec()),
            Signer::Rsa(pair) => {
                let (kind, encoding): (_, &dyn signature::RsaEncoding) = match flags {
                    _ if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &signature::RSA_PKCS1_SHA512),
                    _ if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &signature::RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut value = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, data, &mut value).ok()?;
                (kind, value)
            }
            Signer::Ecdsa(curve, pair) => {
                let signed = pair.sign(&random, data).ok()?;
                let (r, s) = signed.as_ref().split_at_checked(curve.size())?;
                let mut value = Vec::new();
                put_natural(&mut value, r);
                put_natural(&mut value, s);
                (curve.kind(), value)
            }
        };
        let mut signed = Vec::new();
        put(&mut signed, kind.as_bytes());
        put(&mut signed, &value);
        Some(signed)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, ***)", self.comment)
    }
}

impl Curve {
    /// Its name in SSH.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
        }
    }

    /// The kind of its keys in SSH.
    pub fn kind(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
        }
    }

    /// How signatures with it are made, each with the hash function of its size.
    pub fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    /// The bytes of its numbers.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn rejected(why: ring::error::KeyRejected) -> KeyError {
    KeyError::Rejected(why.to_string())
}

/// An odd number less one.
fn less_one(odd: &[u8]) -> Vec<u8> {
    let mut even = odd.to_vec();
    if let Some(last) = even.last_mut() {
        *last &= 0xfe;
    }
    even
}

/// What is left of `number` when it is divided by `by`, digit by binary digit; both have their highest byte first.
fn remainder(number: &[u8], by: &[u8]) -> Vec<u8> {
    let by = without_zeros(by);
    // One byte more, for the digit that doubling brings.
    let mut left = vec![0_u8; by.len() + 1];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        let mut carry = bit;
        for byte in left.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if by.is_empty() || (left[0] == 0 && &left[1..] < by) {
            continue;
        }
        let mut borrow = false;
        for (byte, less) in left.iter_mut().rev().zip(by.iter().rev().chain([&0])) {
            let (difference, first) = byte.overflowing_sub(*less);
            let (difference, second) = difference.overflowing_sub(u8::from(borrow));
            (*byte, borrow) = (difference, first || second);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_right() {
        for (number, by) in [
            (0_u64, 7_u64),
            (6, 7),
            (7, 7),
            (8, 7),
            (u64::MAX, 3),
            (u64::MAX, u64::MAX - 1),
            (1 << 63, 0xffff_ffff),
            (0x1234_5678_9abc_def0, 0x0100_0000_0000_0001),
            (255, 256),
            (256, 255),
        ] {
            let left = remainder(&number.to_be_bytes(), &by.to_be_bytes());
            let expected = (number % by).to_be_bytes();
            assert_eq!(without_zeros(&left), without_zeros(&expected), "{number} % {by}");
        }
        assert_eq!(less_one(&[1, 5]), [1, 4]);
    }
}
