//! `skycap doctor`: what this machine can do, and what would lift it.

use skycap_sandbox::probe;

use super::Context;
use crate::failure::Failure;
use crate::report::Style;

/// Tries every rung of the sandbox and says what it found.
pub fn run(context: &Context) -> Result<(), Failure> {
    let style = Style::new(context.world.terminal.colour);
    println!("store: {}", context.store_directory().display());
    println!("sandbox, strongest rung first:");
    let mut used = None;
    for (rung, result) in probe() {
        match result {
            Ok(()) if used.is_none() => {
                println!("  {} {rung}: works; this one is used", style.strong("ok"));
                used = Some(rung);
            }
            Ok(()) => println!("  {} {rung}: works", style.strong("ok")),
            Err(attempt) => println!("  {} {rung}: {attempt}", style.warning("no")),
        }
    }
    if used.is_some() {
        Ok(())
    } else {
        Err(Failure::new("RUN and tasks cannot be run here; images without RUN can be built"))
    }
}
