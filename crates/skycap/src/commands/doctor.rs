//! `skycap doctor`: what this machine can do, and what would lift it.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skycap_image::Platform;
use skycap_sandbox::{Attempt, ON_REQUEST, Refused, Rung, container_is_disposable, probe};

use super::{Context, print_bytes};
use crate::failure::Failure;
use crate::report::Style;

/// `statfs` of an overlay (`linux/magic.h`).
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

/// Where programs are looked for when nothing says where.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks at the store and for git, tries every rung of the sandbox, and says what it found.
pub fn run(context: &Context) -> Result<(), Failure> {
    let style = Style::new(context.world.terminal.colour);
    let mut text = Vec::new();
    let verdict = print(context, style, &mut text)?;
    print_bytes(&text)?;
    verdict
}

/// Whether RUN can be run.
fn print(context: &Context, style: Style, out: &mut impl Write) -> io::Result<Result<(), Failure>> {
    writeln!(out, "skycap   {}", env!("CARGO_PKG_VERSION"))?;
    print_store(context, style, out)?;
    print_git(context, style, out)?;
    let wanted = context.means.isolation.sandbox.map(Rung::from);
    match wanted {
        Some(rung) => writeln!(out, "sandbox  {rung} is asked for (--sandbox or SKYCAP_SANDBOX)")?,
        None => writeln!(out, "sandbox  strongest rung first")?,
    }
    let verdict = print_rungs(probe(), wanted, against_takeover(), style, out)?;
    print_architectures(out)?;
    writeln!(out, "what each rung is, and how to get a better one: docs/sandbox.md")?;
    Ok(verdict)
}

/// What speaks against taking over the container that this process is in without being asked.
pub fn against_takeover() -> Result<(), &'static str> {
    let directory = std::env::current_dir().map_err(|_| "the working directory is not known")?;
    container_is_disposable(&directory)
}

/// The same as part of an error.
pub fn on_request(against: &str) -> String {
    format!("{ON_REQUEST}: the oci-build task does not take it by itself, because {against}")
}

/// Opens the store, and makes it where it does not exist, as every build does.
fn print_store(context: &Context, style: Style, out: &mut impl Write) -> io::Result<()> {
    let shown = context.store_directory().display().to_string();
    match context.store() {
        Ok(store) => {
            writeln!(out, "store    {} {shown}", style.strong("ok"))?;
            writeln!(out, "overlay  {}", overlay(store.dir(), &context.world.roomy))
        }
        Err(failure) => {
            writeln!(out, "store    {} {}", style.warning("no"), failure.message)?;
            print_hint("         ", failure.hint.as_deref().unwrap_or_default(), style, out)
        }
    }
}

/// Where RUN writes. Only a sandbox can try it out, so this says what the file system tells.
fn overlay(store: &Path, roomy: &Path) -> String {
    let roomy = roomy.display();
    match rustix::fs::statfs(store) {
        Ok(found) if found.f_type == OVERLAY => {
            format!("the store lies on one, which carries no other: RUN writes to {roomy}")
        }
        Ok(_) => {
            format!("the first RUN of a build tries whether the store carries one; otherwise it writes to {roomy}")
        }
        Err(error) => format!("the file system of the store is not known: {error}"),
    }
}

fn print_git(context: &Context, style: Style, out: &mut impl Write) -> io::Result<()> {
    let path = context.world.variables.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    match find_program("git", path) {
        Some(git) => writeln!(out, "git      {} {}", style.strong("ok"), git.display()),
        None => writeln!(out, "git      {} it is not on PATH; only resources of type git need it", style.warning("no")),
    }
}

/// The first executable file of that name.
fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    let executable =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path).map(|directory| directory.join(name)).find(executable)
}

