//! `skycap install` and what it writes.

use std::ffi::OsStr;

use crate::world::{World, root, run, with_stdin};

#[test]
fn each_component_gets_the_programs_that_concourse_calls() {
    let world = World::new();
    for (component, programs) in [
        ("registry-image", &["check", "in", "out"][..]),
        ("registry-tag", &["check", "in"]),
        ("oci-build", &["build", "task"]),
    ] {
        let directory = world.dir(component);
        run(world.skycap([OsStr::new("install"), component.as_ref(), directory.as_ref()])).ok();
        let mut names: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("skycap-"));
        names.sort();
        assert_eq!(names, programs);
    }
}

#[test]
fn an_unknown_component_is_refused_with_the_known_ones() {
    let world = World::new();
    run(world.skycap(["install", "regsitry-image", "x"])).fails(2, "registry-image, registry-tag, oci-build");
}

#[test]
fn installed_programs_answer_in_an_empty_root() {
    if !root("installed_programs_answer_in_an_empty_root") {
        return;
    }
    let world = World::new();
    let opt = world.dir("image/opt/resource");
    run(world.skycap([OsStr::new("install"), "registry-image".as_ref(), opt.as_ref()])).ok();
    let mut chroot = world.command("/usr/sbin/chroot");
    chroot.arg(world.path("image")).arg("/opt/resource/check").env_clear();
    let ran = with_stdin(chroot, br#"{"source":{"repository":""}}"#);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("a repository name must be specified"), "{}", ran.stderr);
}

#[test]
fn an_installed_program_refuses_a_rung_that_does_not_exist() {
    let world = World::new();
    let directory = world.dir("task");
    run(world.skycap([OsStr::new("install"), "oci-build".as_ref(), directory.as_ref()])).ok();
    let mut build = world.command(directory.join("build"));
    build.env("SKYCAP_SANDBOX", "sinlge-id");
    run(build).fails(2, "SKYCAP_SANDBOX=sinlge-id");
}

#[test]
fn an_installed_program_reports_errors_as_the_original_did() {
    let world = World::new();
    let directory = world.dir("resource");
    run(world.skycap([OsStr::new("install"), "registry-image".as_ref(), directory.as_ref()])).ok();
    let ran = with_stdin(world.command(directory.join("check")), br#"{"source":{"foo":1}}"#);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    let expected = "\x1b[31mERRO\x1b[0m[0000] invalid payload: json: unknown field \"foo\"";
    assert!(ran.stderr.starts_with(expected), "{:?}", ran.stderr);
}
