//! A whole listing becomes an image or an index.

use std::collections::BTreeMap;
use std::sync::Arc;

use skycap_image::{
    Artifact, Compression, ContainerConfig, Descriptor, History, Image, ImageConfig, ImageSink, Index, Memory, Name,
    Platform, RawManifest, RootFs,
};

use super::layer::{pack, tar_of};
use super::words::{Line, lines};

/// How a listing is turned into bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// How layers are packed that do not say it themselves.
    pub compression: Compression,
    /// Docker's media types instead of OCI's.
    pub docker: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { compression: Compression::Gzip, docker: false }
    }
}

/// What the lines of one image say.
struct Draft {
    platform: Platform,
    config: ContainerConfig,
    created: String,
    annotations: BTreeMap<String, String>,
    layers: Vec<(Option<Compression>, Vec<Line>)>,
    is_begun: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            platform: Platform::new("linux", "amd64"),
            config: ContainerConfig::default(),
            created: "1970-01-01T00:00:00Z".to_owned(),
            annotations: BTreeMap::new(),
            layers: Vec::new(),
            is_begun: false,
        }
    }
}

/// The image of a listing with one platform, in a memory of its own, in gzip with OCI's media types.
///
/// # Panics
///
/// Panics if the listing is wrong or has several platforms.
pub fn image(listing: &str) -> Image {
    match artifact(&Memory::default(), listing, Style::default()) {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("the listing has several platforms"),
    }
}

/// The index of a listing with several platforms (or one), likewise.
///
/// # Panics
///
/// Panics if the listing is wrong.
pub fn index(listing: &str) -> Index {
    let memory = Memory::default();
    index_of(&memory, &drafts(listing), Style::default())
}

/// The artifact of a listing: an image, or an index if it has several platforms. Its parts are kept in `memory`.
///
/// # Panics
///
/// Panics if the listing is wrong.
pub fn artifact(memory: &Memory, listing: &str, style: Style) -> Artifact {
    let drafts = drafts(listing);
    match &drafts[..] {
        [one] => Artifact::Image(image_of(memory, one, style)),
        several => Artifact::Index(index_of(memory, several, style)),
    }
}

/// Makes an artifact and puts it into any place under some tags.
///
/// # Panics
///
/// Panics if the listing is wrong or the place refuses it.
pub fn put(place: &dyn ImageSink, listing: &str, style: Style, tags: &[&str]) -> Artifact {
    let artifact = artifact(&Memory::default(), listing, style);
    let names: Vec<Name> = tags.iter().map(|tag| Name::Tag((*tag).to_owned())).collect();
    place.put(&artifact, &names).unwrap_or_else(|error| panic!("cannot put the listing's artifact: {error}"));
    artifact
}

fn drafts(listing: &str) -> Vec<Draft> {
    let mut drafts = vec![Draft::default()];
    let mut in_layer = false;
    for line in lines(listing) {
        let verb = line.verb();
        if verb == "platform" {
            if drafts.last().is_some_and(|draft| draft.is_begun) {
                drafts.push(Draft::default());
            }
            in_layer = false;
        }
        let Some(draft) = drafts.last_mut() else { continue };
        draft.is_begun = true;
        match verb.as_str() {
            "layer" => {
                in_layer = true;
                draft.layers.push((compression(&line), Vec::new()));
            }
            _ if in_layer => draft.layers.last_mut().into_iter().for_each(|(_, lines)| lines.push(line_of(&line))),
            _ => draft.configure(&line),
        }
    }
    drafts
}

fn line_of(line: &Line) -> Line {
    Line { number: line.number, words: line.words.clone() }
}

fn compression(line: &Line) -> Option<Compression> {
    match &line.rest()[..] {
        [] => None,
        [word] if word == "gzip" => Some(Compression::Gzip),
        [word] if word == "zstd" => Some(Compression::Zstd),
        [word] if word == "none" => Some(Compression::None),
        _ => line.wrong("expected gzip, zstd or none"),
    }
}

impl Draft {
    fn configure(&mut self, line: &Line) {
        let config = &mut self.config;
        match line.verb().as_str() {
            "platform" => self.platform = line.text(1).parse().unwrap_or_else(|_| line.wrong("expected a platform")),
            "created" => self.created = line.text(1),
            "annotation" => self.annotations.extend(line.pairs()),
            "env" => {
                line.pairs();
                config.env.get_or_insert_default().extend(line.rest());
            }
            "user" => config.user = line.text(1),
            "workdir" => config.working_dir = line.text(1),
            "cmd" => config.cmd = Some(line.rest()),
            "entrypoint" => config.entrypoint = Some(line.rest()),
            "shell" => config.shell = Some(line.rest()),
            "label" => config.labels.extend(line.pairs()),
            "expose" => config.exposed_ports.extend(line.rest().into_iter().map(|port| (port, serde_json::json!({})))),
            "volume" => config.volumes.extend(line.rest().into_iter().map(|path| (path, serde_json::json!({})))),
            "onbuild" => config.on_build.push(line.text(1)),
            "stopsignal" => config.stop_signal = Some(line.text(1)),
            _ => line.wrong("unknown line"),
        }
    }
}

