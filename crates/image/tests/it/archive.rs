//! Archives in one file.

use std::io::Read;
use std::path::PathBuf;

use skycap_image::archive::{self, Format, write_docker, write_docker_flat, write_oci};
use skycap_image::tar::{Header, Reader, Writer};
use skycap_image::{Artifact, Compression, Digest, ImageSource, Kind, MediaType, Memory, Name, SourceError};
use skycap_testkit::listing::{self, Style, image, index};

use crate::{INDEX, LISTING, image_of, read_all};

fn names(bytes: &[u8]) -> Vec<(String, u32)> {
    let mut reader = Reader::new(bytes);
    let mut names = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        names.push((String::from_utf8(header.path).unwrap(), header.mode));
    }
    names
}

fn member(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut reader = Reader::new(bytes);
    while let Some(header) = reader.next().unwrap() {
        if header.path == name.as_bytes() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            return content;
        }
    }
    panic!("no {name}")
}

fn write(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in entries {
        writer.append(&Header { size: data.len() as u64, ..header.clone() }, *data).unwrap();
    }
    writer.finish().unwrap()
}

fn on_disk(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn refusal(bytes: &[u8]) -> SourceError {
    let (_dir, path) = on_disk(bytes);
    archive::open(&path).and_then(|archive| archive.only()).map(drop).unwrap_err()
}

/// A message with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[test]
fn a_docker_archive_has_containerds_entries() {
    let docker = listing::artifact(&Memory::default(), LISTING, Style { docker: true, compression: Compression::Gzip });
    let image = image_of(docker);
    let bytes = write_docker(&image, &["localhost/x:1".into()], Vec::new()).unwrap();
    let names = names(&bytes);
    assert_eq!(names[..2], [("blobs/".into(), 0o755), ("blobs/sha256/".into(), 0o755)]);
    assert_eq!(
        names[6..],
        [("index.json".into(), 0o644), ("manifest.json".into(), 0o644), ("oci-layout".into(), 0o444)]
    );
    assert!(names[2..6].is_sorted() && names[2..6].iter().all(|(_, mode)| *mode == 0o444));
    let text = String::from_utf8(member(&bytes, "manifest.json")).unwrap();
    let start =
        format!(r#"[{{"Config":"blobs/sha256/{}","RepoTags":["localhost/x:1"],"#, image.manifest().config.digest.hex());
    assert!(text.starts_with(&start), "{text}");
    let unnamed = write_docker(&image, &[], Vec::new()).unwrap();
    assert!(String::from_utf8(member(&unnamed, "manifest.json")).unwrap().contains(r#""RepoTags":null"#));
    assert_eq!(bytes, write_docker(&image, &["localhost/x:1".into()], Vec::new()).unwrap());
}

#[test]
fn an_archive_that_is_both_is_read_as_either() {
    let image = image(LISTING);
    let (_dir, path) = on_disk(&write_docker(&image, &["a/b:1".into()], Vec::new()).unwrap());
    assert_eq!(archive::open(&path).unwrap().format(), Format::Docker);
    let oci = archive::open_as(&path, Format::Oci).unwrap();
    assert_eq!(oci.only().unwrap().raw().bytes, image.raw().bytes);
    for name in ["1", "a/b:1"] {
        assert!(oci.find(&Name::Tag(name.into())).unwrap().is_some(), "{name}");
    }
}

#[test]
fn a_flat_archive_reads_back_with_go_containerregistrys_manifest() {
    let docker = listing::artifact(&Memory::default(), LISTING, Style { docker: true, compression: Compression::Gzip });
    let image = image_of(docker);
    let bytes = write_docker_flat(&image, &["index.docker.io/library/x:latest".into()], Vec::new()).unwrap();
    let layers = &image.manifest().layers;
    let expected = [
        image.manifest().config.digest.to_string(),
        format!("{}.tar.gz", layers[0].digest.hex()),
        format!("{}.tar.zst", layers[1].digest.hex()),
        "manifest.json".to_owned(),
    ];
    assert_eq!(names(&bytes).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), expected);
    let (_dir, path) = on_disk(&bytes);
    let read = image_of(archive::open(&path).unwrap().only().unwrap());
    let one = |media_type: &MediaType, size: u64, digest: &Digest| {
        format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"}}"#)
    };
    let config = &image.manifest().config;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{},"layers":[{},{}]}}"#,
        one(&MediaType::DockerConfig, config.size, &config.digest),
        one(&MediaType::DockerLayerGzip, layers[0].size, &layers[0].digest),
        one(&MediaType::DockerLayerZstd, layers[1].size, &layers[1].digest),
    );
    assert_eq!(String::from_utf8(read.raw().bytes.clone()).unwrap(), manifest);
    read_all(&Artifact::Image(read)).unwrap();
}

/// What `docker save` wrote up to version 24: bare layers, and links where two images share one.
fn old_docker_save() -> Vec<u8> {
    let layer = listing::tar("file a 0644 0:0 \"x\"\n");
    let diff_id = Digest::sha256(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}","{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}]"#;
    write(&[
        (Header::directory(*b"1/"), b""),
        (Header::file(*b"1/layer.tar", 0), &layer),
        (Header::symlink(*b"2/layer.tar", *b"../1/layer.tar"), b""),
        (Header::hardlink(*b"3/layer.tar", *b"2/layer.tar"), b""),
        (Header::file(*b"c.json", 0), config.as_bytes()),
        (Header::file(*b"manifest.json", 0), manifest.as_bytes()),
        (Header::file(*b"repositories", 0), b"{}"),
    ])
}

