//! `Gem::Version`: the order in which registry-tag's semver mode lists tags.

use std::cmp::Ordering;

use super::semver::compare_digits;

/// A version as `RubyGems` orders it. `-` begins a pre-release; letters come before numbers; zeros at the end of the
/// numbers and at the end of the whole do not count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GemVersion(Vec<Segment>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Segment {
    Letters(String),
    /// Without leading zeros, so of any length; zero is empty.
    Number(String),
}

impl GemVersion {
    /// Reads a version. Anything can be read; what is neither digit nor letter only separates, and build metadata (which
    /// `RubyGems` refuses and tags cannot have) is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let segments = segments(&text.replace('-', ".pre."));
        let first_letters = segments.iter().position(|s| matches!(s, Segment::Letters(_))).unwrap_or(segments.len());
        let (numbers, rest) = segments.split_at(first_letters);
        Self([without_zeros(numbers), without_zeros(rest)].concat())
    }
}

fn segments(text: &str) -> Vec<Segment> {
    let kind = |character: char| (character.is_ascii_digit(), character.is_ascii_alphabetic());
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        match kind(first) {
            (true, _) => segments.push(Segment::Number(run.trim_start_matches('0').to_owned())),
            (_, true) => segments.push(Segment::Letters(run.to_owned())),
            (false, false) => {}
        }
    }
    segments
}

fn without_zeros(segments: &[Segment]) -> &[Segment] {
    let is_zero = |segment: &Segment| matches!(segment, Segment::Number(digits) if digits.is_empty());
    let end = segments.iter().rposition(|segment| !is_zero(segment)).map_or(0, |last| last + 1);
    segments.get(..end).unwrap_or_default()
}

impl Ord for GemVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        // A segment that is missing counts as zero.
        let zero = Segment::Number(String::new());
        let longest = self.0.len().max(other.0.len());
        (0..longest)
            .map(|at| self.0.get(at).unwrap_or(&zero).cmp(other.0.get(at).unwrap_or(&zero)))
            .find(|order| *order != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for GemVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Segment {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Letters(left), Self::Letters(right)) => left.cmp(right),
            (Self::Letters(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Letters(_)) => Ordering::Greater,
            (Self::Number(left), Self::Number(right)) => compare_digits(left, right),
        }
    }
}

impl PartialOrd for Segment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_rubygems() {
        let ascending = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpine",
            "1.0.0-alpine3.9",
            "1.0.0-alpine3.18",
            "1.0.0-beta",
            "1.0.0-rc1-alpine",
            "1.0.0-rc1",
            "1.0.0-rc.2",
            "1.0.0-rc.10",
            "1.0.0-slim-bullseye",
            "1.0.0-0",
            "1.0.0-1",
            "1.0.0-20240101",
            "1.0.0-20240101123456",
            "1.0.0",
            "9.0.0",
            "10.0.0",
            "20240101123456",
        ];
        for pair in ascending.windows(2) {
            let (low, high) = (GemVersion::parse(pair[0]), GemVersion::parse(pair[1]));
            assert_eq!(low.cmp(&high), Ordering::Less, "{pair:?}");
            assert_eq!(high.cmp(&low), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn spellings_of_one_version_are_equal() {
        for (left, right) in [("1.0", "1.0.0"), ("1.0-rc1", "1.0.0-rc.1"), ("1.0.0+a", "1"), ("1.01", "1.1"), ("", "0")]
        {
            let order = GemVersion::parse(left).cmp(&GemVersion::parse(right));
            assert_eq!(order, Ordering::Equal, "{left} {right}");
        }
    }
}
