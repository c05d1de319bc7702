//! `semver.matcher` of registry-tag: conditions in the notation of Ruby's gem `semantic`, with what that gem gets wrong
//! read the way it is written (`docs/differences.md`).
//!
//! Alternatives are joined by `||`, the conditions of one by a comma or a space. An operand may leave parts out or write
//! `*` or `x` for them.

use std::cmp::Ordering;

use super::Version;
use super::semver::compare_identifiers;

/// Conditions on a version.
#[derive(Debug)]
pub(crate) struct Matcher {
    alternatives: Vec<Vec<Condition>>,
}

/// A matcher that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "semver.matcher {matcher:?} cannot be understood at {at:?}: expected conditions such as `>= 1.2`, `~> 1.2.3`, `!= 1.3`, `1.2.x` or `*`"
)]
pub(crate) struct InvalidMatcher {
    matcher: String,
    at: String,
}

#[derive(Debug)]
enum Condition {
    Any,
    Is { operator: Operator, operand: Operand },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `~`: the same written parts.
    Prefix,
    /// `~>`
    Pessimistic,
    Caret,
}

/// A version whose last numbers may be missing.
#[derive(Debug)]
struct Operand {
    version: Version,
    /// How many numbers were written, 1 to 3.
    written: usize,
}

impl Matcher {
    /// Reads a matcher.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidMatcher> {
        let invalid = |at: &str| InvalidMatcher { matcher: text.to_owned(), at: at.to_owned() };
        let alternatives = text.split("||").map(|part| conditions(part).map_err(|at| invalid(&at)));
        Ok(Self { alternatives: alternatives.collect::<Result<_, _>>()? })
    }

    /// Whether a version satisfies it.
    pub(crate) fn admits(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|conditions| conditions.iter().all(|condition| condition.admits(version)))
    }
}

/// The conditions of one alternative; the error is the text that stopped us.
fn conditions(text: &str) -> Result<Vec<Condition>, String> {
    let is_separator = |c: char| c.is_whitespace() || c == ',';
    let mut conditions = Vec::new();
    let mut rest = text.trim_matches(is_separator);
    while !rest.is_empty() {
        let end = rest.find(|c| !"<>=!~^".contains(c)).unwrap_or(rest.len());
        let (operator, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(is_separator).unwrap_or(after.len());
        let (operand, after) = after.split_at(end);
        conditions.push(condition(operator, operand).ok_or_else(|| rest.to_owned())?);
        rest = after.trim_matches(is_separator);
    }
    if conditions.is_empty() { Err(text.to_owned()) } else { Ok(conditions) }
}

fn condition(operator: &str, operand: &str) -> Option<Condition> {
    if matches!(operand, "*" | "x" | "X") && operator.is_empty() {
        return Some(Condition::Any);
    }
    let operator = match operator {
        "" | "=" | "==" | "===" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" | "=<" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" | "=>" => Operator::GreaterOrEqual,
        "~" => Operator::Prefix,
        "~>" => Operator::Pessimistic,
        "^" => Operator::Caret,
        _ => return None,
    };
    Operand::parse(operand).map(|operand| Condition::Is { operator, operand })
}

impl Operand {
    fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (numbers, rest) = bare.split_at(bare.find(['-', '+']).unwrap_or(bare.len()));
        let parts: Vec<&str> = numbers.split('.').collect();
        let written = parts.iter().take_while(|part| !matches!(**part, "*" | "x" | "X")).count();
        let wild = parts.get(written..)?.iter().all(|part| matches!(*part, "*" | "x" | "X"));
        // A pre-release of a version that is not written out is nothing that can be compared.
        if written == 0 || parts.len() > 3 || !wild || (written < 3 && !rest.is_empty()) {
            return None;
        }
        let version = Version::parse(&format!("{}{rest}", parts.get(..written)?.join("."))).ok()?;
        Some(Self { version, written })
    }

    /// The written numbers are the version's.
    fn is_prefix_of(&self, version: &Version) -> bool {
        numbers(version).iter().zip(numbers(&self.version)).take(self.written).all(|(theirs, own)| *theirs == own)
    }

    /// Whether the numbers before position `kept` are the version's, so that it is below the next one there.
    fn keeps(&self, version: &Version, kept: usize) -> bool {
        numbers(version).iter().zip(numbers(&self.version)).take(kept).all(|(theirs, own)| *theirs == own)
    }

    /// How many leading numbers a caret keeps: up to the first that is not zero, or all that were written.
    fn caret(&self) -> usize {
        let first = numbers(&self.version).iter().take(self.written).position(|number| *number != 0);
        first.map_or(self.written, |at| at + 1)
    }
}

fn numbers(version: &Version) -> [u64; 3] {
    [version.major, version.minor, version.patch]
}

