//! Which tags a put writes: decided from the request, the file of additional tags and the tags of the repository.

use crate::Failure;
use crate::version::Version;

/// What a put's tags are made of.
pub(super) struct Wanted<'w> {
    /// `source.tag`.
    pub(super) tag: &'w str,
    /// `params.version`, parsed.
    pub(super) version: Option<&'w Version>,
    /// `source.variant`.
    pub(super) variant: &'w str,
    /// The repository's tags, if aliases are to be moved.
    pub(super) remote: Option<&'w [String]>,
    /// The content of the file of additional tags.
    pub(super) additional: &'w str,
    /// Put before each additional tag.
    pub(super) prefix: &'w str,
}

/// The tags in order; empty if nothing names one.
pub(super) fn tags(wanted: &Wanted<'_>) -> Result<Vec<String>, Failure> {
    let mut tags = Vec::new();
    if !wanted.tag.is_empty() {
        tags.push(wanted.tag.to_owned());
    }
    if let Some(version) = wanted.version {
        tags.push(with_variant(version.to_string(), wanted.variant));
        if let Some(remote) = wanted.remote.filter(|_| !version.is_pre_release()) {
            tags.extend(aliases(version, remote, wanted.variant));
        }
    }
    let additional: Vec<&str> = wanted.additional.split_whitespace().collect();
    if !wanted.prefix.is_empty() && additional.is_empty() {
        return Err(Failure::new("tag_prefix can only be used when additional_tags are specified"));
    }
    tags.extend(additional.iter().map(|tag| format!("{}{tag}", wanted.prefix)));
    Ok(tags)
}

fn with_variant(tag: String, variant: &str) -> String {
    if variant.is_empty() { tag } else { format!("{tag}-{variant}") }
}

/// `latest`, the major and the minor tag, as far as no higher version stands in their way.
fn aliases(version: &Version, remote: &[String], variant: &str) -> Vec<String> {
    let others = remote.iter().filter_map(|tag| {
        let text = if variant.is_empty() { tag } else { tag.strip_suffix(variant)?.strip_suffix('-')? };
        Version::parse(text).ok().filter(|other| !other.is_pre_release())
    });
    let (mut latest, mut major, mut minor) = (true, true, true);
    for other in others {
        latest &= other.precedence(version).is_le();
        if other.major == version.major && other.minor > version.minor {
            major = false;
        }
        if (other.major, other.minor) == (version.major, version.minor) && other.patch > version.patch {
            (major, minor) = (false, false);
        }
    }
    let bare = if variant.is_empty() { "latest" } else { variant };
    [
        (latest, bare.to_owned()),
        (major, with_variant(version.major.to_string(), variant)),
        (minor, with_variant(format!("{}.{}", version.major, version.minor), variant)),
    ]
    .into_iter()
    .filter_map(|(moves, tag)| moves.then_some(tag))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(wanted: &Wanted<'_>) -> Result<String, String> {
        tags(wanted).map(|tags| tags.join(" ")).map_err(|failure| failure.message)
    }

    const NOTHING: Wanted<'_> =
        Wanted { tag: "", version: None, variant: "", remote: None, additional: "", prefix: "" };

    #[test]
    fn tags_come_in_order() -> Result<(), Box<dyn std::error::Error>> {
        let version = Version::parse("v1.2")?;
        let all = Wanted {
            tag: "edge",
            version: Some(&version),
            variant: "alpine",
            remote: Some(&[]),
            additional: " a\nb ",
            prefix: "p-",
        };
        assert_eq!(joined(&all).as_deref(), Ok("edge 1.2.0-alpine alpine 1-alpine 1.2-alpine p-a p-b"));
        assert_eq!(joined(&NOTHING).as_deref(), Ok(""));
        assert_eq!(joined(&Wanted { additional: "a a", ..NOTHING }).as_deref(), Ok("a a"));
        let error = "tag_prefix can only be used when additional_tags are specified";
        assert_eq!(joined(&Wanted { prefix: "p", ..NOTHING }).as_deref(), Err(&error.to_owned()));
        Ok(())
    }

    #[test]
    fn aliases_move_unless_a_higher_version_is_there() -> Result<(), Box<dyn std::error::Error>> {
        let cases = [
            ("1.2.3", "", "latest 1 1.2"),
            ("1.2.3", "1.2.3 1.2 1 latest", "latest 1 1.2"),
            ("1.2.3", "2.0.0", "1 1.2"),
            ("1.2.3", "1.3.0", "1.2"),
            ("1.2.3", "1.2.4", ""),
            ("1.2.3", "0.9 1.1.9", "latest 1 1.2"),
            ("1.2.3", "2", "1 1.2"),
            ("1.2.3", "2.0.0-rc1 nightly 2.0.0-alpine", "latest 1 1.2"),
            ("1.2.3-rc1", "", ""),
        ];
        for (version, remote, expected) in cases {
            let version = Version::parse(version)?;
            let remote: Vec<String> = remote.split_whitespace().map(str::to_owned).collect();
            let wanted = Wanted { version: Some(&version), remote: Some(&remote), ..NOTHING };
            let found = joined(&wanted).unwrap_or_default();
            assert_eq!(found, format!("{version} {expected}").trim_end(), "{version} beside {remote:?}");
        }
        let version = Version::parse("1.2.3")?;
        let remote = ["2.0.0".to_owned(), "1.3.0-alpine".to_owned()];
        let wanted = Wanted { version: Some(&version), variant: "alpine", remote: Some(&remote), ..NOTHING };
        assert_eq!(joined(&wanted).as_deref(), Ok("1.2.3-alpine 1.2-alpine"));
        Ok(())
    }
}
