//! The binary: argv, environment, terminal, exit codes. Everything else is in the libraries (`ARCHITECTURE.md`).
#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "this is the crate that reads the environment and talks to people; nobody links it"
)]

#[macro_use]
mod say;

mod args;
mod commands;
mod environment;
mod failure;
mod program;
mod report;
mod signals;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches};
use skycap_concourse::Kind;
use skycap_sandbox::{ON_REQUEST, Refused, Rung, Sandbox, enter};

use args::{
    Bounds, Cli, Command, Isolation, Kept, Login, Means, ProgressArg, Registry, RegistryImage, RungArg, Store, StoreGc,
    StoreLs, StoreVerify,
};
use commands::Context;
use commands::doctor::{against_takeover, on_request};
use commands::resource::Script;
use environment::World;
use failure::Failure;
use program::Program;
use report::{Look, Style};

fn main() -> ExitCode {
    skycap_sandbox::child_main();
    report::log::start();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(OsString::as_os_str);
    // Where /proc is not mounted, the path that we were started by leads to the same file.
    let started_as = || name.and_then(|name| std::fs::canonicalize(name).ok());
    let executable = std::fs::read_link("/proc/self/exe").ok().or_else(started_as);
    match program::detect(executable.as_deref(), name) {
        Some(program) => installed(&program, &arguments[1..]),
        None => command_line(parse(arguments)),
    }
}

