//! `skycap inspect`.

use skycap_image::{Artifact, Image, Kind, Platform, SourceError};

use super::{Places, json, referrers, table, transport};
use crate::args::{Ends, Inspect};
use crate::commands::{Context, print, print_bytes};
use crate::failure::Failure;

/// What is shown of an artifact.
pub struct Shown<'s> {
    /// As it was written, in full.
    pub name: &'s str,
    pub artifact: &'s Artifact,
    /// The image that is looked at closely: the one for the platform.
    pub image: Option<Image>,
    /// The platform that it was chosen by, if there was a choice and nobody asked for it.
    pub chosen_by: Option<Platform>,
}

/// Fetches the manifest and the configuration, never a layer, and prints.
pub fn run(arguments: &Inspect, context: &Context) -> Result<(), Failure> {
    let from = transport(&arguments.name)?;
    let asked = super::platforms(arguments.platform.as_slice())?.pop();
    let places = Places::new(&arguments.login, &Ends::default(), context)?;
    let artifact = places.open(&from)?;
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
    let shown = Shown { name: &name, artifact: &artifact, image, chosen_by };
    print(&if arguments.json { json::document(&shown)? } else { table::text(&shown) })
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
