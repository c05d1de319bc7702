//! `semver_constraint`: conditions on versions in the notation of `Masterminds/semver`.
//!
//! A constraint is alternatives (`||`) of terms that must all hold (space or comma). A term is an operator and a version
//! whose parts may be missing or `x`; such a version is "dirty" and stands for a range. `a - b` means `>=a <=b`.

use std::cmp::Ordering;

use regex::Regex;

use super::Version;

/// Conditions on a version.
#[derive(Debug)]
pub(crate) struct Constraint {
    alternatives: Vec<Vec<Term>>,
}

/// A text that is no constraint; the text is the library's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("improper constraint: {0}")]
pub(crate) struct InvalidConstraint(String);

#[derive(Debug)]
struct Term {
    operator: Operator,
    version: Version,
    precision: Precision,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Tilde,
    Caret,
}

/// How much of the version was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Precision {
    /// `*`
    Nothing,
    /// `1`, `1.x`
    Major,
    /// `1.2`, `1.2.x`
    Minor,
    /// `1.2.3`
    Patch,
}

const VERSION: &str = r"v?[0-9xX*]+(?:\.[0-9xX*]+)?(?:\.[0-9xX*]+)?(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?";
const OPERATOR: &str = r"(?:!=|>=|=>|<=|=<|~>|[=><~^])?";

impl Constraint {
    /// Reads a constraint. An empty one is an error: it says nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        let invalid = |part: &str| InvalidConstraint(part.chars().take(200).collect());
        let (Some(range), Some(group), Some(term)) = (
            compile(&format!(r"({VERSION})\s+-\s+({VERSION})")),
            compile(&format!(r"^\s*{OPERATOR}\s*{VERSION}\s*(?:(?:\s+|,\s*){OPERATOR}\s*{VERSION}\s*)*$")),
            compile(&format!(r"({OPERATOR})\s*({VERSION})")),
        ) else {
            return Err(invalid(text));
        };
        let text = range.replace_all(text, ">=$1 <=$2");
        let alternatives = text.split("||").map(|alternative| {
            if !group.is_match(alternative) {
                return Err(invalid(alternative));
            }
            let terms = term.captures_iter(alternative);
            terms.map(|found| Term::parse(&found[1], &found[2]).ok_or_else(|| invalid(&found[0]))).collect()
        });
        Ok(Self { alternatives: alternatives.collect::<Result<_, _>>()? })
    }

    /// Whether a version is admitted. A pre-release only is where a term of the same alternative names one.
    pub(crate) fn admits(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|terms| {
            let asks_for_pre_releases = terms.iter().any(|term| term.version.is_pre_release());
            (asks_for_pre_releases || !version.is_pre_release()) && terms.iter().all(|term| term.admits(version))
        })
    }
}

fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

impl Term {
    fn parse(operator: &str, version: &str) -> Option<Self> {
        let operator = match operator {
            "" | "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            ">" => Operator::Greater,
            "<" => Operator::Less,
            ">=" | "=>" => Operator::GreaterOrEqual,
            "<=" | "=<" => Operator::LessOrEqual,
            "~" | "~>" => Operator::Tilde,
            "^" => Operator::Caret,
            _ => return None,
        };
        let (precision, version) = read_version(version)?;
        Some(Self { operator, version, precision })
    }

    fn admits(&self, version: &Version) -> bool {
        let order = version.precedence(&self.version);
        match (self.operator, self.precision) {
            (Operator::Equal, Precision::Patch) => order == Ordering::Equal,
            (Operator::Equal | Operator::Tilde, _) => order != Ordering::Less && self.tilde(version),
            (Operator::NotEqual, Precision::Patch) => order != Ordering::Equal,
            (Operator::NotEqual, _) => !self.same_written_parts(version),
            (Operator::Greater, Precision::Patch) => order == Ordering::Greater,
            (Operator::Greater, precision) => self.written(version, precision) == Ordering::Greater,
            (Operator::Less, _) => order == Ordering::Less,
            (Operator::GreaterOrEqual, _) => order != Ordering::Less,
            (Operator::LessOrEqual, Precision::Patch) => order != Ordering::Greater,
            (Operator::LessOrEqual, precision) => self.written(version, precision) != Ordering::Greater,
            (Operator::Caret, _) => order != Ordering::Less && self.caret(version),
        }
    }

    /// Compares only the parts that were written.
    fn written(&self, version: &Version, precision: Precision) -> Ordering {
        let own = self.version.numbers();
        let theirs = version.numbers();
        match precision {
            Precision::Nothing => Ordering::Equal,
            Precision::Major => theirs.0.cmp(&own.0),
            Precision::Minor => (theirs.0, theirs.1).cmp(&(own.0, own.1)),
            Precision::Patch => version.precedence(&self.version),
        }
    }

    fn same_written_parts(&self, version: &Version) -> bool {
        self.written(version, self.precision) == Ordering::Equal
    }

    /// `~1` is below 2, `~1.2` and `~1.2.3` are below 1.3, `~0.0.0` and `~*` have no upper bound.
    fn tilde(&self, version: &Version) -> bool {
        match self.precision {
            Precision::Nothing => true,
            Precision::Patch if self.version.numbers() == (0, 0, 0) => true,
            Precision::Major => version.major == self.version.major,
            Precision::Minor | Precision::Patch => {
                (version.major, version.minor) == (self.version.major, self.version.minor)
            }
        }
    }

