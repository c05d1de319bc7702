//! check: which versions are there.
//!
//! `source` chooses one of three modes: one tag, tags that match a pattern, tags that are versions (by themselves, or by what
//! a pattern finds in them). What is asked of the registry is only what the answer needs, many names at once; what becomes of
//! the answers is decided in [`candidates`](super::candidates).

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::{Artifact, Descriptor, Digest, Event, ImageSource, Name, Platform, SourceError};
use skycap_registry::Place;

use super::candidates::{Candidate, Candidates, Rules, one_per_digest};
use super::request::{CheckRequest, Version};
use super::source::Source;
use crate::parallel::in_parallel;
use crate::pattern::GoPattern;
use crate::version::Constraint;
use crate::{Failure, Host};

/// How many configs are fetched at once for `created_at_sort`.
const CONFIGS_AT_ONCE: usize = 8;
/// How many old versions are asked about at once when nothing newer explains the bare tag.
const OLD_VERSIONS_AT_ONCE: usize = 64;

/// What check needs of a repository.
pub(super) trait Tags: Sync {
    /// Begins a session.
    fn ping(&self) -> Result<(), SourceError>;
    /// Every tag, in the registry's order.
    fn tags(&self) -> Result<Vec<String>, SourceError>;
    /// What names stand for, in their order.
    fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>>;
    /// When the image of a tag was made, in RFC 3339.
    fn created(&self, tag: &str, platform: &Platform) -> Result<Option<String>, SourceError>;
}

impl Tags for Place {
    fn ping(&self) -> Result<(), SourceError> {
        Place::ping(self)
    }

    fn tags(&self) -> Result<Vec<String>, SourceError> {
        Place::tags(self)
    }

    fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        match names {
            // One name needs no crew.
            [name] => vec![ImageSource::find(self, name)],
            _ => Place::find_all(self, names),
        }
    }

    fn created(&self, tag: &str, platform: &Platform) -> Result<Option<String>, SourceError> {
        let raw = self.raw_ignoring_header(&Name::Tag(tag.to_owned()))?;
        let artifact = Artifact::open(raw, std::sync::Arc::new(self.clone()))?;
        Ok(artifact.for_platform(platform)?.config().created.clone())
    }
}

/// What `source` selects, checked before anybody is asked.
pub(super) enum Selection {
    Tag(String),
    Pattern(GoPattern),
    Versions(Versions),
}

/// Which tags are versions.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) constraint: Option<Constraint>,
    pub(super) pattern: Option<GoPattern>,
}

impl Versions {
    /// With what else the source says.
    pub(super) fn rules<'r>(&'r self, source: &'r Source) -> Rules<'r> {
        Rules {
            variant: &source.variant,
            pattern: self.pattern.as_ref(),
            constraint: self.constraint.as_ref(),
            pre_releases: source.pre_releases,
            pre_release_prefixes: &source.pre_release_prefixes,
        }
    }
}

impl Selection {
    /// Reads the source's fields.
    pub(super) fn of(source: &Source) -> Result<Self, Failure> {
        let versions = source.tag_regex_semver;
        if versions && (source.tag_regex.is_empty() || !source.tag.is_empty() || source.created_at_sort) {
            let what = "tag_regex_semver needs tag_regex, and neither tag nor created_at_sort";
            return Err(
                Failure::new(what).with_hint("the versions that tag_regex finds are what is followed and sorted by")
            );
        }
        if !source.tag.is_empty() {
            // A tag is part of a URL: what cannot be one must not get there.
            source.resolve_repository()?.with_tag(&source.tag).map_err(|error| Failure::new(error.to_string()))?;
            return Ok(Self::Tag(source.tag.clone()));
        }
        if !source.tag_regex.is_empty() {
            let pattern = GoPattern::parse(&source.tag_regex);
            let pattern = pattern.map_err(|e| Failure::new(format!("invalid regex pattern: {e}")))?;
            if !versions {
                return Ok(Self::Pattern(pattern));
            }
            return Ok(Self::Versions(Versions { constraint: constraint(source)?, pattern: Some(pattern) }));
        }
        Ok(Self::Versions(Versions { constraint: constraint(source)?, pattern: None }))
    }
}

fn constraint(source: &Source) -> Result<Option<Constraint>, Failure> {
    if source.semver_constraint.is_empty() {
        return Ok(None);
    }
    let constraint = Constraint::parse(&source.semver_constraint);
    constraint.map(Some).map_err(|e| Failure::new(format!("parse semver constraint: {e}")))
}

