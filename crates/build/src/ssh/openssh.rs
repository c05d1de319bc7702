//! The form that `ssh-keygen` writes: words between a header and padding.

use super::key::{Curve, KeyError, PrivateKey, RsaNumbers};
use super::wire::Words;

/// How the file calls it.
pub(super) const LABEL: &str = "OPENSSH PRIVATE KEY";
/// What it begins with.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Reads the first key of a file.
pub(super) fn parse(content: &[u8]) -> Result<PrivateKey, KeyError> {
    let damaged = || KeyError::Rejected("it ends early".to_owned());
    let mut words = Words(content.strip_prefix(MAGIC).ok_or(KeyError::Unknown)?);
    let cipher = words.text().ok_or_else(damaged)?;
    if cipher != "none" {
        return Err(KeyError::Encrypted);
    }
    let (_function, _options, _count) =
        (words.string(), words.string(), words.number().filter(|count| *count == 1).ok_or_else(damaged)?);
    let _public = words.string().ok_or_else(damaged)?;
    let mut private = Words(words.string().ok_or_else(damaged)?);
    // Two equal numbers, which show that a passphrase was right.
    let checks = (private.number().ok_or_else(damaged)?, private.number().ok_or_else(damaged)?);
    if checks.0 != checks.1 {
        return Err(KeyError::Rejected("its check numbers differ".to_owned()));
    }
    let kind = private.text().ok_or_else(damaged)?;
    match kind {
        "ssh-ed25519" => ed25519(&mut private).ok_or_else(damaged)?,
        "ssh-rsa" => rsa(&mut private).ok_or_else(damaged)?,
        "ecdsa-sha2-nistp256" => ecdsa(Curve::P256, &mut private).ok_or_else(damaged)?,
        "ecdsa-sha2-nistp384" => ecdsa(Curve::P384, &mut private).ok_or_else(damaged)?,
        kind => Err(KeyError::Kind(kind.chars().filter(char::is_ascii_graphic).take(64).collect())),
    }
}

fn comment(words: &mut Words<'_>) -> Option<String> {
    words.string().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn ed25519(words: &mut Words<'_>) -> Option<Result<PrivateKey, KeyError>> {
    let public = words.string()?;
    // The seed, and the public half once more.
    let (seed, again) = words.string()?.split_at_checked(32)?;
    let comment = comment(words)?;
    if public != again {
        return Some(Err(KeyError::Rejected("its halves do not belong together".to_owned())));
    }
    Some(PrivateKey::ed25519(seed, comment))
}

fn rsa(words: &mut Words<'_>) -> Option<Result<PrivateKey, KeyError>> {
    let mut next = || words.natural();
    let numbers = RsaNumbers { n: next()?, e: next()?, d: next()?, inverse: next()?, p: next()?, q: next()? };
    let comment = comment(words)?;
    Some(PrivateKey::rsa(&numbers, comment))
}

fn ecdsa(curve: Curve, words: &mut Words<'_>) -> Option<Result<PrivateKey, KeyError>> {
    let (name, point, scalar) = (words.text()?, words.string()?, words.natural()?);
    let comment = comment(words)?;
    if name != curve.name() {
        return Some(Err(KeyError::Rejected("it names two curves".to_owned())));
    }
    Some(PrivateKey::ecdsa(curve, scalar, point, comment))
}
