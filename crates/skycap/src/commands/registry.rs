//! `skycap registry`: the embedded registry.

use std::path::{Path, PathBuf};

use skycap_image::Secret;
use skycap_registry::server::{Collect, Options, Server, Tls, collect};

use super::{Context, print};
use crate::args::{RegistryGc, Serve};
use crate::failure::Failure;
use crate::report::bytes;

/// How soon a signal is noticed.
const POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// Serves until a signal comes. The address goes to stdout, so that a script can read it.
pub fn serve(arguments: &Serve, context: &Context) -> Result<(), Failure> {
    let directory = directory(arguments.dir.as_deref(), context);
    let options = options(arguments)?;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let server = Server::start(arguments.listen, &directory, options).map_err(|error| {
        Failure::because(format!("cannot serve {} on {}", directory.display(), arguments.listen), &error)
            .with_hint("--listen chooses the address, --dir the directory")
    })?;
    show!("serving {} on {scheme}://{}", directory.display(), server.address());
    while !context.cancel.is_cancelled() {
        std::thread::sleep(POLL);
    }
    server.stop();
    Ok(())
}

fn directory(given: Option<&Path>, context: &Context) -> PathBuf {
    given.map_or_else(|| context.world.state.directory().join("registry"), Path::to_owned)
}

fn options(arguments: &Serve) -> Result<Options, Failure> {
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls { certificate: read(certificate)?, key: Secret::new(read(key)?) }),
        _ => None,
    };
    let basic_auth = match (&arguments.user, &arguments.password_file) {
        (Some(user), Some(file)) => Some((user.clone(), Secret::new(read(file)?.trim_end_matches(['\r', '\n'])))),
        _ => None,
    };
    Ok(Options { basic_auth, tls })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error))
}

/// Removes what nothing refers to. The registry may be served meanwhile.
pub fn gc(arguments: &RegistryGc, context: &Context) -> Result<(), Failure> {
    let directory = directory(arguments.dir.as_deref(), context);
    if !directory.is_dir() {
        return Err(Failure::new(format!("there is no registry in {}", directory.display())));
    }
    let what = Collect { older_than: arguments.older_than, untagged: arguments.untagged };
    let collected = collect(&directory, what)
        .map_err(|error| Failure::because(format!("cannot collect {}", directory.display()), &error))?;
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    print(&format!(
        "removed {}, {} and {}: {} are free\n",
        plural(collected.manifests, "manifest"),
        plural(collected.blobs, "blob"),
        plural(collected.uploads, "unfinished upload"),
        bytes(collected.bytes),
    ))
}
