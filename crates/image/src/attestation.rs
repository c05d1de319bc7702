//! Attestations beside images, kept as BuildKit keeps them (its `docs/attestations/attestation-storage.md`).
//!
//! A statement is a blob. The statements about an image are the layers of a manifest that runs nowhere: its platform is
//! `unknown/unknown`, and its entry in the index names the image. Registries and tools that know nothing of this carry
//! it along as one more image.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use crate::{
    BlobReader, BlobSource, Descriptor, Digest, Image, ImageConfig, Index, Kind, MediaType, Memory, Platform, RootFs,
    SourceError,
};

/// The type of a statement's blob.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// What a statement says, noted at its blob so that nobody need fetch the others.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// What an entry of an index is for.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The digest of the manifest that an entry of an index speaks of.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// The only [`REFERENCE_TYPE`] that there is.
const ATTESTATION: &str = "attestation-manifest";
/// An operating system and an architecture that nobody asks for.
const UNKNOWN: &str = "unknown";

/// An in-toto statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attestation {
    /// What kind of thing is said, as it stands in the statement.
    pub predicate_type: String,
    /// The statement, in JSON.
    pub statement: Vec<u8>,
}

/// An image and what is said about it.
#[derive(Clone)]
pub struct Attested {
    /// The image.
    pub image: Image,
    /// What the index says that it is for.
    pub platform: Platform,
    /// In this order.
    pub attestations: Vec<Attestation>,
}

/// The manifest that holds statements about one image, and their blobs.
pub fn manifest(attestations: &[Attestation]) -> Result<Image, SourceError> {
    let blobs = Memory::default();
    let layers: Vec<Descriptor> = attestations.iter().map(|attestation| blob(&blobs, attestation)).collect();
    let config = ImageConfig {
        architecture: UNKNOWN.to_owned(),
        os: UNKNOWN.to_owned(),
        rootfs: RootFs { diff_ids: layers.iter().map(|layer| layer.digest).collect(), ..RootFs::default() },
        ..ImageConfig::default()
    };
    let image = Image::assemble(&config, layers, false, Arc::new(blobs.clone()))?;
    blobs.add(image.manifest().config.media_type.clone(), image.config_bytes());
    blobs.add(image.descriptor().media_type.clone(), image.raw().bytes.as_slice());
    Ok(image)
}

fn blob(blobs: &Memory, attestation: &Attestation) -> Descriptor {
    let annotations = BTreeMap::from([(PREDICATE_TYPE.to_owned(), attestation.predicate_type.clone())]);
    Descriptor { annotations, ..blobs.add(MediaType::from(IN_TOTO), attestation.statement.as_slice()) }
}

/// An index of images, and behind them the manifests of what is said about them.
pub fn index(images: &[Attested]) -> Result<Index, SourceError> {
    let entry = |attested: &Attested| attested.image.descriptor().clone().with_platform(attested.platform.clone());
    let mut entries: Vec<Descriptor> = images.iter().map(entry).collect();
    let mut parts: Vec<Image> = images.iter().map(|attested| attested.image.clone()).collect();
    for attested in images.iter().filter(|attested| !attested.attestations.is_empty()) {
        let about = manifest(&attested.attestations)?;
        let annotations = BTreeMap::from([
            (REFERENCE_DIGEST.to_owned(), attested.image.descriptor().digest.to_string()),
            (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
        ]);
        let entry = about.descriptor().clone().with_platform(Platform::new(UNKNOWN, UNKNOWN));
        entries.push(Descriptor { annotations, ..entry });
        parts.push(about);
    }
    Index::assemble(entries, false, Arc::new(Together(parts)))
}

/// Whether an entry of an index is no image, but speaks of one.
pub fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(REFERENCE_TYPE)
        || entry.platform.as_ref().is_some_and(|platform| platform.os == UNKNOWN)
}

/// Several images as one place.
struct Together(Vec<Image>);

