//! What a build leaves in an output directory.
//!
//! Everything is staged and made durable before the first name is given. Several names cannot be given at once, so `digest`
//! says whether they belong together: it is removed before the first and comes after the last.

use std::fs::{self, File, Permissions};
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, Event, Image, ImageSink, Index, Kind, SourceError, archive,
};
use skycap_rootfs::{Limits, Unpack, unpack};

use crate::files::{Stage, io_failure, retract};
use crate::progress::Warnings;
use crate::{Failure, Host, encode};

/// What a directory gets beside `image.tar` and `digest`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing: an archive for `docker load`.
    Docker,
    /// `rootfs/` and `metadata.json`.
    DockerWithFiles,
    /// `image/`, an OCI layout.
    Oci,
}

/// The last file of an output: what is beside it belongs to it.
const DIGEST: &str = "digest";

/// Writes the images of one target, one for each platform, in order.
pub(super) fn export(images: &[Image], directory: &Path, form: Form, host: &Host) -> Result<(), Failure> {
    let mut stages = Vec::new();
    let digest = match (form, images) {
        (_, []) => return Err(Failure::new(format!("nothing was built for {}", directory.display()))),
        (Form::Docker | Form::DockerWithFiles, [image]) => {
            stages.push(docker_archive(image, directory)?);
            if form == Form::DockerWithFiles {
                stages.extend(files(image, directory, host)?);
            }
            image.manifest().config.digest
        }
        (Form::Docker | Form::DockerWithFiles, _) => {
            return Err(Failure::new("several platforms do not fit into an archive for docker load")
                .with_hint("set OUTPUT_OCI: true"));
        }
        (Form::Oci, [image]) => {
            // With its manifest.json, registry puts and `docker load` can read it too.
            stages.push(docker_archive(image, directory)?);
            stages.push(layout(&Artifact::Image(image.clone()), directory, host)?);
            image.descriptor().digest
        }
        (Form::Oci, images) => {
            let index = Artifact::Index(index(images)?);
            stages.push(staged_file(directory, "image.tar", |file| archive::write_oci(&index, &[], file).map(drop))?);
            stages.push(layout(&index, directory, host)?);
            index.descriptor().digest
        }
    };
    let digest = staged_text(directory, DIGEST, &digest.to_string())?;
    retract(&directory.join(DIGEST))?;
    stages.into_iter().try_for_each(Stage::commit)?;
    digest.commit()
}

fn docker_archive(image: &Image, directory: &Path) -> Result<Stage, Failure> {
    staged_file(directory, "image.tar", |file| archive::write_docker(image, &[], file).map(drop))
}

fn staged_file(
    directory: &Path,
    name: &str,
    write: impl FnOnce(File) -> Result<(), SourceError>,
) -> Result<Stage, Failure> {
    let stage = Stage::new(directory, name);
    let path = directory.join(name);
    let file = File::create(stage.path()).map_err(|error| io_failure("write", &path, &error))?;
    write(file).map_err(|error| Failure::from(error).during(format_args!("write {}", path.display())))?;
    Ok(stage)
}

fn staged_text(directory: &Path, name: &str, text: &str) -> Result<Stage, Failure> {
    let stage = Stage::new(directory, name);
    fs::write(stage.path(), text).map_err(|error| io_failure("write", &directory.join(name), &error))?;
    Ok(stage)
}

fn layout(artifact: &Artifact, directory: &Path, host: &Host) -> Result<Stage, Failure> {
    let path = directory.join("image");
    host.progress.event(Event::Note(&format!("writing the OCI layout {}", path.display())));
    let stage = Stage::new(directory, "image");
    let written = Layout::create(stage.path()).and_then(|layout| layout.put(artifact, &[]));
    written.map_err(|error| Failure::from(error).during(format_args!("write {}", path.display())))?;
    let made = fs::set_permissions(stage.path(), Permissions::from_mode(0o700));
    made.map_err(|error| io_failure("write", &path, &error))?;
    Ok(stage)
}

fn files(image: &Image, directory: &Path, host: &Host) -> Result<Vec<Stage>, Failure> {
    host.progress.event(Event::Note("unpacking image"));
    let rootfs = Stage::new(directory, "rootfs");
    let options = Unpack { owners: host.owners, concurrency: 4, limits: Limits::default(), sync: true };
    // Every layer was reported when it was made or fetched.
    let unpacked = unpack(&image.layers(), rootfs.path(), &options, &Warnings(&*host.progress));
    unpacked.map_err(|error| Failure::caused_by(&error).during("unpack image"))?;
    let config = &image.config().config;
    let metadata = encode(&json!({"env": config.env, "user": config.user})) + "\n";
    Ok(vec![rootfs, staged_text(directory, "metadata.json", &metadata)?])
}

/// One index around the images, which say themselves what platform they are for.
fn index(images: &[Image]) -> Result<Index, Failure> {
    let descriptors = images.iter().map(|image| image.descriptor().clone().with_platform(image.config().platform()));
    Ok(Index::assemble(descriptors.collect(), false, Arc::new(Together(images.to_vec())))?)
}

/// Several images as one place.
struct Together(Vec<Image>);

impl Together {
    fn document(&self, digest: Digest) -> Option<&[u8]> {
        self.0.iter().find_map(|image| {
            if image.descriptor().digest == digest {
                Some(image.raw().bytes.as_slice())
            } else {
                (image.manifest().config.digest == digest).then(|| image.config_bytes())
            }
        })
    }

    fn owner(&self, digest: Digest) -> Option<&Image> {
        self.0.iter().find(|image| image.manifest().layers.iter().any(|layer| layer.digest == digest))
    }
}

impl BlobSource for Together {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        if let Some(bytes) = self.document(blob.digest) {
            return Ok(Box::new(Cursor::new(bytes.to_vec())));
        }
        let missing = || SourceError::new(Kind::NotFound, format!("no blob {} in what was built", blob.digest));
        self.owner(blob.digest).ok_or_else(missing)?.blobs().open_unverified(blob)
    }

    fn file(&self, blob: &Descriptor) -> Option<std::path::PathBuf> {
        self.owner(blob.digest)?.blobs().file(blob)
    }
}
