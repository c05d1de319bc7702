//! `--cache-from` and `--cache-to`: caches beside the store.

use std::sync::Arc;

use skycap_build::cache::{CacheImage, CacheOption, CacheOptionError, CacheSource, CacheTarget, CacheWhere};
use skycap_image::Reference;
use skycap_registry::{Access, Place, Registries};

use crate::failure::{Failure, chain};

/// Where steps may be taken from.
pub fn sources(texts: &[String], registries: &Registries, insecure: bool) -> Result<Vec<CacheSource>, Failure> {
    let read = |text: &String| {
        let option = CacheOption::parse_from(text).map_err(|error| wrong("--cache-from", text, &error))?;
        Ok(match option.place {
            CacheWhere::Directory(path, name) => CacheSource::directory(path, name),
            CacheWhere::Registry(reference) => CacheSource {
                label: reference.to_string(),
                place: Arc::new(place(&reference, registries, insecure, false)?),
                name: reference.name(),
            },
            CacheWhere::Inline => {
                return Err(Failure::usage(format!("--cache-from {text}: an inline cache is in an image"))
                    .with_hint("--cache-from type=registry,ref=IMAGE reads it"));
            }
        })
    };
    texts.iter().map(read).collect()
}

/// Where steps are left.
pub fn targets(texts: &[String], registries: &Registries, insecure: bool) -> Result<Vec<CacheTarget>, Failure> {
    let read = |text: &String| {
        let option = CacheOption::parse_to(text).map_err(|error| wrong("--cache-to", text, &error))?;
        let (mode, ignore_error) = (option.mode, option.ignore_error);
        Ok(match option.place {
            CacheWhere::Directory(path, name) => CacheTarget::directory(path, name, mode, ignore_error),
            CacheWhere::Registry(reference) => CacheTarget::Image(CacheImage {
                label: reference.to_string(),
                place: Arc::new(place(&reference, registries, insecure, true)?),
                name: reference.name(),
                mode,
                ignore_error,
            }),
            CacheWhere::Inline => CacheTarget::Inline,
        })
    };
    texts.iter().map(read).collect()
}

/// A repository as this command line trusts it.
pub fn place(reference: &Reference, registries: &Registries, insecure: bool, push: bool) -> Result<Place, Failure> {
    let repository = reference.repository.clone();
    let credentials = registries.keychain.credentials(repository.registry())?;
    let access = Access { credentials, insecure_plain_http: insecure, push, ..Access::default() };
    Ok(registries.client.place(repository, access)?)
}

fn wrong(flag: &str, text: &str, error: &CacheOptionError) -> Failure {
    let failure = Failure::usage(format!("{flag} {text}: {}", chain(error)));
    if let Some(hint) = error.hint() { failure.with_hint(hint) } else { failure }
}
