//! Other people's tools on what we write, and ours on what they write.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use skycap_image::archive::{self, Format, write_docker, write_docker_flat, write_oci};
use skycap_image::layout::Layout;
use skycap_image::tar::{Header, Kind, Reader, Writer};
use skycap_image::{Artifact, ImageSink, ImageSource, Name};
use skycap_testkit::listing::image;

use crate::{image_of, read_all};

/// skopeo of Debian 12 does not know layers in zstd.
const LISTING: &str = "env A=b\nlayer\nfile a 0644 0:0 size=70000\nlayer\nwhiteout a\n";

fn skopeo(test: &str, arguments: &[&str]) -> bool {
    let outcome = Command::new("skopeo").args(["--insecure-policy", "copy", "-q"]).args(arguments).output();
    match outcome {
        Err(error) => {
            skycap_testkit::skipped!("{test}: no skopeo: {error}");
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

/// Runs GNU tar; `None` with a printed reason if there is none.
fn gnu_tar(test: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("tar");
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            skycap_testkit::skipped!("{test}: no tar: {error}");
            return None;
        }
    };
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), input.to_vec());
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success(), "tar {arguments:?}");
    Some(output.stdout)
}

fn headers(bytes: &[u8]) -> Vec<Header> {
    let mut reader = Reader::new(bytes);
    let mut headers = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        headers.push(header);
    }
    headers
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let long = b"directory/".repeat(40);
    let mut writer = Writer::new(Vec::new());
    let paths = [
        b"a".to_vec(),
        [&long[..], b"file"].concat(),
        [b"p/".repeat(70), b"f".to_vec()].concat(),
        b"\xc3\xa9 b".to_vec(),
    ];
    for path in &paths {
        let header = Header { uid: 3_000_000, mtime: 12, mtime_nanos: 5, ..Header::file(path.clone(), 3) };
        writer.append(&header, &b"abc"[..]).unwrap();
    }
    writer.entry(&Header::symlink(*b"s", long.clone())).unwrap();
    let bytes = writer.finish().unwrap();
    let listed = gnu_tar("gnu_tar_reads_what_we_write", &["-tf", "-", "--quoting-style=literal"], &bytes);
    let Some(listed) = listed else { return };
    let expected: Vec<&[u8]> = paths.iter().map(Vec::as_slice).chain([&b"s"[..]]).collect();
    assert_eq!(listed.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n').collect::<Vec<_>>(), expected);
    let verbose = gnu_tar("gnu_tar_reads_what_we_write", &["-tvf", "-", "--numeric-owner"], &bytes).unwrap();
    assert!(String::from_utf8_lossy(&verbose).contains("3000000/0"));
}

#[test]
fn we_read_every_format_of_gnu_tar() {
    let dir = tempfile::tempdir().unwrap();
    let long = "long-name-".repeat(12);
    std::fs::create_dir_all(dir.path().join("d").join(&long)).unwrap();
    std::fs::write(dir.path().join("d/file"), [7; 1000]).unwrap();
    std::fs::hard_link(dir.path().join("d/file"), dir.path().join("d/other")).unwrap();
    std::os::unix::fs::symlink(long.repeat(2), dir.path().join("d/link")).unwrap();
    let at = dir.path().to_str().unwrap();
    let mut expected = vec!["d/".to_owned(), "d/file".into(), "d/link".into(), format!("d/{long}/"), "d/other".into()];
    for format in ["gnu", "oldgnu", "pax"] {
        let arguments = ["-C", at, "--sort=name", &format!("--format={format}"), "-cf", "-", "d"];
        let Some(bytes) = gnu_tar("we_read_every_format_of_gnu_tar", &arguments, b"") else { return };
        let headers = headers(&bytes);
        let mut names: Vec<_> = headers.iter().map(|header| String::from_utf8(header.path.clone()).unwrap()).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{format}");
        let link = headers.iter().find(|header| header.path == b"d/link").unwrap();
        assert_eq!(link.link, long.repeat(2).as_bytes(), "{format}");
        assert!(headers.iter().any(|header| header.kind == Kind::Hardlink && header.size == 0), "{format}");
    }
    for format in ["v7", "ustar"] {
        let arguments = ["-C", at, &format!("--format={format}"), "-cf", "-", "d/file", "d/other"];
        let Some(bytes) = gnu_tar("we_read_every_format_of_gnu_tar", &arguments, b"") else { return };
        assert_eq!(headers(&bytes).iter().map(|header| header.kind).collect::<Vec<_>>(), [Kind::File, Kind::Hardlink]);
    }
}
