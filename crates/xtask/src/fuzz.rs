//! `cargo xtask fuzz`: libFuzzer without cargo-fuzz and without a nightly toolchain.
//!
//! Stable Rust can put coverage counters into everything; libFuzzer itself is C++. Where there is no C++ compiler, the
//! seeds and random changes of them are replayed instead, which proves less and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What `cargo fuzz` asks of rustc, too, but for the sanitizer: the product has no unsafe code to watch.
const INSTRUMENT: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// One input may take this long, and the process this much memory in MiB.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=512"];

/// What was asked for.
#[derive(PartialEq, Eq, Debug)]
pub struct Order {
    seconds: u64,
    replay: bool,
    targets: Vec<String>,
}

impl Order {
    /// Reads `[--replay] [--seconds N] [TARGET…]`.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut order = Self { seconds: 60, replay: false, targets: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--replay" => order.replay = true,
                "--seconds" => {
                    let value = arguments.next().and_then(|value| value.parse().ok());
                    order.seconds = value.ok_or("--seconds wants a number")?;
                }
                option if option.starts_with('-') => return Err(format!("unknown option {option}")),
                target => order.targets.push(target.to_owned()),
            }
        }
        Ok(order)
    }
}

/// Runs the targets one after the other; stops at the first that finds something.
pub fn run(order: &Order) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let outcome = if order.replay {
        replay(&root)
    } else if has_cxx() {
        fuzz(&root, order)
    } else {
        eprintln!("there is no C++ compiler for libFuzzer: seeds and random changes of them are replayed instead");
        replay(&root)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn has_cxx() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Where the product's workspace is built.
fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn cargo(root: &Path, target: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root.join("fuzz")).env("CARGO_TARGET_DIR", target);
    command
}

fn checked(command: &mut Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{what} failed")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

fn replay(root: &Path) -> Result<(), String> {
    // Built with the same flags as the product, whose artifacts are taken over.
    checked(cargo(root, &target_directory(root)).args(["test", "--quiet"]), "the replay of the seeds")
}

fn fuzz(root: &Path, order: &Order) -> Result<(), String> {
    let host = host()?;
    // Artifacts with counters would throw out those without.
    let target_directory = target_directory(root).join("fuzz");
    let build = ["build", "--quiet", "--release", "--bins", "--features", "libfuzzer", "--target", &host];
    checked(cargo(root, &target_directory).env("RUSTFLAGS", INSTRUMENT).args(build), "building the fuzz targets")?;
    let all = targets(root)?;
    if let Some(unknown) = order.targets.iter().find(|target| !all.contains(target)) {
        return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
    }
    let chosen = if order.targets.is_empty() { &all } else { &order.targets };
    for target in chosen {
        let corpus = root.join("target/fuzz-corpus").join(target);
        let artifacts = root.join("fuzz/artifacts").join(target);
        for directory in [&corpus, &artifacts] {
            std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        eprintln!("fuzzing {target} for {} s", order.seconds);
        let program = target_directory.join(&host).join("release").join(target);
        let mut command = Command::new(program);
        command
            .args(LIMITS)
            .arg(format!("-max_total_time={}", order.seconds))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-max_len=16384", "-print_final_stats=1"])
            // New inputs go to the first directory; the seeds in the repository stay as they are.
            .args([&corpus, &root.join("fuzz/corpus").join(target)]);
        checked(&mut command, &format!("{target}: the input is in {}; it", artifacts.display()))?;
    }
    Ok(())
}

/// The targets are the directories of seeds.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let seeds = root.join("fuzz/corpus");
    let entries = std::fs::read_dir(&seeds).map_err(|error| format!("{}: {error}", seeds.display()))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The triple of this machine: with it named, build scripts go without counters.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc names no host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Order, String> {
        Order::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_to_fuzz_and_for_how_long_is_read() {
        let order = |seconds, replay, targets: &[&str]| Order {
            seconds,
            replay,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        };
        assert_eq!(parse(""), Ok(order(60, false, &[])));
        assert_eq!(parse("--seconds 5 tar names"), Ok(order(5, false, &["tar", "names"])));
        assert_eq!(parse("--replay"), Ok(order(60, true, &[])));
        for wrong in ["--seconds", "--seconds x", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_target_has_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut programs: Vec<String> = std::fs::read_dir(root.join("fuzz/fuzz_targets"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        programs.sort();
        assert_eq!(targets(&root), Ok(programs));
    }
}
