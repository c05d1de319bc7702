//! Where the images of `FROM` come from: `IMAGE_ARG`s, mirrors of Docker Hub, registries.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skycap_build::NamedContext;
use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, Descriptor, Event, ImageSource, Progress, Reference, Repository, Resolver, SourceError, archive,
};
use skycap_registry::{Access, Client, Keychain, Place};

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
    if !path.is_dir() {
        return Ok(archive::open(&path)?.only()?);
    }
    inputs.check_below("the layout", &path)?;
    let layout = Layout::open(&path)?;
    // The index around a single image says nothing, not even for which platform it is.
    if layout.artifacts()?.len() == 1 { Ok(layout.only()?) } else { Ok(layout.as_index()?) }
}

/// Registries, with mirrors of Docker Hub in front.
pub(super) struct Images {
    client: Client,
    keychain: Keychain,
    mirrors: Vec<String>,
    progress: Arc<dyn Progress>,
}

impl Images {
    /// Checks the mirrors' names; asks nobody.
    pub(super) fn new(
        client: Client,
        keychain: Keychain,
        mirrors: &[String],
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Failure> {
        let mirrors: Vec<String> =
            mirrors.iter().map(|mirror| mirror.trim().to_owned()).filter(|m| !m.is_empty()).collect();
        for mirror in &mirrors {
            at_mirror(mirror, "library/x").ok_or_else(|| {
                Failure::new(format!("REGISTRY_MIRRORS: {mirror:?} is not HOST[:PORT][/PATH]"))
                    .with_hint("leave out https://")
            })?;
        }
        Ok(Self { client, keychain, mirrors, progress })
    }

    /// Asks the mirrors first, each of which may fail, then the registry itself.
    fn ask<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Place) -> Result<Option<T>, SourceError>,
    ) -> Result<Option<T>, SourceError> {
        let repository = &reference.repository;
        let mirrors = self.mirrors.iter().filter(|_| repository.is_docker_hub());
        for (mirror, there) in mirrors.filter_map(|mirror| Some((mirror, at_mirror(mirror, repository.path())?))) {
            // A mirror with a port may be one that speaks plain HTTP.
            let answer = self.place(there, has_port(mirror)).and_then(|place| ask(&place));
            let problem = match answer {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => continue,
                Err(error) => crate::failure::chain(&error),
            };
            self.progress.event(Event::Warning(&format!("mirror {mirror} failed for {reference}: {problem}")));
        }
        ask(&self.place(repository.clone(), false)?)
    }

    fn place(&self, repository: Repository, insecure_plain_http: bool) -> Result<Place, SourceError> {
        let credentials = self.keychain.credentials(repository.registry())?;
        self.client.place(repository, Access { credentials, insecure_plain_http, ..Access::default() })
    }
}

impl Resolver for Images {
    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, SourceError> {
        self.ask(reference, |place| place.find(&reference.name()))
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        let found = self.ask(reference, |place| place.get(&reference.name()).map(Some))?;
        found.ok_or_else(|| SourceError::new(skycap_image::Kind::NotFound, format!("no image {reference}")))
    }
}

fn has_port(mirror: &str) -> bool {
    mirror.split('/').next().is_some_and(|host| host.contains(':'))
}

/// The repository of a mirror that stands for a path on Docker Hub.
fn at_mirror(mirror: &str, path: &str) -> Option<Repository> {
    let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
    // Without a dot or a port the grammar would take the host for a part of the path.
    let named = if host.contains(['.', ':']) || host == "localhost" { host.to_owned() } else { format!("{host}:443") };
    let prefix = prefix.trim_matches('/');
    let name = if prefix.is_empty() { format!("{named}/{path}") } else { format!("{named}/{prefix}/{path}") };
    let repository: Repository = name.parse().ok()?;
    Some(repository).filter(|_| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Reader;

    #[test]
    fn mirrors_may_have_ports_and_paths() {
        for (mirror, expected) in [
            ("m.example", Some("m.example/library/x")),
            ("m.example:5000", Some("m.example:5000/library/x")),
            ("harbor.example/proxy", Some("harbor.example/proxy/library/x")),
            ("cache", Some("cache:443/library/x")),
            ("localhost", Some("localhost/library/x")),
            ("https://m.example", None),
            ("", None),
            ("m.example/../x", None),
        ] {
            assert_eq!(at_mirror(mirror, "library/x").map(|found| found.to_string()).as_deref(), expected, "{mirror}");
        }
    }

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
