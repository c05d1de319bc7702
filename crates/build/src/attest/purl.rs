//! Package URLs: <https://github.com/package-url/purl-spec>.

use skycap_image::{Platform, Reference};

/// A package URL. Parts are given as they are and escaped here; qualifiers without a value are left out.
pub(super) fn purl(kind: &str, namespace: &[&str], name: &str, version: &str, qualifiers: &[(&str, &str)]) -> String {
    let mut text = format!("pkg:{kind}");
    for part in namespace.iter().chain(&[name]) {
        text.push('/');
        text.push_str(&escaped(part));
    }
    if !version.is_empty() {
        text.push('@');
        text.push_str(&escaped(version));
    }
    let mut qualifiers: Vec<_> = qualifiers.iter().filter(|(_, value)| !value.is_empty()).collect();
    qualifiers.sort_unstable();
    for (number, (key, value)) in qualifiers.into_iter().enumerate() {
        text.push(if number == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        text.push_str(&escaped(value));
    }
    text
}

fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// An image's name as a package URL, as BuildKit writes it.
pub(super) fn image(kind: &str, reference: &Reference, platform: &Platform) -> String {
    let repository = &reference.repository;
    let mut parts: Vec<&str> = repository.path().split('/').collect();
    if !repository.is_docker_hub() {
        parts.insert(0, repository.registry());
    } else if parts.first() == Some(&"library") {
        parts.remove(0);
    }
    let name = parts.pop().unwrap_or_default();
    let digest = reference.digest.map(|digest| digest.to_string()).unwrap_or_default();
    let latest = if digest.is_empty() { "latest" } else { "" };
    let tag = reference.tag.as_deref().unwrap_or(latest);
    let platform = platform.normalized().to_string();
    purl(kind, &parts, name, tag, &[("digest", &digest), ("platform", &platform)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_written_as_buildkit_writes_them() {
        let digest = skycap_image::Digest::sha256(b"test");
        for (reference, expected) in [
            ("alpine".to_owned(), "pkg:docker/alpine@latest?platform=linux%2Famd64".to_owned()),
            ("library/alpine:3.15".to_owned(), "pkg:docker/alpine@3.15?platform=linux%2Famd64".to_owned()),
            (format!("alpine@{digest}"), format!("pkg:docker/alpine?digest={digest}&platform=linux%2Famd64")),
            (format!("alpine:1@{digest}"), format!("pkg:docker/alpine@1?digest={digest}&platform=linux%2Famd64")),
            ("user/test:v2".to_owned(), "pkg:docker/user/test@v2?platform=linux%2Famd64".to_owned()),
            ("ghcr.io/foo/bar".to_owned(), "pkg:docker/ghcr.io/foo/bar@latest?platform=linux%2Famd64".to_owned()),
        ] {
            let parsed = reference.parse().unwrap();
            assert_eq!(image("docker", &parsed, &Platform::new("linux", "amd64")), expected, "{reference}");
        }
    }

    #[test]
    fn what_a_url_means_otherwise_is_escaped() {
        assert_eq!(
            purl("deb", &["debian"], "g++", "4:12.2~rc1+b1", &[("distro", "debian-12"), ("arch", ""), ("a", "1 &")]),
            "pkg:deb/debian/g%2B%2B@4:12.2~rc1%2Bb1?a=1%20%26&distro=debian-12"
        );
    }
}