impl Together {
    fn document(&self, digest: Digest) -> Option<&[u8]> {
        self.0.iter().find_map(|image| {
            if image.descriptor().digest == digest {
                Some(image.raw().bytes.as_slice())
            } else {
                (image.manifest().config.digest == digest).then(|| image.config_bytes())
            }
        })
    }

    fn owner(&self, digest: Digest) -> Option<&Image> {
        self.0.iter().find(|image| image.manifest().layers.iter().any(|layer| layer.digest == digest))
    }
}

impl BlobSource for Together {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        if let Some(bytes) = self.document(blob.digest) {
            return Ok(Box::new(Cursor::new(bytes.to_vec())));
        }
        let missing = || SourceError::new(Kind::NotFound, format!("blob {} is no part of this index", blob.digest));
        self.owner(blob.digest).ok_or_else(missing)?.blobs().open_unverified(blob)
    }

    fn file(&self, blob: &Descriptor) -> Option<std::path::PathBuf> {
        self.owner(blob.digest)?.blobs().file(blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Artifact, ImageSink, ImageSource, Name};

    fn attested(architecture: &str, attestations: &[&str]) -> Attested {
        let config = ImageConfig { architecture: architecture.into(), os: "linux".into(), ..ImageConfig::default() };
        let image = Image::assemble(&config, Vec::new(), false, Arc::new(Memory::default())).unwrap();
        let attestation = |text: &&str| Attestation {
            predicate_type: format!("https://example/{text}"),
            statement: (*text).as_bytes().to_vec(),
        };
        Attested {
            image,
            platform: Platform::new("linux", architecture),
            attestations: attestations.iter().map(attestation).collect(),
        }
    }

    #[test]
    fn an_index_holds_attestations_as_buildkit_does() {
        let images = [attested("amd64", &["a", "b"]), attested("arm64", &["c"]), attested("riscv64", &[])];
        let index = index(&images).unwrap();
        let entries = index.manifests();
        let platforms: Vec<String> = entries.iter().map(|entry| entry.platform.clone().unwrap().to_string()).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64", "linux/riscv64", "unknown/unknown", "unknown/unknown"]);
        for (image, entry) in images.iter().zip(&entries[3..]) {
            assert_eq!(entry.annotations["vnd.docker.reference.type"], "attestation-manifest");
            assert_eq!(entry.annotations[REFERENCE_DIGEST], image.image.descriptor().digest.to_string());
            assert!(is_attestation(entry));
        }
        let Artifact::Image(about) = index.child(&entries[3]).unwrap() else { panic!("a manifest") };
        let config = String::from_utf8(about.config_bytes().to_vec()).unwrap();
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(
            config,
            format!(
                r#"{{"architecture":"unknown","config":{{}},"os":"unknown","rootfs":{{"type":"layers","diff_ids":["{a}","{b}"]}}}}"#
            )
        );
        assert_eq!(about.manifest().config.media_type, MediaType::OciConfig);
        let layer = &about.manifest().layers[1];
        assert_eq!((layer.media_type.as_str(), layer.digest), ("application/vnd.in-toto+json", b));
        assert_eq!(layer.annotations["in-toto.io/predicate-type"], "https://example/b");
    }

    #[test]
    fn a_copy_takes_attestations_along_and_nobody_runs_them() {
        let artifact = Artifact::Index(index(&[attested("amd64", &["a"])]).unwrap());
        let place = Memory::default();
        place.put(&artifact, &[Name::Tag("1".into())]).unwrap();
        let Artifact::Index(copied) = place.get(&Name::Tag("1".into())).unwrap() else { panic!("an index") };
        let Artifact::Image(about) = copied.child(&copied.manifests()[1]).unwrap() else { panic!("a manifest") };
        assert!(about.layers()[0].check_is_tar().is_err());
        place.open(&about.layers()[0].descriptor).unwrap().finish().unwrap();
        assert!(artifact.for_platform(&Platform::new("linux", "s390x")).is_err());
    }
}
