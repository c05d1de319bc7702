//! From statements to instructions, and from instructions to stages.

mod copying;
mod healthcheck;

use self::copying::{add, copy};
use self::healthcheck::healthcheck;
use super::error::ParseError;
use super::flags::{Flags, Takes};
use super::instruction::{Arg, Dockerfile, From, Instruction, Network, Pairs, Run, Security, Stage};
use super::lex::{Logical, Reader, Source};
use super::mount::MountFlag;
use super::span::Spanned;
use super::statement::Statement;
use super::{directive, words};

/// What one line is.
enum Parsed {
    From(Spanned<From>),
    Instruction(Box<Spanned<Instruction>>),
}

/// Reads a Dockerfile. `name` is what errors call it.
pub fn parse(bytes: &[u8], name: &str) -> Result<Dockerfile, ParseError> {
    let source = Source::new(bytes, name);
    if let Some((line, syntax)) = source.foreign_syntax() {
        directive::syntax(&syntax).map_err(|refused| source.refuse(line, 1, refused))?;
    }
    let mut reader = Reader::new(&source);
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    while let Some(parsed) = next(&source, &mut reader)? {
        let instruction = match parsed {
            Parsed::From(from) => {
                stages.push(Stage { from, instructions: Vec::new() });
                continue;
            }
            Parsed::Instruction(instruction) => *instruction,
        };
        match (stages.last_mut(), instruction.value) {
            (Some(stage), value) => stage.instructions.push(Spanned { value, ..instruction }),
            (None, Instruction::Arg(args)) => {
                global_args.push(Spanned { value: args, span: instruction.span, text: instruction.text });
            }
            (None, _) => {
                let span = instruction.span;
                let mut error = source.error(span.line, span.column, "no build stage in current context");
                error.hint = Some("only ARG may stand before the first FROM".to_owned());
                return Err(error);
            }
        }
    }
    if stages.is_empty() {
        let message = match global_args.is_empty() {
            _ if bytes.is_empty() => "the Dockerfile cannot be empty",
            true => "file with no instructions",
            false => "dockerfile contains no stages to build",
        };
        return Err(source.error_at_end(message));
    }
    let (directives, notes) = reader.finish();
    Ok(Dockerfile { name: name.to_owned(), directives, global_args, stages, notes })
}

/// Reads the trigger of an `ONBUILD` again, as the configuration of a base image holds it. Its escape character is the
/// backslash, whatever the Dockerfile of the base image used. `name` is what errors call it.
pub fn parse_trigger(trigger: &str, name: &str) -> Result<Spanned<Instruction>, ParseError> {
    let source = Source::new(trigger.as_bytes(), name);
    let mut reader = Reader::new(&source);
    let parsed = next(&source, &mut reader)?;
    match (parsed, next(&source, &mut reader)?) {
        (Some(Parsed::Instruction(instruction)), None) => match instruction.value.name() {
            name @ ("ONBUILD" | "MAINTAINER") => Err(source.error_at_end(&not_a_trigger(name))),
            _ => Ok(*instruction),
        },
        (Some(Parsed::From(_)), None) => Err(source.error_at_end(&not_a_trigger("FROM"))),
        _ => Err(source.error_at_end("onbuild trigger should be a single expression")),
    }
}

fn not_a_trigger(name: &str) -> String {
    match name {
        "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        name => format!("{name} isn't allowed as an ONBUILD trigger"),
    }
}

fn next<'a>(source: &'a Source<'a>, reader: &mut Reader<'a>) -> Result<Option<Parsed>, ParseError> {
    let Some(mut line) = reader.next()? else { return Ok(None) };
    let escape = reader.escape();
    let mut heredocs = Statement::new(source, &line, escape, 0, &[]).opens()?;
    for heredoc in &mut heredocs {
        reader.read_heredoc(heredoc, &mut line)?;
    }
    read(&Statement::new(source, &line, escape, 0, &heredocs), &line).map(Some)
}

