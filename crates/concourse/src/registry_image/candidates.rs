//! Which tags are versions (semver mode): decided from lists, without asking anybody.
//!
//! 1. [`Candidates::of`] reads the tags: the bare tag (`latest`, or the variant), and the tags that are versions and pass
//!    the rules.
//! 2. The caller asks the registry what they stand for.
//! 3. [`Candidates::versions`] keeps one tag per digest and puts them in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use skycap_image::Digest;

use crate::pattern::GoPattern;
use crate::version::{Constraint, Version};

/// What decides whether a tag is a version.
pub(super) struct Rules<'r> {
    /// A suffix that every tag must have, behind a `-`; empty for none.
    pub(super) variant: &'r str,
    /// Instead of the variant: what every tag must match, and what finds the version in it.
    pub(super) pattern: Option<&'r GoPattern>,
    pub(super) constraint: Option<&'r Constraint>,
    pub(super) pre_releases: bool,
    /// Names of pre-releases beside alpha, beta and rc.
    pub(super) pre_release_prefixes: &'r [String],
}

/// Why a tag is no version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Refusal {
    /// Without the variant's suffix, or not as the pattern wants it.
    OtherName,
    NoVersion,
    Constraint,
    PreRelease,
}

/// The tags that count, in the registry's order.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The tag without a version, if the registry lists it.
    pub(super) bare: Option<String>,
    pub(super) versions: Vec<Candidate>,
}

/// A tag that is a version.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) tag: String,
    pub(super) version: Version,
    /// The dots in the tag without its variant: how exactly it names the version.
    dots: usize,
}

impl Rules<'_> {
    /// The tag that stands for no version; with a pattern there is none.
    fn bare(&self) -> Option<&str> {
        match (self.pattern, self.variant) {
            (Some(_), _) => None,
            (None, "") => Some("latest"),
            (None, variant) => Some(variant),
        }
    }

    /// The part of a tag that should be a version.
    fn version_text<'t>(&self, tag: &'t str) -> Option<&'t str> {
        match (self.pattern, self.variant) {
            (Some(pattern), _) => pattern.version(tag),
            (None, "") => Some(tag),
            (None, variant) => tag.strip_suffix(variant)?.strip_suffix('-'),
        }
    }

    /// What becomes of a tag that is not the bare one.
    fn judge(&self, tag: &str) -> Result<Candidate, Refusal> {
        let text = self.version_text(tag).ok_or(Refusal::OtherName)?;
        let version = Version::parse(text).map_err(|_| Refusal::NoVersion)?;
        if !self.constraint.is_none_or(|constraint| constraint.admits(&version)) {
            return Err(Refusal::Constraint);
        }
        if !self.admits_pre_release(&version.pre) {
            return Err(Refusal::PreRelease);
        }
        Ok(Candidate { tag: tag.to_owned(), version, dots: text.matches('.').count() })
    }

    /// Why a tag does not count; nothing if it does.
    pub(super) fn refusal(&self, tag: &str) -> Option<Refusal> {
        if self.bare() == Some(tag) { None } else { self.judge(tag).err() }
    }

    /// Without prefixes of the user's own, a pre-release with a `-` is taken for another variant.
    fn admits_pre_release(&self, pre: &str) -> bool {
        if pre.is_empty() {
            return true;
        }
        if !self.pre_releases || (self.pre_release_prefixes.is_empty() && pre.contains('-')) {
            return false;
        }
        let known = ["alpha", "beta", "rc"].into_iter();
        known.chain(self.pre_release_prefixes.iter().map(String::as_str)).any(|prefix| pre.starts_with(prefix))
    }
}

impl Candidates {
    /// Reads the tags.
    pub(super) fn of(tags: &[String], rules: &Rules<'_>) -> Self {
        let is_bare = |tag: &String| rules.bare().is_some_and(|bare| bare == tag);
        let bare = tags.iter().find(|tag| is_bare(tag)).cloned();
        let versions = tags.iter().filter(|tag| !is_bare(tag)).filter_map(|tag| rules.judge(tag).ok()).collect();
        Self { bare, versions }
    }

    /// The version of a tag.
    pub(super) fn version_of(&self, tag: &str) -> Option<&Version> {
        self.versions.iter().find(|candidate| candidate.tag == tag).map(|candidate| &candidate.version)
    }
}

/// One tag per digest, the one that says most, lowest version first. Candidates and digests go in pairs; a tag that
/// stands for nothing has none.
pub(super) fn one_per_digest(found: &[(Candidate, Digest)]) -> Vec<(&Candidate, Digest)> {
    let mut best: BTreeMap<Digest, (usize, &Candidate)> = BTreeMap::new();
    for (position, (candidate, digest)) in found.iter().enumerate() {
        let kept = best.entry(*digest).or_insert((position, candidate));
        if says_more(candidate, kept.1) == Ordering::Greater {
            *kept = (position, candidate);
        }
    }
    let mut versions: Vec<_> = best.into_iter().map(|(digest, (position, kept))| (position, kept, digest)).collect();
    versions.sort_by(|left, right| left.1.version.precedence(&right.1.version).then(left.0.cmp(&right.0)));
    versions.into_iter().map(|(_, candidate, digest)| (candidate, digest)).collect()
}

