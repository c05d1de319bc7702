//! What is put into the peers, and how two artifacts are compared: by every byte.

use std::io::Read;
use std::sync::Arc;

use serde_json::{Value, json};
use skycap_image::attestation::{self, Attestation, Attested};
use skycap_image::{
    Artifact, BlobSource, Descriptor, Digest, Image, ImageSink, Index, MediaType, Memory, Name, Platform, RawManifest,
    SourceError,
};
use skycap_testkit::listing::{Style, artifact};

pub fn tag(text: &str) -> Name {
    Name::Tag(text.to_owned())
}

/// Two layers; what is in them depends on the seed.
pub fn image(seed: &str) -> Image {
    image_as(seed, "", Style::default())
}

pub fn image_as(seed: &str, compression: &str, style: Style) -> Image {
    let listing = format!(
        "env PATH=/bin\nlabel seed={seed}\nlayer {compression}\n  dir etc\n  file etc/motd 0644 0:0 \"{seed}\\n\"\n  \
         file big 0644 0:0 size=200000\nlayer {compression}\n  whiteout etc/motd\n  file etc/{seed} 0644 0:0 size=3000\n"
    );
    let Artifact::Image(image) = artifact(&Memory::default(), &listing, style) else { panic!("one platform") };
    image
}

/// Three platforms that share a layer.
pub fn platforms(seed: &str, style: Style) -> Artifact {
    platforms_sharing(50_000, seed, style)
}

/// The same with a file of so many bytes in the layer that all share: layers of other tests are others.
pub fn platforms_sharing(size: usize, seed: &str, style: Style) -> Artifact {
    let one = |platform: &str| {
        format!(
            "platform {platform}\nlayer\n  file shared 0644 0:0 size={size}\nlayer\n  file which 0644 0:0 \"{seed} {platform}\"\n"
        )
    };
    let listing: String = ["linux/amd64", "linux/arm64", "linux/arm/v7"].map(one).concat();
    artifact(&Memory::default(), &listing, style)
}

/// Two platforms, each with statements about it, as BuildKit keeps them.
pub fn attested(seed: &str) -> Artifact {
    let one = |architecture: &str| Attested {
        image: image_as(&format!("{seed}-{architecture}"), "", Style::default()),
        platform: Platform::new("linux", architecture),
        attestations: ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
            .map(|kind| Attestation {
                predicate_type: kind.to_owned(),
                statement: json!({"predicateType": kind, "seed": seed, "of": architecture}).to_string().into_bytes(),
            })
            .to_vec(),
    };
    Artifact::Index(attestation::index(&[one("amd64"), one("arm64")]).unwrap())
}

/// An index that holds an index that holds an index of platforms, and an image beside each.
pub fn nested(seed: &str) -> Artifact {
    let memory = Memory::default();
    let mut inner = platforms(seed, Style::default());
    for level in 0..2 {
        let below = memory.put(&inner, &[]).unwrap();
        let beside = Artifact::Image(image(&format!("{seed}-{level}")));
        let beside = memory.put(&beside, &[]).unwrap().with_platform(Platform::new("linux", "s390x"));
        inner = Artifact::Index(Index::assemble(vec![below, beside], false, Arc::new(memory.clone())).unwrap());
    }
    inner
}

/// A manifest written by hand, with blobs in memory.
pub fn by_hand(memory: &Memory, media_type: MediaType, document: &Value) -> Artifact {
    // Spaces, so that nobody who prints it anew prints the same.
    let bytes = serde_json::to_vec_pretty(document).unwrap();
    Artifact::open(RawManifest::new(media_type, bytes), Arc::new(memory.clone())).unwrap()
}

/// What no image tool makes: unknown fields, unknown media types, a layer that lives elsewhere, odd formatting.
pub fn foreign(seed: &str) -> Artifact {
    let memory = Memory::default();
    let config = memory
        .add(MediaType::from("application/vnd.example.config+json"), format!("{{\"seed\": \"{seed}\"}}").into_bytes());
    let layer = memory.add(MediaType::from("application/vnd.example.layer+wasm"), format!("wasm {seed}").into_bytes());
    let elsewhere = Descriptor::of(MediaType::OciForeignLayerGzip, b"not here");
    by_hand(
        &memory,
        MediaType::OciManifest,
        &json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "org.example.unknown": [1, {"a": null}],
            "config": config,
            "layers": [layer, {"mediaType": elsewhere.media_type, "digest": elsewhere.digest, "size": elsewhere.size,
                "urls": ["https://elsewhere.example/layer"], "annotations": {"z": "1", "a": "2"}}],
            "annotations": {"b": "\u{1F600}", "a": "\n"},
        }),
    )
}

/// A signature, say: an artifact of its own type that refers to another.
pub fn referrer(subject: &Descriptor, seed: &str) -> Artifact {
    let memory = Memory::default();
    let empty = memory.add(MediaType::from("application/vnd.oci.empty.v1+json"), b"{}".to_vec());
    let layer = memory.add(MediaType::from("application/vnd.example.signature"), seed.as_bytes().to_vec());
    by_hand(
        &memory,
        MediaType::OciManifest,
        &json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.signature", "config": empty, "layers": [layer],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
            "annotations": {"seed": seed},
        }),
    )
}

/// Every part of an artifact: manifests byte for byte, configs, layers by digest of what was really read.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts {
    pub manifests: Vec<Vec<u8>>,
    pub configs: Vec<Vec<u8>>,
    pub layers: Vec<(Digest, u64)>,
}

pub fn parts(artifact: &Artifact) -> Result<Parts, SourceError> {
    let mut parts = Parts { manifests: Vec::new(), configs: Vec::new(), layers: Vec::new() };
    collect(artifact, &mut parts)?;
    Ok(parts)
}

fn collect(artifact: &Artifact, parts: &mut Parts) -> Result<(), SourceError> {
    parts.manifests.push(artifact.raw().bytes.clone());
    match artifact {
        Artifact::Index(index) => index.manifests().iter().try_for_each(|child| collect(&index.child(child)?, parts)),
        Artifact::Image(image) => {
            parts.configs.push(image.config_bytes().to_vec());
            for layer in image.manifest().layers.iter().filter(|layer| layer.urls.is_empty()) {
                parts.layers.push(read(&**image.blobs(), layer)?);
            }
            Ok(())
        }
    }
}

/// Reads a blob to its end; what its bytes hash to.
pub fn read(blobs: &dyn BlobSource, blob: &Descriptor) -> Result<(Digest, u64), SourceError> {
    let mut bytes = Vec::new();
    let mut reader = blobs.open(blob)?;
    reader.read_to_end(&mut bytes)?;
    reader.finish()?;
    Ok((Digest::sha256(&bytes), bytes.len() as u64))
}
