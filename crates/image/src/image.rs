//! Images as values.

use std::sync::Arc;

use crate::document::{check_data, parse, read_small, refuse_schema_1, to_json, unreadable};

use crate::{
    BlobSource, Descriptor, Digest, ImageConfig, IndexManifest, InvalidOutline, Kind, Manifest, MediaType, Outline,
    Platform, RawManifest, SourceError, Verified,
};

/// Indexes inside indexes beyond this are refused.
pub(crate) const DEEPEST_INDEX: usize = 5;
/// As many children of indexes are read to find out what they are for: each is a request or two.
const MOST_UNNAMED: usize = 64;

/// An image of one platform. All of it but the layers' bytes is in memory, so its accessors cannot fail.
///
/// A clone shares the parts.
#[derive(Clone)]
pub struct Image(Arc<Parts>);

struct Parts {
    raw: RawManifest,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
    blobs: Arc<dyn BlobSource>,
}

/// A layer of an image and where to read it.
#[derive(Clone)]
pub struct Layer {
    /// The bytes as stored.
    pub descriptor: Descriptor,
    /// The digest of the bytes as a bare tar.
    pub diff_id: Digest,
    /// Where the bytes are.
    pub blobs: Arc<dyn BlobSource>,
}

/// Images for several platforms. Its children are read when they are asked for.
///
/// A clone shares the parts.
#[derive(Clone)]
pub struct Index(Arc<IndexParts>);

struct IndexParts {
    raw: RawManifest,
    parsed: IndexManifest,
    blobs: Arc<dyn BlobSource>,
}

/// What a name can stand for.
#[derive(Clone)]
pub enum Artifact {
    /// One platform.
    Image(Image),
    /// Several.
    Index(Index),
}

impl Artifact {
    /// Reads a manifest or index; for an image also its config, with one further read.
    pub fn open(raw: RawManifest, blobs: Arc<dyn BlobSource>) -> Result<Self, SourceError> {
        refuse_schema_1(&raw)?;
        if is_index(&raw)? {
            let parsed: IndexManifest = parse(&raw.bytes, &raw.descriptor)?;
            check_data(parsed.manifests.iter().chain(&parsed.subject))?;
            return Ok(Self::Index(Index(Arc::new(IndexParts { raw, parsed, blobs }))));
        }
        let manifest: Manifest = parse(&raw.bytes, &raw.descriptor)?;
        check_data(manifest.layers.iter().chain([&manifest.config]).chain(&manifest.subject))?;
        let config_bytes = read_small(&*blobs, &manifest.config)?;
        Image::from_parts(raw, manifest, config_bytes, blobs).map(Self::Image)
    }

    /// What the bytes of its manifest or index are.
    pub fn descriptor(&self) -> &Descriptor {
        &self.raw().descriptor
    }

    /// Its manifest or index as stored.
    pub fn raw(&self) -> &RawManifest {
        match self {
            Self::Image(image) => image.raw(),
            Self::Index(index) => index.raw(),
        }
    }

    /// Where its parts are read.
    pub fn blobs(&self) -> &Arc<dyn BlobSource> {
        match self {
            Self::Image(image) => image.blobs(),
            Self::Index(index) => index.blobs(),
        }
    }

    /// The image for a platform. An image that is not in an index is taken whatever it was built for, as every client does.
    pub fn for_platform(&self, platform: &Platform) -> Result<Image, SourceError> {
        self.for_platform_below(platform, DEEPEST_INDEX, &mut Search { left: MOST_UNNAMED, seen: Vec::new() })
    }

