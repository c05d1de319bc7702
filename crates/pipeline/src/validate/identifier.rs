//! Names that Concourse likes (`atc/configwarning.go`).

use std::sync::LazyLock;

use regex::Regex;

#[allow(clippy::expect_used, reason = "the patterns are constants that a test compiles")]
static FIRST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9]").expect("a sound pattern"));
#[allow(clippy::expect_used, reason = "the patterns are constants that a test compiles")]
static ILLEGAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[^\p{Ll}\p{Lt}\p{Lm}\p{Lo}0-9\-_.]").expect("a sound pattern"));

/// What is odd about a name; `Err(None)` if it is empty.
pub(super) fn check(name: &str) -> Result<(), Option<String>> {
    if name.is_empty() {
        return Err(None);
    }
    if !FIRST.is_match(name) {
        return Err(Some("must start with a lowercase letter or a number".to_owned()));
    }
    if let Some(illegal) = ILLEGAL.find(name) {
        return Err(Some(format!("illegal character '{}'", illegal.as_str())));
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Some("cannot be just numbers".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_low_and_hold_no_odd_characters() {
        for (name, expected) in [
            ("a-b_c.1", None),
            ("1a", None),
            ("été", None),
            ("_x", Some("must start with a lowercase letter or a number")),
            ("Build", Some("must start with a lowercase letter or a number")),
            ("a b", Some("illegal character ' '")),
            ("aB", Some("illegal character 'B'")),
            ("123", Some("cannot be just numbers")),
        ] {
            assert_eq!(check(name).err().flatten().as_deref(), expected, "{name}");
        }
        assert_eq!(check(""), Err(None));
    }
}
