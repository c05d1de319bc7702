//! Signatures as cosign makes and reads them, with a key pair.
//!
//! A signature is a small document that names the image's digest, and the key's signature of that document. Both lie in the
//! repository in an image of their own, found in two ways: under the tag `sha256-<hex>.sig`, and as a referrer of the image
//! (OCI 1.1). We write one manifest that is both, and read both, bundles of newer cosigns (DSSE envelopes) included.
//! Transparency logs are not consulted: with a key of one's own, the key is what is trusted.

mod documents;
mod key;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, Image, ImageSink as _, ImageSource as _, Kind, Manifest, MediaType,
    Memory, Name, RawManifest, SourceError,
};

use crate::Place;
use documents::{BUNDLE, PAYLOAD, SIGNATURE, SIGNATURES};
pub use key::{PrivateKey, PublicKey};

/// Documents beyond this are no signatures.
const LARGEST: u64 = 1024 * 1024;
/// More signatures than these are not looked at.
const MOST: usize = 256;

/// The tag under which an image's signatures are found.
pub fn signature_tag(image: &Descriptor) -> String {
    format!("sha256-{}.sig", image.digest.hex())
}

/// Signs an image (or index) of a repository and leaves the signature there, beside those of others. One that is there
/// already is not made again.
pub fn sign(place: &Place, image: &Descriptor, key: &PrivateKey) -> Result<(), SourceError> {
    let failed =
        |error: SourceError| SourceError { what: format!("cannot sign {}: {}", image.digest, error.what), ..error };
    sign_at(place, image, key).map_err(failed)
}

fn sign_at(place: &Place, image: &Descriptor, key: &PrivateKey) -> Result<(), SourceError> {
    let tag = Name::Tag(signature_tag(image));
    let before = match place.find(&tag)? {
        Some(_) => match place.get(&tag)? {
            Artifact::Image(image) => Some(image),
            Artifact::Index(_) => {
                return Err(SourceError::new(Kind::Corrupt, format!("{tag} is an index, not a list of signatures")));
            }
        },
        None => None,
    };
    let others = before.as_ref().map(|image| image.manifest().layers.clone()).unwrap_or_default();
    for layer in &others {
        if is_signed(place, layer, image, &key.public())? {
            return Ok(());
        }
    }
    let payload = documents::payload(&place.repository().to_string(), &image.digest)?;
    let memory = Memory::default();
    let mut layer = memory.add(MediaType::from(PAYLOAD), payload.clone());
    layer.annotations.insert(SIGNATURE.to_owned(), STANDARD.encode(key.sign(&payload)?));
    let layers: Vec<Descriptor> = others.into_iter().chain([layer]).collect();
    let config = documents::config(&layers)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::OciManifest,
        artifact_type: Some(SIGNATURES.to_owned()),
        config: Descriptor::of(MediaType::OciConfig, &config),
        layers,
        subject: Some(Descriptor::new(image.media_type.clone(), image.digest, image.size)),
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|error| SourceError::caused(Kind::Other, "cannot write the signature's manifest", error))?;
    let raw = RawManifest::new(MediaType::OciManifest, bytes);
    let blobs = Arc::new(Both { own: memory, others: place.clone() });
    place.put(&Artifact::Image(Image::from_parts(raw, manifest, config, blobs)?), &[tag])?;
    Ok(())
}

/// Verifies that the owner of a key signed an image of a repository.
pub fn verify(place: &Place, image: &Descriptor, key: &PublicKey) -> Result<(), SourceError> {
    let name = format!("{}@{}", place.repository(), image.digest);
    let mut seen = 0;
    let mut trouble = None;
    for found in lists(place, image)? {
        for layer in found.manifest().layers.iter().take(MOST) {
            match is_signed(place, layer, image, key) {
                Ok(true) => return Ok(()),
                Ok(false) => seen += 1,
                Err(error) => trouble = Some(error),
            }
        }
    }
    if let Some(error) = trouble {
        return Err(SourceError { what: format!("cannot verify the signatures of {name}: {}", error.what), ..error });
    }
    let what = if seen == 0 {
        format!("{name} is not signed: there is neither a tag {} nor a referrer with a signature", signature_tag(image))
    } else {
        format!("{name} is signed, but none of its {seen} signatures was made with this key for this image")
    };
    Err(SourceError::new(Kind::Denied, what))
}

/// The manifests that list signatures of an image.
fn lists(place: &Place, image: &Descriptor) -> Result<Vec<Image>, SourceError> {
    let mut found = Vec::new();
    let tag = Name::Tag(signature_tag(image));
    if let Some(descriptor) = place.find(&tag)? {
        found.push(descriptor.digest);
    }
    for referrer in place.referrers(&image.digest)? {
        let kind = referrer.artifact_type.as_deref().unwrap_or_default();
        if (kind == SIGNATURES || kind == BUNDLE) && !found.contains(&referrer.digest) && found.len() < MOST {
            found.push(referrer.digest);
        }
    }
    let mut lists = Vec::new();
    for digest in found {
        if let Artifact::Image(image) = place.get(&Name::Digest(digest))? {
            lists.push(image);
        }
    }
    Ok(lists)
}

/// Whether a layer of such a list is a signature of the image by that key.
fn is_signed(place: &Place, layer: &Descriptor, image: &Descriptor, key: &PublicKey) -> Result<bool, SourceError> {
    let kind = layer.media_type.as_str();
    if kind != PAYLOAD && kind != BUNDLE {
        return Ok(false);
    }
    if layer.size > LARGEST {
        let what = format!("{} is too large for a signature: {} bytes", layer.digest, layer.size);
        return Err(SourceError::new(Kind::Corrupt, what));
    }
    let mut document = Vec::new();
    let mut reader = place.open(layer)?;
    std::io::Read::read_to_end(&mut reader, &mut document)?;
    reader.finish()?;
    Ok(if kind == PAYLOAD {
        documents::is_payload_signed(&document, layer.annotations.get(SIGNATURE), &image.digest, key)
    } else {
        documents::is_bundle_signed(&document, &image.digest, key)
    })
}

/// The new signature, and those that were there.
struct Both {
    own: Memory,
    others: Place,
}

impl BlobSource for Both {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        match self.own.open_unverified(blob) {
            Err(error) if error.kind == Kind::NotFound => self.others.open_unverified(blob),
            found => found,
        }
    }
}
