//! Command lines of `skycap build` that make no sense: one clear error each, with a way out, before anything is built.

use crate::build::{build, context};
use crate::world::{Ran, World, run, with_stdin};

fn refused(world: &World, arguments: &[&str]) -> Ran {
    run(world.skycap(["build"].iter().chain(arguments).chain(&["context"])))
}

#[test]
fn what_a_daemon_would_do_is_refused_with_the_way_out() {
    let world = context();
    for (flag, hint) in [
        ("--load", "docker load"),
        ("--memory=1g", "systemd-run"),
        ("-m=1g", "systemd-run"),
        ("--memory-swap=1g", "systemd-run"),
        ("--cpu-shares=1", "systemd-run"),
        ("--cpu-period=1", "systemd-run"),
        ("--cpu-quota=1", "systemd-run"),
        ("--cpuset-cpus=0", "systemd-run"),
        ("--cpuset-mems=0", "systemd-run"),
        ("--cgroup-parent=x", "systemd-run"),
        ("--shm-size=1g", "type=tmpfs,target=/dev/shm"),
        ("--ulimit=nofile=1", "ulimit -n"),
        ("--security-opt=x", "--allow security.insecure"),
        ("--isolation=process", "--sandbox"),
        ("--builder=x", "leave the flag out"),
        ("--policy=x", "check the image"),
        ("--squash", "FROM scratch"),
        ("--compress", "leave the flag out"),
        ("--rm=false", "intermediate"),
        ("-o=type=docker", "docker load"),
    ] {
        let name = flag.trim_start_matches('-').split('=').next().unwrap();
        refused(&world, &[flag]).fails(2, hint).fails(2, if name == "m" { "memory" } else { name });
    }
    build(&world, ["--rm", "--force-rm", "context"]).ok();
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let world = context();
    for (arguments, text) in [
        (&["--push"][..], "-t REFERENCE"),
        (&["-q", "--progress=plain"], "-q and --progress"),
        (&["--progress=tty"], "no terminal"),
        (&["--no-cache", "--cache-from=type=local,src=x"], "--no-cache and --cache-from"),
        (&["--check", "--push", "-t", "app"], "nothing is built"),
        (&["--call=targets", "-o", "out"], "nothing is built"),
        (&["--check", "--call=targets"], "cannot be used with"),
        (&["--call=lnt"], "methods are"),
        (&["--call=check,format=xml"], "format=json"),
        (&["-q", "-o", "-"], "--iidfile"),
        (&["-o", "-", "-o", "type=oci"], "one result"),
        (&["-o", "oci:a,compression=zstd", "-o", "oci:b"], "all outputs"),
        (&["--platform=linux/amd64,linux/arm64", "-o", "docker-archive:x.tar"], "one image"),
        (&["--annotation=index:a=b", "-o", "oci:x"], "there is no index"),
        (&["--annotation=a=b", "-o", "oci:x,oci-mediatypes=false"], "no annotations"),
        (
            &["--platform=linux/amd64,linux/arm64", "-o", "type=local,dest=x,platform-split=false"],
            "lie over each other",
        ),
        (&["-o", "oci:x,rewrite-timestamp=false"], "rewrite-timestamp"),
        (&["-t", "app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], "digest"),
    ] {
        refused(&world, arguments).fails(2, text);
    }
    with_stdin(world.skycap(["build", "-f", "-", "-"]), b"FROM scratch\n").fails(2, "cannot both be standard input");
    with_stdin(world.skycap(["build", "-f", "x", "-"]), b"FROM scratch\n").fails(2, "no tar");
}

/// The value is shown with a caret below what is wrong.
#[test]
fn values_are_checked_and_pointed_at() {
    let world = context();
    for (arguments, text, column) in [
        (&["--secret", "id=x,scr=y"][..], "did you mean src?", Some(5)),
        (&["--secret", "src=y"], "the id is missing", None),
        (&["--secret", "id=x,src=nowhere"], "cannot read nowhere", None),
        (&["--secret", "id=x,env=NOWHERE"], "no variable NOWHERE", None),
        (&["--secret", "id=x,src=y,env=z"], "contradict", None),
        (&["--secret", "id=x,type=vault"], "file or env", Some(5)),
        (&["--ssh", "default"], "SSH_AUTH_SOCK is not set", None),
        (&["--ssh", "=x"], "the id is missing", Some(0)),
        (&["--ssh", "default=nowhere"], "nowhere", None),
        (&["--build-arg", "=x"], "the name is missing", Some(0)),
        (&["--label", "x"], "expected NAME=VALUE", Some(1)),
        (&["--annotation", "indx:a=b"], "annotations belong to", Some(0)),
        (&["--platform", "linux/amd64,!"], "--platform", None),
        (&["--platform", "linux/foo"], "unknown architecture \"foo\"", None),
        (&["--platform", "linux/amd46"], "did you mean amd64?", None),
        (&["--platform", "linx"], "did you mean linux?", None),
        (&["--build-context", "x"], "expected NAME=VALUE", Some(1)),
        (&["--build-context", "x=nowhere"], "no such directory", Some(2)),
        (&["--build-context", "scratch=context"], "cannot stand", Some(0)),
        (&["--build-context", "x=docker-image://A B"], "--build-context", Some(2)),
        (&["--build-context", "x=oci-layout://nowhere"], "--build-context", Some(2)),
        (&["--network", "bridge"], "default, none or host", None),
        (&["--add-host", "a"], "expected NAME:IP", Some(1)),
        (&["--add-host", "a:b"], "no IP address", Some(2)),
        (&["--add-host", "a:host-gateway"], "a:127.0.0.1", Some(2)),
        (&["--allow", "everything"], "unknown entitlement", None),
        (&["-o", "type=locl,dest=x"], "did you mean local?", Some(0)),
        (&["-o", "type=local,dst=x"], "did you mean dest?", Some(11)),
        (&["-t", "BAD REF"], "-t BAD REF", None),
    ] {
        let ran = refused(&world, arguments).fails(2, text);
        if let Some(column) = column {
            let caret = ran.stderr.lines().find(|line| line.trim() == "^").unwrap_or_else(|| panic!("{}", ran.stderr));
            assert_eq!(caret.len(), 2 + arguments[0].len() + 1 + column + 1, "{}", ran.stderr);
        }
    }
    let mut command = world.skycap(["build", "context"]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    run(command).fails(2, "SOURCE_DATE_EPOCH=yesterday");
}

#[test]
fn contexts_that_are_none_are_explained() {
    let world = context();
    build(&world, ["nowhere"]).fails(1, "cannot read the context nowhere");
    build(&world, ["context/Dockerfile"]).fails(1, "is no directory").fails(1, "-f context/Dockerfile");
    build(&world, ["-f", "nowhere", "context"]).fails(1, "cannot read nowhere");
    build(&world, ["--target", "nowhere", "context"]).fails(1, "nowhere");
    build(&world, ["--target", "base", "--target", "test", "context"]).fails(2, "--target");
}

#[test]
fn a_failing_instruction_is_shown_in_its_file() {
    let world = context();
    world.file("context/Dockerfile", "FROM scratch\nCOPY a.txt /\nCOPY missing \\\n  /x\nLABEL a=b\n");
    let ran = build(&world, ["context"]).fails(1, "context/Dockerfile:3");
    assert!(
        ran.stderr.contains("   3 | >>> COPY missing \\\n     |     ^^^^\n   4 | >>>   /x\n   5 |     LABEL a=b\n"),
        "{}",
        ran.stderr
    );
    world.file("context/Dockerfile", "FROM scratch\nCOPY --form=x a b\n");
    let ran = build(&world, ["context"]).fails(1, "did you mean");
    assert!(ran.stderr.contains("2 | COPY --form=x a b") && ran.stderr.contains("  |      ^"), "{}", ran.stderr);
}
