//! The Dockerfile language: bytes in, a [`Dockerfile`] out. Nothing is looked up and nothing is expanded here.

pub(crate) mod directive;
mod duration;
mod error;
mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lex;
mod mount;
mod parse;
mod pattern;
mod span;
mod statement;
mod words;

pub use error::ParseError;
pub(crate) use error::pointed_at;
pub use expand::{ExpandError, Expanded, Expander, expand, expand_words};
pub use instruction::{
    Add, Arg, Command, Copy, Directives, Dockerfile, Document, From, Healthcheck, Heredoc, Instruction, Network, Notes,
    Pairs, Run, Script, Security, Stage,
};
pub(crate) use lex::key_value;
pub use mount::{Mount, MountError, MountFlag, MountKind, Sharing};
pub use parse::{parse, parse_trigger};
pub use span::{Span, Spanned};