    /// The leftmost part that is not zero must stay.
    fn caret(&self, version: &Version) -> bool {
        let own = self.version.numbers();
        let theirs = version.numbers();
        match (self.precision, own) {
            (Precision::Nothing, _) => true,
            (Precision::Major, _) => theirs.0 == own.0,
            (_, (major, _, _)) if major > 0 => theirs.0 == major,
            (Precision::Minor, _) => (theirs.0, theirs.1) == (own.0, own.1),
            (Precision::Patch, (_, minor, _)) if minor > 0 => (theirs.0, theirs.1) == (0, minor),
            (Precision::Patch, _) => theirs == own,
        }
    }
}

/// A version with parts missing or wild, filled up with zeros.
fn read_version(text: &str) -> Option<(Precision, Version)> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let end = bare.find(['-', '+']).unwrap_or(bare.len());
    let (numbers, rest) = bare.split_at(end);
    let written: Vec<&str> = numbers.split('.').take_while(|part| !matches!(*part, "x" | "X" | "*")).collect();
    let (precision, numbers) = match written[..] {
        [] => (Precision::Nothing, "0.0.0".to_owned()),
        [major] => (Precision::Major, format!("{major}.0.0")),
        [major, minor] => (Precision::Minor, format!("{major}.{minor}.0")),
        [major, minor, patch] => (Precision::Patch, format!("{major}.{minor}.{patch}")),
        _ => return None,
    };
    Version::parse(&format!("{numbers}{rest}")).ok().map(|version| (precision, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constraint, versions that it admits, versions that it refuses.
    const CASES: &[(&str, &str, &str)] = &[
        ("*", "0.0.0 1.2.3", "1.0.0-rc1"),
        ("x", "0.0.1", ""),
        ("1", "1.0.0 1.9.9", "2.0.0 0.9.9"),
        ("=1.2", "1.2.0 1.2.9", "1.3.0"),
        ("1.2.x", "1.2.0 1.2.9", "1.3.0 1.1.9"),
        ("1.2.3", "1.2.3 1.2.3+build", "1.2.4 1.2.3-rc1"),
        ("v1.2.3", "1.2.3", "1.2.4"),
        ("!=1.2.3", "1.2.4", "1.2.3"),
        ("!=1.2", "1.3.0 2.2.0", "1.2.0 1.2.7"),
        ("!=1.x", "2.0.0", "1.2.0"),
        (">11", "12.0.0", "11.0.0 11.1.0"),
        (">11.1", "11.2.0 12.0.0", "11.1.1 11.0.0"),
        (">11.1.1", "11.1.2", "11.1.1"),
        ("<11", "10.9.9", "11.0.0"),
        ("<=11", "11.0.0 11.9.9 1.0.0", "12.0.0"),
        ("<=1.2", "1.2.5", "1.3.0"),
        ("=<1.2.3", "1.2.3", "1.2.4"),
        ("=>1.2.3", "1.2.3", "1.2.2"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
        ("^0.0.3", "0.0.3", "0.0.4 0.1.0"),
        ("^0.0", "0.0.9", "0.1.0"),
        ("^0", "0.9.9", "1.0.0"),
        ("^1.2.3", "1.2.3 1.9.9", "2.0.0 1.2.2"),
        ("^1", "1.0.0", "2.0.0"),
        ("~1", "1.9.9", "2.0.0"),
        ("~1.2", "1.2.9", "1.3.0"),
        ("~>1.2.3", "1.2.9", "1.3.0 1.2.2"),
        ("~0.0.0", "0.0.0 5.6.7", ""),
        ("~*", "5.6.7", ""),
        (">=1.0.0 <2.0.0", "1.5.0", "2.0.0 0.9.0"),
        (">=1.0.0, <2.0.0", "1.5.0", "2.0.0 0.9.0"),
        (">=1.0.0,!=1.5.0", "1.6.0", "1.5.0"),
        ("1.2 - 1.4", "1.2.0 1.4.5", "1.5.0 1.1.0"),
        ("1.2.0 - 1.4.5 || ^3", "1.3.0 3.1.0", "2.0.0 1.4.6"),
        ("~1 || ~3", "1.0.0 3.0.0", "2.0.0"),
        (">=1.0.0", "1.0.0", "1.1.0-rc1"),
        (">=1.0.0-0", "1.0.0 1.1.0-rc1 1.0.0-alpha", "0.9.0-rc1"),
        (">1.0.0-0", "1.0.1-rc1", "1.0.0-0"),
        (">=1.0.0-0 <2.0.0", "1.5.0-rc1", "2.1.0-rc1"),
        (">=1.0.0 || >=2.0.0-0", "2.1.0-rc1 1.0.0", "1.1.0-rc1"),
        ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.3 1.2.9", "1.3.0 1.2.3-beta.1"),
    ];

    #[test]
    fn constraints_admit_what_the_library_admits() -> Result<(), Box<dyn std::error::Error>> {
        for (text, admitted, refused) in CASES {
            let constraint = Constraint::parse(text)?;
            for (versions, expected) in [(admitted, true), (refused, false)] {
                for version in versions.split_whitespace() {
                    assert_eq!(constraint.admits(&Version::parse(version)?), expected, "{text} for {version}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_constraint_is_refused() {
        for text in ["", "foo", ">", "1.2.3.4", ">>1", "1 ||", "1 & 2", "1.2.3-", "1.1x", "99999999999999999999"] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
        let error = Constraint::parse("foo").err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("improper constraint: foo"));
    }
}