#[test]
fn links_of_old_docker_versions_are_followed_and_bare_layers_are_read() {
    let (_dir, path) = on_disk(&old_docker_save());
    let image = image_of(archive::open(&path).unwrap().get(&Name::Tag("x:1".into())).unwrap());
    assert_eq!(image.layers().len(), 3);
    assert_eq!(image.layers()[2].descriptor.media_type, MediaType::DockerLayer);
    read_all(&Artifact::Image(image)).unwrap();
}

#[test]
fn a_compressed_archive_is_read_like_a_plain_one() {
    let mut encoder = skycap_image::compress::LayerEncoder::new(Vec::new(), Compression::Gzip, true, 1).unwrap();
    std::io::Write::write_all(&mut encoder, &old_docker_save()).unwrap();
    let (_dir, path) = on_disk(&encoder.finish().unwrap().1);
    let archive = archive::open(&path).unwrap();
    assert_eq!(read_all(&archive.only().unwrap()).unwrap().len(), 3);
}

#[test]
fn an_oci_archive_has_no_docker_manifest() {
    let bytes = write_oci(&Artifact::Index(index(INDEX)), &[], Vec::new()).unwrap();
    assert!(!names(&bytes).iter().any(|(name, _)| name == "manifest.json"));
    let (_dir, path) = on_disk(&bytes);
    let archive = archive::open(&path).unwrap();
    assert_eq!((archive.format(), archive.artifacts().len()), (Format::Oci, 1));
}

#[test]
fn hostile_archives_are_refused() {
    let good = old_docker_save();
    let docker = |manifest: &str| write(&[(Header::file(*b"manifest.json", 0), manifest.as_bytes())]);
    let with_config = |config: &str| {
        let manifest = r#"[{"Config":"c","RepoTags":[],"Layers":["l"]}]"#;
        write(&[(Header::file(*b"manifest.json", 0), manifest.as_bytes()), (Header::file(*b"c", 0), config.as_bytes())])
    };
    let twice = write(&[(Header::file(*b"manifest.json", 0), b"[]"), (Header::file(*b"./manifest.json", 0), b"[]")]);
    let looped =
        write(&[(Header::symlink(*b"manifest.json", *b"x"), b""), (Header::symlink(*b"x", *b"manifest.json"), b"")]);
    let nested = "[".repeat(100_000);
    for (text, bytes) in [
        ("neither manifest.json nor index.json", write(&[(Header::file(*b"x", 0), b"")])),
        ("malformed tar", b"not a tar at all, but long enough to be read as one".repeat(20)),
        ("manifest.json twice", twice),
        ("more than 40 links", looped),
        ("does not parse", docker("{")),
        ("does not parse", docker(&nested)),
        ("lists 0 images", docker("[]")),
        ("file c not found", docker(r#"[{"Config":"c","Layers":[]}]"#)),
        ("file ../../etc/passwd not found", docker(r#"[{"Config":"../../etc/passwd","Layers":[]}]"#)),
        ("lists 1 layers but c 0 diff IDs", with_config(r#"{"rootfs":{"diff_ids":[]}}"#)),
        ("config c does not parse", with_config("?")),
        ("cut off", good[..1200].to_vec()),
        ("cut off", good[..good.len() - 1024 - 700].to_vec()),
    ] {
        let error = refusal(&bytes);
        assert!(chain(&error).contains(text), "{text}: {}", chain(&error));
        assert!(matches!(error.kind, Kind::Corrupt | Kind::NotFound), "{error:?}");
    }
}

#[test]
fn no_cut_or_flipped_byte_makes_another_image() {
    let image = Artifact::Image(image("layer\nfile a 0644 0:0 \"x\"\n"));
    let expected = read_all(&image).unwrap();
    let good = write_oci(&image, &[], Vec::new()).unwrap();
    let (_dir, path) = on_disk(&good);
    let read = || {
        let artifact = archive::open(&path)?.only()?;
        read_all(&artifact).map(|layers| (artifact.descriptor().digest, layers))
    };
    for position in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[position] ^= 0x20;
        std::fs::write(&path, &bytes).unwrap();
        let Ok(read) = read() else { continue };
        assert_eq!(read, (image.descriptor().digest, expected.clone()), "{position}");
    }
    for length in (0..good.len()).step_by(101) {
        std::fs::write(&path, &good[..length]).unwrap();
        let Ok(read) = read() else { continue };
        assert_eq!(read, (image.descriptor().digest, expected.clone()), "{length}");
    }
}

/// An archive is the same bytes as a stream and in a file, where several blobs are written at once.
#[test]
fn an_archive_in_a_file_is_the_same_as_one_in_a_stream() {
    let layers: Vec<_> = (0..40).map(|n| format!("layer\nfile f{n} 0644 0:0 size={}\n", n * 9000)).collect();
    let image = image(&layers.concat());
    let artifact = skycap_image::Artifact::Image(image.clone());
    let names = ["example/x:1".to_owned()];
    let dir = tempfile::tempdir().unwrap();
    for plan in [
        skycap_image::archive::plan_docker(&image, &names).unwrap(),
        skycap_image::archive::plan_docker_flat(&image, &names).unwrap(),
        skycap_image::archive::plan_oci(&artifact, &names).unwrap(),
    ] {
        let path = dir.path().join("image.tar");
        plan.create(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == plan.write(Vec::new()).unwrap());
    }
}
