//! Secrets of tests, and the proof that nothing shows them. Every password, token and key that a test uses begins with
//! [`MARK`], so a search through all that was ever printed finds each of them, also in base64 at any place in a text. The
//! patterns are those that CI searches its whole output for.

/// How every secret of a test begins.
pub const MARK: &str = "hunter2";

const PATTERNS: &str = include_str!("../../../.ci/secrets");

/// Whether a secret of a test is in some output.
pub fn is_shown_in(output: &[u8]) -> bool {
    let mut patterns = PATTERNS.lines().map(str::as_bytes);
    patterns.any(|pattern| output.windows(pattern.len()).any(|part| part == pattern))
}

/// Fails the test if a secret is in an output. It is not shown again.
///
/// # Panics
///
/// Panics if there is one.
#[track_caller]
pub fn assert_not_shown_in(whose: &str, output: &[u8]) {
    assert!(!is_shown_in(output), "{whose} shows a secret of a test (it matches a line of .ci/secrets)");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_disguise() {
        assert!(is_shown_in(b"password hunter2-x"));
        // `u:`, `us:` and `use:` in front of `hunter2-x`, in base64: what Basic authentication sends.
        for encoded in ["dTpodW50ZXIyLXg=", "dXM6aHVudGVyMi14", "dXNlOmh1bnRlcjIteA=="] {
            assert!(is_shown_in(encoded.as_bytes()), "{encoded}");
        }
        assert!(!is_shown_in(b"hunter") && !is_shown_in(b"***") && !is_shown_in(b""));
    }
}
