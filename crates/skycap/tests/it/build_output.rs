//! Where `skycap build` puts its result.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use skycap_image::Compression;

use crate::build::{build, context, image};
use crate::world::{World, listing, registry, run};

fn names(world: &World, dir: &str) -> Vec<String> {
    let lines = listing(&world.path(dir));
    lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn files_go_to_a_directory_and_leave_alone_what_is_there() {
    let world = context();
    world.file("out/mine", "mine");
    world.file("out/a", "old");
    std::os::unix::fs::symlink("/nonexistent", world.path("out/b")).unwrap();
    build(&world, ["-o", "out", "context"]).ok();
    assert_eq!(names(&world, "out"), ["a", "b", "mine"]);
    assert_eq!(std::fs::read_to_string(world.path("out/b")).unwrap(), "a\n");
    build(&world, ["-o", "type=local,dest=out,mode=delete", "context"]).ok();
    assert_eq!(names(&world, "out"), ["a", "b"]);
    build(&world, ["--platform", "linux/amd64,linux/arm64", "-o", "type=local,dest=deep/both", "context"]).ok();
    assert_eq!(
        names(&world, "deep/both"),
        ["linux_amd64", "linux_amd64/a", "linux_amd64/b", "linux_arm64", "linux_arm64/a", "linux_arm64/b"]
    );
    build(&world, ["-o", "type=local,dest=split,platform-split=true", "context"]).ok();
    assert_eq!(names(&world, "split").len(), 3);
}

#[test]
fn a_tar_of_the_files_goes_to_a_file_or_to_standard_output() {
    let world = context();
    let printed = world.skycap(["build", "-o", "-", "context"]).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    build(&world, ["-o", "type=tar,dest=x.tar", "context"]).ok();
    assert_eq!(std::fs::read(world.path("x.tar")).unwrap(), printed.stdout);
    assert_eq!(std::fs::metadata(world.path("x.tar")).unwrap().permissions().mode() & 0o777, 0o644);
    let listed = Command::new("tar").arg("tf").arg(world.path("x.tar")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "a\nb\n");
}

#[test]
fn archives_and_layouts_have_the_names_of_tags() {
    let world = context();
    build(
        &world,
        [
            "-t",
            "app:1",
            "-o",
            "type=docker,dest=d.tar",
            "-o",
            "type=oci,dest=o.tar",
            "-o",
            "type=oci,dest=l,tar=false",
            "-o",
            "dir:dir",
            "context",
        ],
    )
    .ok();
    for place in ["docker-archive:d.tar:app:1", "oci-archive:o.tar:app:1", "oci:l:1", "dir:dir"] {
        run(world.skycap(["inspect", place])).ok();
    }
    let printed = world.skycap(["build", "-t", "app:1", "-o", "type=docker,dest=-", "context"]).output().unwrap();
    assert_eq!(printed.stdout, std::fs::read(world.path("d.tar")).unwrap());
    let printed = world.skycap(["build", "-t", "app:1", "-o", "type=oci", "context"]).output().unwrap();
    assert_eq!(printed.stdout, std::fs::read(world.path("o.tar")).unwrap());
}

#[test]
fn pushes_go_under_every_name_only_when_they_are_asked_for() {
    let world = context();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    let (one, two) = (format!("{address}/app:1"), format!("{address}/app:2"));
    let ran = build(&world, ["-t", &one, "context"]).ok();
    assert!(ran.stderr.contains("only in the cache") && ran.stderr.contains("--push"), "{}", ran.stderr);
    run(world.skycap(["inspect", &one])).fails(1, "");
    let pushed = build(&world, ["-t", &one, "-t", &two, "--push", "context"]).ok();
    assert!(pushed.stderr.contains(&format!("pushed {one}@{}", pushed.stdout.trim())), "{}", pushed.stderr);
    run(world.skycap(["inspect", &two])).ok();
    for (output, name) in [
        (format!("type=image,name={address}/app-i:1,push=true"), format!("{address}/app-i:1")),
        (format!("type=registry,name={address}/app-r:1"), format!("{address}/app-r:1")),
        (format!("docker://{address}/app-d:1"), format!("{address}/app-d:1")),
    ] {
        build(&world, ["-o", &output, "context"]).ok();
        run(world.skycap(["inspect", &name])).ok();
    }
    let by_digest = format!("type=image,name={address}/app-g,push-by-digest=true");
    let digest = build(&world, ["-o", &by_digest, "context"]).ok().stdout;
    run(world.skycap(["inspect", &format!("{address}/app-g@{}", digest.trim())])).ok();
    run(world.skycap(["inspect", &format!("{address}/app-g")])).fails(1, "");
}

#[test]
fn layers_are_packed_as_was_asked() {
    let world = context();
    world.file("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /base\n");
    build(&world, ["-o", "oci:based:1", "base"]).ok();
    world.file("context/Dockerfile", "FROM base\nCOPY a.txt /\n");
    let built = |keys: &str| {
        let output = format!("oci:layout{keys}");
        let _ = std::fs::remove_dir_all(world.path("layout"));
        build(&world, ["--build-context", "base=oci-layout://based:1", "-o", &output, "context"]).ok();
        let image = image(&world, "layout");
        let kinds = image.manifest().layers.iter().map(|layer| layer.media_type.compression()).collect::<Vec<_>>();
        (kinds, image.manifest().media_type.as_str().to_owned())
    };
    assert_eq!(built("").0, [Compression::Gzip; 2]);
    assert_eq!(built(",compression=zstd").0, [Compression::Gzip, Compression::Zstd]);
    assert_eq!(built(",compression=zstd,force-compression=true").0, [Compression::Zstd; 2]);
    assert_eq!(built(",compression=uncompressed").0, [Compression::Gzip, Compression::None]);
    assert!(built(",oci-mediatypes=false").1.contains("docker"));
}
