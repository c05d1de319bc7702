//! What a source does, in plain words: which repository, which tags count, who we are, and what people stumble over.
//!
//! Nothing is asked of anybody, unless the caller wants to know what the registry says; secrets are never said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use skycap_image::{Descriptor, Name, Platform, SourceError};
use skycap_registry::{Credentials, Place};

use super::candidates::{Candidates, Refusal};
use super::check::{Selection, Tags, Versions, look};
use super::identity::{HALF_A_KEY, Kind, logged_in};
use super::source::{HALF_A_LOGIN, Source};
use super::trust::{CosignSource, Signers};
use crate::protocol::{Value, request};
use crate::version::Version;
use crate::{Failure, Host};

/// A source in plain words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Lines for people.
    pub text: String,
    /// Whether something in the source is wrong, so that a step with it fails.
    pub has_mistakes: bool,
}

/// Tags as registries have them, to show what a source makes of them.
const SAMPLE: [&str; 14] = [
    "latest",
    "1",
    "1.2",
    "1.2.3",
    "v1.2.3",
    "1.2.3.4",
    "01.02",
    "2024.01.31",
    "1.2.3-alpine",
    "1.2.3-rc.1",
    "1.2.3-dev.1",
    "nightly",
    "main",
    "sha-1a2b3c4",
];
/// Names of architectures that are not Go's, with Go's.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("x86_64", "amd64"),
    ("x86-64", "amd64"),
    ("x64", "amd64"),
    ("aarch64", "arm64"),
    ("i386", "386"),
    ("i686", "386"),
    ("armv7", "arm/v7"),
    ("armhf", "arm/v7"),
];
/// As many tags are named; the rest is counted.
const NAMED: usize = 8;

/// Explains the source of a request, or a source alone. With `asks` the registry is asked what it holds.
pub fn explain(bytes: &[u8], host: &Host, asks: bool) -> Result<Explanation, Failure> {
    let source = read(bytes)?;
    let mut page = Page::default();
    page.describe(&source);
    page.find_surprises(&source);
    let selection = page.find_mistakes(&source, host);
    if let Some(selection) = &selection {
        page.say_tags(&source, selection);
        if asks {
            page.ask(&logged_in(source.clone(), host)?, selection, host)?;
        }
    }
    Ok(page.finish())
}

/// A request has a `source`; anything else is taken for one.
fn read(bytes: &[u8]) -> Result<Source, Failure> {
    let text = request(bytes)?;
    let root = Value::root(&text, "CheckRequest");
    let (mut inner, mut is_request) = (Source::default(), false);
    root.object(|key, value| {
        if key == "source" {
            is_request = true;
            inner = Source::decode(value)?;
        }
        Ok(())
    })?;
    Ok(if is_request { inner } else { Source::decode(&Value::root(&text, "source"))? })
}

/// Facts under headings, then what to look at twice, then what is wrong.
#[derive(Default)]
struct Page {
    facts: Vec<(&'static str, String)>,
    surprises: Vec<String>,
    mistakes: Vec<String>,
}

impl Page {
    fn fact(&mut self, heading: &'static str, text: impl Into<String>) {
        self.facts.push((heading, text.into()));
    }

    fn surprise(&mut self, applies: bool, text: &str) {
        if applies {
            self.surprises.push(text.to_owned());
        }
    }

