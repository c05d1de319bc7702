//! The Dockerfile language: bytes in, a [`Dockerfile`] out. Nothing is looked up and nothing is expanded here.

mod error;
pub mod expand;
mod heredoc;
mod instruction;
mod mount;
mod span;

pub use error::ParseError;
pub use expand::{ExpandError, Expanded, Expander, expand, expand_words};
pub use instruction::{
    Add, Arg, Command, Copy, Directives, Dockerfile, Document, From, Healthcheck, Heredoc, Instruction, Network, Pairs,
    Run, Script, Security, Stage,
};
pub use mount::{Mount, MountError, MountFlag, MountKind, Sharing};
pub use span::{Span, Spanned};

/// Reads a Dockerfile. `name` is what errors call it.
pub fn parse(_bytes: &[u8], _name: &str) -> Result<Dockerfile, ParseError> {
    unimplemented!("parse")
}

/// Reads the trigger of an `ONBUILD` again, as the configuration of a base image holds it. Its escape character is the
/// backslash, whatever the Dockerfile of the base image used.
pub fn parse_trigger(_trigger: &str, _name: &str) -> Result<Spanned<Instruction>, ParseError> {
    unimplemented!("parse_trigger")
}
