//! The media types of manifests, configs and layers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a layer's bytes are packed, as far as its media type says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Compression {
    /// A bare tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Not in any specification, but `docker load` accepts it.
    Bzip2,
    /// Not in any specification, but `docker load` accepts it.
    Xz,
}

macro_rules! media_types {
    ($($variant:ident = $text:literal, $doc:literal;)*) => {
        /// A media type. Unknown ones are kept as they are.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum MediaType {
            $(#[doc = $doc] $variant,)*
            /// A type that skycap has no name for.
            Other(String),
        }

        impl MediaType {
            /// The text as it stands in manifests and headers.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for MediaType {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text.to_owned()),
                }
            }
        }
    };
}

media_types! {
    OciManifest = "application/vnd.oci.image.manifest.v1+json", "An OCI image manifest.";
    OciIndex = "application/vnd.oci.image.index.v1+json", "An OCI image index.";
    OciConfig = "application/vnd.oci.image.config.v1+json", "An OCI image configuration.";
    OciLayer = "application/vnd.oci.image.layer.v1.tar", "A bare tar layer.";
    OciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip", "A gzip layer.";
    OciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd", "A zstd layer.";
    OciForeignLayer = "application/vnd.oci.image.layer.nondistributable.v1.tar", "A layer that stays where it is.";
    OciForeignLayerGzip = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "Likewise, in gzip.";
    OciForeignLayerZstd = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "Likewise, in zstd.";
    OciEmpty = "application/vnd.oci.empty.v1+json", "The empty descriptor `{}`.";
    DockerManifest = "application/vnd.docker.distribution.manifest.v2+json", "A Docker schema 2 manifest.";
    DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json", "A Docker manifest list.";
    DockerManifestV1 = "application/vnd.docker.distribution.manifest.v1+json", "A Docker schema 1 manifest.";
    DockerManifestV1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws", "A signed schema 1 manifest.";
    DockerConfig = "application/vnd.docker.container.image.v1+json", "A Docker image configuration.";
    DockerLayer = "application/vnd.docker.image.rootfs.diff.tar", "A bare Docker layer.";
    DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip", "A gzip Docker layer.";
    DockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd", "A zstd Docker layer, as BuildKit writes it.";
    DockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "A Docker layer kept elsewhere.";
}

impl MediaType {
    /// A list of manifests, one a platform.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerManifestList)
    }

    /// A manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// The configuration of an image that runs (not of some other artifact).
    pub fn is_image_config(&self) -> bool {
        matches!(self, Self::OciConfig | Self::DockerConfig)
    }

    /// A type that old registries and proxies made up and that says nothing. There are images whose configuration is called
    /// so, and Docker reads them.
    pub(crate) fn says_nothing(&self) -> bool {
        matches!(self.as_str(), "application/octet-stream" | "application/json" | "text/html")
    }

    /// A layer as a tar, bare or packed in a way that can be read.
    pub fn is_layer(&self) -> bool {
        let is_oci = matches!(self, Self::OciLayer | Self::OciLayerGzip | Self::OciLayerZstd);
        let is_docker = matches!(self, Self::DockerLayer | Self::DockerLayerGzip | Self::DockerLayerZstd);
        is_oci || is_docker || self.is_foreign_layer()
    }

    /// A layer that registries need not hold; its descriptor says where to find it.
    pub fn is_foreign_layer(&self) -> bool {
        matches!(
            self,
            Self::OciForeignLayer | Self::OciForeignLayerGzip | Self::OciForeignLayerZstd | Self::DockerForeignLayer
        )
    }

    /// What the name promises. Readers of layers still go by content, as every runtime does.
    pub fn compression(&self) -> Compression {
        match self {
            Self::OciLayerGzip | Self::OciForeignLayerGzip | Self::DockerLayerGzip | Self::DockerForeignLayer => {
                Compression::Gzip
            }
            Self::OciLayerZstd | Self::OciForeignLayerZstd | Self::DockerLayerZstd => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(Option::<String>::deserialize(deserializer)?.unwrap_or_default().as_str()))
    }
}
