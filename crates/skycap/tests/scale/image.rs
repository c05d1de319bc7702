//! An image whose layers are streams: bare tars, so that the bytes of any place are known without those before.

use std::collections::HashMap;

use serde_json::json;
use skycap_image::Digest;

use crate::stream::{Piece, Stream};

/// A manifest and its blobs.
pub struct Image {
    pub manifest: Vec<u8>,
    pub blobs: HashMap<String, Stream>,
    /// The bytes of all layers.
    pub size: u64,
}

impl Image {
    /// Hashes every layer once.
    pub fn new(layers: Vec<Stream>) -> Self {
        let described: Vec<(Digest, u64)> = layers.iter().map(|layer| (layer.digest(), layer.size)).collect();
        let size = layers.iter().map(|layer| layer.size).sum();
        let diff_ids: Vec<_> = described.iter().map(|(digest, _)| digest).collect();
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = config.to_string().into_bytes();
        let layer = |(digest, size): &(Digest, u64)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(&config),
                "size": config.len()},
            "layers": described.iter().map(layer).collect::<Vec<_>>(),
        });
        let digests = described.iter().map(|(digest, _)| digest.to_string());
        let mut blobs: HashMap<String, Stream> = digests.zip(layers).collect();
        blobs.insert(Digest::sha256(&config).to_string(), Stream::new(vec![Piece::Bytes(config)]));
        Self { manifest: manifest.to_string().into_bytes(), blobs, size }
    }
}
