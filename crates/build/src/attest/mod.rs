//! Attestations: what is in an image that was built, and how it came to be.
//!
//! ```text
//! Built -> package databases -> SPDX document ┐
//! Built -> recipe, materials -> SLSA provenance┴> in-toto statements -> manifests beside the images in an index
//! ```
//!
//! Everything is a function of the image, the request and what the build took from elsewhere; nothing here looks at a clock
//! or a random source. An image that comes out of the cache gets the same attestations as when it was first built.

mod material;
mod options;
mod provenance;
mod purl;
pub(crate) mod recipe;
mod redact;
mod sbom;
mod statement;

use skycap_image::attestation::{self, Attestation, Attested};
use skycap_image::{Artifact, Reference};
use skycap_store::Store;

pub use material::Material;
pub(crate) use options::means_stage;
pub use options::{Attest, InvalidAttest, Mode, Provenance, Sbom, Version};

use crate::error::BuildError;
use crate::request::{Built, Request};
pub(crate) use sbom::Scanned;
use statement::Subject;

/// What [`Request::attest`] asks for about one image: the lists of packages first, then provenance. `names` is what the
/// image will be known as; statements speak of it under those names.
pub fn attest(
    request: &Request,
    store: &Store,
    built: &Built,
    names: &[Reference],
) -> Result<Vec<Attestation>, BuildError> {
    let subject = Subject::new(&built.image, &built.platform, names);
    let mut statements = Vec::new();
    if request.attest.sbom.is_some() {
        for document in sbom::documents(request, store, built, names)? {
            statements.push(subject.state(sbom::PREDICATE, &document)?);
        }
    }
    if let Some(wanted) = &request.attest.provenance {
        statements
            .push(subject.state(wanted.version.predicate_type(), &provenance::predicate(request, built, wanted))?);
    }
    Ok(statements)
}

/// The images of one target as one artifact: an index if there are several or if something is attested, else the image.
pub fn artifact(
    request: &Request,
    store: &Store,
    built: &[&Built],
    names: &[Reference],
) -> Result<Artifact, BuildError> {
    if let [one] = built
        && request.attest.is_empty()
    {
        return Ok(Artifact::Image(one.image.clone()));
    }
    let attested = built.iter().map(|built| {
        let platform = built.image.config().platform();
        Ok(Attested { image: built.image.clone(), platform, attestations: attest(request, store, built, names)? })
    });
    let attested = attested.collect::<Result<Vec<_>, BuildError>>()?;
    attestation::index(&attested).map(Artifact::Index).map_err(|error| BuildError::Other {
        what: "the index cannot be put together".to_owned(),
        source: error.into(),
    })
}

/// Refuses what cannot be had together, before anything is built.
pub(crate) fn check(request: &Request) -> Result<(), BuildError> {
    if request.docker_media_types && !request.attest.is_empty() {
        return Err(BuildError::Request {
            what: "attestations cannot be kept with Docker's media types".to_owned(),
            hint: Some("leave out the attestations, or ask for OCI's media types".to_owned()),
        });
    }
    Ok(())
}