    fn describe(&mut self, source: &Source) {
        if source.gets_its_registry_from_amazon() {
            self.fact("repository", format!("{} in the registry that Amazon ECR names", source.repository));
        } else if let Ok(repository) = source.parse_repository() {
            self.fact("repository", format!("{} in the registry {}", repository.path(), repository.registry()));
        }
        self.fact("check", mode(source));
        self.fact(
            "user",
            match (source.identity.kind(), source.user()) {
                (Some(Kind::Amazon), _) => "whom Amazon ECR gives a token to".to_owned(),
                (Some(Kind::Azure), _) => "an identity of Azure's".to_owned(),
                (Some(Kind::Google), _) => "an identity of Google's".to_owned(),
                (None, (Some(name), true)) => format!("{name}, with a password"),
                (None, _) => "nobody, unless a Docker configuration of the process knows the registry".to_owned(),
            },
        );
        if let (Some((host, has_user)), Ok(_)) = (source.mirror_host(), source.parse_repository()) {
            let user = if has_user { "with a user of its own" } else { "as nobody" };
            let host = if host.is_empty() { "Docker Hub itself" } else { host };
            self.fact(
                "mirror",
                if source.is_on_docker_hub() {
                    format!("{host} is asked first by check and get, {user}; a put does not go there")
                } else {
                    format!("{host} is not asked: only repositories of Docker Hub have a mirror")
                },
            );
        }
        let given = source.platform.clone().unwrap_or_default();
        let origin = if source.platform.is_some() { "" } else { " (this machine's)" };
        self.fact(
            "platform",
            format!("{}{origin} is what a get fetches; a check reports whole indexes", given.platform()),
        );
        let plain = if source.insecure { ", or plain HTTP where HTTPS does not answer" } else { "" };
        let trusted = match source.certificates() {
            0 => String::new(),
            count => format!("; {count} certificate(s) of ca_certs are trusted beside the system's"),
        };
        self.fact("connection", format!("HTTPS{plain}{trusted}"));
        for (what, pattern) in [("labels", &source.label_regex), ("annotations", &source.annotation_regex)] {
            if !pattern.is_empty() {
                self.fact("metadata", format!("a get shows the {what} whose names match {pattern}"));
            }
        }
        if source.content_trust.is_some() {
            self.fact(
                "trust",
                "a put signs its tags on a Notary server; check and get do not look at those signatures",
            );
        }
        let (signs, verifies) = source.cosign.as_ref().map(CosignSource::does).unwrap_or_default();
        if signs {
            self.fact("trust", "a put signs with cosign's key");
        }
        if verifies {
            self.fact("trust", "a get refuses what cosign's key has not signed");
        }
        let suffix = if source.variant.is_empty() { String::new() } else { format!("-{}", source.variant) };
        self.fact(
            "put",
            match source.tag.as_str() {
                "" => format!(
                    "pushes params.version{suffix}, its aliases and additional tags; `latest` if there is none of them"
                ),
                tag => format!("pushes {tag}, and params.version{suffix}, its aliases and additional tags"),
            },
        );
    }

