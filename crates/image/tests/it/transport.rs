//! Places by their names, and what a copy may change on the way.

use skycap_image::directory::Directory;
use skycap_image::transport::Transport;
use skycap_image::{
    Artifact, Compression, Digest, ImageSink, ImageSource, MediaType, Memory, Name, Platform, Repack, Silent, repack,
};
use skycap_testkit::listing::{Style, artifact, image, index};
use tempfile::TempDir;

use crate::{INDEX, LISTING, image_of, read_all};

struct Places(TempDir);

impl Places {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `@` stands for the directory.
    fn at(&self, text: &str) -> Transport {
        text.replace('@', &self.0.path().display().to_string()).parse().unwrap()
    }
}

fn bare(listing: &str) -> Artifact {
    artifact(&Memory::default(), listing, Style { compression: Compression::None, docker: true })
}

#[test]
fn what_is_written_to_a_place_is_read_from_it() {
    let (one, several) = (Artifact::Image(image(LISTING)), Artifact::Index(index(INDEX)));
    for (text, artifact) in [
        ("oci:@/a", &one),
        ("oci:@/a:name", &several),
        ("oci-archive:@/b.tar", &several),
        ("oci-archive:@/b.tar:r.io/x:1", &one),
        ("dir:@/c", &one),
        ("dir:@/c", &several),
    ] {
        let places = Places::new();
        let place = places.at(text);
        place.check_writable().unwrap();
        // A second time it takes the place of the first.
        for _ in 0..2 {
            place.write(artifact).unwrap();
            let read = place.open().unwrap();
            assert_eq!(read.raw().bytes, artifact.raw().bytes, "{text}");
            assert_eq!(read_all(&read).unwrap(), read_all(artifact).unwrap(), "{text}");
            assert_eq!(place.list().unwrap().len(), 1, "{text}");
        }
    }
}

#[test]
fn a_docker_archive_is_found_by_the_name_it_was_given() {
    let places = Places::new();
    let one = Artifact::Image(image(LISTING));
    places.at("docker-archive:@/a.tar:app:1").write(&one).unwrap();
    for name in ["", ":app:1", ":docker.io/library/app:1"] {
        let read = image_of(places.at(&format!("docker-archive:@/a.tar{name}")).open().unwrap());
        assert_eq!(read.config_bytes(), image_of(one.clone()).config_bytes(), "{name}");
    }
    assert!(places.at("docker-archive:@/a.tar:app:2").open().is_err());
    let error = places.at("docker-archive:@/b.tar").write(&Artifact::Index(index(INDEX))).unwrap_err();
    assert!(error.to_string().contains("is an index of several"), "{error}");
    assert!(!places.0.path().join("b.tar").exists());
}

#[test]
fn a_layout_keeps_what_it_holds() {
    let places = Places::new();
    places.at("oci:@/a:1").write(&Artifact::Image(image(LISTING))).unwrap();
    places.at("oci:@/a:2").write(&Artifact::Index(index(INDEX))).unwrap();
    let names: Vec<String> = places.at("oci:@/a").list().unwrap().into_iter().flat_map(|(names, _)| names).collect();
    assert_eq!(names, ["1", "2"]);
    let Err(error) = places.at("oci:@/a").open() else { panic!("one of two") };
    assert!(error.to_string().contains("lists 2 images, not one"), "{error}");
}

