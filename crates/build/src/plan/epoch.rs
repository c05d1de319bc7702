//! What the build argument `SOURCE_DATE_EPOCH` names. Pure.

use std::collections::BTreeSet;

use skycap_image::Platform;

use super::copy::{file, tree};
use super::scope;
use crate::dockerfile::{Add, Arg, Dockerfile, Expander, Instruction, Stage};
use crate::error::{BuildError, Fault};
use crate::graph::Wanted;
use crate::named::NamedContext;
use crate::remote::address::{self, Address};
use crate::request::Request;

/// Where the time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// Seconds since 1970.
    Seconds(i64),
    /// The build context's own time.
    Context,
    /// What a server holds, by the line that says so.
    Wanted(Box<Wanted>, usize),
}

/// Reads the build argument; none if there is no time to state.
pub(crate) fn epoch(request: &Request, dockerfile: &Dockerfile) -> Result<Option<Epoch>, BuildError> {
    let text = match (request.source_date_epoch, request.build_args.get("SOURCE_DATE_EPOCH").map(String::as_str)) {
        (Some(seconds), _) => return Ok(Some(Epoch::Seconds(seconds))),
        (None, None | Some("")) => return Ok(None),
        (None, Some(text)) => text,
    };
    if let Ok(seconds) = text.parse() {
        return Ok(Some(Epoch::Seconds(seconds)));
    }
    if text == "context" {
        return Ok(Some(Epoch::Context));
    }
    let refuse = |what: String| BuildError::Request {
        what: format!("invalid SOURCE_DATE_EPOCH: {what}"),
        hint: Some(
            "it is a number of seconds since 1970, context, or the name of a context or stage at a server".to_owned(),
        ),
    };
    if let Some(context) = request.contexts.get(text) {
        let wanted = named(context).map_err(|fault| BuildError::of_request(format!("context {text}"), fault))?;
        let wanted = wanted.ok_or_else(|| refuse(format!("the context {text} has no time of its own")))?;
        return Ok(Some(Epoch::Wanted(Box::new(wanted), 1)));
    }
    let is_meant =
        |stage: &&Stage| stage.from.value.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(text));
    let stage = dockerfile.stages.iter().find(is_meant).ok_or_else(|| refuse(text.to_owned()))?;
    let line = stage.from.span.line;
    let wanted = of_stage(stage, request, dockerfile)?.map_err(|fault| fault.at(&dockerfile.name, line))?;
    Ok(Some(Epoch::Wanted(Box::new(wanted), line)))
}

fn named(context: &NamedContext) -> Result<Option<Wanted>, Fault> {
    match context {
        NamedContext::Http(url) => {
            Ok(Some(Wanted::Http { url: url.clone(), name: "context".to_owned(), checksum: None, unpack: true }))
        }
        NamedContext::Git(text) => match address::parse_context(text)? {
            Some(Address::Git(address)) => {
                let keep_git_dir = address.keep_git_dir.unwrap_or(false);
                Ok(Some(Wanted::Git { address, keep_git_dir }))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The one thing that a stage fetches, which may do nothing else.
fn of_stage(stage: &Stage, request: &Request, dockerfile: &Dockerfile) -> Result<Result<Wanted, Fault>, BuildError> {
    let mut arguments = request.build_args.clone();
    arguments.remove("SOURCE_DATE_EPOCH");
    let globals = scope::globals(&arguments, dockerfile, &Platform::host(), None, &mut BTreeSet::new())?;
    let mut values: Vec<(String, String)> = globals.to_vec();
    let escape = dockerfile.directives.escape;
    Ok((|| {
        let base = expand(&stage.from.value.image, &values, escape)?;
        if base != "scratch" {
            return Err(Fault::new("SOURCE_DATE_EPOCH stage must use FROM scratch"));
        }
        let mut found = None;
        let one = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD";
        for instruction in &stage.instructions {
            match &instruction.value {
                Instruction::Arg(args) => declare(args, request, &mut values, escape)?,
                Instruction::Add(add) if found.is_none() => found = Some(source(add, &values, escape)?),
                Instruction::Add(_) => return Err(Fault::new(one)),
                _ => {
                    let name = instruction.text.split_whitespace().next().unwrap_or_default();
                    let what = "SOURCE_DATE_EPOCH stage does not meet source-only requirements";
                    return Err(Fault::new(format!("{what}: unsupported {name} instruction")));
                }
            }
        }
        found.ok_or_else(|| Fault::new(one))
    })())
}

fn declare(args: &[Arg], request: &Request, values: &mut Vec<(String, String)>, escape: char) -> Result<(), Fault> {
    for arg in args {
        let value = match (request.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => given.clone(),
            (None, Some(default)) => expand(default, values, escape)?,
            (None, None) => continue,
        };
        values.retain(|(name, _)| *name != arg.name);
        values.push((arg.name.clone(), value));
    }
    Ok(())
}

fn source(add: &Add, values: &[(String, String)], escape: char) -> Result<Wanted, Fault> {
    let [source] = &add.sources[..] else {
        return Err(Fault::new("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
    };
    let source = expand(source, values, escape)?;
    let checksum = add.checksum.as_ref().map(|checksum| expand(&checksum.value, values, escape)).transpose()?;
    let checksum = checksum.as_deref().filter(|checksum| !checksum.is_empty());
    match address::parse(&source, add.keep_git_dir.is_some())? {
        Some(Address::Http(url)) => file(url, checksum),
        Some(Address::Git(address)) => tree(address, checksum, add.keep_git_dir.as_ref().map(|flag| flag.value)),
        None => Err(Fault::new("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")),
    }
}

fn expand(text: &str, values: &[(String, String)], escape: char) -> Result<String, Fault> {
    let lookup = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    Ok(Expander::new(escape, &lookup).run(text)?.word)
}
