//! `skycap copy`.

use super::transfer::Transfer;
use super::{Places, transport};
use crate::args::Copy;
use crate::commands::Context;
use crate::failure::Failure;

pub fn run(arguments: &Copy, context: &Context) -> Result<(), Failure> {
    let source = transport(&arguments.source)?;
    let destinations = arguments.destination.iter().map(|text| transport(text)).collect::<Result<_, _>>()?;
    let transfer = Transfer::new(source, destinations, &arguments.changes)?;
    transfer.run(&Places::new(&arguments.login, &arguments.ends, context)?, context)
}
