//! `skycap build`: a Dockerfile, for people.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use skycap_build::{Built, Outcome, Request, build, ignore::Ignore};
use skycap_image::{Artifact, Image, ImageSink, Name, Platform, Reference, archive, layout::Layout};
use skycap_registry::{Access, Client, Registries};

use super::{Context, pairs, threads};
use crate::args::Build;
use crate::failure::Failure;

/// Where an image is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    DockerArchive(PathBuf),
    OciArchive(PathBuf),
    Layout(PathBuf),
}

impl Destination {
    /// Says before the build what would stop the writing after it.
    fn check(&self) -> Result<(), Failure> {
        let (Self::DockerArchive(path) | Self::OciArchive(path) | Self::Layout(path)) = self;
        let parent = parent(path);
        if parent.is_dir() {
            return Ok(());
        }
        Err(Failure::new(format!("cannot write {}: {} is not a directory", path.display(), parent.display())))
    }
}

/// The directory that a file lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Builds, then writes and pushes what was asked for.
pub fn run(arguments: &Build, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let destinations = arguments.output.iter().map(|text| destination(text)).collect::<Result<Vec<_>, _>>()?;
    let references = arguments.tag.iter().map(|tag| argument("-t", tag)).collect::<Result<Vec<Reference>, _>>()?;
    let client = Client::new(context.settings()?, context.progress.clone())?.with_stop(context.stop.clone());
    let request = request(arguments, context)?;
    let registries = Registries::new(client, context.keychain()?);
    let store = context.store()?;
    for destination in &destinations {
        destination.check()?;
    }
    let built = build(&request, &registries, &store, context.sandbox()?, &*context.progress)?;
    let Some(Built { image, steps, .. }) = built.into_iter().next() else { return Ok(()) };
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    eprintln!("{} steps done, {} cached", count(Outcome::Done), count(Outcome::Cached) + count(Outcome::Skipped));
    for destination in &destinations {
        write(&image, destination, &arguments.tag)?;
    }
    for reference in &references {
        push(&image, reference, arguments.insecure, &registries)?;
    }
    context.summarise(started.elapsed(), None);
    println!("{}", image.descriptor().digest);
    Ok(())
}

fn request(arguments: &Build, context: &Context) -> Result<Request, Failure> {
    let path = arguments.file.clone().unwrap_or_else(|| arguments.context.join("Dockerfile"));
    let name = path.display().to_string();
    let dockerfile = fs::read(&path).map_err(|error| {
        Failure::because(format!("cannot read {name}"), &error).with_hint("-f FILE names another Dockerfile")
    })?;
    let platforms =
        arguments.platform.iter().map(|text| argument("--platform", text)).collect::<Result<Vec<Platform>, _>>()?;
    Ok(Request {
        ignore: Ignore::for_dockerfile(&arguments.context, &path)?,
        dockerfile_name: name,
        targets: vec![arguments.target.clone()],
        build_args: pairs(&arguments.args, "--build-arg")?,
        labels: pairs(&arguments.label, "--label")?,
        platforms,
        source_date_epoch: source_date_epoch(context)?,
        no_cache: arguments.no_cache,
        scratch: Some(context.world.roomy.clone()),
        threads: threads(),
        cancel: context.cancel.clone(),
        ..Request::new(&arguments.context, dockerfile)
    })
}

/// A value of a flag, read.
fn argument<T: FromStr<Err: std::fmt::Display>>(flag: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{flag} {text}: {error}")))
}

fn source_date_epoch(context: &Context) -> Result<Option<i64>, Failure> {
    let text = context.environment.get("SOURCE_DATE_EPOCH");
    text.map(|text| {
        text.parse().map_err(|_| Failure::usage(format!("SOURCE_DATE_EPOCH={text}: expected seconds since 1970")))
    })
    .transpose()
}

fn destination(text: &str) -> Result<Destination, Failure> {
    match text.split_once(':') {
        Some(("docker-archive", path)) if !path.is_empty() => Ok(Destination::DockerArchive(path.into())),
        Some(("oci-archive", path)) if !path.is_empty() => Ok(Destination::OciArchive(path.into())),
        Some(("oci", path)) if !path.is_empty() => Ok(Destination::Layout(path.into())),
        _ => Err(Failure::usage(format!("-o {text}: there is no such destination"))
            .with_hint("write to docker-archive:FILE, oci-archive:FILE or oci:DIR; -t REFERENCE pushes")),
    }
}

fn write(image: &Image, destination: &Destination, names: &[String]) -> Result<(), Failure> {
    let artifact = Artifact::Image(image.clone());
    match destination {
        Destination::DockerArchive(path) => whole(path, |out| archive::write_docker(image, names, out)),
        Destination::OciArchive(path) => whole(path, |out| archive::write_oci(&artifact, names, out)),
        Destination::Layout(path) => {
            let layout = if path.join("index.json").exists() { Layout::open(path)? } else { Layout::create(path)? };
            layout.put(&artifact, &[Name::Tag("latest".to_owned())])?;
            Ok(())
        }
    }
}

/// Writes a file under another name and renames it.
fn whole<E: std::error::Error + 'static>(
    path: &Path,
    write: impl FnOnce(BufWriter<&fs::File>) -> Result<BufWriter<&fs::File>, E>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because(format!("cannot write {}", path.display()), &error);
    let mut staged = tempfile::Builder::new();
    let staged = staged.prefix(".skycap-").suffix(".partial").tempfile_in(parent(path)).map_err(failed)?;
    write(BufWriter::with_capacity(1 << 20, staged.as_file()))?.flush().map_err(failed)?;
    staged.as_file().sync_all().map_err(failed)?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(staged.path(), permissions).map_err(failed)?;
    staged.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn push(image: &Image, reference: &Reference, insecure: bool, registries: &Registries) -> Result<(), Failure> {
    let repository = reference.repository.clone();
    let credentials = registries.keychain.credentials(repository.registry())?;
    let access = Access { credentials, insecure_plain_http: insecure, push: true, ..Access::default() };
    let place = registries.client.place(repository, access)?;
    let descriptor = place.put(&Artifact::Image(image.clone()), &[reference.name()])?;
    eprintln!("pushed {reference}@{}", descriptor.digest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_named_as_skopeo_names_them() {
        assert_eq!(destination("oci:a/b").ok(), Some(Destination::Layout("a/b".into())));
        assert_eq!(destination("docker-archive:x.tar").ok(), Some(Destination::DockerArchive("x.tar".into())));
        for text in ["", "oci:", "x.tar", "docker:foo"] {
            assert!(destination(text).is_err(), "{text}");
        }
    }
}
