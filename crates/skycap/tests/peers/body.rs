//! What every place must do.

use std::sync::Arc;

use skycap_image::attestation::is_attestation;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Compression, Descriptor, Digest, Kind, MediaType, Memory, Name, Platform,
    SourceError,
};
use skycap_testkit::listing::{Style, artifact};

use crate::artifacts::{attested, foreign, image, image_as, nested, parts, platforms, referrer, tag};
use crate::rooms::{Peer, Room};

/// Puts, gets and compares every byte that the peer promises to keep.
#[track_caller]
fn round_trip(peer: &Peer, room: &dyn Room, artifact: &Artifact) -> Artifact {
    let put = room.put(artifact, &[tag("1")]).unwrap();
    assert_eq!(put.digest, artifact.descriptor().digest, "{}", peer.name);
    let got = room.get(&tag("1")).unwrap();
    let (mut ours, mut theirs) = (parts(artifact).unwrap(), parts(&got).unwrap());
    if peer.keeps_manifests {
        assert_eq!(got.descriptor().digest, artifact.descriptor().digest, "{}", peer.name);
        assert_eq!(got.descriptor().media_type, artifact.descriptor().media_type, "{}", peer.name);
    } else {
        ours.manifests.clear();
        theirs.manifests.clear();
    }
    assert_eq!(theirs, ours, "{}", peer.name);
    got
}

pub fn an_image_comes_back_with_its_bytes(peer: &Peer) {
    let image = image("one");
    let Artifact::Image(got) = round_trip(peer, &*peer.room(), &Artifact::Image(image.clone())) else {
        panic!("an image")
    };
    assert_eq!(got.config(), image.config());
    let diff_ids = |image: &skycap_image::Image| image.layers().iter().map(|layer| layer.diff_id).collect::<Vec<_>>();
    assert_eq!(diff_ids(&got), diff_ids(&image));
}

/// R59.
pub fn the_same_layer_twice_and_an_empty_one(peer: &Peer) {
    let listing = "layer\n  file a 0644 0:0 size=1000\nlayer\nlayer\n  file a 0644 0:0 size=1000\nlayer\n  file a 0644 0:0 size=1000\n";
    let twice = artifact(&Memory::default(), listing, Style::default());
    let Artifact::Image(got) = round_trip(peer, &*peer.room(), &twice) else { panic!("an image") };
    let layers = got.layers();
    assert!(layers.len() == 4 && layers[0].descriptor.digest == layers[2].descriptor.digest);
    let none = artifact(&Memory::default(), "label without=layers\n", Style::default());
    round_trip(peer, &*peer.room(), &none);
}

pub fn zstd_layers(peer: &Peer) {
    let image = image_as("zstd", "zstd", Style { compression: Compression::Zstd, docker: false });
    assert!(image.layers().iter().all(|layer| layer.descriptor.media_type == MediaType::OciLayerZstd));
    round_trip(peer, &*peer.room(), &Artifact::Image(image));
    round_trip(peer, &*peer.room(), &Artifact::Image(image_as("none", "none", Style::default())));
}

pub fn what_is_absent_is_told_apart_from_failure(peer: &Peer) {
    let room = peer.room();
    room.put(&Artifact::Image(image("present")), &[tag("1")]).unwrap();
    for name in [tag("absent"), Name::Digest(Digest::sha256(b"absent"))] {
        assert!(room.find(&name).unwrap().is_none(), "{}: {name}", peer.name);
        let Err(error) = room.get(&name) else { panic!("{}: {name} is there", peer.name) };
        assert_eq!(error.kind, Kind::NotFound, "{}: {error}", peer.name);
    }
}

/// A source that hands out wrong bytes of the right length.
struct Wrong(Memory);

impl BlobSource for Wrong {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        if blob.media_type.compression() == Compression::Gzip {
            return Ok(Box::new(std::io::Cursor::new(vec![7; usize::try_from(blob.size).unwrap()])));
        }
        self.0.open_unverified(blob)
    }
}