    /// What is not wrong, but hardly meant.
    fn find_surprises(&mut self, source: &Source) {
        let (has_tag, has_pattern) = (!source.tag.is_empty(), !source.tag_regex.is_empty());
        let follows_versions = !has_tag && (!has_pattern || source.tag_regex_semver);
        let has_version_fields =
            !source.semver_constraint.is_empty() || source.pre_releases || !source.variant.is_empty();
        let user = source.user();
        self.surprise(user.0.is_some() != user.1, HALF_A_LOGIN);
        self.surprise(
            source.identity.kind().is_some() && user.0.is_some() && user.1,
            "username and password are not used: the login to the cloud gives others",
        );
        self.surprise(source.identity.has_half_a_key(), HALF_A_KEY);
        self.surprise(
            has_tag && (has_pattern || !source.semver_constraint.is_empty() || source.pre_releases || source.created_at_sort),
            "with a tag, check follows that tag only: tag_regex, semver_constraint, pre_releases and created_at_sort do nothing",
        );
        self.surprise(
            has_tag && !source.variant.is_empty(),
            "with a tag, variant does not matter to check; it is only put behind the version that a put pushes",
        );
        self.surprise(
            !has_tag && has_pattern && !source.tag_regex_semver && has_version_fields,
            "with tag_regex, semver_constraint, pre_releases and variant do nothing to a check; tag_regex_semver: true (not in \
             the original) reads versions out of the tags that match",
        );
        self.surprise(
            !source.pre_release_prefixes.is_empty() && !source.pre_releases,
            "pre_release_prefixes does nothing without pre_releases: true",
        );
        self.surprise(
            follows_versions && source.pre_releases && source.pre_release_prefixes.is_empty(),
            "a pre-release with a hyphen (1.2.3-rc.1-alpine) is taken for another variant; with pre_release_prefixes it is not",
        );
        self.surprise(
            follows_versions && source.pre_releases && constraint_without_pre_release(&source.semver_constraint),
            "the semver_constraint admits no pre-release, because it names none: >=1.0.0-0 admits what >=1.0.0 does not",
        );
        self.surprise(
            !has_tag && !has_pattern && source.semver_constraint.is_empty(),
            "there is no default tag, whatever the original's README says: without one, versions are followed, and the bare tag \
             comes last if it is none of them",
        );
        self.surprise(source.created_at_sort && !has_pattern, "created_at_sort does nothing without tag_regex");
        self.surprise(
            source.created_at_sort && has_pattern && !has_tag,
            "created_at_sort puts the oldest image first, so that the newest is the latest version (the original's README says \
             otherwise); it downloads manifests, which counts against quotas",
        );
        self.surprise(
            has_pattern && !has_tag && !(source.tag_regex.starts_with('^') && source.tag_regex.ends_with('$')),
            "tag_regex matches anywhere in a tag; ^ and $ tie it to the beginning and the end",
        );
        for field in source.identity.idle() {
            self.surprise(
                true,
                &format!("{field} does nothing here: aws_* needs aws_region, azure_* needs azure_acr: true"),
            );
        }
        self.surprise(
            source.insecure,
            "insecure only allows plain HTTP; a certificate that nobody knows is refused all the same, and ca_certs is for that",
        );
        self.surprise(
            source.is_on_docker_hub() && source.mirror_host().is_some() && user.0.is_some(),
            "username and password go to Docker Hub only; the mirror has its own in registry_mirror",
        );
        for (name, meant) in ARCHITECTURES {
            let is_used = source.platform.as_ref().is_some_and(|platform| platform.architecture() == name);
            self.surprise(is_used, &format!("platform.architecture {name} is no name of Go's; {meant} is"));
        }
    }

    /// What a check, a get or a put would fail at. The tags that are followed come back, if they can be known.
    fn find_mistakes(&mut self, source: &Source, host: &Host) -> Option<Selection> {
        let mut mistake = |failure: Failure| {
            let text = failure.hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            self.mistakes.push(format!("{}{text}", failure.message));
        };
        if let Err(failure) = source.resolve_repository() {
            mistake(failure);
        } else {
            source.check_login().map_or_else(&mut mistake, drop);
            if !source.gets_its_registry_from_amazon() {
                source.mirror(&host.client).map_or_else(&mut mistake, drop);
            }
            source.origin(&host.client, host, false).map_or_else(&mut mistake, drop);
        }
        for pattern in [("label_regex", &source.label_regex), ("annotation_regex", &source.annotation_regex)] {
            super::get::pattern(pattern.0, pattern.1).map_or_else(&mut mistake, drop);
        }
        let (nobody, trust, cosign) = (&Credentials::Anonymous, source.content_trust.as_ref(), source.cosign.as_ref());
        Signers::open(trust, None, nobody).map_or_else(&mut mistake, drop);
        Signers::open(None, cosign, nobody).map_or_else(&mut mistake, drop);
        cosign.map(CosignSource::verifier).transpose().map_or_else(&mut mistake, drop);
        let selection = source.parse_repository().ok().map(|_| Selection::of(source));
        match selection? {
            Ok(selection) => Some(selection),
            Err(failure) => {
                mistake(failure);
                None
            }
        }
    }