/// Answers a check, from the mirror if there is one that has an answer, else from the origin.
pub(super) fn check(request: &CheckRequest, host: &Host) -> Result<Vec<Version>, Failure> {
    let source = &request.source;
    let at_origin = |failure: Failure| failure.during(format_args!("checking origin {} failed", source.repository));
    let selection = Selection::of(source).map_err(at_origin)?;
    let progress = source.progress(host);
    let client = &host.checking_client()?.with_progress(std::sync::Arc::clone(&progress));
    if let Some(mirror) = source.mirror(client)? {
        let found = look(&mirror, &selection, source, request.version.as_ref());
        let problem = match found {
            Ok(versions) if !versions.is_empty() => return Ok(versions),
            Ok(_) => "tag not found".to_owned(),
            Err(failure) => failure.message,
        };
        let warning = format!("checking mirror {} failed: {problem}", mirror.repository());
        progress.event(Event::Warning(&warning));
    }
    source.resolve_repository().map_err(at_origin)?;
    let origin = source.origin(client, host, false).map_err(at_origin)?;
    look(&origin, &selection, source, request.version.as_ref()).map_err(at_origin)
}

pub(super) fn look(
    place: &dyn Tags,
    selection: &Selection,
    source: &Source,
    cursor: Option<&Version>,
) -> Result<Vec<Version>, Failure> {
    place.ping().map_err(during("initialize transport"))?;
    match selection {
        Selection::Tag(tag) => one_tag(place, tag, cursor),
        Selection::Pattern(pattern) => matching(place, pattern, source),
        Selection::Versions(wanted) => versions(place, wanted, source, cursor),
    }
}

/// An error of the registry with what was being done.
fn during(context: &'static str) -> impl Fn(SourceError) -> Failure {
    move |error| Failure::from(error).during(context)
}

/// The tag's version, and before it the caller's if the registry still has it.
fn one_tag(place: &dyn Tags, tag: &str, cursor: Option<&Version>) -> Result<Vec<Version>, Failure> {
    let find = |name: Name| -> Result<Option<Digest>, Failure> {
        let found = place.find_all(&[name]).pop().unwrap_or(Ok(None));
        Ok(found.map_err(during("get remote image"))?.map(|descriptor| descriptor.digest))
    };
    let version = |digest: Digest| Version { tag: tag.to_owned(), digest: digest.to_string() };
    let Some(current) = find(Name::Tag(tag.to_owned()))? else { return Ok(Vec::new()) };
    // Text that is no digest names nothing that could still be there.
    let old = cursor.and_then(|cursor| cursor.digest.parse::<Digest>().ok()).filter(|old| *old != current);
    let old = old.map(|old| find(Name::Digest(old))).transpose()?.flatten();
    Ok(old.into_iter().chain([current]).map(version).collect())
}

/// Every tag that matches, in the registry's order or by age.
fn matching(place: &dyn Tags, pattern: &GoPattern, source: &Source) -> Result<Vec<Version>, Failure> {
    let mut tags = place.tags().map_err(during("list repository tags"))?;
    tags.retain(|tag| pattern.is_match(tag));
    let found = digests(place, &tags)?;
    let mut versions: Vec<(String, Digest)> =
        tags.into_iter().zip(found).filter_map(|(tag, digest)| Some((tag, digest?))).collect();
    if source.created_at_sort {
        let created = ages(place, &versions, &source.platform.clone().unwrap_or_default().platform())?;
        versions.sort_by_key(|(_, digest)| created.get(digest).copied().flatten());
    }
    Ok(versions.into_iter().map(|(tag, digest)| Version { tag, digest: digest.to_string() }).collect())
}

/// When images were made, each asked for once however many tags it has: these requests count against quotas.
fn ages(
    place: &dyn Tags,
    versions: &[(String, Digest)],
    platform: &Platform,
) -> Result<BTreeMap<Digest, Option<jiff::Timestamp>>, Failure> {
    let mut seen = BTreeSet::new();
    let images: Vec<_> = versions.iter().filter(|(_, digest)| seen.insert(*digest)).collect();
    let created = in_parallel(CONFIGS_AT_ONCE, &images, |(tag, _)| place.created(tag, platform));
    let dated = images.iter().zip(created).map(|((_, digest), created)| {
        let created = created.map_err(during("get remote image"))?;
        Ok((*digest, created.and_then(|text| text.parse().ok())))
    });
    dated.collect()
}

