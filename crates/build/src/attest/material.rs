//! What a build took from elsewhere.

use skycap_image::{Digest, Platform, Reference};

use super::purl;
use super::redact::without_credentials;

/// Something from elsewhere, with what its bytes were.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it is from: a package URL for images, else the address without credentials.
    pub uri: String,
    /// The hash function: `sha256`, for commits `sha1`.
    pub algorithm: String,
    /// The hash, in hexadecimal digits.
    pub digest: String,
}

impl Material {
    /// An image as a Dockerfile names it; a name that is no reference stands for an image that was at hand.
    pub fn image(name: &str, platform: &Platform, digest: Digest) -> Self {
        let uri = match name.parse::<Reference>() {
            Ok(reference) => purl::image("docker", &reference, platform),
            Err(_) => purl::purl("oci", &[], name, "", &[("platform", &platform.normalized().to_string())]),
        };
        Self::of(uri, digest)
    }

    /// A file at an address.
    pub fn http(url: &str, digest: Digest) -> Self {
        Self::of(without_credentials(url), digest)
    }

    /// A commit of a git repository; the URL may name what was asked for: `https://…/x.git#main`.
    pub fn git(url: &str, commit: &str) -> Self {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        Self { uri: without_credentials(url), algorithm: algorithm.to_owned(), digest: commit.to_owned() }
    }

    fn of(uri: String, digest: Digest) -> Self {
        Self { uri, algorithm: digest.algorithm().name().to_owned(), digest: digest.hex() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M34, S06
    #[test]
    fn materials_tell_no_credentials() {
        let digest = Digest::sha256(b"");
        for (material, uri) in [
            (Material::http("https://me:hunter2@host/x?token=hunter2", digest), "https://host/x"),
            (Material::git("https://hunter2@host/x.git#main:dir", "0"), "https://host/x.git#main:dir"),
            (Material::git("git@host:x.git", "0"), "git@host:x.git"),
        ] {
            assert_eq!(material.uri, uri);
        }
    }
}
