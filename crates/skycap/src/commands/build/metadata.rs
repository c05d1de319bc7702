//! `--iidfile`, `--metadata-file` and the id that `-q` prints.

use std::path::Path;

use serde_json::{Value, json};
use skycap_image::{Artifact, Digest, Placed, Reference};

use super::write::in_full;
use crate::failure::Failure;

/// What Docker calls an image's id: the digest of its config, or of the index where there are several.
pub fn id(artifact: &Artifact) -> Digest {
    match artifact {
        Artifact::Image(image) => image.manifest().config.digest,
        Artifact::Index(index) => index.raw().descriptor.digest,
    }
}

/// What buildx writes, in its words.
pub fn document(artifact: &Artifact, names: &[Reference]) -> Value {
    let descriptor = artifact.descriptor();
    let mut document = json!({
        "containerimage.descriptor": descriptor,
        "containerimage.digest": descriptor.digest.to_string(),
    });
    if let Artifact::Image(image) = artifact {
        document["containerimage.config.digest"] = image.manifest().config.digest.to_string().into();
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(in_full).collect();
        document["image.name"] = names.join(",").into();
    }
    document
}

/// A file that appears whole.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because(format!("cannot write {}", path.display()), &error);
    let mut placed = Placed::open(path).map_err(failed)?;
    std::io::Write::write_all(&mut placed, text.as_bytes()).map_err(failed)?;
    placed.commit(0o644).map_err(failed)
}
