//! What refers to an image: signatures, SBOMs, attestations.

use std::collections::BTreeSet;

use serde_json::json;
use skycap_image::layout::Layout;
use skycap_image::transport::Transport;
use skycap_image::{Artifact, Descriptor, Digest, ImageSource, Name, Platform};

use super::{End, Places};
use crate::commands::print;
use crate::failure::Failure;
use crate::report::{bytes, columns, printable};

/// Referrers of referrers are followed this far.
const DEEPEST: usize = 8;
/// What cosign appends to a digest to make the tag of what it knows about it, for registries without referrers.
const TAGGED: [&str; 3] = ["sig", "att", "sbom"];

/// Something that refers to an image, and the tag by which it is found if it has one.
pub struct Referrer {
    pub artifact: Artifact,
    pub tag: Option<Name>,
}

/// What refers to a manifest at a place. Archives cannot say.
fn of(subject: &Digest, from: &Transport, places: &Places<'_>) -> Result<Vec<Descriptor>, Failure> {
    match from {
        Transport::Registry(reference) => Ok(places.place(reference, End::Source)?.referrers(subject)?),
        Transport::Layout { dir, .. } => Ok(Layout::open(dir)?.referrers(subject)?),
        other => Err(Failure::new(format!("{other} does not say what refers to an image"))
            .with_hint("registries and layouts do: docker://, oci:")),
    }
}

/// Everything that refers to an artifact, to one of its images, or to something found so, with its digest; parents first.
pub fn all(artifact: &Artifact, from: &Transport, places: &Places<'_>) -> Result<Vec<Referrer>, Failure> {
    let mut subjects: Vec<Digest> = manifests(artifact);
    let mut seen: BTreeSet<Digest> = subjects.iter().copied().collect();
    let mut found = Vec::new();
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for subject in &subjects {
            for referrer in of(subject, from, places)? {
                if seen.insert(referrer.digest) {
                    found.push(Referrer { artifact: fetch(&referrer, from, places)?, tag: None });
                    next.push(referrer.digest);
                }
            }
        }
        subjects = next;
    }
    for subject in manifests(artifact) {
        for suffix in TAGGED {
            let tag = Name::Tag(format!("sha256-{}.{suffix}", subject.hex()));
            let Some(tagged) = find(&tag, from, places)? else { continue };
            match found.iter_mut().find(|referrer| referrer.artifact.descriptor().digest == tagged.digest) {
                Some(referrer) => referrer.tag = Some(tag),
                None => found.push(Referrer { artifact: fetch(&tagged, from, places)?, tag: Some(tag) }),
            }
        }
    }
    Ok(found)
}

fn find(name: &Name, from: &Transport, places: &Places<'_>) -> Result<Option<Descriptor>, Failure> {
    match from {
        Transport::Registry(reference) => Ok(places.place(reference, End::Source)?.find(name)?),
        Transport::Layout { dir, .. } => Ok(Layout::open(dir)?.find(name)?),
        _ => Ok(None),
    }
}

fn fetch(referrer: &Descriptor, from: &Transport, places: &Places<'_>) -> Result<Artifact, Failure> {
    let name = Name::Digest(referrer.digest);
    match from {
        Transport::Registry(reference) => {
            places.open(&Transport::Registry(reference.repository.with_digest(referrer.digest)))
        }
        Transport::Layout { dir, .. } => Ok(Layout::open(dir)?.get(&name)?),
        other => Err(Failure::new(format!("{other} holds no referrers"))),
    }
}

/// The artifact's own digest and, of an index, those of its images.
fn manifests(artifact: &Artifact) -> Vec<Digest> {
    let own = artifact.descriptor().digest;
    match artifact {
        Artifact::Image(_) => vec![own],
        Artifact::Index(index) => {
            std::iter::once(own).chain(index.manifests().iter().map(|child| child.digest)).collect()
        }
    }
}

/// For `inspect --referrers`.
pub fn print_those(
    artifact: &Artifact,
    platform: Option<&Platform>,
    from: &Transport,
    places: &Places<'_>,
    as_json: bool,
) -> Result<(), Failure> {
    let subject = match platform {
        Some(platform) => artifact.for_platform(platform)?.descriptor().digest,
        None => artifact.descriptor().digest,
    };
    let found = of(&subject, from, places)?;
    if as_json {
        return print(&(serde_json::to_string_pretty(&json!({"Subject": subject, "Referrers": found}))? + "\n"));
    }
    if found.is_empty() {
        say!("nothing refers to {subject}");
    }
    let row = |referrer: Descriptor| {
        let kind = referrer.artifact_type.as_deref().unwrap_or(referrer.media_type.as_str());
        vec![referrer.digest.to_string(), bytes(referrer.size), printable(kind)]
    };
    print(&columns(found.into_iter().map(row)))
}