/// `semantic` also splits pre-releases at `-`.
fn compare(left: &Version, right: &Version) -> Ordering {
    numbers(left).cmp(&numbers(right)).then_with(|| match (left.pre.as_str(), right.pre.as_str()) {
        ("", "") => Ordering::Equal,
        ("", _) => Ordering::Greater,
        (_, "") => Ordering::Less,
        (left, right) => compare_identifiers(left.split(['.', '-']), right.split(['.', '-'])),
    })
}

impl Condition {
    fn admits(&self, version: &Version) -> bool {
        let (operator, operand) = match self {
            Self::Any => return true,
            Self::Is { operator, operand } => (*operator, operand),
        };
        let order = compare(version, &operand.version);
        let is_exact = operand.written == 3 && (operator != Operator::Prefix || operand.version.is_pre_release());
        let equal = if is_exact { order == Ordering::Equal } else { operand.is_prefix_of(version) };
        match operator {
            Operator::Equal | Operator::Prefix => equal,
            Operator::NotEqual => !equal,
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Greater => order == Ordering::Greater,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::Pessimistic => {
                order != Ordering::Less && operand.keeps(version, operand.written.saturating_sub(1).max(1))
            }
            Operator::Caret => order != Ordering::Less && operand.keeps(version, operand.caret()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matcher, versions that satisfy it, versions that do not.
    const CASES: &[(&str, &str, &str)] = &[
        ("*", "1.2.3 0.0.1-rc1", ""),
        (" * ", "1.2.3", ""),
        ("1.2.3", "1.2.3 1.2.3+b", "1.2.4 1.2.3-rc1"),
        ("==1.2.3", "1.2.3", "1.2.4"),
        ("=== 1.2.3", "1.2.3", "1.2.4"),
        ("=1.2.3", "1.2.3", "1.2.4"),
        ("v1.2.3", "1.2.3", "1.2.4"),
        ("!= 1.2.3", "1.2.4", "1.2.3"),
        ("!= 1.3", "1.2.3", "1.3.0 1.3.7"),
        ("1.2", "1.2.0 1.2.9 1.2.3-rc1", "1.3.0"),
        ("= 1.2", "1.2.9", "1.3.0"),
        ("1.x", "1.2.9", "2.0.0"),
        ("1.2.*", "1.2.9", "1.3.0"),
        ("~ 1.2", "1.2.9", "1.3.0"),
        ("~1.2.3", "1.2.3 1.2.3-rc1", "1.2.4"),
        ("~1.2.3-rc1", "1.2.3-rc1", "1.2.3"),
        (">= 2.7", "2.7.0 2.7.1 3.0.0 2.7.1-rc1", "2.6.9 2.7.0-rc1"),
        (">=1.2.3", "1.2.3", "1.2.3-rc1"),
        ("> 1.2", "1.2.1", "1.2.0"),
        ("<= 1.2", "1.2.0", "1.2.1"),
        ("< 1.*", "0.9.0 1.0.0-rc1", "1.0.0"),
        ("~> 1.2", "1.2.0 1.9.9", "2.0.0 2.0.0-rc1 1.1.9"),
        ("~> 1.2.3", "1.2.3 1.2.9", "1.3.0 1.3.0-rc1 1.2.2"),
        ("~> 1", "1.0.0 1.9.9", "2.0.0 0.9.9"),
        ("~> 1.2.3-rc.1", "1.2.3-rc.2 1.2.3", "1.3.0 1.2.3-rc.0"),
        ("^1.2", "1.2.0 1.9.0", "2.0.0 1.1.0"),
        ("^1.2.3", "1.2.3 1.9.0", "2.0.0 1.2.2 2.0.0-rc1"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0", "0.9.9", "1.0.0"),
        (">= 1.2.3, < 2.0.0", "1.5.0", "2.0.0 1.0.0"),
        (">=1 <2", "1.5.0", "2.0.0"),
        ("1.2 || ~> 2.1", "1.2.5 2.5.0", "1.3.0 2.0.0"),
        (">= 1.0.0-rc-2", "1.0.0-rc-10 1.0.0", "1.0.0-rc-1"),
    ];

    #[test]
    fn matchers_mean_what_they_say() -> Result<(), Box<dyn std::error::Error>> {
        for (text, admitted, refused) in CASES {
            let matcher = Matcher::parse(text)?;
            for (versions, expected) in [(admitted, true), (refused, false)] {
                for version in versions.split_whitespace() {
                    assert_eq!(matcher.admits(&Version::parse(version)?), expected, "{text} for {version}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_understood_is_quoted() {
        for text in ["", "foo", "<=> 1.2.3", ">=", "1.2.3.4", "1 || ", "1.2-rc1", "1.*.3", "=>= 1", "> *"] {
            let error = Matcher::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(&format!("semver.matcher {text:?}")), "{text}: {error}");
        }
    }
}
