//! What was built goes where it was asked for.

use std::io::{self, BufWriter, Write as _};

use skycap_build::Built;
use skycap_image::progress::Task;
use skycap_image::transport::Transport;
use skycap_image::{Artifact, Image, ImageSink, Name, Reference, archive};
use skycap_registry::Registries;
use skycap_store::Store;

use super::output::{Format, Output, To};
use super::tree;
use crate::commands::Context;
use crate::failure::Failure;

/// The result of a build.
pub struct Product<'b> {
    pub artifact: &'b Artifact,
    pub built: &'b [Built],
    pub names: &'b [Reference],
}

/// What writing needs.
pub struct Tools<'m> {
    pub registries: &'m Registries,
    pub store: &'m Store,
    pub context: &'m Context,
    pub insecure: bool,
}

/// What can be known about an output before the build: nobody wants to hear it after an hour.
pub fn check(output: &Output, is_index: bool, has_platforms: bool) -> Result<(), Failure> {
    if output.is_stdout() && rustix::termios::isatty(io::stdout()) {
        return Err(Failure::usage(format!("-o {}: standard output is a terminal", output.text))
            .with_hint("redirect it to a file or a program, or add dest=FILE"));
    }
    let is_docker = matches!(output.to, To::Place(Transport::DockerArchive { .. }) | To::Archive(Format::Docker));
    if is_docker && is_index {
        return Err(Failure::usage(format!(
            "-o {}: an archive for `docker load` holds one image, and an index was asked for",
            output.text
        ))
        .with_hint("several platforms and attestations fit into oci-archive:, oci: and registries"));
    }
    match &output.to {
        To::Files { split: Some(false), .. } if has_platforms => {
            Err(Failure::usage(format!("-o {}: the files of several platforms would lie over each other", output.text))
                .with_hint("leave out platform-split=false, or build one platform"))
        }
        To::Place(place) => Ok(place.check_writable()?),
        _ => Ok(()),
    }
}

/// Writes one output and says so.
pub fn write(output: &Output, product: &Product<'_>, tools: &Tools<'_>) -> Result<(), Failure> {
    let names = if output.names.is_empty() { product.names } else { &output.names };
    let progress = &*tools.context.progress;
    let label = match &output.to {
        To::Push { .. } => format!("pushing {}", output.text),
        _ => format!("exporting to {}", output.text),
    };
    match &output.to {
        To::Kept => return Ok(()),
        To::Push { references, by_digest } => return push(product.artifact, references, *by_digest, tools),
        _ => {}
    }
    let task = Task::start(progress, &label, None);
    match &output.to {
        To::Place(place) => place_named(place, product.artifact, names)?,
        To::Archive(format) => to_stdout(*format, product.artifact, names)?,
        To::Files { dir, delete, split } => {
            tree::into_directory(&rooted(product.built, *split), dir, *delete, tools.context)?;
        }
        To::FilesTar(file) => tree::into_tar(&rooted(product.built, None), file.as_ref(), tools.store)?,
        To::Push { .. } | To::Kept => {}
    }
    task.finish("done");
    Ok(())
}

/// Each platform has its own directory where there are several.
fn rooted(built: &[Built], split: Option<bool>) -> Vec<(&Image, String)> {
    let split = split.unwrap_or(built.len() > 1);
    let below = |built: &Built| if split { built.platform.to_string().replace('/', "_") } else { String::new() };
    built.iter().map(|built| (&built.image, below(built))).collect()
}

/// A layout calls the image by its tags, an archive by its full names; both have `latest` where there is none.
fn place_named(place: &Transport, artifact: &Artifact, names: &[Reference]) -> Result<(), Failure> {
    let tags: Vec<String> = match place {
        Transport::Layout { name: Some(_), .. } => Vec::new(),
        Transport::Layout { .. } if names.is_empty() => vec!["latest".to_owned()],
        Transport::Layout { .. } => names.iter().map(|name| name.name().to_string()).collect(),
        _ => names.iter().map(familiar).collect(),
    };
    Ok(place.write_named(artifact, &tags)?)
}

fn to_stdout(format: Format, artifact: &Artifact, names: &[Reference]) -> Result<(), Failure> {
    let names: Vec<String> = names.iter().map(familiar).collect();
    let out = BufWriter::new(io::stdout().lock());
    let mut out = match (format, artifact) {
        (Format::Docker, Artifact::Image(image)) => archive::write_docker(image, &names, out)?,
        _ => archive::write_oci(artifact, &names, out)?,
    };
    Ok(out.flush()?)
}

/// As Docker shows a name: `docker.io/library/app` is `app:latest`.
pub fn familiar(reference: &Reference) -> String {
    let full = in_full(reference);
    let bare = full.strip_prefix("docker.io/").unwrap_or(&full);
    bare.strip_prefix("library/").filter(|_| bare.len() < full.len()).unwrap_or(bare).to_owned()
}

/// `app` is `docker.io/library/app:latest`.
pub fn in_full(reference: &Reference) -> String {
    let repository = reference.repository.to_string().replacen("index.docker.io/", "docker.io/", 1);
    match reference.name() {
        Name::Tag(tag) => format!("{repository}:{tag}"),
        Name::Digest(digest) => format!("{repository}@{digest}"),
    }
}

fn push(artifact: &Artifact, references: &[Reference], by_digest: bool, tools: &Tools<'_>) -> Result<(), Failure> {
    let mut pushed: Vec<&Reference> = Vec::new();
    for reference in references {
        if pushed.iter().any(|done| done.repository == reference.repository) {
            continue;
        }
        pushed.push(reference);
        let same = || references.iter().filter(|other| other.repository == reference.repository);
        let names: Vec<Name> = if by_digest { Vec::new() } else { same().map(Reference::name).collect() };
        let repository = reference.repository.clone();
        let shown = familiar(&repository.with_digest(artifact.descriptor().digest));
        let task = Task::start(
            &*tools.context.progress,
            &format!("pushing {}", shown.split('@').next().unwrap_or(&shown)),
            None,
        );
        let place = super::caches::place(reference, tools.registries, tools.insecure, true)?;
        let descriptor = place.put(artifact, &names)?;
        task.finish("done");
        if by_digest {
            tools.context.say(&format!("pushed {shown}"));
        }
        for reference in same().filter(|_| !by_digest) {
            tools.context.say(&format!("pushed {}@{}", familiar(reference), descriptor.digest));
        }
    }
    Ok(())
}
