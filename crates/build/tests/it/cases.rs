//! A case is a folder: a Dockerfile, what it is built with, and what comes out.
//!
//! * `Dockerfile`, `context.txt` (a listing, see `skycap_testkit::listing`), `image-NAME.txt` (images for FROM), `ignore`;
//! * `options`: lines `arg NAME=VALUE`, `label NAME=VALUE`, `target NAME`, `platform P`, `docker`;
//! * `expected.txt`: the new layers' entries and the configuration, or the error. Times that are not shown are the fixed
//!   one of `docs/decisions/0004`. A wrong one is written anew when the environment has `SKYCAP_UPDATE_EXPECTED`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use skycap_build::ignore::Ignore;
use skycap_build::{Built, Request};

use crate::world::{World, chain, list};

pub const TESTS: &[crate::Test] = &[("every_case_gives_what_it_says", every_case_gives_what_it_says)];

fn every_case_gives_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/build");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(case: &Path) -> Option<String> {
    let found = describe(case);
    let path = case.join("expected.txt");
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return None;
    }
    #[allow(clippy::disallowed_methods, reason = "a switch for people, of this test only")]
    if std::env::var_os("SKYCAP_UPDATE_EXPECTED").is_some() {
        fs::write(&path, &found).unwrap();
        return None;
    }
    Some(format!("{}:\n--- expected\n{expected}+++ found\n{found}", case.display()))
}

fn describe(case: &Path) -> String {
    let mut world = World::new();
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if let Some(image) = name.strip_prefix("image-").and_then(|name| name.strip_suffix(".txt")) {
            world.image(image, &fs::read_to_string(entry.path()).unwrap());
        }
    }
    if let Ok(text) = fs::read_to_string(case.join("context.txt")) {
        world.context_of(&text);
    }
    let mut request = world.request(&fs::read_to_string(case.join("Dockerfile")).unwrap());
    request.source_date_epoch = Some(0);
    if let Ok(bytes) = fs::read(case.join("ignore")) {
        request.ignore = Ignore::parse(&bytes).unwrap();
    }
    options(&fs::read_to_string(case.join("options")).unwrap_or_default(), &mut request);
    match world.build(&request) {
        Ok(built) => built.iter().map(show).collect(),
        Err(error) => chain(&error) + "\n",
    }
}

fn options(text: &str, request: &mut Request) {
    let mut targets = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || {
            let (name, value) = rest.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        match word {
            "arg" => request.build_args.extend([pair()]),
            "label" => request.labels.extend([pair()]),
            "target" => targets.push(Some(rest.to_owned())),
            "platform" => request.platforms.push(rest.parse().unwrap()),
            "docker" => request.docker_media_types = true,
            other => panic!("unknown option {other}"),
        }
    }
    if !targets.is_empty() {
        request.targets = targets;
    }
}

fn show(built: &Built) -> String {
    let mut text = format!("{} for {}\n", built.target.as_deref().unwrap_or("default"), built.platform);
    for layer in built.image.layers() {
        let _ = write!(text, "layer {}\n{}", layer.descriptor.media_type, list(&layer));
    }
    let mut config: serde_json::Value = serde_json::from_slice(built.image.config_bytes()).unwrap();
    if let Some(rootfs) = config.get_mut("rootfs").and_then(|rootfs| rootfs.as_object_mut()) {
        rootfs.remove("diff_ids");
    }
    text + &serde_json::to_string_pretty(&config).unwrap() + "\n"
}
