//! References, digests and platforms.
//!
//! - What parses prints as something that parses to the same.
//! - Nothing that parses can climb in a URL or a directory, or end a URL's authority.

use skycap_image::{Digest, Platform, Reference};

/// See the module.
pub fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        sound(&reference);
        let printed = reference.to_string();
        assert_eq!(printed.parse::<Reference>().as_ref(), Ok(&reference), "{printed}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string(), text);
        assert!(platform.accepts(&platform));
        assert_eq!(platform.normalized().normalized(), platform.normalized());
    }
}

fn sound(reference: &Reference) {
    let repository = &reference.repository;
    assert!((1..=263).contains(&repository.path().len()));
    for part in repository.path().split('/') {
        assert!(!matches!(part, "" | "." | ".."), "{part}");
        assert!(part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.')), "{part}");
    }
    let host = repository.registry();
    assert!(!host.is_empty());
    assert!(
        host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')),
        "{host}"
    );
    if let Some(tag) = &reference.tag {
        assert!((1..=128).contains(&tag.len()) && !matches!(&tag[..], "." | ".."), "{tag}");
        assert!(tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')), "{tag}");
    }
}
