//! PEM: text around bytes, and the forms of keys that OpenSSL writes in it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};

use super::key::{Curve, KeyError, PrivateKey, rejected};

/// What stands between the lines `BEGIN` and `END`.
pub(super) struct Block {
    /// What it is.
    pub label: String,
    /// The bytes.
    pub content: Vec<u8>,
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BYTES: u8 = 0x04;
const OBJECT: u8 = 0x06;
const PARAMETERS: u8 = 0xa0;

/// The first private key of a file; certificates and parameters beside it are passed over.
pub(super) fn read(file: &[u8]) -> Result<Block, KeyError> {
    let text = std::str::from_utf8(file).map_err(|_| KeyError::Unknown)?;
    let mut lines = text.lines().map(str::trim);
    let between = |line: &str| Some(line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?.to_owned());
    let label = lines.by_ref().filter_map(between).find(|label| label.ends_with("PRIVATE KEY"));
    let label = label.ok_or(KeyError::Unknown)?;
    let end = format!("-----END {label}-----");
    let mut encoded = String::new();
    for line in lines {
        if line == end {
            let content = STANDARD.decode(encoded).map_err(|_| KeyError::Rejected("it is not base64".to_owned()))?;
            return Ok(Block { label, content });
        }
        // Old files say in a header how they are encrypted.
        if line.contains(':') {
            return Err(if line.contains("ENCRYPTED") { KeyError::Encrypted } else { KeyError::Unknown });
        }
        encoded.push_str(line);
    }
    Err(KeyError::Rejected("it ends early".to_owned()))
}

/// Reads a key of PKCS#1, PKCS#8 or SEC 1.
pub(super) fn parse(block: &Block) -> Result<PrivateKey, KeyError> {
    let der = &*block.content;
    match &*block.label {
        "RSA PRIVATE KEY" => Ok(PrivateKey::of_rsa(RsaKeyPair::from_der(der).map_err(rejected)?, String::new())),
        "EC PRIVATE KEY" => sec1(der),
        "PRIVATE KEY" => pkcs8(der),
        "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
        "DSA PRIVATE KEY" => Err(KeyError::Kind("dsa".to_owned())),
        _ => Err(KeyError::Unknown),
    }
}

fn pkcs8(der: &[u8]) -> Result<PrivateKey, KeyError> {
    let (algorithm, parameters) = algorithm(der).ok_or_else(|| KeyError::Rejected("it is damaged".to_owned()))?;
    let comment = String::new();
    match algorithm {
        RSA => Ok(PrivateKey::of_rsa(RsaKeyPair::from_pkcs8(der).map_err(rejected)?, comment)),
        ED25519 => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?;
            Ok(PrivateKey::of_ed25519(pair, comment))
        }
        EC => {
            let curve = curve(parameters)?;
            let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), der, &SystemRandom::new());
            Ok(PrivateKey::of_ecdsa(curve, pair.map_err(rejected)?, comment))
        }
        _ => Err(KeyError::Kind("that this PKCS#8 file names".to_owned())),
    }
}

/// A key of SEC 1 is one of PKCS#8 without its wrapping.
fn sec1(der: &[u8]) -> Result<PrivateKey, KeyError> {
    let parameters = || -> Option<&[u8]> {
        let mut outer = der;
        let mut fields = element(&mut outer, SEQUENCE)?;
        element(&mut fields, INTEGER)?;
        element(&mut fields, BYTES)?;
        let mut parameters = element(&mut fields, PARAMETERS)?;
        element(&mut parameters, OBJECT)
    };
    let object = parameters().ok_or_else(|| KeyError::Rejected("it names no curve".to_owned()))?;
    let algorithm = wrap(SEQUENCE, &[wrap(OBJECT, EC), wrap(OBJECT, object)].concat());
    pkcs8(&wrap(SEQUENCE, &[wrap(INTEGER, &[0]), algorithm, wrap(BYTES, der)].concat()))
}

fn curve(object: Option<&[u8]>) -> Result<Curve, KeyError> {
    match object {
        Some(P256) => Ok(Curve::P256),
        Some(P384) => Ok(Curve::P384),
        _ => Err(KeyError::Kind("ecdsa on this curve".to_owned())),
    }
}

/// The algorithm that a PKCS#8 file names, and its curve if it has one.
fn algorithm(mut der: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut fields = element(&mut der, SEQUENCE)?;
    element(&mut fields, INTEGER)?;
    let mut algorithm = element(&mut fields, SEQUENCE)?;
    Some((element(&mut algorithm, OBJECT)?, element(&mut algorithm, OBJECT)))
}

/// Takes the content of an element of DER.
fn element<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        0..=0x7f => (usize::from(first), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some(content)
}

/// An element of DER of less than 64 KiB.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => der.push(length),
        Ok(length) => der.extend([0x81, length]),
        Err(_) => {
            der.push(0x82);
            der.extend_from_slice(&u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    der.extend_from_slice(content);
    der
}
