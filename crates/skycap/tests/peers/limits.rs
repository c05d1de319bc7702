//! What a place refuses: names beyond the limits are no names, before anything is sent.

use skycap_image::{Reference, Repository};

/// R89.
#[test]
fn names_beyond_the_limits_are_refused_before_anything_is_sent() {
    let host = "registry.example";
    assert!(format!("{host}/{}", "a".repeat(255)).parse::<Repository>().is_ok());
    for path in [&"a".repeat(256), "A", "a//b", "../a", "a/./b", "a b", "a%2e", ""] {
        assert!(format!("{host}/{path}").parse::<Repository>().is_err(), "{path}");
    }
    assert!(format!("{host}/aa:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    for tag in [&"t".repeat(129), ".t", "-t", "t t", "t/../t", ""] {
        assert!(format!("{host}/aa:{tag}").parse::<Reference>().is_err(), "{tag}");
    }
}
