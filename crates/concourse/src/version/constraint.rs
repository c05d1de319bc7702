//! `semver_constraint`: conditions on versions in the notation of `Masterminds/semver`.
//!
//! A constraint is alternatives (`||`) of terms that must all hold (space or comma). A term is an operator and a version
//! whose parts may be missing or `x`; such a version is "dirty" and stands for a range. `a - b` means `>=a, <=b`.
//!
//! What the library does is what pipelines were written against, its oddities included: a lone wildcard is the version
//! 0.0.0 to every operator that does not ask for a range, so `!=*` is `!=0.0.0` and `^*` is `^0.0.0`.
//! `testdata/constraints.tsv` has all of it as a table.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;

use super::Version;

/// Conditions on a version.
#[derive(Debug)]
pub(crate) struct Constraint {
    alternatives: Vec<Vec<Term>>,
}

/// A text that is no constraint; the texts are the library's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum InvalidConstraint {
    /// Another shape.
    #[error("improper constraint: {0:?}")]
    Shape(String),
    /// The right shape around a version that is none, such as `1x` or `1.2.3-01`.
    #[error("constraint parser error")]
    Version,
}

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

/// The longer ones first.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

/// Two versions around a `-` that stands alone, with the white space around all of it.
static RANGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const SPACE: &str = r"[\t\n\x0c\r ]";
    const VERSION: &str = r"v?[0-9|xX*]+(?:\.[0-9|xX*]+)?(?:\.[0-9|xX*]+)?(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?";
    Regex::new(&format!("{SPACE}*({VERSION}){SPACE}+-{SPACE}+({VERSION}){SPACE}*")).ok()
});

impl Constraint {
    /// Reads a constraint. An empty one is an error: it says nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        let alone = |pair: &[u8]| is_space(char::from(pair[0])) && pair[1] == b'-';
        let may_hold_range = text.as_bytes().windows(2).any(alone);
        let text = match RANGE.as_ref().filter(|_| may_hold_range) {
            Some(range) => range.replace_all(text, ">= $1, <= $2 "),
            None => text.into(),
        };
        Ok(Self { alternatives: text.split("||").map(read_alternative).collect::<Result<_, _>>()? })
    }

    /// Whether a version is admitted. A pre-release only is where a term of the same alternative names one.
    pub(crate) fn admits(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|terms| {
            let asks_for_pre_releases = terms.iter().any(|term| term.version.is_pre_release());
            (asks_for_pre_releases || !version.is_pre_release()) && terms.iter().all(|term| term.admits(version))
        })
    }
}

/// Go's `\s`.
fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// Terms with white space or one comma between them.
fn read_alternative(text: &str) -> Result<Vec<Term>, InvalidConstraint> {
    let invalid = || InvalidConstraint::Shape(text.chars().take(200).collect());
    let mut terms = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    loop {
        let (term, after) = Term::read(rest).ok_or_else(invalid)?;
        terms.push(term?);
        let next = after.trim_start_matches(is_space);
        if next.is_empty() {
            return Ok(terms);
        }
        rest = match next.strip_prefix(',') {
            Some(next) => next.trim_start_matches(is_space),
            None if next.len() < after.len() => next,
            None => return Err(invalid()),
        };
    }
}

impl Term {
    /// Reads the term that a text begins with; the rest of the text comes back. None if it begins with no term.
    fn read(text: &str) -> Option<(Result<Self, InvalidConstraint>, &str)> {
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
        let (operator, text) = found.unwrap_or((Operator::Equal, text));
        let text = text.trim_start_matches(is_space);
        let mut rest = text.strip_prefix('v').unwrap_or(text);
        let mut parts = vec![take_part(&mut rest)?];
        while parts.len() < 3
            && let Some(mut after) = rest.strip_prefix('.')
            && let Some(part) = take_part(&mut after)
        {
            parts.push(part);
            rest = after;
        }
        let pre = take_identifiers('-', &mut rest);
        take_identifiers('+', &mut rest);
        let written = parts.iter().take_while(|part| !matches!(**part, "x" | "X" | "*")).count();
        let precision = [Precision::Nothing, Precision::Major, Precision::Minor, Precision::Patch][written.min(3)];
        let numbers: Vec<&str> = parts.iter().copied().take(written).chain(["0"; 3]).take(3).collect();
        let version = Version::parse(&format!("{}{pre}", numbers.join(".")));
        let term = version.map(|version| Self { operator, version, precision }).map_err(|_| InvalidConstraint::Version);
        Some((term, rest))
    }

