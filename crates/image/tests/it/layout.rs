//! OCI layouts on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Digest, ImageSink, ImageSource, Kind, Name};
use skycap_testkit::listing::{image, index};

use crate::{INDEX, LISTING, read_all};

fn tag(text: &str) -> Name {
    Name::Tag(text.into())
}

#[test]
fn a_tag_moves_and_other_tags_stay() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let (old, new) = (image(LISTING), image("layer\nfile x\n"));
    layout.put(&Artifact::Image(old.clone()), &[tag("1"), tag("latest")]).unwrap();
    layout.put(&Artifact::Image(new.clone()), &[tag("latest")]).unwrap();
    layout.put(&Artifact::Image(new.clone()), &[]).unwrap();
    let listed: Vec<_> = layout.artifacts().unwrap().into_iter().map(|(name, d)| (name, d.digest)).collect();
    let expected = [(Some(tag("1")), old.descriptor().digest), (Some(tag("latest")), new.descriptor().digest)];
    assert_eq!(listed, expected);
}

#[test]
fn blobs_can_be_read_by_everybody_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    Layout::create(dir.path()).unwrap().put(&Artifact::Image(image(LISTING)), &[]).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    for entry in fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn a_layout_is_not_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    Layout::create(dir.path()).unwrap();
    assert!(Layout::create(dir.path()).unwrap_err().to_string().contains("already"));
    assert_eq!(Layout::open(dir.path().join("nowhere")).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn an_index_can_be_the_layout_itself() {
    let dir = tempfile::tempdir().unwrap();
    let index = Artifact::Index(index(INDEX));
    let layout = Layout::create_as(dir.path(), &index).unwrap();
    assert_eq!(Digest::sha256(&fs::read(dir.path().join("index.json")).unwrap()), index.descriptor().digest);
    assert!(!dir.path().join("blobs/sha256").join(index.descriptor().digest.hex()).exists());
    assert_eq!(layout.as_index().unwrap().descriptor(), index.descriptor());
    assert_eq!(read_all(&layout.as_index().unwrap()).unwrap(), read_all(&index).unwrap());
    assert_eq!(
        fs::read_to_string(dir.path().join("oci-layout")).unwrap(),
        "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}"
    );
}

#[test]
fn an_image_can_be_the_one_in_the_layout() {
    let dir = tempfile::tempdir().unwrap();
    let image = Artifact::Image(image(LISTING));
    let layout = Layout::create_as(dir.path(), &image).unwrap();
    assert_eq!(layout.only().unwrap().descriptor(), image.descriptor());
}

#[test]
fn children_are_found_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let index = index(INDEX);
    layout.put(&Artifact::Index(index.clone()), &[tag("1")]).unwrap();
    let child = &index.manifests()[1];
    assert_eq!(layout.find(&Name::Digest(child.digest)).unwrap().unwrap().digest, child.digest);
}

#[test]
fn a_damaged_blob_is_replaced_by_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let image = image(LISTING);
    let artifact = Artifact::Image(image.clone());
    layout.put(&artifact, &[tag("1")]).unwrap();
    let blob = dir.path().join("blobs/sha256").join(image.layers()[0].descriptor.digest.hex());
    let length = fs::metadata(&blob).unwrap().len();
    fs::write(&blob, vec![0; usize::try_from(length).unwrap()]).unwrap();
    assert!(read_all(&layout.get(&tag("1")).unwrap()).is_err());
    layout.put(&artifact, &[tag("1")]).unwrap();
    assert!(read_all(&layout.get(&tag("1")).unwrap()).is_ok());
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    Layout::create(dir.path()).unwrap();
    // What a dead process left over is swept, what a living one holds is not.
    fs::write(dir.path().join(".staged-1-0"), "half").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let dir = dir.path();
            scope.spawn(move || {
                for round in 0..5 {
                    let text =
                        format!("layer\nfile shared 0644 0:0 size=9999\nlayer\nfile f 0644 0:0 \"{writer} {round}\"\n");
                    let layout = Layout::open(dir).unwrap();
                    layout.put(&Artifact::Image(image(&text)), &[tag(&format!("{writer}-{round}"))]).unwrap();
                }
            });
        }
    });
    let layout = Layout::open(dir.path()).unwrap();
    assert_eq!(layout.artifacts().unwrap().len(), 40);
    for (name, _) in layout.artifacts().unwrap() {
        read_all(&layout.get(&name.unwrap()).unwrap()).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn hostile_layouts_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path()).unwrap();
    let image = image(LISTING);
    layout.put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
    let blob = dir.path().join("blobs/sha256").join(image.manifest().config.digest.hex());
    fs::remove_file(&blob).unwrap();
    fs::create_dir(&blob).unwrap();
    assert!(layout.get(&tag("1")).err().unwrap().to_string().contains("cannot read"));
    for (text, index) in [
        ("does not parse", "{"),
        ("does not parse", r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#),
        ("does not parse", r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:","size":-1}]}"#),
    ] {
        fs::write(dir.path().join("index.json"), index).unwrap();
        let error = layout.find(&tag("1")).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    fs::File::create(dir.path().join("index.json")).unwrap().set_len(1 << 40).unwrap();
    assert!(Layout::open(dir.path()).unwrap_err().to_string().contains("larger than"));
}