pub fn wrong_bytes_are_refused_on_the_way_in(peer: &Peer) {
    let memory = Memory::default();
    let Artifact::Image(good) = artifact(&memory, "layer\n  file a 0644 0:0 \"wrong\"\n", Style::default()) else {
        panic!("an image")
    };
    let wrong = Arc::new(Wrong(memory));
    let wrong = Artifact::open(good.raw().clone(), wrong).unwrap();
    let room = peer.room();
    let error = room.put(&wrong, &[tag("1")]).unwrap_err();
    // Where the bytes have gone to a registry, that may be the first to see it.
    let seen = error.kind == Kind::Corrupt || error.to_string().contains("DIGEST_INVALID");
    assert!(seen, "{}: {error}", peer.name);
    assert!(room.get(&tag("1")).is_err(), "{}: what failed is not there", peer.name);
}

pub fn manifests_keep_their_bytes(peer: &Peer) {
    round_trip(peer, &*peer.room(), &Artifact::Image(image("bytes")));
    let memory = Memory::default();
    let listing = "annotation org.example.key=value\nlayer\n  file a 0644 0:0 \"a\"\n";
    round_trip(peer, &*peer.room(), &artifact(&memory, listing, Style::default()));
}

pub fn several_platforms(peer: &Peer) {
    let index = platforms("several", Style::default());
    let got = round_trip(peer, &*peer.room(), &index);
    for architecture in ["amd64", "arm64"] {
        let image = got.for_platform(&Platform::new("linux", architecture)).unwrap();
        assert_eq!(image.config().architecture, architecture, "{}", peer.name);
    }
    assert!(got.for_platform(&Platform::new("linux", "riscv64")).is_err());
}

/// R56.
pub fn an_index_in_an_index_in_an_index(peer: &Peer) {
    let got = round_trip(peer, &*peer.room(), &nested("nested"));
    let beside = got.for_platform(&Platform::new("linux", "s390x")).unwrap();
    assert_eq!(beside.layers().len(), 2, "{}", peer.name);
}

/// R57: attestations are parts of an index like any other, and no platform's image.
pub fn attestations_stay_with_their_images(peer: &Peer) {
    let got = round_trip(peer, &*peer.room(), &attested("attested"));
    let Artifact::Index(index) = &got else { panic!("{}: an index", peer.name) };
    assert_eq!(index.manifests().len(), 4, "{}", peer.name);
    for entry in &index.manifests()[2..] {
        assert!(is_attestation(entry), "{}", peer.name);
        let Artifact::Image(about) = index.child(entry).unwrap() else { panic!("{}: a manifest", peer.name) };
        for layer in &about.manifest().layers {
            about.blobs().open(layer).unwrap().finish().unwrap();
        }
    }
    assert!(got.for_platform(&Platform::new("linux", "riscv64")).is_err(), "{}", peer.name);
}

pub fn docker_media_types(peer: &Peer) {
    let style = Style { docker: true, ..Style::default() };
    round_trip(peer, &*peer.room(), &Artifact::Image(image_as("docker", "", style)));
    let index = platforms("docker", style);
    assert_eq!(index.descriptor().media_type, MediaType::DockerManifestList);
    round_trip(peer, &*peer.room(), &index);
}

/// R60: the layer that lives elsewhere is neither read nor sent.
pub fn foreign_media_types_are_kept_byte_for_byte(peer: &Peer) {
    round_trip(peer, &*peer.room(), &foreign("foreign"));
}

/// R58.
pub fn an_artifact_with_a_subject(peer: &Peer) {
    let subject = Artifact::Image(image("subject"));
    let referrer = referrer(subject.descriptor(), "signed");
    round_trip(peer, &*peer.room(), &referrer);
    let room = peer.room();
    room.put(&subject, &[tag("subject")]).unwrap();
    room.put(&referrer, &[tag("1")]).unwrap();
    assert_eq!(parts(&room.get(&tag("1")).unwrap()).unwrap(), parts(&referrer).unwrap(), "{}", peer.name);
}

