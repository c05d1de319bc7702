//! The same body of tests against every place.

use std::fs;
use std::path::Path;

use skycap_image::archive::{Format, open_as, write_docker, write_oci};
use skycap_image::layout::Layout;
use skycap_image::tar::{Reader, Writer};
use skycap_image::{Artifact, Digest, ImageSink, ImageSource, Kind, Memory, Name, Platform};
use skycap_testkit::listing::{Style, artifact, image, index};

use crate::{INDEX, LISTING, image_of, read_all};

/// A kind of place, with what can be done to it behind its back.
struct Peer {
    name: &'static str,
    /// Puts an artifact under the tag `1` into a place below a directory.
    put: fn(&Artifact, &Path),
    /// Opens that place.
    open: fn(&Path) -> Box<dyn ImageSource>,
    keeps_indexes: bool,
    keeps_manifests: bool,
}

const ON_DISK: [Peer; 4] = [
    Peer { name: "layout", put: put_layout, open: open_layout, keeps_indexes: true, keeps_manifests: true },
    Peer { name: "oci archive", put: put_oci, open: open_oci, keeps_indexes: true, keeps_manifests: true },
    Peer { name: "docker archive", put: put_docker, open: open_docker, keeps_indexes: false, keeps_manifests: false },
    Peer { name: "zstd'ed oci archive", put: put_packed, open: open_oci, keeps_indexes: true, keeps_manifests: true },
];

fn put_layout(artifact: &Artifact, dir: &Path) {
    Layout::create(dir.join("layout")).unwrap().put(artifact, &[Name::Tag("1".into())]).unwrap();
}

fn open_layout(dir: &Path) -> Box<dyn ImageSource> {
    Box::new(Layout::open(dir.join("layout")).unwrap())
}

fn put_oci(artifact: &Artifact, dir: &Path) {
    fs::write(dir.join("image.tar"), write_oci(artifact, &["1".into()], Vec::new()).unwrap()).unwrap();
}

fn open_oci(dir: &Path) -> Box<dyn ImageSource> {
    Box::new(open_as(dir.join("image.tar"), Format::Oci).unwrap())
}

fn put_docker(artifact: &Artifact, dir: &Path) {
    let image = image_of(artifact.clone());
    fs::write(dir.join("image.tar"), write_docker(&image, &["example/x:1".into()], Vec::new()).unwrap()).unwrap();
}

fn open_docker(dir: &Path) -> Box<dyn ImageSource> {
    Box::new(open_as(dir.join("image.tar"), Format::Docker).unwrap())
}

fn put_packed(artifact: &Artifact, dir: &Path) {
    let bytes = write_oci(artifact, &["1".into()], Vec::new()).unwrap();
    fs::write(dir.join("image.tar"), zstd_of(&bytes)).unwrap();
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        skycap_image::compress::LayerEncoder::new(Vec::new(), skycap_image::Compression::Zstd, false, 1).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap().1
}

fn tag(text: &str) -> Name {
    Name::Tag(text.into())
}

#[test]
fn an_image_survives_a_round_trip_and_is_found_by_name() {
    let image = image(LISTING);
    let artifact = Artifact::Image(image.clone());
    for peer in ON_DISK {
        let dir = tempfile::tempdir().unwrap();
        (peer.put)(&artifact, dir.path());
        let place = (peer.open)(dir.path());
        let read = image_of(place.get(&tag("1")).unwrap());
        assert_eq!(read.config_bytes(), image.config_bytes(), "{}", peer.name);
        assert_eq!(read_all(&Artifact::Image(read.clone())).unwrap(), read_all(&artifact).unwrap(), "{}", peer.name);
        if peer.keeps_manifests {
            assert_eq!(read.raw().bytes, image.raw().bytes, "{}", peer.name);
        }
        let found = place.find(&tag("1")).unwrap().unwrap();
        assert_eq!((found.digest, found.size), (read.descriptor().digest, read.descriptor().size), "{}", peer.name);
        assert!(place.find(&Name::Digest(found.digest)).unwrap().is_some(), "{}", peer.name);
        assert!(place.find(&tag("2")).unwrap().is_none(), "{}", peer.name);
        assert!(place.find(&Name::Digest(Digest::sha256(b"?"))).unwrap().is_none(), "{}", peer.name);
        let Err(error) = place.get(&tag("2")) else { panic!("{}", peer.name) };
        assert_eq!(error.kind, Kind::NotFound, "{}: {error}", peer.name);
    }
}

