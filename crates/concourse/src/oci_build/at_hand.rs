//! Images that the caller hands in: `IMAGE_ARG`s.

use std::collections::BTreeMap;
use std::path::Path;

use skycap_build::NamedContext;
use skycap_image::layout::Layout;
use skycap_image::{Artifact, Descriptor, Name, archive};

use super::values::pair;
use crate::Failure;
use crate::inputs::Inputs;

/// The registry that the values of `IMAGE_ARG`s name. Nobody answers there; nobody is asked.
const IMAGE_ARG_REGISTRY: &str = "image-arg.invalid";

/// Images that the caller hands in.
#[derive(Default)]
pub(super) struct AtHand {
    /// The build arguments that name them.
    pub(super) arguments: Vec<(String, String)>,
    /// The images by those names.
    pub(super) contexts: BTreeMap<String, NamedContext>,
}

impl AtHand {
    /// Opens every `NAME=PATH`. Names differ by case; the names that the Dockerfile sees are in lower case, because images
    /// have such.
    pub(super) fn open(arguments: &[String], inputs: &Inputs) -> Result<Self, Failure> {
        let mut at_hand = Self::default();
        for (position, argument) in arguments.iter().enumerate() {
            let (name, path) = pair("image argument", argument)?;
            let image =
                open(Path::new(&path), inputs).map_err(|failure| failure.during(format!("IMAGE_ARG_{name}")))?;
            let plain = format!("{IMAGE_ARG_REGISTRY}/{}", name.to_lowercase());
            let taken = at_hand.contexts.contains_key(&plain);
            let reference = if taken { format!("{plain}-{position}") } else { plain };
            at_hand.arguments.push((name, reference.clone()));
            at_hand.contexts.insert(reference, NamedContext::Image(image));
        }
        Ok(at_hand)
    }
}

fn open(path: &Path, inputs: &Inputs) -> Result<Artifact, Failure> {
    let path = inputs.find("the path", path)?;
    if path.is_dir() { of_layout(&path, inputs) } else { Ok(archive::open(&path)?.only()?) }
}

fn of_layout(path: &Path, inputs: &Inputs) -> Result<Artifact, Failure> {
    inputs.check_below("the layout", path)?;
    let layout = Layout::open(path)?;
    // The index around a single image says nothing, not even for which platform it is.
    if layout.artifacts()?.len() == 1 { Ok(layout.only()?) } else { Ok(layout.as_index()?) }
}

/// An image of a layout: `PATH`, `PATH:NAME` or `PATH@DIGEST`.
pub(super) fn layout(text: &str, inputs: &Inputs) -> Result<Artifact, Failure> {
    if inputs.find_if_there("the path", Path::new(text))?.is_some() {
        return of_layout(&inputs.find("the path", Path::new(text))?, inputs);
    }
    let (path, wanted) = match (text.split_once('@'), text.rsplit_once(':')) {
        (Some((path, digest)), _) => (path, digest),
        (None, Some((path, name))) => (path, name),
        (None, None) => (text, ""),
    };
    let path = inputs.find("the layout", Path::new(path))?;
    inputs.check_below("the layout", &path)?;
    let layout = Layout::open(&path)?;
    let artifacts = layout.artifacts()?;
    let is_wanted = |name: Option<&Name>, descriptor: &Descriptor| {
        name.is_some_and(|name| name.to_string() == wanted) || descriptor.digest.to_string() == wanted
    };
    let found = artifacts.iter().find(|(name, descriptor)| is_wanted(name.as_ref(), descriptor));
    let (_, descriptor) = found.ok_or_else(|| Failure::new(format!("{} holds no {wanted}", path.display())))?;
    Ok(layout.artifact(descriptor)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Reader;

    #[test]
    fn image_arguments_that_are_not_there_name_themselves() {
        let error = |argument: &str| {
            let inputs = Inputs::new(Reader::Task, Path::new("/nonexistent"), None);
            let opened = inputs.and_then(|inputs| AtHand::open(&[argument.to_owned()], &inputs));
            opened.err().map(|failure| failure.message).unwrap_or_default()
        };
        assert!(error("base=x.tar").starts_with("IMAGE_ARG_base: cannot inspect /nonexistent/x.tar"));
        assert_eq!(error("base"), "image argument \"base\" is not NAME=VALUE");
    }
}
