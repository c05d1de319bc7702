//! `skycap pull`: from a registry to files; or the files of a layout or an archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use skycap_image::transport::Transport;
use skycap_image::{Artifact, Event, Image, Layer, Platform};
use skycap_rootfs::{Limits, Owners, Unpack, unpack_until};

use super::transfer::Transfer;
use super::{Places, transport};
use crate::args::{Changes, Ends, Pull};
use crate::commands::{Context, print};
use crate::failure::Failure;
use crate::report::Notices;

/// How many layers are fetched at once.
const LAYERS_AT_ONCE: usize = 4;

pub fn run(arguments: &Pull, context: &Context) -> Result<(), Failure> {
    let source = transport(&arguments.image)?;
    let Some(reference) = source.reference() else {
        return match &arguments.rootfs {
            Some(directory) => files(arguments, &source, directory, context),
            None => Err(Failure::usage(format!("{source}: pull fetches from registries"))
                .with_hint("--rootfs DIR unpacks what is here; `skycap copy` copies it")),
        };
    };
    if let Some(text) = &arguments.destination {
        let destination = transport(text)?;
        if destination.reference().is_some() {
            return Err(Failure::usage(format!("{text}: pull writes files"))
                .with_hint(format!("`skycap copy` copies between registries; --rootfs {text} is a directory")));
        }
        let changes = Changes { platform: arguments.platform.clone(), ..Changes::default() };
        let transfer = Transfer::new(source, vec![destination], &changes)?;
        return transfer.run(&Places::new(&arguments.login, &Ends::default(), context)?, context);
    }
    let last = reference.repository.path().rsplit('/').next().unwrap_or_default();
    let directory = arguments.rootfs.clone().unwrap_or_else(|| PathBuf::from(last));
    files(arguments, &source, &directory, context)
}

fn files(arguments: &Pull, source: &Transport, directory: &Path, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    check_empty(directory)?;
    let asked = match &super::platforms(&arguments.platform)?[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ => return Err(Failure::usage("--platform: a directory holds the files of one platform")),
    };
    let places = Places::new(&arguments.login, &Ends::default(), context)?;
    let artifact = places.open(source)?;
    let image = match asked {
        Some(platform) => super::image_for(&artifact, &platform, source)?,
        None => artifact.for_platform(&Platform::host())?,
    };
    let layers = layers(&image, arguments, source.reference().is_some(), context)?;
    let options =
        Unpack { owners: owners(context), concurrency: LAYERS_AT_ONCE, limits: Limits::default(), sync: true };
    // The client already tells every layer.
    let notices = Notices(Arc::clone(&context.progress));
    unpack_until(&layers, directory, &options, &notices, &|| context.cancel.is_cancelled())
        .map_err(|error| Failure::because(format!("cannot unpack into {}", directory.display()), &error))?;
    context.summarise(started.elapsed(), Some(layers.len()));
    say!("{} is in {}", image.config().platform(), directory.display());
    let digest = image.descriptor().digest;
    if matches!(artifact, Artifact::Index(_)) {
        context.progress.event(Event::Debug(&format!("of the index {}", artifact.descriptor().digest)));
    }
    print(&format!("{digest}\n"))
}

/// Found out before anything is fetched.
fn check_empty(directory: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(format!("cannot unpack into {}: {why}", directory.display()))
            .with_hint("--rootfs DIR unpacks elsewhere"))
    };
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                refuse("it is not empty")
            } else {
                Ok(())
            }
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => refuse(&error.to_string()),
        _ => Ok(()),
    }
}

/// The layers, through the store unless nobody wants it.
fn layers(image: &Image, arguments: &Pull, from_registry: bool, context: &Context) -> Result<Vec<Layer>, Failure> {
    let layers = image.layers();
    if layers.len() != image.manifest().layers.len() {
        let kind = &image.manifest().config.media_type;
        return Err(Failure::new(format!("{} is no image: its config is a {kind}", image.descriptor().digest))
            .with_hint("`skycap pull IMAGE oci:DIR` fetches it as it is"));
    }
    // What is on the disk already need not be there twice.
    if arguments.no_cache || !from_registry {
        return Ok(layers);
    }
    let store = match context.store() {
        Ok(store) => store,
        Err(failure) if arguments.kept.store.is_none() => {
            context.progress.event(Event::Warning(&format!("layers are not kept: {}", failure.message)));
            return Ok(layers);
        }
        Err(failure) => return Err(failure),
    };
    let through = store.through(Arc::clone(image.blobs()));
    Ok(layers.into_iter().map(|layer| Layer { blobs: Arc::clone(&through), ..layer }).collect())
}

fn owners(context: &Context) -> Owners {
    if rustix::process::geteuid().is_root() {
        return Owners::Keep;
    }
    context.progress.event(Event::Note("not root: all files will belong to you"));
    Owners::Squash
}
