//! Two images, and where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Digest, Image, ImageSource as _, Layer, Name, compress, tar};

/// The image of a layout that holds one, checked to the last byte.
pub fn read(layout: &Path) -> Image {
    match Layout::open(layout).unwrap().get(&Name::Tag("latest".to_owned())).unwrap() {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an index was built"),
    }
}

/// What differs, by path or `config`, `build`, `layers`; nothing where the digests are the same.
pub fn compare(one: &Result<Image, String>, other: &Result<Image, String>) -> BTreeMap<String, String> {
    let (one, other) = match (one, other) {
        (Ok(one), Ok(other)) => (one, other),
        (_, Err(log)) | (Err(log), _) => return BTreeMap::from([("build".to_owned(), log.clone())]),
    };
    if one.descriptor().digest == other.descriptor().digest {
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    let (a, b) = (entries(one), entries(other));
    for path in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        if a.get(path) != b.get(path) {
            let only = |these: &Entries, those: &Entries| {
                let (these, those) =
                    [these, those].map(|entries| entries.get(path).cloned().unwrap_or_default()).into();
                these.into_iter().filter(|entry| !those.contains(entry)).collect::<Vec<_>>().join(", ")
            };
            found.insert(path.clone(), format!("{}; not {}", only(&b, &a), only(&a, &b)));
        }
    }
    let (a, b) = (config(one), config(other));
    if a != b {
        found.insert("config".to_owned(), format!("{b}, not {a}"));
    }
    if found.is_empty() {
        found.insert("layers".to_owned(), "the same entries in other bytes".to_owned());
    }
    found
}

/// A file of an image.
pub struct Found {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The names of its extended attributes.
    pub attributes: Vec<String>,
    pub content: Vec<u8>,
}

/// What the layers say of every path, the last one that says something; deletions are not looked at.
pub fn files(image: &Image) -> BTreeMap<String, Found> {
    let mut files = BTreeMap::new();
    for layer in image.layers() {
        let mut bytes = layer.open().unwrap();
        let mut reader = tar::Reader::new(compress::decoder(&mut bytes).unwrap().1);
        while let Some(header) = reader.next().unwrap() {
            let mut content = Vec::new();
            reader.by_ref().take(1 << 20).read_to_end(&mut content).unwrap();
            let attributes = header.xattrs.keys().map(|name| name.escape_ascii().to_string()).collect();
            let (mode, uid, gid) = (header.mode, header.uid, header.gid);
            let path = format!("/{}", header.path.escape_ascii());
            let [uid, gid] = [uid, gid].map(|id| u32::try_from(id).unwrap());
            files.insert(path, Found { mode, uid, gid, attributes, content });
        }
    }
    files
}

fn config(image: &Image) -> serde_json::Value {
    let mut config: serde_json::Value = serde_json::from_slice(image.config_bytes()).unwrap();
    if let Some(rootfs) = config["rootfs"].as_object_mut() {
        rootfs.remove("diff_ids");
    }
    config
}

/// What every layer says of a path, the layers counted from 0.
type Entries = BTreeMap<String, Vec<String>>;

fn entries(image: &Image) -> Entries {
    let mut entries = Entries::new();
    for (number, layer) in image.layers().iter().enumerate() {
        for (path, entry) in list(layer) {
            entries.entry(path).or_default().push(format!("layer {number}: {entry}"));
        }
    }
    entries
}

fn list(layer: &Layer) -> Vec<(String, String)> {
    let mut bytes = layer.open().unwrap();
    let mut entries = Vec::new();
    let (_, decoded) = compress::decoder(&mut bytes).unwrap();
    let mut reader = tar::Reader::new(decoded);
    while let Some(header) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let digest = Digest::sha256(&content);
        let shown =
            if content.len() < 200 { String::from_utf8_lossy(&content).into_owned() } else { digest.to_string() };
        let tar::Header { kind, mode, uid, gid, mtime, device, ref xattrs, .. } = header;
        let (path, link) = (header.path.escape_ascii(), header.link.escape_ascii());
        let entry = format!("{kind:?} {mode:o} {uid}:{gid} @{mtime} {link} {device:?} {xattrs:?} {shown:?}");
        entries.push((format!("/{path}"), entry));
    }
    entries
}
