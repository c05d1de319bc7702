//! `skycap inspect`.

use std::sync::Arc;

use skycap_image::attestation;
use skycap_image::{Artifact, Image, Kind, Platform, Progress, SourceError};

use super::{Places, json, referrers, table, transport};
use crate::args::{Ends, Inspect};
use crate::commands::{Context, print, print_bytes};
use crate::failure::Failure;
use crate::report::Notices;

/// What is shown of an artifact.
pub struct Shown<'s> {
    /// As it was written, in full.
    pub name: &'s str,
    pub artifact: &'s Artifact,
    /// The image that is looked at closely: the one for the platform.
    pub image: Option<Image>,
    /// The platform that it was chosen by, if there was a choice and nobody asked for it.
    pub chosen_by: Option<Platform>,
    /// What an index says about its images.
    pub attested: Vec<Attested>,
}

/// What is said about an image of an index.
pub struct Attested {
    /// What the image is for.
    pub platform: Option<Platform>,
    /// The types of the statements.
    pub says: Vec<String>,
}

/// Fetches the manifest and the configuration, never a layer, and prints.
pub fn run(arguments: &Inspect, context: &Context) -> Result<(), Failure> {
    let from = transport(&arguments.name)?;
    let asked = super::platforms(arguments.platform.as_slice())?.pop();
    let places = Places::new(&arguments.login, &Ends::default(), context)?;
    // What is no image has a configuration that counts as a layer, and nobody waits for it.
    let quiet: Arc<dyn Progress> = Arc::new(Notices(Arc::clone(&context.progress)));
    let artifact = places.open_telling(&from, &quiet, None)?;
    if let Some(platform) = &asked {
        super::image_for(&artifact, platform, &from)?;
    }
    if arguments.raw {
        return print_bytes(&match &asked {
            Some(platform) => artifact.for_platform(platform)?.raw().bytes.clone(),
            None => artifact.raw().bytes.clone(),
        });
    }
    if arguments.config {
        let image = artifact.for_platform(asked.as_ref().unwrap_or(&Platform::host()))?;
        return print_bytes(image.config_bytes());
    }
    if arguments.referrers {
        return referrers::print_those(&artifact, asked.as_ref(), &from, &places, arguments.json);
    }
    let (image, chosen_by) = choose(&artifact, asked.as_ref())?;
    let name = from.to_string();
    let attested = attested(&artifact)?;
    let shown = Shown { name: &name, artifact: &artifact, image, chosen_by, attested };
    print(&if arguments.json { json::document(&shown)? } else { table::text(&shown) })
}

/// The statements that an index holds about its images; their manifests are read, they themselves are not.
fn attested(artifact: &Artifact) -> Result<Vec<Attested>, SourceError> {
    let Artifact::Index(index) = artifact else { return Ok(Vec::new()) };
    let entries = index.manifests();
    let attested = entries.iter().filter(|entry| attestation::is_attestation(entry)).map(|entry| {
        let subject = entry.annotations.get(attestation::REFERENCE_DIGEST);
        let image = entries.iter().find(|image| subject.is_some_and(|digest| *digest == image.digest.to_string()));
        let Artifact::Image(about) = index.child(entry)? else { return Ok(None) };
        let says =
            about.manifest().layers.iter().filter_map(|layer| layer.annotations.get(attestation::PREDICATE_TYPE));
        let platform = image.and_then(|image| image.platform.clone());
        Ok(Some(Attested { platform, says: says.cloned().collect() }))
    });
    attested.filter_map(Result::transpose).collect()
}

/// The image for the platform; of an index without one for this machine, the only one or none.
fn choose(artifact: &Artifact, asked: Option<&Platform>) -> Result<(Option<Image>, Option<Platform>), SourceError> {
    if let Some(platform) = asked {
        return artifact.for_platform(platform).map(|image| (Some(image), None));
    }
    let Artifact::Index(index) = artifact else {
        return artifact.for_platform(&Platform::host()).map(|i| (Some(i), None));
    };
    let real = index.manifests().iter().filter_map(|child| child.platform.as_ref()).filter(|p| p.os != "unknown");
    let wanted = match &real.collect::<Vec<_>>()[..] {
        [only] => (*only).clone(),
        _ => Platform::host(),
    };
    match artifact.for_platform(&wanted) {
        Ok(image) => Ok((Some(image), Some(wanted))),
        Err(error) if error.kind == Kind::NotFound => Ok((None, None)),
        Err(error) => Err(error),
    }
}