/// Reads a command line. A variable that is empty is one that is not set.
fn parse(arguments: Vec<OsString>) -> Cli {
    fn without_empty(command: clap::Command) -> clap::Command {
        let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        let unset = |arg: clap::Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
        command.mut_args(unset).mut_subcommands(without_empty)
    }
    let matches = without_empty(Cli::command()).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// We are a program of an installed component. Concourse's convention leaves no room for flags.
fn installed(program: &Program, arguments: &[OsString]) -> ExitCode {
    let world = World::read();
    let takes = usize::from(matches!(program.name.as_str(), "in" | "out"));
    if let Some(surplus) = arguments.get(takes) {
        let what = format!("{} takes no argument {}", program.name, surplus.to_string_lossy());
        let hint = format!("`skycap {} --help` has the flags", program.component);
        return Failure::usage(what).with_hint(hint).report(Style::new(world.terminal.colour));
    }
    let argument = arguments.first().map(PathBuf::from);
    let (sandbox, bounds) = match rung_from(&world).and_then(|rung| Ok((rung, bounds_from(&world)?))) {
        Ok(found) => found,
        Err(failure) => return failure.report(Style::new(world.terminal.colour)),
    };
    let store = world.variables.get("SKYCAP_STORE").filter(|store| !store.is_empty()).map(PathBuf::from);
    let (kept, isolation) = (Kept { store }, Isolation { sandbox, is_task: true });
    let means = Means { kept, bounds, isolation, ..Means::default() };
    let script = match program.name.as_str() {
        "check" => Script::Check,
        "in" => Script::In(argument),
        "out" => Script::Out(argument),
        "task" => {
            return finish(&context(world, means, false, Look::Transfers, true), commands::resource::oci_build_request);
        }
        _ => return finish(&context(world, means, false, Look::Transfers, true), commands::resource::oci_build),
    };
    let kind = if program.component == "registry-tag" { Kind::RegistryTag } else { Kind::RegistryImage };
    resource(kind, &script, &context(world, means, false, Look::Transfers, false))
}

/// `SKYCAP_SANDBOX`, as the flag `--sandbox` reads it.
fn rung_from(world: &World) -> Result<Option<RungArg>, Failure> {
    let Some(name) = world.variables.get("SKYCAP_SANDBOX").filter(|name| !name.is_empty()) else { return Ok(None) };
    let rung = <RungArg as clap::ValueEnum>::from_str(name, false);
    rung.map(Some).map_err(|_| {
        Failure::usage(format!("SKYCAP_SANDBOX={name}: there is no such rung"))
            .with_hint("rungs are privileged, nested, subordinate-ids, single-id and takeover")
    })
}

/// `SKYCAP_STORE_LIMIT`, as the flag `--store-limit` reads it.
fn bounds_from(world: &World) -> Result<Bounds, Failure> {
    let text = world.variables.get("SKYCAP_STORE_LIMIT").filter(|text| !text.is_empty());
    let limit = text.map(|text| {
        args::quantity::limit(text).map_err(|error| Failure::usage(format!("SKYCAP_STORE_LIMIT={text}: {error}")))
    });
    Ok(Bounds { store_limit: limit.transpose()? })
}

fn command_line(cli: Cli) -> ExitCode {
    let (means, needs_sandbox) = means(&cli.command);
    let context = context(World::read(), means, cli.debug, look(&cli.command), needs_sandbox);
    match cli.command {
        Command::RegistryImage(command) => match &command.script {
            RegistryImage::Script(script) => resource(Kind::RegistryImage, &Script::from(script), &context),
            RegistryImage::Explain { check } => exit(&context, commands::resource::explain(*check, &context)),
        },
        Command::RegistryTag(command) => resource(Kind::RegistryTag, &Script::from(&command.script), &context),
        Command::OciBuild(_) => finish(&context, commands::resource::oci_build),
        Command::Run(arguments) => exit(&context, pruning(&context, commands::pipeline::run(&arguments, &context))),
        Command::Demo(arguments) => exit(&context, commands::demo::run(&arguments, &context)),
        // It ends with a signal, so what earlier ones left goes first.
        Command::Watch(arguments) => finish(&context, |context| {
            context.prune_store();
            commands::pipeline::watch(&arguments, context)
        }),
        Command::Validate(arguments) => finish(&context, |_| commands::pipeline::validate(&arguments)),
        Command::Plan(arguments) => finish(&context, |_| commands::pipeline::plan(&arguments)),
        Command::Build(arguments) => exit(&context, pruning(&context, commands::build::run(&arguments, &context))),
        Command::Inspect(arguments) => finish(&context, |context| commands::images::inspect::run(&arguments, context)),
        Command::Tags(arguments) => finish(&context, |context| commands::images::tags::run(&arguments, context)),
        Command::Copy(arguments) => moving(&context, |context| commands::images::copy::run(&arguments, context)),
        Command::Pull(arguments) => {
            moving(&context, |context| pruning(context, commands::images::pull::run(&arguments, context)))
        }
        Command::Push(arguments) => moving(&context, |context| commands::images::push::run(&arguments, context)),
        Command::Store(command) => exit(&context, commands::store::run(&command, &context)),
        Command::Registry(Registry::Gc(arguments)) => {
            finish(&context, |context| commands::registry::gc(&arguments, context))
        }
        Command::Registry(Registry::Serve(arguments)) => {
            signals::cancel_on_signals(&context.cancel, &context.kill, &context.stop);
            finish(&context, |context| commands::registry::serve(&arguments, context))
        }
        Command::Install(arguments) => finish(&context, |_| commands::install::run(&arguments)),
        Command::Doctor(_) => finish(&context, commands::doctor::run),
        Command::Completions { shell } => finish(&context, |_| completions(shell)),
    }
}

/// What a command was told about servers, stores and rungs, and whether it runs processes.
fn means(command: &Command) -> (Means, bool) {
    match command {
        Command::Run(arguments) => (arguments.runner.means.clone(), true),
        Command::Watch(arguments) => (arguments.runner.means.clone(), true),
        Command::Build(arguments) => (arguments.means.clone(), true),
        Command::OciBuild(means) => (as_task(means), true),
        Command::Demo(arguments) => (Means { isolation: arguments.isolation.clone(), ..Means::default() }, true),
        Command::RegistryImage(command) => (Means { network: command.network.clone(), ..Means::default() }, false),
        Command::RegistryTag(command) => (Means { network: command.network.clone(), ..Means::default() }, false),
        Command::Inspect(arguments) => (of_login(&arguments.login), false),
        Command::Tags(arguments) => (of_login(&arguments.login), false),
        Command::Copy(arguments) => (of_login(&arguments.login), false),
        Command::Push(arguments) => (of_login(&arguments.login), false),
        Command::Pull(arguments) => {
            let (kept, bounds) = (arguments.kept.clone(), arguments.bounds.clone());
            (Means { kept, bounds, ..of_login(&arguments.login) }, false)
        }
        Command::Store(
            Store::Ls(StoreLs { kept, .. }) | Store::Gc(StoreGc { kept, .. }) | Store::Verify(StoreVerify { kept, .. }),
        ) => (Means { kept: kept.clone(), ..Means::default() }, false),
        Command::Doctor(arguments) => {
            let (kept, isolation) = (arguments.kept.clone(), arguments.isolation.clone());
            (Means { kept, isolation, ..Means::default() }, false)
        }
        Command::Validate(_)
        | Command::Plan(_)
        | Command::Registry(_)
        | Command::Install(_)
        | Command::Completions { .. } => (Means::default(), false),
    }
}

/// How a command's work is shown.
fn look(command: &Command) -> Look {
    let Command::Build(arguments) = command else { return Look::Transfers };
    let quiet = arguments.reporting.quiet.then_some(ProgressArg::Quiet);
    Look::Build(quiet.or(arguments.reporting.progress).unwrap_or_default())
}

fn of_login(login: &Login) -> Means {
    Means { network: login.network.clone(), ..Means::default() }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "skycap", &mut script);
    commands::print_bytes(&script)
}

