//! What a build leaves in an output directory.
//!
//! Everything is staged before the first name is given. Several names cannot be given at once, so `digest` says whether they
//! belong together: it is removed before the first and comes after the last. Nothing waits for the disk: a task's volumes do
//! not outlive their machine, and the next step reads them at once (`docs/decisions/0025-how-outputs-are-written.md`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use skycap_image::archive::{self, Plan};
use skycap_image::layout::Layout;
use skycap_image::{Artifact, Compression, Descriptor, Event, Image, ImageSink, SourceError};
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

/// Writes what was built for one target.
pub(super) fn export(built: &Artifact, directory: &Path, form: Form, host: &Host) -> Result<(), Failure> {
    let mut stages = Vec::new();
    let digest = match (form, built) {
        (Form::Oci, _) => {
            stages.push(archive_of_layout(built, directory)?);
            stages.push(layout(built, directory, host)?);
            built.descriptor().digest
        }
        (Form::Docker | Form::DockerWithFiles, Artifact::Image(image)) => {
            stages.push(docker_archive(image, directory)?);
            if form == Form::DockerWithFiles {
                stages.extend(files(image, directory, host)?);
            }
            image.manifest().config.digest
        }
        (Form::Docker | Form::DockerWithFiles, Artifact::Index(_)) => {
            return Err(
                Failure::new("an index does not fit into an archive for docker load").with_hint("set OUTPUT_OCI: true")
            );
        }
    };
    let digest = staged_text(directory, DIGEST, &digest.to_string())?;
    retract(&directory.join(DIGEST))?;
    stages.into_iter().try_for_each(Stage::commit_unsynced)?;
    digest.commit_unsynced()
}

/// With a `manifest.json`, registry puts and `docker load` can read it too. It cannot say how layers are packed, and readers
/// take gzip for granted; an index has no place in it.
fn archive_of_layout(built: &Artifact, directory: &Path) -> Result<Stage, Failure> {
    let is_gzip = |layer: &Descriptor| layer.media_type.compression() != Compression::Zstd;
    match built {
        Artifact::Image(image) if image.manifest().layers.iter().all(is_gzip) => docker_archive(image, directory),
        _ => staged_archive(directory, archive::plan_oci(built, &[])),
    }
}

fn docker_archive(image: &Image, directory: &Path) -> Result<Stage, Failure> {
    staged_archive(directory, archive::plan_docker(image, &[]))
}

fn staged_archive(directory: &Path, plan: Result<Plan, SourceError>) -> Result<Stage, Failure> {
    const NAME: &str = "image.tar";
    let stage = Stage::new(directory, NAME);
    plan.and_then(|plan| plan.create(stage.path()))
        .map_err(|error| Failure::from(error).during(format_args!("write {}", directory.join(NAME).display())))?;
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
    let written = Layout::create_unsynced(stage.path()).and_then(|layout| layout.put(artifact, &[]));
    written.map_err(|error| Failure::from(error).during(format_args!("write {}", path.display())))?;
    let made = fs::set_permissions(stage.path(), Permissions::from_mode(0o700));
    made.map_err(|error| io_failure("write", &path, &error))?;
    Ok(stage)
}

fn files(image: &Image, directory: &Path, host: &Host) -> Result<Vec<Stage>, Failure> {
    host.progress.event(Event::Note("unpacking image"));
    let rootfs = Stage::new(directory, "rootfs");
    let options = Unpack { owners: host.owners, concurrency: 4, limits: Limits::default(), sync: false };
    // Every layer was reported when it was made or fetched.
    let unpacked = unpack(&image.layers(), rootfs.path(), &options, &Warnings(&*host.progress));
    unpacked.map_err(|error| Failure::caused_by(&error).during("unpack image"))?;
    let config = &image.config().config;
    let metadata = encode(&json!({"env": config.env, "user": config.user})) + "\n";
    Ok(vec![rootfs, staged_text(directory, "metadata.json", &metadata)?])
}