#[test]
fn an_index_survives_a_round_trip_and_gives_each_platform() {
    let index = Artifact::Index(index(INDEX));
    for peer in ON_DISK.iter().filter(|peer| peer.keeps_indexes) {
        let dir = tempfile::tempdir().unwrap();
        (peer.put)(&index, dir.path());
        let read = (peer.open)(dir.path()).get(&tag("1")).unwrap();
        assert_eq!(read.raw().bytes, index.raw().bytes, "{}", peer.name);
        assert_eq!(read_all(&read).unwrap(), read_all(&index).unwrap(), "{}", peer.name);
        for architecture in ["amd64", "arm64"] {
            let image = read.for_platform(&Platform::new("linux", architecture)).unwrap();
            assert_eq!(image.config().architecture, architecture, "{}", peer.name);
        }
    }
}

#[test]
fn a_place_can_be_copied_to_any_other() {
    let memory = Memory::default();
    let index = artifact(&memory, INDEX, Style { docker: true, ..Style::default() });
    let dir = tempfile::tempdir().unwrap();
    for from in ON_DISK.iter().filter(|peer| peer.keeps_indexes) {
        for to in ON_DISK.iter().filter(|peer| peer.keeps_indexes) {
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            fs::create_dir_all(&a).unwrap();
            fs::create_dir_all(&b).unwrap();
            (from.put)(&index, &a);
            (to.put)(&(from.open)(&a).get(&tag("1")).unwrap(), &b);
            let read = (to.open)(&b).get(&tag("1")).unwrap();
            assert_eq!(read.descriptor().digest, index.descriptor().digest, "{} to {}", from.name, to.name);
            fs::remove_dir_all(&a).unwrap();
            fs::remove_dir_all(&b).unwrap();
        }
    }
    let copy = Memory::default();
    copy.put(&index, &[tag("1")]).unwrap();
    assert_eq!(read_all(&copy.get(&tag("1")).unwrap()).unwrap(), read_all(&index).unwrap());
}

#[test]
fn tampered_bytes_are_refused_everywhere() {
    let image = image(LISTING);
    let layer = &image.layers()[0];
    let mut good = Vec::new();
    std::io::Read::read_to_end(&mut layer.open().unwrap(), &mut good).unwrap();
    for peer in ON_DISK.iter().filter(|peer| peer.name != "zstd'ed oci archive") {
        let dir = tempfile::tempdir().unwrap();
        (peer.put)(&Artifact::Image(image.clone()), dir.path());
        let file = match peer.name {
            "layout" => dir.path().join("layout/blobs/sha256").join(layer.descriptor.digest.hex()),
            _ => dir.path().join("image.tar"),
        };
        let mut bytes = fs::read(&file).unwrap();
        let start = bytes.windows(64).position(|window| window == &good[100..164]).unwrap();
        bytes[start] ^= 1;
        fs::write(&file, bytes).unwrap();
        let read = (peer.open)(dir.path()).get(&tag("1")).unwrap();
        let Err(error) = read_all(&read) else { panic!("{} accepted wrong bytes", peer.name) };
        assert_eq!(error.kind, Kind::Corrupt, "{}: {error}", peer.name);
    }
}

#[test]
fn a_missing_blob_is_an_error_and_not_an_empty_one() {
    let image = image(LISTING);
    let hex = image.layers()[1].descriptor.digest.hex();
    for peer in ON_DISK.iter().filter(|peer| peer.name != "zstd'ed oci archive") {
        let dir = tempfile::tempdir().unwrap();
        (peer.put)(&Artifact::Image(image.clone()), dir.path());
        let archive = dir.path().join("image.tar");
        if peer.name == "layout" {
            fs::remove_file(dir.path().join("layout/blobs/sha256").join(&hex)).unwrap();
        } else {
            fs::write(&archive, without(&fs::read(&archive).unwrap(), &hex)).unwrap();
        }
        let error = if peer.name == "docker archive" {
            open_as(&archive, Format::Docker).err().unwrap()
        } else {
            read_all(&(peer.open)(dir.path()).get(&tag("1")).unwrap()).unwrap_err()
        };
        assert_eq!(error.kind, Kind::NotFound, "{}: {error}", peer.name);
    }
}

/// A tar without one member.
fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut reader = Reader::new(bytes);
    let mut writer = Writer::new(Vec::new());
    while let Some(header) = reader.next().unwrap() {
        if !String::from_utf8_lossy(&header.path).contains(name) {
            writer.append(&header, &mut reader).unwrap();
        }
    }
    writer.finish().unwrap()
}
