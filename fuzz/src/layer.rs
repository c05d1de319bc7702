//! A layer in memory: listing, keeping and merging it.
//!
//! - A listing survives its encoding, and two readings of one layer give the same listing.
//! - No name in the merged tree climbs, whatever the archive says.
//! - Only what the strict tar reader accepts becomes a listing.

use std::sync::Arc;

use skycap_image::{BlobReader, BlobSource, Descriptor, Digest, Layer, MediaType, SourceError};
use skycap_rootfs::{LayerIndex, Limits, TreePath, View};

/// The bytes of one blob.
struct One(Vec<u8>);

impl BlobSource for One {
    fn open_unverified(&self, _: &Descriptor) -> Result<BlobReader, SourceError> {
        Ok(Box::new(std::io::Cursor::new(self.0.clone())))
    }
}

/// See the module. The first byte says whether checksums are put right, the second where a second layer begins.
pub fn layer(input: &[u8]) {
    let [choice, split, bytes @ ..] = input else { return };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        crate::tar::seal(&mut bytes);
    }
    let at = (usize::from(*split) * 512).min(bytes.len());
    let (lower, upper) = bytes.split_at(at);
    let Some(lower) = listing(lower) else { return };
    let mut layers = vec![lower];
    layers.extend(listing(upper));
    if let Ok(view) = View::new(&layers) {
        for (path, _) in view.walk(&TreePath::root()) {
            assert!(!path.as_bytes().split(|&byte| byte == b'/').any(|part| part == b".." || part == b"."));
        }
    }
}

fn listing(bytes: &[u8]) -> Option<Arc<LayerIndex>> {
    let descriptor = Descriptor::of(MediaType::OciLayer, bytes);
    let layer = Layer { diff_id: Digest::sha256(bytes), descriptor, blobs: Arc::new(One(bytes.to_vec())) };
    let limits = Limits { entries: 1000, unpacked_bytes: 1 << 24, ..Limits::default() };
    let index = LayerIndex::of(&layer, &limits).ok()?;
    assert_eq!(LayerIndex::decode(&index.encode()).as_ref(), Some(&index));
    assert_eq!(LayerIndex::of(&layer, &limits).ok().as_ref(), Some(&index));
    Some(Arc::new(index))
}
