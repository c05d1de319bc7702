//! `CACHE_FROM` and `CACHE_TO`: what earlier builds made, on whatever worker, as buildx writes where it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_build::cache::{CacheImage, CacheOption, CacheOptionError, CacheSource, CacheTarget, CacheWhere};

use super::registries::Registries;
use crate::Failure;
use crate::inputs::Inputs;

/// Where to look, from one option a line.
pub(super) fn sources(text: &str, registries: &Registries, inputs: &Inputs) -> Result<Vec<CacheSource>, Failure> {
    let source = |line: &str| {
        let option = CacheOption::parse_from(line).map_err(|error| wrong("CACHE_FROM", &error))?;
        Ok(match option.place {
            CacheWhere::Registry(reference) => CacheSource {
                label: reference.to_string(),
                place: Arc::new(registries.place(reference.repository.clone(), false, false)?),
                name: reference.name(),
            },
            CacheWhere::Directory(path, name) => CacheSource::directory(directory("CACHE_FROM", &path, inputs)?, name),
            CacheWhere::Inline => {
                return Err(Failure::new("CACHE_FROM: inline is no place")
                    .with_hint("name the image that was built with CACHE_TO: type=inline"));
            }
        })
    };
    options(text).map(source).collect()
}

/// Where to put, from one option a line.
pub(super) fn targets(text: &str, registries: &Registries, inputs: &Inputs) -> Result<Vec<CacheTarget>, Failure> {
    let target = |line: &str| {
        let option = CacheOption::parse_to(line).map_err(|error| wrong("CACHE_TO", &error))?;
        let (mode, ignore_error) = (option.mode, option.ignore_error);
        Ok(match option.place {
            CacheWhere::Registry(reference) => {
                let place = Arc::new(registries.place(reference.repository.clone(), false, true)?);
                let (label, name) = (reference.to_string(), reference.name());
                CacheTarget::Image(CacheImage { label, place, name, mode, ignore_error })
            }
            CacheWhere::Directory(path, name) => {
                CacheTarget::directory(directory("CACHE_TO", &path, inputs)?, name, mode, ignore_error)
            }
            CacheWhere::Inline => CacheTarget::Inline,
        })
    };
    options(text).map(target).collect()
}

fn options(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// An input, an output or a cache of the task: it is there before the task begins.
fn directory(parameter: &str, path: &Path, inputs: &Inputs) -> Result<PathBuf, Failure> {
    inputs.find(parameter, path).map_err(|failure| failure.during(parameter))
}

fn wrong(parameter: &str, error: &CacheOptionError) -> Failure {
    let failure = Failure::new(format!("{parameter}: {error}"));
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