fn read(statement: &Statement<'_>, line: &Logical) -> Result<Parsed, ParseError> {
    let Some(name) = statement.name() else { return Err(statement.unknown()) };
    if name == "FROM" {
        return from(statement).map(|from| Parsed::From(statement.spanned(from)));
    }
    let instruction = match name {
        "ONBUILD" => onbuild(statement, line)?,
        name => instruction(statement, name)?,
    };
    Ok(Parsed::Instruction(Box::new(statement.spanned(instruction))))
}

/// Any instruction that an `ONBUILD` may hold.
fn instruction(s: &Statement<'_>, name: &str) -> Result<Instruction, ParseError> {
    match name {
        "COPY" => return copy(s),
        "ADD" => return add(s),
        "RUN" => return run(s),
        "HEALTHCHECK" => return healthcheck(s),
        _ => s.no_flags()?,
    }
    Ok(match name {
        "ARG" => Instruction::Arg(args(s)?),
        "CMD" => Instruction::Cmd(s.command(s.rest)?),
        "ENTRYPOINT" => Instruction::Entrypoint(s.command(s.rest)?),
        "ENV" => Instruction::Env(pairs(s)?),
        "EXPOSE" => Instruction::Expose(expose(s)?),
        "LABEL" => Instruction::Label(pairs(s)?),
        "MAINTAINER" => Instruction::Maintainer(s.one_argument()?),
        "SHELL" => Instruction::Shell(shell(s)?),
        "STOPSIGNAL" => Instruction::StopSignal(s.one_argument()?),
        "USER" => Instruction::User(s.one_argument()?),
        "VOLUME" => Instruction::Volume(volume(s)?),
        "WORKDIR" => Instruction::Workdir(s.one_argument()?),
        _ => return Err(s.unknown()),
    })
}

fn from(s: &Statement<'_>) -> Result<From, ParseError> {
    let mut arguments = words::blank_separated(s.rest).into_iter();
    let arguments = (arguments.next(), arguments.next(), arguments.next(), arguments.next());
    let (image, name) = match arguments {
        (Some(image), None, ..) => (image, None),
        (Some(image), Some(word), Some(name), None) if word.eq_ignore_ascii_case("as") => (image, Some(name)),
        _ => return Err(s.error("FROM requires either one or three arguments")),
    };
    let name = name.map(|name| stage_name(s, &name)).transpose()?;
    let mut flags = s.flags(&[("platform", Takes::Value)])?;
    // As in BuildKit, one that is empty says nothing.
    let platform = flags.value("platform").filter(|platform| !platform.value.is_empty());
    Ok(From { image, platform, name })
}

fn stage_name(s: &Statement<'_>, written: &str) -> Result<String, ParseError> {
    let name = written.to_lowercase();
    let sound = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if sound {
        return Ok(name);
    }
    let at = s.rest_at + s.rest.rfind(written).unwrap_or(0);
    let what = "name can't start with a number or contain symbols";
    Err(s.error_at(at, format!("invalid name for build stage: {written:?}, {what}")))
}

fn run(s: &Statement<'_>) -> Result<Instruction, ParseError> {
    let mut flags = s.flags(&[
        ("mount", Takes::Values),
        ("network", Takes::Value),
        ("security", Takes::Value),
        ("device", Takes::Values),
    ])?;
    if let Some(device) = flags.value("device") {
        let message = "device feature is only supported in Dockerfile frontend 1.14.0-labs or later";
        return Err(s.error_in(&device, message));
    }
    Ok(Instruction::Run(Run {
        mounts: mounts(s, &mut flags)?,
        network: one_of(s, flags.value("network"), |value| match value {
            "default" => Ok(Network::Default),
            "none" => Ok(Network::None),
            "host" => Ok(Network::Host),
            value => Err(format!("invalid network mode {value:?}")),
        })?,
        security: one_of(s, flags.value("security"), |value| match value {
            "sandbox" => Ok(Security::Sandbox),
            "insecure" => Ok(Security::Insecure),
            value => Err(format!("security {value:?} is not valid")),
        })?,
        command: s.command(s.rest)?,
        heredocs: s.heredocs.to_vec(),
    }))
}