    fn admits(&self, version: &Version) -> bool {
        let order = version.precedence(&self.version);
        let (own, theirs) = (self.version.numbers(), version.numbers());
        match (self.operator, self.precision) {
            (Operator::Equal, Precision::Patch) => order == Ordering::Equal,
            (Operator::Equal | Operator::Tilde, _) => order != Ordering::Less && self.tilde(theirs),
            (Operator::NotEqual, Precision::Major) => theirs.0 != own.0,
            (Operator::NotEqual, Precision::Minor) => {
                (theirs.0, theirs.1) != (own.0, own.1) || version.pre != self.version.pre
            }
            (Operator::NotEqual, _) => order != Ordering::Equal,
            (Operator::Greater, Precision::Major) => theirs.0 > own.0,
            (Operator::Greater, Precision::Minor) => (theirs.0, theirs.1) > (own.0, own.1),
            (Operator::Greater, _) => order == Ordering::Greater,
            (Operator::Less, _) => order == Ordering::Less,
            (Operator::GreaterOrEqual, _) => order != Ordering::Less,
            (Operator::LessOrEqual, Precision::Patch) => order != Ordering::Greater,
            (Operator::LessOrEqual, Precision::Major) => theirs.0 <= own.0,
            (Operator::LessOrEqual, _) => (theirs.0, theirs.1) <= (own.0, own.1),
            (Operator::Caret, _) => order != Ordering::Less && self.caret(theirs),
        }
    }

    /// `~1` is below 2, `~1.2` and `~1.2.3` are below 1.3, `~0.0.0` and `~*` have no upper bound.
    fn tilde(&self, theirs: (u64, u64, u64)) -> bool {
        let own = self.version.numbers();
        match self.precision {
            Precision::Nothing => true,
            Precision::Patch if own == (0, 0, 0) => true,
            Precision::Major => theirs.0 == own.0,
            Precision::Minor | Precision::Patch => (theirs.0, theirs.1) == (own.0, own.1),
        }
    }

    /// The leftmost part that is not zero must stay.
    fn caret(&self, theirs: (u64, u64, u64)) -> bool {
        let own = self.version.numbers();
        if own.0 > 0 || self.precision == Precision::Major {
            theirs.0 == own.0
        } else if own.1 > 0 || self.precision == Precision::Minor {
            (theirs.0, theirs.1) == (own.0, own.1)
        } else {
            theirs == own
        }
    }
}

/// Digits and wildcards; `|` is among them in the library's grammar, and then the version is none.
fn take_part<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "xX*|".contains(c))).unwrap_or(rest.len());
    let (part, after) = rest.split_at(end);
    *rest = after;
    (!part.is_empty()).then_some(part)
}

/// A sign and identifiers with dots between them; nothing is taken where there is no identifier.
fn take_identifiers<'t>(sign: char, rest: &mut &'t str) -> &'t str {
    let whole = *rest;
    let Some(text) = whole.strip_prefix(sign) else { return "" };
    let mut end = 0;
    loop {
        let tail = text.get(end..).unwrap_or_default();
        let word = tail.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(tail.len());
        if word == 0 {
            // A dot that nothing follows is not part of it.
            end = end.saturating_sub(1);
            break;
        }
        end += word;
        if !text.get(end..).unwrap_or_default().starts_with('.') {
            break;
        }
        end += 1;
    }
    if end == 0 {
        return "";
    }
    let (taken, after) = whole.split_at(end + 1);
    *rest = after;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `testdata/constraints.tsv`: a constraint, versions that it admits, versions that it refuses; or a constraint, `!`, the
    /// error.
    const TABLE: &str = include_str!("../../testdata/constraints.tsv");

    #[test]
    fn constraints_admit_what_the_library_admits() -> Result<(), Box<dyn std::error::Error>> {
        let mut pairs = 0;
        for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [text, admitted, refused] = fields[..] else { return Err(format!("not three fields: {line}").into()) };
            let text = text.replace("\\t", "\t");
            if admitted == "!" {
                assert_eq!(
                    Constraint::parse(&text).map_err(|e| e.to_string()).err().as_deref(),
                    Some(refused),
                    "{line}"
                );
                pairs += 1;
                continue;
            }
            let constraint = Constraint::parse(&text)?;
            for (versions, expected) in [(admitted, true), (refused, false)] {
                for version in versions.split_whitespace() {
                    assert_eq!(constraint.admits(&Version::parse(version)?), expected, "{text} for {version}");
                    pairs += 1;
                }
            }
        }
        assert!(pairs >= 300, "only {pairs} pairs");
        Ok(())
    }

    #[test]
    fn any_text_is_a_constraint_or_an_error() {
        let pieces =
            ["", " ", ",", "||", "|", "-", " - ", "1", ".", "x", "v", "+", "^", "~>", "é", "1.2.3-a.b+c", "\t"];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let _ = Constraint::parse(&[first, second, third, first].concat());
                }
            }
        }
    }
}