    fn for_platform_below(&self, platform: &Platform, depth: usize, search: &mut Search) -> Result<Image, SourceError> {
        let index = match self {
            Self::Image(image) => return Ok(image.clone()),
            Self::Index(index) => index,
        };
        if depth == 0 {
            let what = format!("index {} is nested more than {DEEPEST_INDEX} deep", index.raw().descriptor.digest);
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        let child = index.find(platform);
        if let Some(named) = child.filter(|child| child.platform.is_some()) {
            return index.child(named)?.for_platform_below(platform, depth - 1, search);
        }
        match (index.unnamed_for(platform, depth - 1, search)?, child) {
            (Some(image), _) => Ok(image),
            (None, Some(child)) => index.child(child)?.for_platform_below(platform, depth - 1, search),
            (None, None) => {
                search.seen.extend(index.manifests().iter().filter_map(|child| child.platform.clone()));
                Err(index.missing(platform, &search.seen))
            }
        }
    }
}

/// A look at children that do not say what they are for.
struct Search {
    /// How many may still be read.
    left: usize,
    /// What those were for that were read in vain.
    seen: Vec<Platform>,
}

impl Image {
    /// Puts an image together from its parts and checks that they belong together.
    pub fn from_parts(
        raw: RawManifest,
        manifest: Manifest,
        config_bytes: Vec<u8>,
        blobs: Arc<dyn BlobSource>,
    ) -> Result<Self, SourceError> {
        let config_type = &manifest.config.media_type;
        let is_image = config_type.is_image_config() || config_type.as_str().is_empty();
        let config: ImageConfig = if is_image {
            parse(&config_bytes, &manifest.config)?
        } else if config_type.says_nothing() {
            // An image if it looks like one, and else something that is no image.
            let layers = manifest.layers.len();
            let config = serde_json::from_slice::<ImageConfig>(&config_bytes).ok().filter(|_| layers > 0);
            config.filter(|config| config.rootfs.diff_ids.len() == layers).unwrap_or_default()
        } else {
            ImageConfig::default()
        };
        if is_image && config.rootfs.diff_ids.len() != manifest.layers.len() {
            let what = format!(
                "manifest {} has {} layers but its config lists {} diff IDs",
                raw.descriptor.digest,
                manifest.layers.len(),
                config.rootfs.diff_ids.len()
            );
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        Ok(Self(Arc::new(Parts { raw, manifest, config_bytes, config, blobs })))
    }

    /// Makes an image out of layers that `blobs` holds or will be asked for. `docker` chooses Docker's media types.
    pub fn assemble(
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        docker: bool,
        blobs: Arc<dyn BlobSource>,
    ) -> Result<Self, SourceError> {
        let (manifest_type, config_type) = if docker {
            (MediaType::DockerManifest, MediaType::DockerConfig)
        } else {
            (MediaType::OciManifest, MediaType::OciConfig)
        };
        let config_bytes = to_json(config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: manifest_type.clone(),
            artifact_type: None,
            config: Descriptor::of(config_type, &config_bytes),
            layers,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let raw = RawManifest::new(manifest_type, to_json(&manifest)?);
        Self::from_parts(raw, manifest, config_bytes, blobs)
    }

    /// The manifest as stored.
    pub fn raw(&self) -> &RawManifest {
        &self.0.raw
    }

    /// What the manifest's bytes are.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.raw.descriptor
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// The config as stored.
    pub fn config_bytes(&self) -> &[u8] {
        &self.0.config_bytes
    }

    /// The config. Empty if this is an artifact that is no image.
    pub fn config(&self) -> &ImageConfig {
        &self.0.config
    }

    /// Where its blobs are read.
    pub fn blobs(&self) -> &Arc<dyn BlobSource> {
        &self.0.blobs
    }

    /// The layers, lowest first. Empty if this is an artifact that is no image.
    pub fn layers(&self) -> Vec<Layer> {
        let diff_ids = &self.0.config.rootfs.diff_ids;
        self.0
            .manifest
            .layers
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| Layer {
                descriptor: descriptor.clone(),
                diff_id: *diff_id,
                blobs: Arc::clone(&self.0.blobs),
            })
            .collect()
    }
}

impl Layer {
    /// Refuses a layer of a kind that is no tar: encrypted, packed in a way that nobody knows, a WebAssembly module or an
    /// attestation. Whoever unpacks a layer asks first; whoever copies it need not.
    pub fn check_is_tar(&self) -> Result<(), SourceError> {
        let media_type = &self.descriptor.media_type;
        if media_type.is_layer() || media_type.as_str().is_empty() {
            return Ok(());
        }
        let what = format!("layer {} is of type {media_type}, which cannot be unpacked", self.descriptor.digest);
        Err(SourceError::new(Kind::Other, what))
    }

    /// The bytes as stored, checked while they are read.
    pub fn open(&self) -> Result<Verified<crate::BlobReader>, SourceError> {
        self.blobs.open(&self.descriptor)
    }
}

impl Index {
    /// The index as stored.
    pub fn raw(&self) -> &RawManifest {
        &self.0.raw
    }

