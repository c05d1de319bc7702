//! Small JSON documents: reading them whole, within bounds, and refusing what cannot be right.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use crate::{BlobSource, Descriptor, Kind, MediaType, RawManifest, SourceError, Verified};

/// Manifests, indexes and configs beyond 8 MiB are refused, wherever they come from. Registries take 4 MiB.
pub(crate) const LARGEST_DOCUMENT: u64 = 8 * 1024 * 1024;

/// Reads a document whole, checked and within bounds. One that its descriptor brings along need not be asked for.
pub(crate) fn read_small(blobs: &(impl BlobSource + ?Sized), blob: &Descriptor) -> Result<Vec<u8>, SourceError> {
    if blob.size > LARGEST_DOCUMENT {
        let what =
            format!("{} {} claims {} bytes, more than {LARGEST_DOCUMENT}", blob.media_type, blob.digest, blob.size);
        return Err(SourceError::new(Kind::Corrupt, what));
    }
    if let Some(bytes) = data(blob)? {
        return Ok(bytes);
    }
    let mut reader = blobs.open(blob)?;
    let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
    reader.read_to_end(&mut bytes)?;
    reader.finish()?;
    Ok(bytes)
}

/// The bytes that a descriptor brings along, checked.
fn data(blob: &Descriptor) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(text) = &blob.data else { return Ok(None) };
    let refuse = |error| {
        let what = format!("the data that the descriptor of {} brings along is wrong", blob.digest);
        SourceError::caused(Kind::Corrupt, what, error)
    };
    let bytes = STANDARD.decode(text).map_err(|error| refuse(std::io::Error::other(error)))?;
    Verified::new(&bytes[..], blob).finish().map_err(refuse)?;
    Ok(Some(bytes))
}

/// Checks the bytes that descriptors bring along.
pub(crate) fn check_data<'d>(descriptors: impl IntoIterator<Item = &'d Descriptor>) -> Result<(), SourceError> {
    descriptors.into_iter().try_for_each(|descriptor| data(descriptor).map(drop))
}

/// Says what a manifest of schema 1 is, rather than that some field of schema 2 is missing.
pub(crate) fn refuse_schema_1(raw: &RawManifest) -> Result<(), SourceError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: Option<u64>,
    }
    let by_type = matches!(raw.descriptor.media_type, MediaType::DockerManifestV1 | MediaType::DockerManifestV1Signed);
    let stated = serde_json::from_slice::<Version>(&raw.bytes).ok().and_then(|version| version.schema_version);
    match stated {
        // What else is wrong is said by whoever reads all of it.
        Some(2) | None if !by_type => Ok(()),
        Some(version) if version > 2 => {
            let what = format!("manifest {} has the unknown schema version {version}", raw.descriptor.digest);
            Err(SourceError::new(Kind::Corrupt, what))
        }
        _ => {
            let digest = raw.descriptor.digest;
            let what =
                format!("{digest} is a Docker manifest of schema 1, which is no longer read: push the image again");
            Err(SourceError::new(Kind::Other, what))
        }
    }
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], descriptor: &Descriptor) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(descriptor, error))
}

pub(crate) fn unreadable(descriptor: &Descriptor, error: serde_json::Error) -> SourceError {
    let what = format!("{} {} does not parse", descriptor.media_type, descriptor.digest);
    SourceError::caused(Kind::Corrupt, what, error)
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, SourceError> {
    serde_json::to_vec(value).map_err(|error| SourceError::caused(Kind::Other, "cannot write a JSON document", error))
}
