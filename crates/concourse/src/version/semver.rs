//! Semantic versions as `Masterminds/semver` coerces them: `v?N(.N)?(.N)?(-pre)?(+meta)?`.

use std::cmp::Ordering;
use std::fmt;

/// A version. It is ordered by precedence; build metadata does not count, so it has no `Eq`.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    /// Empty for a release.
    pub(crate) pre: String,
    /// Empty without build metadata.
    pub(crate) metadata: String,
}

/// Why a text is no version; the texts are the library's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum InvalidVersion {
    /// Another shape.
    #[error("invalid semantic version: {0:?}")]
    Shape(String),
    /// A part beyond 64 bits.
    #[error(
        "failed to parse version: error parsing version segment: strconv.ParseUint: parsing {0:?}: value out of range"
    )]
    Range(String),
    /// A numeric pre-release part such as `01`.
    #[error("failed to parse version: version segment starts with 0")]
    LeadingZero,
}

impl Version {
    /// Reads a version.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidVersion> {
        let shape = || InvalidVersion::Shape(text.chars().take(200).collect());
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (bare, metadata) = split(bare, '+');
        let (numbers, pre) = split(bare, '-');
        if !metadata.is_none_or(are_identifiers) || !pre.is_none_or(are_identifiers) {
            return Err(shape());
        }
        let mut parts = [0; 3];
        for (position, number) in numbers.split('.').enumerate() {
            let part = parts.get_mut(position).ok_or_else(shape)?;
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return Err(shape());
            }
            *part = number.parse().map_err(|_| InvalidVersion::Range(number.chars().take(40).collect()))?;
        }
        let pre = pre.unwrap_or_default();
        if pre.split('.').any(|part| part.len() > 1 && part.starts_with('0') && is_number(part)) {
            return Err(InvalidVersion::LeadingZero);
        }
        let [major, minor, patch] = parts;
        let metadata = metadata.unwrap_or_default().to_owned();
        Ok(Self { major, minor, patch, pre: pre.to_owned(), metadata })
    }

    /// Whether it comes before its release.
    pub(crate) fn is_pre_release(&self) -> bool {
        !self.pre.is_empty()
    }

    /// The three numbers.
    pub(crate) fn numbers(&self) -> (u64, u64, u64) {
        (self.major, self.minor, self.patch)
    }

    /// Order of precedence (semver.org section 11): build metadata is ignored.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers()).then_with(|| match (self.pre.as_str(), other.pre.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (left, right) => compare_identifiers(left.split('.'), right.split('.')),
        })
    }
}

/// The canonical form: three numbers, no `v`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if self.metadata.is_empty() { Ok(()) } else { write!(f, "+{}", self.metadata) }
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn are_identifiers(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit())
}

/// Numbers before words, numbers by value, words bytewise, a longer list after its own beginning.
pub(super) fn compare_identifiers<'i>(
    left: impl Iterator<Item = &'i str>,
    right: impl Iterator<Item = &'i str>,
) -> Ordering {
    left.map(Identifier).cmp(right.map(Identifier))
}

#[derive(PartialEq, Eq)]
struct Identifier<'i>(&'i str);

impl Ord for Identifier<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (is_number(self.0), is_number(other.0)) {
            (true, true) => compare_digits(self.0, other.0),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.0.cmp(other.0),
        }
    }
}

impl PartialOrd for Identifier<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Digits as a number of any length.
pub(crate) fn compare_digits(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_coerced() {
        let cases = [
            ("1", Some("1.0.0")),
            ("v1.2", Some("1.2.0")),
            ("14.04", Some("14.4.0")),
            ("01", Some("1.0.0")),
            ("1-rc", Some("1.0.0-rc")),
            ("1.2.3-rc.1+b.5", Some("1.2.3-rc.1+b.5")),
            ("1.0.0-a-b", Some("1.0.0-a-b")),
            ("1.0.0+a-b", Some("1.0.0+a-b")),
            ("20240101", Some("20240101.0.0")),
            ("2024.01.02", Some("2024.1.2")),
            ("1.0.0-0", Some("1.0.0-0")),
            ("18446744073709551615", Some("18446744073709551615.0.0")),
            ("18446744073709551616", None),
            ("1.0.0-01", None),
            ("V1", None),
            ("1.2.3.4", None),
            ("", None),
            ("v", None),
            ("1.", None),
            ("1-", None),
            ("1-a..b", None),
            ("1+", None),
            ("1.0_0", None),
            ("latest", None),
            ("1.x", None),
            ("1.2.3-rc_1", None),
            ("é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Version::parse(text).ok().map(|v| v.to_string()).as_deref(), expected, "{text}");
        }
        let error = |text: &str| Version::parse(text).err().map(|e| e.to_string());
        assert_eq!(error("x").as_deref(), Some("invalid semantic version: \"x\""));
        assert_eq!(error("1.0.0-01").as_deref(), Some("failed to parse version: version segment starts with 0"));
    }

    #[test]
    fn precedence_is_that_of_the_specification() -> Result<(), InvalidVersion> {
        let ascending = [
            "1.0.0-0",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-99999999999999999999999",
            "1.0.0-RC1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2",
            "10",
        ];
        for pair in ascending.windows(2) {
            let (low, high) = (Version::parse(pair[0])?, Version::parse(pair[1])?);
            assert_eq!(low.precedence(&high), Ordering::Less, "{pair:?}");
            assert_eq!(high.precedence(&low), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(Version::parse("1+a")?.precedence(&Version::parse("1.0.0+b")?), Ordering::Equal);
        Ok(())
    }
}
