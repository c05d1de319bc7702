//! Lists of the packages in an image, as SPDX 2.3 documents.
//!
//! Only package managers' own databases are read, through the layers' listings and without unpacking anything. A database
//! that cannot be read is an error: a list that leaves out what is there would be a lie.

mod apk;
mod copyright;
mod databases;
mod dpkg;
mod license;
mod os_release;
mod package;
mod rpm;
mod spdx;
mod tree;

use skycap_image::{Layer, Reference};
use skycap_store::Store;

use super::purl;
use crate::context::Context;
use crate::error::{BuildError, Fault};
use crate::request::{Built, Request};
use os_release::OsRelease;
pub(super) use spdx::Document;
use spdx::Root;
use tree::Tree;

/// What a statement calls an SPDX document.
pub(super) const PREDICATE: &str = "https://spdx.dev/Document";
/// What BuildKit calls the document of the image itself; those of stages have their names behind it.
const CORE: &str = "sbom";

/// A stage of which an SBOM was asked for.
pub(crate) struct Scanned {
    /// Its name, or `stage-<number>`.
    pub name: String,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// The documents of an image: its own, then those of the stages and the context that were scanned.
pub(super) fn documents(
    request: &Request,
    store: &Store,
    built: &Built,
    names: &[Reference],
) -> Result<Vec<Document>, BuildError> {
    let created = built.image.config().created.as_deref();
    let name = names.first().map_or_else(|| "_".to_owned(), ToString::to_string);
    let of_image = Root {
        document: CORE.to_owned(),
        name,
        digest: Some(built.image.descriptor().digest),
        purl: names.first().map(|name| purl::image("docker", name, &built.platform)),
        created,
    };
    let mut documents = vec![document(&of_image, Tree::of_layers(store, built.image.layers()))?];
    for stage in &built.scanned {
        documents.push(document(&extra(&stage.name, created), Tree::of_layers(store, stage.layers.clone()))?);
    }
    if built.scans_context {
        let context = Context::open(&request.context, request.ignore.clone());
        let context = context.map(|context| Tree::Directory(context.without(store.dir())));
        documents.push(document(&extra("context", created), context)?);
    }
    Ok(documents)
}

/// What a document is about that is not about the image.
fn extra<'c>(name: &str, created: Option<&'c str>) -> Root<'c> {
    Root { document: format!("{CORE}-{name}"), name: name.to_owned(), digest: None, purl: None, created }
}

fn document(root: &Root<'_>, tree: Result<Tree, Fault>) -> Result<Document, BuildError> {
    let scan = || -> Result<Document, Fault> {
        let tree = tree?;
        let system = system(&tree)?;
        let found = databases::packages(&tree)?;
        Ok(spdx::document(root, system.as_ref(), &found))
    };
    scan().map_err(|fault| BuildError::of_request(format!("the list of packages of {}", root.name), fault))
}

/// The system, where it says what it is.
fn system(tree: &Tree) -> Result<Option<OsRelease>, Fault> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if let Some(path) = tree.file(path)? {
            return Ok(OsRelease::parse(&tree.read(&path)?));
        }
    }
    Ok(None)
}
