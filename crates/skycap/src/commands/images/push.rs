//! `skycap push`: what lies here, to a registry.

use std::path::Path;

use skycap_image::archive::{self, Format};
use skycap_image::transport::Transport;

use super::transfer::Transfer;
use super::{Places, transport};
use crate::args::{Ends, Push};
use crate::commands::Context;
use crate::failure::Failure;

pub fn run(arguments: &Push, context: &Context) -> Result<(), Failure> {
    let destinations = arguments.image.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
    let transfer = Transfer::new(source(&arguments.source)?, destinations, &arguments.changes)?;
    transfer.run(&Places::new(&arguments.login, &Ends::default(), context)?, context)
}

fn name(text: &str) -> Result<Transport, Failure> {
    match transport(text)? {
        registry @ Transport::Registry(_) => Ok(registry),
        other => Err(Failure::usage(format!("{other}: push goes to registries"))
            .with_hint("`skycap copy` writes layouts and archives")),
    }
}

/// A path is taken for what lies there.
fn source(text: &str) -> Result<Transport, Failure> {
    let path = Path::new(text);
    if path.is_dir() {
        let directory = path.join("manifest.json").is_file() && !path.join("index.json").is_file();
        let dir = path.to_owned();
        return Ok(if directory { Transport::Directory(dir) } else { Transport::Layout { dir, name: None } });
    }
    if path.is_file() {
        let file = path.to_owned();
        return Ok(match archive::open(path)?.format() {
            Format::Docker => Transport::DockerArchive { file, name: None },
            Format::Oci => Transport::OciArchive { file, name: None },
        });
    }
    match transport(text) {
        Ok(Transport::Registry(_)) => Err(Failure::usage(format!("{text}: there is no such file or directory"))
            .with_hint("push takes a layout or an archive; `skycap copy` copies between registries")),
        Err(_) if text.starts_with(['/', '.', '~']) => {
            Err(Failure::usage(format!("{text}: there is no such file or directory")))
        }
        other => other,
    }
}
