//! Flags of Docker's that cannot be honoured, each with the way out, and flags that contradict each other.

use crate::args::{Build, ProgressArg};
use crate::environment::Terminal;
use crate::failure::Failure;

/// Finds what makes no sense before anything is read.
pub fn check(arguments: &Build, terminal: Terminal) -> Result<(), Failure> {
    limits(arguments)?;
    daemon(arguments)?;
    contradictions(arguments, terminal)
}

/// What a daemon's containers have and our sandbox has not.
fn limits(arguments: &Build) -> Result<(), Failure> {
    let given = |flag: &'static str, is_given: bool| is_given.then_some(flag);
    let refused = &arguments.refused;
    let limit = [
        given("--memory", refused.memory.is_some()),
        given("--memory-swap", refused.memory_swap.is_some()),
        given("--cpu-shares", refused.cpu_shares.is_some()),
        given("--cpu-period", refused.cpu_period.is_some()),
        given("--cpu-quota", refused.cpu_quota.is_some()),
        given("--cpuset-cpus", refused.cpuset_cpus.is_some()),
        given("--cpuset-mems", refused.cpuset_mems.is_some()),
        given("--cgroup-parent", refused.cgroup_parent.is_some()),
    ];
    if let Some(flag) = limit.into_iter().flatten().next() {
        return refuse(flag, "RUN gets no control group of its own, so nothing would limit it")
            .map_err(|failure| failure.with_hint("limit the whole build: `systemd-run --scope -p MemoryMax=2G -p CPUQuota=200% skycap build …`, or the container that it runs in"));
    }
    let refusals: [(bool, &str, &str, &str); 8] = [
        (
            refused.shm_size.is_some(),
            "--shm-size",
            "RUN's /dev/shm has the size that the kernel gives it",
            "mount a larger one where it is needed: RUN --mount=type=tmpfs,target=/dev/shm,size=512m",
        ),
        (
            !refused.ulimit.is_empty(),
            "--ulimit",
            "RUN has the limits of the command that builds",
            "set them around it: `ulimit -n 4096; skycap build …`",
        ),
        (
            !refused.security_opt.is_empty(),
            "--security-opt",
            "RUN runs in skycap's sandbox, which has no such options",
            "--allow security.insecure lets RUN --security=insecure have more rights",
        ),
        (
            refused.isolation.is_some(),
            "--isolation",
            "there are no containers to choose between",
            "--sandbox RUNG chooses how RUN is isolated",
        ),
        (
            refused.builder.is_some(),
            "--builder",
            "there are no builders to choose between: this process builds",
            "leave the flag out",
        ),
        (
            refused.policy.is_some(),
            "--policy",
            "policies are not evaluated",
            "check the image after the build, before it is pushed",
        ),
        (
            refused.squash,
            "--squash",
            "layers are not merged into one",
            "copy everything into a last stage: FROM scratch, COPY --from=build / /",
        ),
        (refused.compress, "--compress", "the context is read where it is and is sent nowhere", "leave the flag out"),
    ];
    for (is_given, flag, why, hint) in refusals {
        if is_given {
            return refuse(flag, why).map_err(|failure| failure.with_hint(hint));
        }
    }
    if refused.rm == Some(false) || refused.force_rm == Some(false) {
        return refuse("--rm=false", "there are no intermediate containers that could be kept");
    }
    Ok(())
}

fn refuse(flag: &str, why: &str) -> Result<(), Failure> {
    Err(Failure::usage(format!("{flag} cannot be honoured: {why}")))
}

fn daemon(arguments: &Build) -> Result<(), Failure> {
    if arguments.outputs.load {
        return Err(no_daemon("--load"));
    }
    Ok(())
}

/// Docker's daemon was to be handed the image.
pub fn no_daemon(flag: &str) -> Failure {
    Failure::usage(format!("{flag}: there is no daemon here that could load the image"))
        .with_hint("`skycap build -o type=docker,dest=- . | docker load` (or `podman load`) loads it")
}

fn contradictions(arguments: &Build, terminal: Terminal) -> Result<(), Failure> {
    let (outputs, reporting) = (&arguments.outputs, &arguments.reporting);
    let progress = reporting.progress.unwrap_or_default();
    let clash = |what: &str| Err(Failure::usage(what));
    if outputs.push && arguments.image.tag.is_empty() {
        return Err(Failure::usage("--push: the image has no name to push it under").with_hint("-t REFERENCE names it"));
    }
    if reporting.quiet && !matches!(progress, ProgressArg::Auto | ProgressArg::Quiet) {
        return clash("-q and --progress contradict each other: -q shows nothing");
    }
    if progress == ProgressArg::Tty && !terminal.present {
        return Err(
            Failure::usage("--progress=tty: standard error is no terminal").with_hint("--progress=plain writes lines")
        );
    }
    if arguments.caching.no_cache && !arguments.caching.cache_from.is_empty() {
        return clash("--no-cache and --cache-from contradict each other: nothing is taken from a cache");
    }
    if arguments.inputs.file.as_deref() == Some("-") && arguments.context == "-" {
        return Err(Failure::usage("-f - and the context - cannot both be standard input")
            .with_hint("put the Dockerfile into the tar, or give the context a directory"));
    }
    if reporting.check || reporting.call.as_deref().is_some_and(|call| !call.starts_with("build")) {
        let useless = [
            ("--push", outputs.push),
            ("-o", !outputs.output.is_empty()),
            ("--iidfile", outputs.iidfile.is_some()),
            ("--metadata-file", outputs.metadata_file.is_some()),
            ("-q", reporting.quiet),
        ];
        if let Some((flag, _)) = useless.into_iter().find(|(_, is_given)| *is_given) {
            return clash(&format!("{flag} with --check or --call: nothing is built"));
        }
    }
    Ok(())
}