    /// Makes an index of images that `blobs` holds.
    pub fn assemble(manifests: Vec<Descriptor>, docker: bool, blobs: Arc<dyn BlobSource>) -> Result<Self, SourceError> {
        let media_type = if docker { MediaType::DockerManifestList } else { MediaType::OciIndex };
        let parsed = IndexManifest {
            schema_version: 2,
            media_type: media_type.clone(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let raw = RawManifest::new(media_type, to_json(&parsed)?);
        Ok(Self(Arc::new(IndexParts { raw, parsed, blobs })))
    }

    /// What its children are, in order.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.0.parsed.manifests
    }

    /// Where its children are read.
    pub fn blobs(&self) -> &Arc<dyn BlobSource> {
        &self.0.blobs
    }

    /// The first child that serves a platform; where no variant was asked for, rather one of the usual variant (`arm/v7`,
    /// plain `amd64`), as containerd has it. One that names no platform counts as linux/amd64, as go-containerregistry has it;
    /// [`Artifact::for_platform`] looks closer.
    pub fn find(&self, platform: &Platform) -> Option<&Descriptor> {
        let unnamed = Platform::new("linux", "amd64");
        let wanted = platform.normalized();
        let offer = |child: &'_ Descriptor| child.platform.as_ref().unwrap_or(&unnamed).normalized();
        let serving = || self.0.parsed.manifests.iter().filter(|child| platform.accepts(&offer(child)));
        serving().find(|child| offer(child).variant == wanted.variant).or_else(|| serving().next())
    }

    /// Among the children that do not say what they are for, the first image that is itself for the platform, as containerd
    /// has it. Indexes in indexes seldom say it.
    fn unnamed_for(
        &self,
        platform: &Platform,
        depth: usize,
        search: &mut Search,
    ) -> Result<Option<Image>, SourceError> {
        for child in self.manifests().iter().filter(|child| child.platform.is_none()) {
            let Some(left) = search.left.checked_sub(1) else { break };
            search.left = left;
            match self.child(child).and_then(|child| child.for_platform_below(platform, depth, search)) {
                Ok(image) if platform.accepts(&image.config().platform()) => return Ok(Some(image)),
                Ok(image) => search.seen.push(image.config().platform()),
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads a child.
    pub fn child(&self, descriptor: &Descriptor) -> Result<Artifact, SourceError> {
        Artifact::open(self.0.blobs.manifest(descriptor)?, Arc::clone(&self.0.blobs))
    }

    fn missing(&self, platform: &Platform, seen: &[Platform]) -> SourceError {
        let mut offered: Vec<String> = Vec::new();
        // Attestations are for nothing that is known.
        for platform in seen.iter().filter(|platform| platform.os != "unknown") {
            let platform = platform.to_string();
            if !offered.contains(&platform) {
                offered.push(platform);
            }
        }
        let what = format!(
            "no child with platform {platform} in index {}: it offers {}",
            self.0.raw.descriptor.digest,
            if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
        );
        SourceError::new(Kind::NotFound, what)
    }
}

/// Tells an index from a manifest. The media type that led to the document decides, then its own, then what it lists. A
/// document that could be read as both is refused.
fn is_index(raw: &RawManifest) -> Result<bool, SourceError> {
    let refuse =
        |why: String| Err(SourceError::new(Kind::Corrupt, format!("{} is refused: {why}", raw.descriptor.digest)));
    let outline = match Outline::read(&raw.bytes) {
        Ok(outline) => outline,
        Err(InvalidOutline::Json(error)) => return Err(unreadable(&raw.descriptor, error)),
        Err(confusing) => return refuse(confusing.to_string()),
    };
    let by_type = |media_type: &MediaType| match (media_type.is_index(), media_type.is_manifest()) {
        (false, false) => None,
        (is_index, _) => Some(is_index),
    };
    match (by_type(&raw.descriptor.media_type), by_type(&outline.media_type)) {
        (Some(stated), Some(own)) if stated != own => refuse(format!(
            "it was announced as {}, but says that it is {}",
            raw.descriptor.media_type, outline.media_type
        )),
        (stated, own) => Ok(stated.or(own).unwrap_or(outline.lists_manifests)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn open(media_type: MediaType, text: &str) -> Result<Artifact, SourceError> {
        Artifact::open(RawManifest::new(media_type, text.into()), Arc::new(Memory::default()))
    }

    #[test]
    fn cve_2021_41190_a_document_is_never_a_manifest_and_an_index() {
        let (index, manifest) = (MediaType::OciIndex, MediaType::OciManifest);
        for (text, media_type, document) in [
            ("both a manifest and an index", index.clone(), r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#),
            ("both a manifest and an index", manifest.clone(), r#"{"schemaVersion":2,"manifests":[],"config":{}}"#),
            (
                "both a manifest and an index",
                MediaType::default(),
                r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#,
            ),
            ("announced as", index, r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#),
            ("announced as", manifest, r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#),
        ] {
            let Err(error) = open(media_type, document) else { panic!("accepted {document}") };
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_configuration_of_a_type_that_says_nothing_is_an_images_if_it_looks_like_one() {
        let memory = Memory::default();
        let layer = memory.add(MediaType::DockerLayerGzip, b"layer".to_vec());
        let of_image =
            format!(r#"{{"config":{{"User":"u"}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, layer.digest);
        for (media_type, config, expected) in [
            ("application/octet-stream", &*of_image, 1),
            ("application/json", &of_image, 1),
            ("application/vnd.example+json", &of_image, 0),
            ("application/json", r#"{"rootfs":{"diff_ids":[]}}"#, 0),
            ("application/octet-stream", "bytes", 0),
        ] {
            let config = memory.add(MediaType::from(media_type), config.as_bytes().to_vec());
            let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
            let raw = RawManifest::new(MediaType::DockerManifest, serde_json::to_vec(&manifest).unwrap());
            let Ok(Artifact::Image(image)) = Artifact::open(raw, Arc::new(memory.clone())) else {
                panic!("{media_type}")
            };
            assert_eq!(image.layers().len(), expected, "{media_type}");
            assert_eq!(image.config().config.user == "u", expected == 1, "{media_type}");
        }
    }

    #[test]
    fn a_document_without_a_media_type_goes_by_what_it_lists() {
        for media_type in [MediaType::default(), MediaType::from("application/json"), MediaType::OciIndex] {
            assert!(matches!(open(media_type, r#"{"schemaVersion":2,"manifests":[]}"#), Ok(Artifact::Index(_))));
        }
    }
}
