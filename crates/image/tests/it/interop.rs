//! Other people's tools on what we write, and ours on what they write.

use std::path::Path;
use std::process::Command;

use skycap_image::archive::{self, Format, write_docker, write_docker_flat, write_oci};
use skycap_image::layout::Layout;
use skycap_image::{Artifact, ImageSink, ImageSource, Name};
use skycap_testkit::listing::image;

use crate::{image_of, read_all};

/// skopeo of Debian 12 does not know layers in zstd.
const LISTING: &str = "env A=b\nlayer\nfile a 0644 0:0 size=70000\nlayer\nwhiteout a\n";

fn skopeo(test: &str, arguments: &[&str]) -> bool {
    let outcome = Command::new("skopeo").args(["--insecure-policy", "copy", "-q"]).args(arguments).output();
    match outcome {
        Err(error) => {
            eprintln!("skipped: {test}: no skopeo: {error}");
            false
        }
        Ok(outcome) => {
            assert!(outcome.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&outcome.stderr));
            true
        }
    }
}

fn check(layout: &Path, expected: &Artifact) {
    let read = Layout::open(layout).unwrap().get(&Name::Tag("got".into())).unwrap();
    assert_eq!(image_of(read.clone()).config_bytes(), image_of(expected.clone()).config_bytes());
    assert_eq!(read_all(&read).unwrap(), read_all(expected).unwrap());
}

#[test]
fn skopeo_reads_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let image = image(LISTING);
    let artifact = Artifact::Image(image.clone());
    let tag = ["localhost/x:1".to_owned()];
    std::fs::write(at("docker.tar"), write_docker(&image, &tag, Vec::new()).unwrap()).unwrap();
    std::fs::write(at("flat.tar"), write_docker_flat(&image, &tag, Vec::new()).unwrap()).unwrap();
    std::fs::write(at("oci.tar"), write_oci(&artifact, &["1".into()], Vec::new()).unwrap()).unwrap();
    Layout::create(at("layout")).unwrap().put(&artifact, &[Name::Tag("1".into())]).unwrap();
    for from in [
        format!("oci:{}:1", at("layout")),
        format!("oci-archive:{}:1", at("oci.tar")),
        format!("docker-archive:{}", at("docker.tar")),
        format!("docker-archive:{}", at("flat.tar")),
    ] {
        let to = at("out");
        if !skopeo("skopeo_reads_what_we_write", &[&from, &format!("oci:{to}:got")]) {
            return;
        }
        let read = Layout::open(&to).unwrap().get(&Name::Tag("got".into())).unwrap();
        assert_eq!(image_of(read.clone()).config(), image.config(), "{from}");
        if !from.starts_with("docker-archive") {
            check(Path::new(&to), &artifact);
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

#[test]
fn we_read_what_skopeo_writes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let image = image(LISTING);
    Layout::create(at("layout")).unwrap().put(&Artifact::Image(image.clone()), &[Name::Tag("1".into())]).unwrap();
    let from = format!("oci:{}:1", at("layout"));
    for (to, format) in [("docker-archive", Format::Docker), ("oci-archive", Format::Oci)] {
        let path = at(to);
        if !skopeo("we_read_what_skopeo_writes", &[&from, &format!("{to}:{path}:localhost/x:1")]) {
            return;
        }
        let archive = archive::open(&path).unwrap();
        assert_eq!(archive.format(), format);
        let read = image_of(archive.only().unwrap());
        assert_eq!(read.config().rootfs, image.config().rootfs, "{to}");
        assert_eq!(read.config().config, image.config().config, "{to}");
        read_all(&Artifact::Image(read)).unwrap();
    }
}
