//! What is read of the build context and of servers. No sandbox takes part, so it is the same on every rung.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skycap_testkit::web::{Answer, Web};

use crate::workers::command;

/// Builds a context into a tar of its files.
fn build(directory: &Path, flags: &[&str]) -> Output {
    let mut skycap = command(env!("CARGO_BIN_EXE_skycap"));
    skycap.env("HOME", directory).current_dir(directory);
    skycap.args(["build", "--progress", "plain", "--store", "store", "-o", "type=tar,dest=image.tar"]).args(flags);
    skycap.arg("context").output().unwrap()
}

fn room(dockerfile: &str) -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    for directory in ["context/dir", "outside"] {
        fs::create_dir_all(room.path().join(directory)).unwrap();
    }
    fs::write(room.path().join("context/Dockerfile"), dockerfile).unwrap();
    fs::write(room.path().join("context/dir/file"), "inside").unwrap();
    fs::write(room.path().join("outside/file"), "canary-of-the-host").unwrap();
    room
}

/// Whether the canary is in a file of the image.
fn is_out(directory: &Path) -> bool {
    let image = fs::read(directory.join("image.tar")).unwrap_or_default();
    image.windows(18).any(|part| part == b"canary-of-the-host")
}

#[test]
fn s26_sources_never_leave_the_context() {
    for (what, line) in [
        ("a link", "COPY absolute /"),
        ("a link that climbs", "COPY climbing /"),
        ("below a link", "COPY out/file /"),
        ("a glob through a link", "COPY ou*/f* /"),
        ("a climbing source", "COPY ../outside/file /"),
        ("a climbing glob", "COPY dir/../../outside/* /"),
        ("everything", "COPY . /"),
        ("with its parents", "COPY --parents out/./file /"),
        ("an archive that is a link", "ADD absolute /"),
        ("from a stage", "COPY --from=stage /out/file /"),
        ("from a stage, by a glob", "COPY --from=stage /out/* /climbing/* /"),
    ] {
        let room = room(&format!("FROM scratch AS stage\nCOPY out climbing /\nCOPY dir /dir\nFROM scratch\n{line}\n"));
        let (context, outside) = (room.path().join("context"), room.path().join("outside"));
        symlink(outside.join("file"), context.join("absolute")).unwrap();
        symlink("../outside/file", context.join("climbing")).unwrap();
        symlink("../outside", context.join("out")).unwrap();
        fs::write(
            context.join(".dockerignore"),
            "*\n!dir\n!absolute\n!climbing\n!out\n!../outside\n!/../outside/file\n",
        )
        .unwrap();
        let output = build(room.path(), &[]);
        assert!(!is_out(room.path()), "{what} led outside");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("canary"), "{what}");
    }
}

/// A directory and a link to the outside change places all the time.
#[test]
fn s26_what_changes_meanwhile_never_leads_outside() {
    let room = room("FROM scratch\nCOPY dir /copy\n");
    let context = room.path().join("context");
    symlink("../outside", context.join("link")).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = |name: &str| context.join(name);
            while !stop.load(Ordering::Relaxed) || swaps.load(Ordering::Relaxed) < 10_000 {
                let (dir, link) = (path("dir"), path("link"));
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &dir,
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut built = 0;
        for _ in 0..25 {
            let _ = fs::remove_file(room.path().join("image.tar"));
            built += u32::from(build(room.path(), &["--no-cache"]).status.success());
            assert!(!is_out(room.path()), "a build read what is outside");
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!("{built} of 25 builds, {} swaps", swaps.load(Ordering::Relaxed));
    });
}

/// Credentials in addresses, that work and that do not: in no image, no cache, no provenance, no log.
#[test]
fn s06_credentials_of_addresses_are_kept_nowhere() {
    let web = Web::start(|question| match question.target.as_str() {
        "/file" => Answer::ok("fetched"),
        _ => Answer::status(404),
    })
    .unwrap();
    let at = web.authority();
    let room = room(&format!("FROM scratch\nADD http://me:hunter2-url@{at}/file /file\n"));
    let flags = [
        "--provenance=mode=max",
        "-o",
        "type=oci,tar=false,dest=image",
        "--cache-to",
        "type=local,dest=cache,mode=max",
    ];
    let output = build(room.path(), &flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = web.asked();
    let sent = asked.iter().any(|question| question.header("authorization").is_some());
    assert!(sent, "the credentials were not used, so nothing is shown");
    let mut said = output.stderr;
    for address in [
        format!("http://me:hunter2-url@{at}/none"),
        format!("http://me:hunter2-url@{at}/none.git"),
        "https://me:hunter2-url@127.0.0.1:1/x".to_owned(),
    ] {
        fs::write(room.path().join("context/failing"), format!("FROM scratch\nADD {address} /\n")).unwrap();
        let output = build(room.path(), &["-f", "context/failing"]);
        assert_eq!(output.status.code(), Some(1));
        said.extend(output.stderr);
    }
    skycap_testkit::secrets::assert_not_shown_in("the log", &said);
    let disguises = crate::secrets::disguises("hunter2-url");
    let (_, found) = crate::secrets::holders(room.path(), &disguises, &|path| path.ends_with("context"));
    assert!(found.is_empty(), "{found:?}");
}
