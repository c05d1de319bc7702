//! `--annotation` and the `annotation.` keys of an output: which part of the result gets which.

use std::collections::BTreeMap;

use skycap_image::{Artifact, Image, Index, Platform, SourceError, annotate};

use super::keys::misplaced;
use crate::failure::Failure;

type Map = BTreeMap<String, String>;

/// A part of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Manifest,
    ManifestDescriptor,
    Index,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    part: Part,
    /// Only for this platform's image.
    platform: Option<Platform>,
    name: String,
    value: String,
}

/// `[WHERE[,WHERE…]:]NAME=VALUE`, where `WHERE` is a part with, in brackets, a platform.
pub fn parse(text: &str) -> Result<Vec<Annotation>, Failure> {
    const FLAG: &str = "--annotation";
    let (key, value) = super::flags::pair(FLAG, text)?;
    let Some((parts, name)) = key.split_once(':') else {
        return Ok(vec![annotation("manifest", &key, &value).map_err(|what| misplaced(FLAG, text, 0, &what))?]);
    };
    if name.is_empty() {
        return Err(misplaced(FLAG, text, parts.chars().count() + 1, "the name is missing"));
    }
    let mut column = 0;
    let mut found = Vec::new();
    for part in parts.split(',') {
        found.push(annotation(part, name, &value).map_err(|what| misplaced(FLAG, text, column, &what))?);
        column += part.chars().count() + 1;
    }
    Ok(found)
}

/// A key of an output: `annotation.NAME`, `annotation-index.NAME`, `annotation-manifest[linux/amd64].NAME` and so on. `None`
/// if the key is none of an annotation.
pub fn of_key(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    let (part, name) = rest.split_once('.')?;
    let part = match part.strip_prefix('-') {
        Some(part) => part.to_owned(),
        None => format!("manifest{part}"),
    };
    Some(annotation(&part, name, value))
}

fn annotation(part: &str, name: &str, value: &str) -> Result<Annotation, String> {
    let (part, platform) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
        Some((part, platform)) => (part, Some(platform.parse().map_err(|error| format!("{error}"))?)),
        None => (part, None),
    };
    let part = match part {
        "manifest" => Part::Manifest,
        "manifest-descriptor" => Part::ManifestDescriptor,
        "index" => Part::Index,
        "index-descriptor" => {
            return Err("nothing that is written holds annotations of an index's descriptor".to_owned());
        }
        other => {
            return Err(format!("annotations belong to manifest, manifest-descriptor or index, not to {other:?}"));
        }
    };
    if platform.is_some() && part == Part::Index {
        return Err("an index is not of one platform".to_owned());
    }
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    Ok(Annotation { part, platform, name: name.to_owned(), value: value.to_owned() })
}

/// Whether one of them needs an index.
pub fn need_index(annotations: &[Annotation]) -> bool {
    annotations.iter().any(|annotation| matches!(annotation.part, Part::Index | Part::ManifestDescriptor))
}

fn of(annotations: &[Annotation], part: Part, platform: Option<&Platform>) -> Map {
    let is_meant = |annotation: &&Annotation| {
        annotation.part == part
            && annotation.platform.as_ref().is_none_or(|wanted| platform.is_some_and(|own| wanted.accepts(own)))
    };
    annotations.iter().filter(is_meant).map(|found| (found.name.clone(), found.value.clone())).collect()
}

/// The image with what is meant for it.
pub fn image(image: &Image, platform: &Platform, annotations: &[Annotation]) -> Result<Image, SourceError> {
    let manifest = of(annotations, Part::Manifest, Some(platform));
    let descriptor = of(annotations, Part::ManifestDescriptor, Some(platform));
    annotate::image(image, &manifest, &descriptor)
}

/// The index with what is meant for it.
pub fn index(index: &Index, annotations: &[Annotation]) -> Result<Artifact, SourceError> {
    annotate::index(index, &of(annotations, Part::Index, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_where_they_belong() {
        let parts = |text: &str| parse(text).unwrap().into_iter().map(|found| found.part).collect::<Vec<_>>();
        assert_eq!(parts("a=b"), [Part::Manifest]);
        assert_eq!(parts("index:a=b:c"), [Part::Index]);
        assert_eq!(parts("index,manifest[linux/amd64]:a=b"), [Part::Index, Part::Manifest]);
        assert_eq!(parts("manifest-descriptor:a="), [Part::ManifestDescriptor]);
        for text in
            ["a", "=b", "indexx:a=b", "index:=b", "index[linux/amd64]:a=b", "index-descriptor:a=b", "manifest[!]:a=b"]
        {
            assert_eq!(parse(text).unwrap_err().code, 2, "{text}");
        }
    }

    #[test]
    fn keys_of_outputs_are_read_too() {
        let part = |key: &str| of_key(key, "v").map(|found| found.map(|found| (found.part, found.name)));
        assert_eq!(part("annotation.org.x"), Some(Ok((Part::Manifest, "org.x".to_owned()))));
        assert_eq!(part("annotation-index.a"), Some(Ok((Part::Index, "a".to_owned()))));
        assert_eq!(part("annotation[linux/arm64].a"), Some(Ok((Part::Manifest, "a".to_owned()))));
        assert_eq!(part("name"), None);
        assert!(part("annotation-x.a").unwrap().is_err());
    }
}
