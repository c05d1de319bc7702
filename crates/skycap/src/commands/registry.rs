//! `skycap registry serve`: the embedded registry.

use skycap_registry::server::{Options, Server};

use super::Context;
use crate::args::Serve;
use crate::failure::Failure;

/// How soon a signal is noticed.
const POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// Serves until a signal comes. The address goes to stdout, so that a script can read it.
pub fn serve(arguments: &Serve, context: &Context) -> Result<(), Failure> {
    let directory = arguments.dir.clone().unwrap_or_else(|| context.world.state.join("registry"));
    let server = Server::start(arguments.listen, &directory, Options::default()).map_err(|error| {
        Failure::because(format!("cannot serve {} on {}", directory.display(), arguments.listen), &error)
            .with_hint("--listen chooses the address, --dir the directory")
    })?;
    println!("serving {} on http://{}", directory.display(), server.address());
    while !context.cancel.is_cancelled() {
        std::thread::sleep(POLL);
    }
    server.stop();
    Ok(())
}