#[test]
fn nothing_is_written_over_what_is_no_image() {
    let places = Places::new();
    std::fs::create_dir(places.0.path().join("home")).unwrap();
    std::fs::write(places.0.path().join("home/diary"), "").unwrap();
    for (text, why) in [
        ("oci:@/home", "something else than an OCI layout"),
        ("dir:@/home", "something else than an image"),
        ("oci-archive:@/home", "it is a directory"),
        ("oci:@/missing/x", "is not a directory"),
    ] {
        let place = places.at(text);
        let error = place.check_writable().unwrap_err();
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
    let name = Some(Name::Digest(Digest::sha256(b"")));
    let place = Transport::Layout { dir: places.0.path().join("x"), name };
    assert!(place.check_writable().unwrap_err().to_string().contains("a digest is no name"));
}

#[test]
fn a_directory_without_its_manifest_or_with_another_layer_is_refused() {
    let places = Places::new();
    let one = image(LISTING);
    let dir = places.0.path().join("d");
    Directory::write(&dir, &Artifact::Image(one.clone())).unwrap();
    std::fs::write(dir.join(one.layers()[0].descriptor.digest.hex()), "changed").unwrap();
    assert!(read_all(&places.at("dir:@/d").open().unwrap()).is_err());
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    assert!(places.at("dir:@/d").open().is_err());
}

#[test]
fn bare_layers_are_compressed_and_the_rest_stays_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let wanted = |compression, only_bare| Repack { compression, only_bare, threads: 2, scratch: scratch.path() };
    let before = bare(LISTING);
    let after = repack(&before, wanted(Compression::Gzip, true), &Silent).unwrap().unwrap();
    let types = |artifact: &Artifact| -> Vec<MediaType> {
        let layers = image_of(artifact.clone()).manifest().layers.clone();
        layers.into_iter().map(|layer| layer.media_type).collect()
    };
    // The second layer says itself that it is in zstd.
    assert_eq!(types(&before), [MediaType::DockerLayer, MediaType::DockerLayerZstd]);
    assert_eq!(types(&after), [MediaType::DockerLayerGzip, MediaType::DockerLayerZstd]);
    assert_eq!(image_of(after.clone()).config_bytes(), image_of(before.clone()).config_bytes());
    read_all(&after).unwrap();
    assert!(repack(&after, wanted(Compression::Gzip, true), &Silent).unwrap().is_none());
    let zstd = repack(&after, wanted(Compression::Zstd, false), &Silent).unwrap().unwrap();
    assert_eq!(types(&zstd), [MediaType::DockerLayerZstd, MediaType::DockerLayerZstd]);
    let back = repack(&zstd, wanted(Compression::None, false), &Silent).unwrap().unwrap();
    assert_eq!(types(&back), [MediaType::DockerLayer, MediaType::DockerLayer]);
}

#[test]
fn an_index_follows_its_images() {
    let scratch = tempfile::tempdir().unwrap();
    let before = bare(INDEX);
    let wanted = Repack { compression: Compression::Zstd, only_bare: false, threads: 1, scratch: scratch.path() };
    let after = repack(&before, wanted, &Silent).unwrap().unwrap();
    assert_ne!(after.descriptor().digest, before.descriptor().digest);
    let copy = Memory::default();
    copy.put(&after, &[Name::Tag("1".into())]).unwrap();
    let read = copy.get(&Name::Tag("1".into())).unwrap();
    read_all(&read).unwrap();
    let arm = read.for_platform(&Platform::new("linux", "arm64")).unwrap();
    assert_eq!(arm.config().architecture, "arm64");
    assert!(arm.manifest().layers.iter().all(|layer| layer.media_type == MediaType::DockerLayerZstd));
}

#[test]
fn platforms_are_chosen_without_changing_images() {
    let several = Artifact::Index(index(INDEX));
    let (amd64, arm64) = (Platform::new("linux", "amd64"), Platform::new("linux", "arm64"));
    let one = several.for_platforms(std::slice::from_ref(&arm64)).unwrap();
    assert_eq!(one.descriptor().digest, several.for_platform(&arm64).unwrap().descriptor().digest);
    let both = several.for_platforms(&[arm64.clone(), amd64, arm64]).unwrap();
    let Artifact::Index(both) = both else { panic!("an index") };
    let found: Vec<String> = both.manifests().iter().map(|m| m.platform.clone().unwrap().to_string()).collect();
    assert_eq!(found, ["linux/arm64", "linux/amd64"]);
    let Err(error) = several.for_platforms(&["linux/s390x".parse().unwrap()]) else { panic!("no such platform") };
    assert!(error.to_string().contains("it offers linux/amd64, linux/arm64"), "{error}");
}
