//! What the store knows about steps.
//!
//! A record says which layer a step's key stands for. It is believed only if the layer's blob is there and whole, so
//! records and blobs may be deleted or damaged at any time.

pub(crate) mod export;
pub(crate) mod import;
mod option;
mod place;
pub(crate) mod record;

use serde::{Deserialize, Serialize};
use skycap_image::{Compression, Descriptor, Digest, Layer};
use skycap_store::Store;

use crate::commit::{self, Packing};
use crate::error::Fault;
use crate::times::Rule;
pub use option::{CacheOption, CacheOptionError, CacheWhere};
pub use place::{CacheDirectory, CacheImage, CacheMode, CacheSource, CacheTarget};

/// A step's result by its key.
const STEPS: &str = "build-step-v1";
/// A layer in another packing, by diff ID and packing.
const PACKINGS: &str = "build-packing-v1";
/// A layer with other file times, by diff ID, packing and what decides the times.
const TIMES: &str = "build-times-v1";

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The layer as it is in the store.
    pub blob: Descriptor,
    /// The layer as a bare tar.
    pub diff_id: Digest,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// When the first of the programs began that may have written files of it, in seconds since 1970.
    #[serde(default)]
    pub since: Option<i64>,
}

impl Made {
    /// The layer, to be read from the store.
    pub fn layer(&self, store: &Store) -> Layer {
        Layer { descriptor: self.blob.clone(), diff_id: self.diff_id, blobs: std::sync::Arc::new(store.clone()) }
    }
}

/// What a key stands for, if the store has all of it.
pub(crate) fn find(store: &Store, key: &Digest) -> Option<Made> {
    let made: Made = serde_json::from_slice(&store.record(STEPS, &key.hex())?).ok()?;
    store.verify(&made.blob).then_some(made)
}

/// Remembers what a key stands for. Failing to is no reason to fail a build: the step will be done again.
pub(crate) fn keep(store: &Store, key: &Digest, made: &Made) {
    keep_record(store, STEPS, &key.hex(), made);
}

/// The layer in the packing that was asked for.
pub(crate) fn packed(store: &Store, made: Made, packing: Packing<'_>) -> Result<Made, Fault> {
    if made.blob.media_type.compression() == packing.compression {
        return Ok(made);
    }
    let key = format!("{}-{}", made.diff_id.hex(), name(packing.compression));
    derived(store, PACKINGS, &key, made, |made| Ok((commit::repack(store, &made.layer(store), packing)?, made.diff_id)))
}

/// The layer with the times of its files settled (`crate::times`).
pub(crate) fn timed(store: &Store, made: Made, packing: Packing<'_>, epoch: i64) -> Result<Made, Fault> {
    let rule = Rule { epoch, since: made.since };
    if !rule.changes(store, &made.layer(store))? {
        return Ok(made);
    }
    let since = made.since.map_or_else(String::new, |since| since.to_string());
    let key = format!("{}-{}-{epoch}-{since}", made.diff_id.hex(), name(packing.compression));
    derived(store, TIMES, &key, made, |made| rule.apply(store, &made.layer(store), packing))
}

/// Another form of a layer: the one that is remembered under a key, or one that is made now.
fn derived(
    store: &Store,
    kind: &str,
    key: &str,
    made: Made,
    make: impl FnOnce(&Made) -> Result<(Descriptor, Digest), Fault>,
) -> Result<Made, Fault> {
    let known = store.record(kind, key).and_then(|bytes| serde_json::from_slice::<Made>(&bytes).ok());
    if let Some(known) = known.filter(|known| store.verify(&known.blob)) {
        return Ok(Made { blob: known.blob, diff_id: known.diff_id, ..made });
    }
    let (blob, diff_id) = make(&made)?;
    let made = Made { blob, diff_id, ..made };
    keep_record(store, kind, key, &made);
    Ok(made)
}

fn keep_record(store: &Store, kind: &str, key: &str, made: &Made) {
    if let Ok(bytes) = serde_json::to_vec(made) {
        // A full disk shows in what matters; a record that is missing costs time only.
        let _ = store.set_record(kind, key, &bytes);
    }
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Xz => "xz",
    }
}
