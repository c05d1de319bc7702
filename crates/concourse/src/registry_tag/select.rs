//! Which tags are versions, in which order: filter, sort, cursor. Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::source::{Order, Rules, Semver};
use crate::pattern::InvalidRubyPattern;
use crate::version::{GemVersion, Version, compare_digits};

/// The tags that check reports, oldest first.
pub(super) fn select(tags: &[String], rules: &Rules, cursor: Option<&str>) -> Result<Vec<String>, InvalidRubyPattern> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for tag in tags.iter().filter(|tag| seen.insert(*tag)) {
        if passes(tag, rules)? {
            kept.push((tag.clone(), version(tag, rules)?));
        }
    }
    sort(&mut kept, rules);
    let mut tags: Vec<String> = kept.into_iter().map(|(tag, _)| tag).collect();
    if let Some(cursor) = cursor {
        // Where the caller's tag is gone, the newest is what it should go on with.
        let first = tags.iter().position(|tag| tag == cursor).unwrap_or(tags.len().saturating_sub(1));
        tags.drain(..first);
    }
    Ok(tags)
}

/// Whether a tag is a version at all.
fn passes(tag: &str, rules: &Rules) -> Result<bool, InvalidRubyPattern> {
    if let Some(regexp) = &rules.regexp
        && regexp.find(tag)?.is_none()
    {
        return Ok(false);
    }
    let Some(semver) = &rules.semver else { return Ok(true) };
    let version = strict_version(without_prefix(tag, semver)?);
    Ok(version.is_some_and(|version| semver.matcher.as_ref().is_none_or(|matcher| matcher.admits(&version))))
}

/// What a tag is sorted by as a version.
fn version(tag: &str, rules: &Rules) -> Result<Option<GemVersion>, InvalidRubyPattern> {
    let Some(semver) = &rules.semver else { return Ok(None) };
    Ok(Some(GemVersion::parse(without_prefix(tag, semver)?)))
}

fn without_prefix<'t>(tag: &'t str, semver: &Semver) -> Result<&'t str, InvalidRubyPattern> {
    let Some(prefix) = &semver.prefix else { return Ok(tag) };
    let end = prefix.find(tag)?.map_or(0, |found| found.end);
    Ok(tag.get(end..).unwrap_or(tag))
}

/// Three numbers without leading zeros, and what may follow them.
fn strict_version(text: &str) -> Option<Version> {
    let numbers = text.split(['-', '+']).next()?;
    let is_number = |part: &str| part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
    let is_strict = numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
    if is_strict { Version::parse(text).ok() } else { None }
}

fn sort(tags: &mut [(String, Option<GemVersion>)], rules: &Rules) {
    match (rules.order, &rules.semver) {
        (Order::Alphabetical, _) => tags.sort_by(|left, right| left.0.cmp(&right.0)),
        (Order::Numerical, _) => tags.sort_by(|left, right| by_numbers(&left.0, &right.0)),
        (Order::Default, Some(_)) => tags.sort_by(|left, right| left.1.cmp(&right.1)),
        (Order::Default, None) => tags.reverse(),
    }
    if rules.reverse {
        tags.reverse();
    }
}

/// Compares the numbers of two tags from left to right.
fn by_numbers(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (numbers(left), numbers(right));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => match compare_digits(left, right) {
                Ordering::Equal => {}
                order => return order,
            },
        }
    }
}

fn numbers(tag: &str) -> impl Iterator<Item = &str> {
    tag.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::source::Request;
    use super::*;

    /// Cases are folders: `request.json`, `tags.txt` (as the registry lists them) and `expected.txt`, with `error: TEXT` for
    /// a failure.
    #[test]
    fn every_case_gives_what_it_expects() -> Result<(), Box<dyn std::error::Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/registry_tag/check");
        let folders: Vec<PathBuf> = fs::read_dir(root)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
        assert!(folders.len() > 15, "only {} cases were found", folders.len());
        for folder in folders {
            let read = |name: &str| fs::read_to_string(folder.join(name));
            let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let tags = words(read("tags.txt")?);
            let request = Request::decode(read("request.json")?.as_bytes())?;
            let selected = select(&tags, &request.source.rules, request.tag())?;
            assert_eq!(selected, words(read("expected.txt")?), "{}", folder.display());
        }
        Ok(())
    }

    #[test]
    fn versions_are_strict() {
        for text in ["1.2.3", "0.0.0", "1.2.3-rc.1", "1.2.3-0a+b"] {
            assert!(strict_version(text).is_some(), "{text}");
        }
        for text in ["1.2", "1.2.3.4", "2024.01.02", "01.0.0", "v1.2.3", "1.2.x", "1..2", "", "1.2.3-", "1.2.3-01"] {
            assert!(strict_version(text).is_none(), "{text}");
        }
    }
}
