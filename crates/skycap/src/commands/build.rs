//! `skycap build`: a Dockerfile, for people.

use std::fs;
use std::str::FromStr;
use std::time::Instant;

use skycap_build::{Built, Outcome, Request, World, build, ignore::Ignore};
use skycap_concourse::Fetcher;
use skycap_image::transport::Transport;
use skycap_image::{Artifact, Image, ImageSink, Platform, Reference};
use skycap_registry::{Access, Client, Registries};

use super::{Context, pairs, threads};
use crate::args::Build;
use crate::failure::Failure;

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
        destination.check_writable()?;
    }
    let world = World {
        resolver: &registries,
        remote: &Fetcher::new(&context.host()?),
        store: &store,
        sandbox: context.sandbox()?,
        progress: &*context.progress,
    };
    let built = build(&request, &world)?;
    let Some(Built { image, steps, .. }) = built.into_iter().next() else { return Ok(()) };
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    say!("{} steps done, {} cached", count(Outcome::Done), count(Outcome::Cached) + count(Outcome::Skipped));
    for destination in &destinations {
        write(&image, destination, &arguments.tag)?;
    }
    for reference in &references {
        push(&image, reference, arguments.insecure, &registries)?;
    }
    context.summarise(started.elapsed(), None);
    show!("{}", image.descriptor().digest);
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

/// A place that is a file, as skopeo spells it.
fn destination(text: &str) -> Result<Transport, Failure> {
    match text.parse() {
        Ok(Transport::Registry(_)) | Err(_) => Err(Failure::usage(format!("-o {text}: there is no such destination"))
            .with_hint("write to docker-archive:FILE, oci-archive:FILE, oci:DIR or dir:DIR; -t REFERENCE pushes")),
        Ok(place) => Ok(place),
    }
}

/// A layout's image is called `latest` unless it is given a name; an archive has the names that are pushed.
fn write(image: &Image, destination: &Transport, names: &[String]) -> Result<(), Failure> {
    let latest = ["latest".to_owned()];
    let names = match destination {
        Transport::Layout { name: None, .. } => &latest[..],
        Transport::Layout { .. } => &[],
        _ => names,
    };
    Ok(destination.write_named(&Artifact::Image(image.clone()), names)?)
}

fn push(image: &Image, reference: &Reference, insecure: bool, registries: &Registries) -> Result<(), Failure> {
    let repository = reference.repository.clone();
    let credentials = registries.keychain.credentials(repository.registry())?;
    let access = Access { credentials, insecure_plain_http: insecure, push: true, ..Access::default() };
    let place = registries.client.place(repository, access)?;
    let descriptor = place.put(&Artifact::Image(image.clone()), &[reference.name()])?;
    say!("pushed {reference}@{}", descriptor.digest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_named_as_skopeo_names_them() {
        assert_eq!(destination("oci:a/b").unwrap().to_string(), "oci:a/b");
        assert_eq!(destination("docker-archive:x.tar").unwrap().to_string(), "docker-archive:x.tar");
        for text in ["", "oci:", "x.tar", "docker:foo", "docker://r.io/app"] {
            assert!(destination(text).is_err(), "{text}");
        }
    }
}
