//! The places where images live, from outside.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

mod archive;
mod documents;
mod interop;
mod layout;
mod peers;
mod tar_cases;
mod transport;

use std::io::Read;

use skycap_image::{Artifact, Digest, Image, Layer};

/// Two layers, in gzip and zstd.
pub const LISTING: &str = r#"
    env PATH=/bin
    label a=b
    layer
      dir etc
      file etc/motd 0644 0:0 "hello\n"
      file big 0644 0:0 size=300000
    layer zstd
      whiteout etc/motd
"#;

/// Two platforms that share a layer.
pub const INDEX: &str = r#"
    platform linux/amd64
    layer
      file shared 0644 0:0 size=5000
    layer
      file a 0644 0:0 "amd64"
    platform linux/arm64
    layer
      file shared 0644 0:0 size=5000
    layer
      file a 0644 0:0 "arm64"
"#;

/// Reads everything an artifact consists of.
pub fn read_all(artifact: &Artifact) -> Result<Vec<Digest>, skycap_image::SourceError> {
    match artifact {
        Artifact::Image(image) => image.layers().iter().map(read_layer).collect(),
        Artifact::Index(index) => {
            let children: Result<Vec<_>, _> =
                index.manifests().iter().map(|child| read_all(&index.child(child)?)).collect();
            Ok(children?.concat())
        }
    }
}

fn read_layer(layer: &Layer) -> Result<Digest, skycap_image::SourceError> {
    let mut bytes = Vec::new();
    let mut reader = layer.open()?;
    reader.read_to_end(&mut bytes)?;
    reader.finish()?;
    Ok(layer.descriptor.digest)
}

/// The image of an artifact that is one.
pub fn image_of(artifact: Artifact) -> Image {
    match artifact {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an index"),
    }
}