    /// What becomes of usual tags.
    fn say_tags(&mut self, source: &Source, selection: &Selection) {
        let mut sample: Vec<String> = SAMPLE.iter().map(|tag| (*tag).to_owned()).collect();
        if !source.variant.is_empty() {
            let variant = &source.variant;
            for tag in [variant.clone(), format!("1.2.3-{variant}"), format!("1.2.3-rc.1-{variant}")] {
                if !sample.contains(&tag) {
                    sample.push(tag);
                }
            }
        }
        match selection {
            Selection::Tag(tag) => self.fact("tags", format!("{tag} and no other")),
            Selection::Pattern(pattern) => {
                let (yes, no): (Vec<_>, Vec<_>) = sample.iter().partition(|tag| pattern.is_match(tag));
                self.fact("tags", format!("of usual tags these would count: {}", named(&yes)));
                self.fact("", format!("and these would not: {}", named(&no)));
            }
            Selection::Versions(versions) => {
                self.say_versions(source, versions, &sample, "of usual tags these would count");
            }
        }
    }

    fn say_versions(&mut self, source: &Source, versions: &Versions, tags: &[String], intro: &str) {
        let rules = versions.rules(source);
        let found = Candidates::of(tags, &rules);
        let mut counting: Vec<_> = found.versions.iter().collect();
        counting.sort_by(|left, right| left.version.precedence(&right.version));
        let names: Vec<&String> = counting.iter().map(|candidate| &candidate.tag).collect();
        self.fact("tags", format!("{intro}: {}", named(&names)));
        if let Some(bare) = found.bare.filter(|_| versions.constraint.is_none()) {
            self.fact("", format!("{bare} counts, at last, if it stands for none of them"));
        }
        let mut refused: BTreeMap<Refusal, Vec<&String>> = BTreeMap::new();
        for tag in tags {
            if let Some(refusal) = rules.refusal(tag) {
                refused.entry(refusal).or_default().push(tag);
            }
        }
        for (refusal, tags) in refused {
            let why = match refusal {
                Refusal::OtherName if versions.pattern.is_some() => {
                    "tag_regex does not match, or finds no version in it"
                }
                Refusal::OtherName => "without the suffix of the variant",
                Refusal::NoVersion => "no version",
                Refusal::Constraint => "refused by semver_constraint",
                Refusal::PreRelease => "pre-releases or other variants",
            };
            self.fact("", format!("{why}: {}", named(&tags)));
        }
    }

    /// What the registry holds of it: the mirror's, where it has an answer, as in a check.
    fn ask(&mut self, source: &Source, selection: &Selection, host: &Host) -> Result<(), Failure> {
        let client = host.checking_client()?;
        if let Some(mirror) = source.mirror(&client)? {
            let facts = self.facts.len();
            let problem = match self.ask_at(&mirror, source, selection) {
                Ok(true) => return Ok(()),
                Ok(false) => "tag not found".to_owned(),
                Err(failure) => failure.message,
            };
            self.facts.truncate(facts);
            self.surprise(true, &format!("the mirror has no answer, so that Docker Hub was asked: {problem}"));
        }
        self.ask_at(&source.origin(&client, host, false)?, source, selection).map(drop)
    }

    /// The same of one place; whether there is any version.
    fn ask_at(&mut self, place: &Place, source: &Source, selection: &Selection) -> Result<bool, Failure> {
        let tags = if let Selection::Tag(_) = selection { Vec::new() } else { Tags::tags(place)? };
        if let Selection::Versions(versions) = selection {
            self.say_versions(source, versions, &tags, &format!("of {} tags in the registry these count", tags.len()));
        }
        let versions = look(&Listed { place, tags }, selection, source, None)?;
        self.fact(
            "versions",
            match &versions[..] {
                [] => "none".to_owned(),
                [.., last] => format!("{}; the last is {} {}", versions.len(), last.tag, last.digest),
            },
        );
        Ok(!versions.is_empty())
    }