fn mounts(s: &Statement<'_>, flags: &mut Flags) -> Result<Vec<Spanned<MountFlag>>, ParseError> {
    let read = |flag: Spanned<String>| {
        let mount = MountFlag::parse(&flag.value, s.escape).map_err(|error| {
            let mut shown = s.error_in(&flag, error.to_string());
            shown.hint = error.hint();
            shown
        })?;
        Ok(flag.map(|_| mount))
    };
    flags.values("mount").into_iter().map(read).collect()
}

fn one_of<T>(
    s: &Statement<'_>,
    flag: Option<Spanned<String>>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<Spanned<T>>, ParseError> {
    let Some(flag) = flag else { return Ok(None) };
    let value = read(&flag.value).map_err(|message| s.error_in(&flag, message))?;
    Ok(Some(flag.map(|_| value)))
}

fn args(s: &Statement<'_>) -> Result<Vec<Arg>, ParseError> {
    let words = words::quoted(s.rest, s.escape);
    if words.is_empty() {
        return Err(s.at_least_one());
    }
    let read = |(at, word): (usize, String)| match word.split_once('=') {
        Some(("", _)) => Err(s.error_at(s.rest_at + at, "ARG names can not be blank")),
        Some((name, default)) => Ok(Arg { name: name.to_owned(), default: Some(default.to_owned()) }),
        None => Ok(Arg { name: word, default: None }),
    };
    words.into_iter().map(read).collect()
}

fn pairs(s: &Statement<'_>) -> Result<Pairs, ParseError> {
    let name = s.shown_name();
    let words = words::quoted(s.rest, s.escape);
    let Some((_, first)) = words.first() else { return Err(s.at_least_one()) };
    if !first.contains('=') {
        // An `=` in the first word decides; without one the whole rest is one value.
        let pair = words::legacy_pair(s.rest);
        let pair = pair.ok_or_else(|| s.error_at(s.rest_at, format!("{name} must have two arguments")))?;
        return Ok(Pairs { pairs: vec![pair], legacy: true });
    }
    let read = |(at, word): (usize, String)| match word.split_once('=') {
        Some(("", _)) => Err(s.error_at(s.rest_at + at, format!("{name} names can not be blank"))),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => {
            let message = format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
            Err(s.error_at(s.rest_at + at, message))
        }
    };
    let pairs = words.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Pairs { pairs, legacy: false })
}

fn expose(s: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    let mut ports = words::blank_separated(s.rest);
    if ports.is_empty() {
        return Err(s.at_least_one());
    }
    ports.sort();
    Ok(ports)
}

fn volume(s: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    let volumes: Vec<String> = s.list()?.iter().map(|volume| volume.trim().to_owned()).collect();
    if volumes.is_empty() {
        return Err(s.at_least_one());
    }
    if volumes.iter().any(String::is_empty) {
        return Err(s.error_at(s.rest_at, "VOLUME specified can not be an empty string"));
    }
    Ok(volumes)
}

fn shell(s: &Statement<'_>) -> Result<Vec<String>, ParseError> {
    match s.json(s.rest)? {
        Some(words) if !words.is_empty() => Ok(words),
        None if !s.rest.is_empty() => {
            let mut error = s.error_at(s.rest_at, "SHELL requires the arguments to be in JSON form");
            error.hint = Some("such as SHELL [\"/bin/bash\", \"-c\"]".to_owned());
            Err(error)
        }
        _ => Err(s.at_least_one()),
    }
}

fn onbuild(s: &Statement<'_>, line: &Logical) -> Result<Instruction, ParseError> {
    s.no_flags()?;
    if s.rest.is_empty() {
        return Err(s.at_least_one());
    }
    let trigger = s.trigger();
    match trigger.name() {
        None => return Err(trigger.unknown()),
        Some(name @ ("ONBUILD" | "FROM" | "MAINTAINER")) => return Err(trigger.error(not_a_trigger(name))),
        Some(name) => drop(instruction(&trigger, name)?),
    }
    let mut text = line.text.get(s.rest_at..).unwrap_or_default().to_owned();
    for heredoc in s.heredocs {
        text = text + "\n" + &heredoc.content + &heredoc.name;
    }
    Ok(Instruction::Onbuild(text))
}
