//! Two images, path by path and setting by setting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skycap_image::{Digest, Image};
use skycap_rootfs::{Entry, Kind, LayerIndex, Limits, TreePath, View};

use crate::case::Case;

/// Files of bases and archives are older than this; everything newer was made during one of the two builds.
const MADE_BEFORE: i64 = 1_500_000_000;
const LARGEST: u64 = 8 << 20;
/// What buildah mounts for a RUN it leaves behind, with times of its own.
const LEFT: [&str; 8] = ["dev", "proc", "run", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "run/secrets"];

pub fn compare(case: &Case, ours: &Image, theirs: &Image) -> Result<(), String> {
    let mut found = trees(ours, theirs);
    found.extend(configs(ours, theirs));
    let listed: BTreeSet<&str> = case.differences.iter().map(|(what, _)| &**what).collect();
    let is_listed = |what: &str| {
        listed
            .iter()
            .any(|listed| *listed == what || listed.strip_suffix("/**").is_some_and(|above| what.starts_with(above)))
    };
    let mut wrong: Vec<String> =
        found.iter().filter(|(what, _)| !is_listed(what)).map(|(what, how)| format!("{what}: {how}")).collect();
    for listed in &listed {
        let above = listed.strip_suffix("/**").unwrap_or(listed);
        if !found.keys().any(|what| what == listed || what.starts_with(above)) {
            wrong.push(format!("{listed}: is listed as a difference and is none"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
}

fn trees(ours: &Image, theirs: &Image) -> BTreeMap<String, String> {
    let (a, b) = (tree(ours), tree(theirs));
    let paths: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found = BTreeMap::new();
    for path in paths.into_iter().filter(|path| !LEFT.contains(&path.as_str())) {
        let (one, other) = (a.get(path), b.get(path));
        let same = one.map(|file| &file.0) == other.map(|file| &file.0);
        let times = one.zip(other).map(|(one, other)| (one.1, other.1));
        let same_time = times.is_none_or(|(one, other)| one == other || other > MADE_BEFORE || one > MADE_BEFORE);
        if !same || !same_time {
            found.insert(format!("/{path}"), format!("ours {one:?}, theirs {other:?}"));
        }
    }
    found
}

/// Every path with what it is, and the time of what has one of its own.
fn tree(image: &Image) -> BTreeMap<String, (String, i64)> {
    let layers = image.layers();
    let indexes: Vec<_> =
        layers.iter().map(|layer| Arc::new(LayerIndex::of(layer, &Limits::default()).unwrap())).collect();
    let view = View::new(&indexes).unwrap();
    let mut tree = BTreeMap::new();
    for (path, entry) in view.walk(&TreePath::root()).filter(|(path, _)| !path.is_root()) {
        let content = match &entry.kind {
            Kind::File { size } if *size < LARGEST => {
                let bytes = view.read(&path, &layers, LARGEST).unwrap();
                if bytes.len() < 100 {
                    format!("{:?}", String::from_utf8_lossy(&bytes))
                } else {
                    Digest::sha256(&bytes).to_string()
                }
            }
            other => format!("{other:?}"),
        };
        // A context's files get one time, and directories change with what is put into them.
        let time = if entry.is_file() { entry.metadata.mtime.seconds } else { i64::MAX };
        let time = if time == 315_619_200 { i64::MAX } else { time };
        tree.insert(path.to_string(), (describe(entry, &content), time));
    }
    tree
}

fn describe(entry: &Entry, content: &str) -> String {
    let metadata = &entry.metadata;
    // The mode of a link means nothing.
    let mode = if matches!(entry.kind, Kind::Symlink(_)) { 0 } else { metadata.mode };
    let attributes: Vec<String> = metadata
        .xattrs
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
        .collect();
    format!("{mode:o} {}:{} {content} {}", metadata.uid, metadata.gid, attributes.join(" "))
}

fn configs(ours: &Image, theirs: &Image) -> BTreeMap<String, String> {
    let settings = |image: &Image| {
        let config: serde_json::Value = serde_json::from_slice(image.config_bytes()).unwrap();
        let mut config = config["config"].clone();
        if let Some(labels) = config["Labels"].as_object_mut() {
            // buildah signs what it builds.
            labels.remove("io.buildah.version");
        }
        if let Some(env) = config["Env"].as_array_mut() {
            env.sort_by_key(std::string::ToString::to_string);
        }
        if config["WorkingDir"] == "" || config["WorkingDir"].is_null() {
            config["WorkingDir"] = "/".into();
        }
        config
    };
    let (ours, theirs) = (settings(ours), settings(theirs));
    let names = [
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Healthcheck",
        "Shell",
        "OnBuild",
    ];
    let empty = |value: &serde_json::Value| {
        value.is_null()
            || value == ""
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    let differs = |name: &&str| ours[*name] != theirs[*name] && !(empty(&ours[*name]) && empty(&theirs[*name]));
    let found = names.into_iter().filter(differs);
    found.map(|name| (format!("config {name}"), format!("ours {}, theirs {}", ours[name], theirs[name]))).collect()
}