    fn finish(self) -> Explanation {
        let mut text = String::new();
        for (heading, fact) in &self.facts {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{heading:<12}{fact}");
        }
        for (heading, points) in [("look twice:", &self.surprises), ("wrong:", &self.mistakes)] {
            if !points.is_empty() {
                let _ = writeln!(text, "\n{heading}");
            }
            for point in points {
                let _ = writeln!(text, "- {point}");
            }
        }
        Explanation { text, has_mistakes: !self.mistakes.is_empty() }
    }
}

/// A repository whose tags were listed already.
struct Listed<'p> {
    place: &'p dyn Tags,
    tags: Vec<String>,
}

impl Tags for Listed<'_> {
    fn ping(&self) -> Result<(), SourceError> {
        self.place.ping()
    }

    fn tags(&self) -> Result<Vec<String>, SourceError> {
        Ok(self.tags.clone())
    }

    fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        self.place.find_all(names)
    }

    fn created(&self, tag: &str, platform: &Platform) -> Result<Option<String>, SourceError> {
        self.place.created(tag, platform)
    }
}

/// Which tags are followed.
fn mode(source: &Source) -> String {
    let constraint = match source.semver_constraint.as_str() {
        "" => String::new(),
        constraint => format!(" that satisfy {constraint}"),
    };
    let pre_releases = match (source.pre_releases, &source.pre_release_prefixes[..]) {
        (false, _) => ", without pre-releases".to_owned(),
        (true, []) => ", with pre-releases named alpha, beta and rc".to_owned(),
        (true, more) => format!(", with pre-releases named alpha, beta, rc, {}", more.join(", ")),
    };
    match (source.tag.as_str(), source.tag_regex.as_str(), source.variant.as_str()) {
        ("", "", "") => format!("follows tags that are versions{constraint}{pre_releases}, lowest first"),
        ("", "", variant) => {
            format!("follows versions with the suffix -{variant}{constraint}{pre_releases}, lowest first")
        }
        ("", pattern, _) if source.tag_regex_semver => {
            format!("follows the versions that {pattern} finds in tags{constraint}{pre_releases}, lowest first")
        }
        ("", pattern, _) if source.created_at_sort => format!("follows tags that match {pattern}, oldest image first"),
        ("", pattern, _) => format!("follows tags that match {pattern}, in the registry's order"),
        (tag, _, _) => format!("follows what the tag {tag} stands for"),
    }
}

/// Whether no term of a constraint names a pre-release.
fn constraint_without_pre_release(text: &str) -> bool {
    let words = text.split(|c: char| c.is_whitespace() || ",|<>=!~^".contains(c));
    !text.is_empty() && !words.filter_map(|word| Version::parse(word).ok()).any(|version| version.is_pre_release())
}

/// Some of the tags; the last ones are the newest.
fn named(tags: &[&String]) -> String {
    let first = tags.len().saturating_sub(NAMED);
    let names: Vec<&str> = tags.iter().skip(first).map(|tag| tag.as_str()).collect();
    match (first, names.is_empty()) {
        (_, true) => "none".to_owned(),
        (0, false) => names.join(" "),
        (more, false) => format!("{} and {more} more", names.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_that_name_no_pre_release_are_known() {
        for (text, expected) in
            [("", false), (">=1.0.0", true), (">=1.0.0-0 <2", false), ("^1 || ~2.0.0-rc.1", false), ("1 - 2", true)]
        {
            assert_eq!(constraint_without_pre_release(text), expected, "{text}");
        }
    }

    #[test]
    fn a_source_is_found_alone_and_in_a_request() -> Result<(), Failure> {
        for text in [r#"{"repository":"a/b"}"#, r#"{"Source":{"repository":"a/b"},"version":null}"#] {
            assert_eq!(read(text.as_bytes())?.repository, "a/b");
        }
        assert!(read(br#"{"foo":1}"#).is_err());
        Ok(())
    }
}