fn as_task(means: &Means) -> Means {
    Means { isolation: Isolation { is_task: true, ..means.isolation.clone() }, ..means.clone() }
}

/// The strongest rung, or the one that is asked for. Where there is none, a task whose container is certain to be thrown away
/// takes that over.
fn climb(isolation: &Isolation) -> Result<Sandbox, Refused> {
    let entered = enter(isolation.sandbox.map(Rung::from));
    let Err(mut refused) = entered else { return entered };
    if !isolation.is_task || isolation.sandbox.is_some() {
        return Err(refused);
    }
    match against_takeover() {
        Ok(()) => enter(Some(Rung::Takeover)).map_err(|taken| {
            refused.attempts.retain(|(rung, _)| *rung != Rung::Takeover);
            refused.attempts.extend(taken.attempts);
            refused
        }),
        Err(against) => {
            for (_, attempt) in refused.attempts.iter_mut().filter(|(_, attempt)| attempt.call == ON_REQUEST) {
                attempt.call = on_request(against);
            }
            Err(refused)
        }
    }
}

/// Enters the sandbox's world first where it is needed: that must happen before there is a second thread.
fn context(world: World, means: Means, debug: bool, look: Look, needs_sandbox: bool) -> Context {
    let sandbox = if needs_sandbox { Some(climb(&means.isolation)) } else { None };
    let context = Context::new(world, means, debug, look, sandbox);
    // Resources and what moves images see to it themselves. What only looks has nothing to tidy up: a signal simply ends it.
    if needs_sandbox {
        signals::cancel_on_signals(&context.cancel, &context.kill, &context.stop);
    }
    context
}

/// Runs a command that can only succeed or fail.
fn finish(context: &Context, command: impl FnOnce(&Context) -> Result<(), Failure>) -> ExitCode {
    exit(context, command(context).map(|()| ExitCode::SUCCESS))
}

/// What was done well may have filled the store.
fn pruning<T>(context: &Context, result: Result<T, Failure>) -> Result<T, Failure> {
    if result.is_ok() {
        context.prune_store();
    }
    result
}

fn exit(context: &Context, result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| signalled(context, failure).report(Style::new(context.world.terminal.colour)))
}

/// Whatever failed because a signal came ends as if the signal had ended us.
fn signalled(context: &Context, failure: Failure) -> Failure {
    if context.cancel.is_cancelled() { Failure { code: signals::exit_code(), ..failure } } else { failure }
}

/// Runs a command that must clean up after itself when it is interrupted.
fn moving(context: &Context, command: impl FnOnce(&Context) -> Result<(), Failure>) -> ExitCode {
    signals::cancel_on_signals(&context.cancel, &context.kill, &context.stop);
    signals::end_soon_after(&context.cancel);
    match command(context) {
        Err(_) if context.cancel.is_cancelled() => exit(
            context,
            Err(Failure { code: signals::exit_code(), ..Failure::new("interrupted; nothing was left half-done") }),
        ),
        result => exit(context, result.map(|()| ExitCode::SUCCESS)),
    }
}

/// A resource reports errors as the program that it replaces did, because people match on them.
fn resource(kind: Kind, script: &Script, context: &Context) -> ExitCode {
    signals::cancel_on_signals(&context.cancel, &context.kill, &context.stop);
    signals::end_soon_after(&context.cancel);
    match commands::resource::run(kind, script, context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => signalled(context, failure).report_as_log_line(),
    }
}

impl From<RungArg> for Rung {
    fn from(rung: RungArg) -> Self {
        match rung {
            RungArg::Privileged => Self::Privileged,
            RungArg::Nested => Self::NestedUserNamespace,
            RungArg::SubordinateIds => Self::SubordinateIds,
            RungArg::SingleId => Self::SingleId,
            RungArg::Takeover => Self::Takeover,
        }
    }
}