/// A release says more than a pre-release, `1.2.3` more than `1.2`, and of two equally exact tags the higher version.
fn says_more(left: &Candidate, right: &Candidate) -> Ordering {
    right
        .version
        .is_pre_release()
        .cmp(&left.version.is_pre_release())
        .then(left.dots.cmp(&right.dots))
        .then_with(|| left.version.precedence(&right.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn rules(variant: &str) -> Rules<'_> {
        Rules { variant, pattern: None, constraint: None, pre_releases: false, pre_release_prefixes: &[] }
    }

    fn names(candidates: &Candidates) -> String {
        candidates.versions.iter().map(|candidate| candidate.tag.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tags_that_are_versions_are_candidates() {
        let listed = tags("latest 1.0.0 v2 nightly 1.0.0-alpine 14.04 20240101 V3 1.2.3.4 1.0.0-rc1 alpine");
        let found = Candidates::of(&listed, &rules(""));
        assert_eq!(found.bare.as_deref(), Some("latest"));
        assert_eq!(names(&found), "1.0.0 v2 14.04 20240101");
        let found = Candidates::of(&listed, &rules("alpine"));
        assert_eq!((found.bare.as_deref(), names(&found)), (Some("alpine"), "1.0.0-alpine".to_owned()));
    }

    #[test]
    fn pre_releases_pass_by_their_names() {
        let listed = tags("1.0.0-rc1 1.0.0-RC1 1.0.0-rcfoo 1.0.0-rc1-alpine 1.0.0-dev.1 1.0.0-alpha 1.0.0");
        let prefixes = ["dev".to_owned()];
        let mut rules = Rules { pre_releases: true, ..rules("") };
        assert_eq!(names(&Candidates::of(&listed, &rules)), "1.0.0-rc1 1.0.0-rcfoo 1.0.0-alpha 1.0.0");
        rules.pre_release_prefixes = &prefixes;
        let expected = "1.0.0-rc1 1.0.0-rcfoo 1.0.0-rc1-alpine 1.0.0-dev.1 1.0.0-alpha 1.0.0";
        assert_eq!(names(&Candidates::of(&listed, &rules)), expected);
    }

    #[test]
    fn a_pattern_finds_versions_and_leaves_no_bare_tag() -> Result<(), Box<dyn std::error::Error>> {
        let pattern = GoPattern::parse(r"^(?:rel-)?(?P<version>[0-9]+[.][0-9.]+(?:-rc[0-9]+)?)-amd64$")?;
        let listed = tags("latest rel-1.2-amd64 1.10.0-amd64 rel-2.0.0-arm64 1.2.3.4-amd64 3.0.0-rc1-amd64 amd64");
        let rules = Rules { pattern: Some(&pattern), ..rules("amd64") };
        let found = Candidates::of(&listed, &rules);
        assert_eq!((found.bare.as_deref(), names(&found)), (None, "rel-1.2-amd64 1.10.0-amd64".to_owned()));
        let rules = Rules { pre_releases: true, ..rules };
        assert_eq!(names(&Candidates::of(&listed, &rules)), "rel-1.2-amd64 1.10.0-amd64 3.0.0-rc1-amd64");
        Ok(())
    }

    #[test]
    fn constraints_decide_before_pre_releases() -> Result<(), Box<dyn std::error::Error>> {
        let constraint = Constraint::parse("^1")?;
        let rules = Rules { constraint: Some(&constraint), ..rules("") };
        assert_eq!(names(&Candidates::of(&tags("0.9 1.0 1.9.9 2.0 latest"), &rules)), "1.0 1.9.9");
        Ok(())
    }

    #[test]
    fn one_tag_is_kept_for_each_digest() {
        // Tags that share a digest are joined by `=`; the answer is what is kept, lowest first.
        let cases = [
            ("1=1.2=1.2.3 2.0.0", "1.2.3 2.0.0"),
            ("1.2.0=1.2.1", "1.2.1"),
            ("1.2.1=1.2.0", "1.2.1"),
            ("v1.2.0=1.2.0", "v1.2.0"),
            ("1.2.0=v1.2.0", "1.2.0"),
            ("1.0.0-rc1=1.0", "1.0"),
            ("1.0=1.0.0-rc1", "1.0"),
            ("1.3=1.2.9", "1.2.9"),
            ("10 9 1.0.0", "1.0.0 9 10"),
            ("1.0.0+b 1.0.0+a", "1.0.0+b 1.0.0+a"),
        ];
        let rules = Rules { pre_releases: true, ..rules("") };
        for (text, expected) in cases {
            let mut found = Vec::new();
            for group in text.split_whitespace() {
                for candidate in Candidates::of(&tags(&group.replace('=', " ")), &rules).versions {
                    found.push((candidate, Digest::sha256(group.as_bytes())));
                }
            }
            let kept: Vec<_> = one_per_digest(&found).iter().map(|(candidate, _)| candidate.tag.as_str()).collect();
            assert_eq!(kept.join(" "), expected, "{text}");
        }
    }
}