pub fn get_by_digest_and_find_by_digest(peer: &Peer) {
    let room = peer.room();
    let image = Artifact::Image(image("digest"));
    let put = room.put(&image, &[tag("1")]).unwrap();
    let name = Name::Digest(put.digest);
    let found = room.find(&name).unwrap().unwrap();
    assert_eq!((found.digest, found.size, found.media_type), (put.digest, put.size, put.media_type), "{}", peer.name);
    assert_eq!(parts(&room.get(&name).unwrap()).unwrap(), parts(&image).unwrap(), "{}", peer.name);
}

/// R78: the last writer wins, and what the tag stood for can still be had by digest.
pub fn tags_move(peer: &Peer) {
    let room = peer.room();
    let (old, new) = (Artifact::Image(image("old")), Artifact::Image(image("new")));
    let put = room.put(&old, &[tag("latest"), tag("1")]).unwrap();
    room.put(&new, &[tag("latest"), tag("2")]).unwrap();
    let digest = |name: &str| room.find(&tag(name)).unwrap().unwrap().digest;
    assert_eq!(digest("latest"), new.descriptor().digest, "{}", peer.name);
    assert_eq!((digest("1"), digest("2")), (old.descriptor().digest, new.descriptor().digest), "{}", peer.name);
    assert_eq!(parts(&room.get(&Name::Digest(put.digest)).unwrap()).unwrap(), parts(&old).unwrap(), "{}", peer.name);
}

pub fn many_names_for_one_image(peer: &Peer) {
    let room = peer.room();
    let names: Vec<Name> = (0..30).map(|number| tag(&format!("v{number}"))).collect();
    let image = Artifact::Image(image("many"));
    room.put(&image, &names).unwrap();
    for name in &names {
        assert_eq!(room.find(name).unwrap().unwrap().digest, image.descriptor().digest, "{}: {name}", peer.name);
    }
    assert!(room.find(&tag("v30")).unwrap().is_none());
}

/// R89: as long as may be, and every character that may be.
pub fn tags_at_the_limit(peer: &Peer) {
    let room = peer.room();
    let image = Artifact::Image(image("limit"));
    for name in
        ["t".repeat(128), "_".to_owned(), "0".to_owned(), "A-b_c.9".to_owned(), "UPPER".to_owned(), "upper".to_owned()]
    {
        room.put(&image, &[tag(&name)]).unwrap();
        assert!(room.find(&tag(&name)).unwrap().is_some(), "{}: {name}", peer.name);
    }
    assert!(room.find(&tag("Upper")).unwrap().is_none(), "{}: names have cases", peer.name);
}

pub fn an_artifact_without_a_name(peer: &Peer) {
    let room = peer.room();
    let image = Artifact::Image(image("nameless"));
    let put = room.put(&image, &[]).unwrap();
    assert!(room.find(&tag("latest")).unwrap().is_none(), "{}", peer.name);
    // Memory holds artifacts by name only.
    if peer.name != "memory" {
        assert!(room.get(&Name::Digest(put.digest)).is_ok(), "{}", peer.name);
    }
}

pub fn many_artifacts_side_by_side(peer: &Peer) {
    let room = peer.room();
    let all: Vec<(Name, Artifact)> = (0..6)
        .map(|number| {
            let seed = format!("side-{number}");
            let artifact = match number % 3 {
                0 => Artifact::Image(image(&seed)),
                1 => platforms(&seed, Style::default()),
                _ => foreign(&seed),
            };
            (tag(&seed), artifact)
        })
        .collect();
    for (name, artifact) in &all {
        room.put(artifact, std::slice::from_ref(name)).unwrap();
    }
    for (name, artifact) in &all {
        assert_eq!(parts(&room.get(name).unwrap()).unwrap(), parts(artifact).unwrap(), "{}: {name}", peer.name);
    }
}