fn image_of(memory: &Memory, draft: &Draft, style: Style) -> Image {
    let mut descriptors = Vec::new();
    let mut diff_ids = Vec::new();
    for (compression, lines) in &draft.layers {
        let compression = compression.unwrap_or(style.compression);
        let (descriptor, diff_id) = pack(memory, &tar_of(lines), compression, style.docker);
        descriptors.push(descriptor);
        diff_ids.push(diff_id);
    }
    let history = |index: usize| History {
        created: Some(draft.created.clone()),
        created_by: Some(format!("layer {}", index + 1)),
        ..History::default()
    };
    let config = ImageConfig {
        architecture: draft.platform.architecture.clone(),
        os: draft.platform.os.clone(),
        variant: draft.platform.variant.clone(),
        created: Some(draft.created.clone()),
        history: (0..draft.layers.len()).map(history).collect(),
        config: draft.config.clone(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    let image = Image::assemble(&config, descriptors, style.docker, Arc::new(memory.clone()));
    let image = annotated(fine(image), &draft.annotations);
    fine(memory.put(&Artifact::Image(image.clone()), &[]));
    image
}

fn annotated(image: Image, annotations: &BTreeMap<String, String>) -> Image {
    if annotations.is_empty() {
        return image;
    }
    let manifest = skycap_image::Manifest { annotations: annotations.clone(), ..image.manifest().clone() };
    let bytes = serde_json::to_vec(&manifest).unwrap_or_else(|error| panic!("a manifest in memory: {error}"));
    let raw = RawManifest::new(manifest.media_type.clone(), bytes);
    fine(Image::from_parts(raw, manifest, image.config_bytes().to_vec(), Arc::clone(image.blobs())))
}

fn index_of(memory: &Memory, drafts: &[Draft], style: Style) -> Index {
    let child = |draft: &Draft| -> Descriptor {
        image_of(memory, draft, style).descriptor().clone().with_platform(draft.platform.clone())
    };
    let children = drafts.iter().map(child).collect();
    let index = fine(Index::assemble(children, style.docker, Arc::new(memory.clone())));
    fine(memory.put(&Artifact::Index(index.clone()), &[]));
    index
}

fn fine<T>(result: Result<T, skycap_image::SourceError>) -> T {
    result.unwrap_or_else(|error| panic!("an image in memory: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use skycap_image::tar::Reader;
    use skycap_image::{Digest, ImageSource};

    use super::*;

    const LISTING: &str = r#"
        user app   # who
        env A=1 "B=x y"
        cmd sh -c "echo hi"
        label a=b
        expose 80/tcp
        annotation note=yes
        layer
          dir etc
          file etc/motd 0600 1:2 "hello\n"
          xattr user.note "v\x00"
          file big 0644 0:0 size=1000
          symlink a ../b
          hardlink c etc/motd
          char dev/null 0666 0:0 1:3
          file odd mtime=1.5 "0644"
        layer zstd
          whiteout etc/motd
          opaque etc
    "#;

    #[test]
    fn a_listing_becomes_an_image() {
        let image = image(LISTING);
        let config = &image.config().config;
        assert_eq!((config.user.as_str(), config.env.clone().unwrap()), ("app", vec!["A=1".into(), "B=x y".into()]));
        assert_eq!(config.cmd.clone().unwrap(), ["sh", "-c", "echo hi"]);
        assert_eq!(image.manifest().annotations["note"], "yes");
        let layers = image.layers();
        assert_eq!(layers[1].descriptor.media_type.compression(), Compression::Zstd);
        let (_, mut decoder) = skycap_image::compress::decoder(layers[0].open().unwrap()).unwrap();
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::sha256(&bytes), layers[0].diff_id);
        let mut reader = Reader::new(&bytes[..]);
        let mut seen = Vec::new();
        while let Some(header) = reader.next().unwrap() {
            seen.push(header);
        }
        let names: Vec<_> = seen.iter().map(|header| String::from_utf8_lossy(&header.path).into_owned()).collect();
        assert_eq!(names, ["etc", "etc/motd", "big", "a", "c", "dev/null", "odd"]);
        assert_eq!((seen[1].mode, seen[1].uid, seen[1].gid, seen[1].size), (0o600, 1, 2, 6));
        assert_eq!(seen[1].xattrs[&b"user.note"[..]], b"v\0");
        assert_eq!((seen[2].size, &seen[3].link[..], seen[5].device), (1000, &b"../b"[..], (1, 3)));
        assert_eq!((seen[6].mtime, seen[6].mtime_nanos, seen[6].mode), (1, 500_000_000, 0o644));
    }

    #[test]
    fn several_platforms_become_an_index() {
        let memory = Memory::default();
        let listing = "platform linux/amd64\nlayer\nfile a\nplatform linux/arm64/v8\nuser x\nlayer\nfile b\n";
        let made = put(&memory, listing, Style { docker: true, ..Style::default() }, &["1"]);
        let read = memory.get(&Name::Tag("1".into())).unwrap();
        assert_eq!(read.descriptor(), made.descriptor());
        let child = read.for_platform(&Platform::new("linux", "arm64")).unwrap();
        assert_eq!(child.config().config.user, "x");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let panic = std::panic::catch_unwind(|| image("layer\nflie x\n")).err().unwrap();
        assert!(panic.downcast_ref::<String>().unwrap().contains("line 2: unknown line: flie x"));
    }
}