/// Each rung with what refuses it and what would lift the machine onto it; whether RUN can be run.
fn print_rungs(
    rungs: Vec<(Rung, Result<(), Attempt>)>,
    wanted: Option<Rung>,
    against: Result<(), &'static str>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<Result<(), Failure>> {
    let failed = |(rung, result): &(Rung, Result<(), Attempt>)| Some((*rung, result.as_ref().err()?.clone()));
    let refused = Refused { attempts: rungs.iter().filter_map(failed).collect() };
    let helpful = refused.hints();
    let mut used = None;
    let mut verdict = Err(Failure::new("RUN and tasks cannot be run here; images without RUN can be built"));
    for (rung, result) in rungs {
        let is_next = used.is_none() && wanted.is_none_or(|wanted| wanted == rung);
        match result {
            Ok(()) if rung == Rung::Takeover && wanted != Some(rung) => {
                let note = match (used.is_some() || wanted.is_some(), against) {
                    (true, _) => ON_REQUEST.to_owned(),
                    (false, Ok(())) => {
                        verdict = Ok(());
                        "works; the oci-build task takes it by itself, other commands have to be asked to".to_owned()
                    }
                    (false, Err(against)) => {
                        let what = "RUN can be run here only by a takeover, which has to be asked for";
                        verdict = Err(Failure::new(what));
                        on_request(against)
                    }
                };
                writeln!(out, "  {} {rung}: {note}", style.strong("ok"))?;
                let hint = "SKYCAP_SANDBOX=takeover asks for it: only if this container is thrown away afterwards";
                print_hint("     ", hint, style, out)?;
            }
            Ok(()) => {
                let note = if is_next { "works; this one is used" } else { "works" };
                if is_next {
                    (used, verdict) = (Some(rung), Ok(()));
                }
                writeln!(out, "  {} {rung}: {note}", style.strong("ok"))?;
            }
            Err(attempt) => {
                writeln!(out, "  {} {rung}: {attempt}", style.warning("no"))?;
                // Where a stronger rung works, nothing is to be done.
                if used.is_none() && attempt.hint.is_empty() {
                    print_hint("     ", way_up(rung), style, out)?;
                } else if used.is_none() && helpful.contains(&attempt.hint.as_str()) {
                    print_hint("     ", &attempt.hint, style, out)?;
                }
            }
        }
    }
    Ok(match (wanted, used) {
        (Some(wanted), None) => {
            let failure = Failure::new(format!("the rung that is asked for does not work here: {wanted}"));
            Err(failure.with_hint("without --sandbox and SKYCAP_SANDBOX the strongest rung that works is used"))
        }
        _ => verdict,
    })
}

/// Whose programs RUN can run: this machine's own, and those that the kernel has an emulator for.
fn print_architectures(out: &mut impl Write) -> io::Result<()> {
    const COMMON: [&str; 8] = ["amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64"];
    let own = Platform::host().normalized().architecture;
    let emulated: Vec<&str> =
        COMMON.into_iter().filter(|name| *name != own && skycap_sandbox::emulator(name).is_some()).collect();
    match &emulated[..] {
        [] => writeln!(out, "emulated none: RUN runs programs for {own} only (others need an emulator in binfmt_misc)"),
        some => writeln!(out, "emulated {} (binfmt_misc), beside this machine's own {own}", some.join(", ")),
    }
}

/// What lifts a machine onto a rung whose refusal brings no advice of its own.
fn way_up(rung: Rung) -> &'static str {
    match rung {
        Rung::Privileged => {
            "root with CAP_SYS_ADMIN: sudo; --privileged in Docker; `privileged: true` on a Concourse task"
        }
        Rung::NestedUserNamespace => "root of a container with the capabilities SETUID and SETGID and more than one id",
        Rung::SubordinateIds | Rung::SingleId | Rung::Takeover => "",
    }
}

fn print_hint(indent: &str, hint: &str, style: Style, out: &mut impl Write) -> io::Result<()> {
    if hint.is_empty() { Ok(()) } else { writeln!(out, "{indent}{} {hint}", style.hint("hint:")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_executable_file_on_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (place, mode) in [("plain", 0o644), ("good", 0o755)] {
            std::fs::create_dir(at(place)).unwrap();
            std::fs::write(at(place).join("git"), "").unwrap();
            std::fs::set_permissions(at(place).join("git"), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(at("directory/git")).unwrap();
        let path = ["missing", "directory", "plain", "good"].map(|name| at(name).display().to_string()).join(":");
        assert_eq!(find_program("git", &path), Some(at("good/git")));
        assert_eq!(find_program("git", ""), None);
    }
}