/// What tags stand for, in their order; none where the registry lists a tag that it does not have.
fn digests(place: &dyn Tags, tags: &[String]) -> Result<Vec<Option<Digest>>, Failure> {
    let names: Vec<Name> = tags.iter().map(|tag| Name::Tag(tag.clone())).collect();
    let found = place.find_all(&names).into_iter();
    found.map(|found| Ok(found.map_err(during("get tag digest"))?.map(|descriptor| descriptor.digest))).collect()
}

/// The tags that are versions, from the caller's on, and at last the bare tag if it is none of them.
fn versions(
    place: &dyn Tags,
    wanted: &Versions,
    source: &Source,
    cursor: Option<&Version>,
) -> Result<Vec<Version>, Failure> {
    let tags = place.tags().map_err(during("list repository tags"))?;
    let candidates = Candidates::of(&tags, &wanted.rules(source));
    let mut known = Known { place, digests: BTreeMap::new() };
    let (old, new) = split_at_cursor(&candidates, cursor, &mut known)?;
    // With a constraint nobody asks what the bare tag stands for.
    let bare = candidates.bare.as_ref().filter(|_| wanted.constraint.is_none());
    known.look_up(new.iter().map(|candidate| &candidate.tag).chain(bare))?;

    let found: Vec<(Candidate, Digest)> =
        new.iter().filter_map(|candidate| Some(((*candidate).clone(), known.digest(&candidate.tag)?))).collect();
    let kept = one_per_digest(&found);
    let mut versions: Vec<Version> = kept
        .iter()
        .map(|(candidate, digest)| Version { tag: candidate.tag.clone(), digest: digest.to_string() })
        .collect();
    if let Some((bare, digest)) = bare.and_then(|bare| Some((bare, known.digest(bare)?))) {
        let is_new = kept.iter().any(|(_, version)| *version == digest);
        if !is_new && !stands_for_one_of(&old, digest, &mut known)? {
            versions.push(Version { tag: bare.clone(), digest: digest.to_string() });
        }
    }
    Ok(versions)
}

/// The candidates below the caller's version, and those from it on. All are new if the caller's version is not there any
/// more as it was.
fn split_at_cursor<'c>(
    candidates: &'c Candidates,
    cursor: Option<&Version>,
    known: &mut Known<'_>,
) -> Result<(Vec<&'c Candidate>, Vec<&'c Candidate>), Failure> {
    let all = || Ok((Vec::new(), candidates.versions.iter().collect()));
    let Some((cursor, version)) = cursor.and_then(|c| Some((c, candidates.version_of(&c.tag)?))) else { return all() };
    known.look_up([&cursor.tag].into_iter())?;
    if known.digest(&cursor.tag).is_none_or(|digest| digest.to_string() != cursor.digest) {
        return all();
    }
    let is_new = |candidate: &&Candidate| candidate.tag == cursor.tag || candidate.version.precedence(version).is_gt();
    let (new, old) = candidates.versions.iter().partition(is_new);
    Ok((old, new))
}

/// Whether a digest belongs to an old version; the highest are asked first.
fn stands_for_one_of(old: &[&Candidate], digest: Digest, known: &mut Known<'_>) -> Result<bool, Failure> {
    let mut old = old.to_vec();
    old.sort_by(|left, right| right.version.precedence(&left.version));
    for some in old.chunks(OLD_VERSIONS_AT_ONCE) {
        known.look_up(some.iter().map(|candidate| &candidate.tag))?;
        if some.iter().any(|candidate| known.digest(&candidate.tag) == Some(digest)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What tags stand for, asked once each.
struct Known<'p> {
    place: &'p dyn Tags,
    digests: BTreeMap<String, Option<Digest>>,
}

impl Known<'_> {
    fn look_up<'t>(&mut self, tags: impl Iterator<Item = &'t String>) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        let missing: Vec<String> =
            tags.filter(|tag| !self.digests.contains_key(*tag) && seen.insert(*tag)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found = digests(self.place, &missing)?;
        self.digests.extend(missing.into_iter().zip(found));
        Ok(())
    }

    fn digest(&self, tag: &str) -> Option<Digest> {
        self.digests.get(tag).copied().flatten()
    }
}

#[cfg(test)]
#[path = "check_cases.rs"]
mod cases;
