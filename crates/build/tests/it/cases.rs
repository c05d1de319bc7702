//! A case is a folder: a Dockerfile, what it is built with, and what comes out.
//!
//! * `why`: its first line names the rows of `testdata/rows.txt` that it shows (`rows: from.name copy.link`); the rest says
//!   what is looked at, and where BuildKit's or buildah's known output differs from ours, why.
//! * `Dockerfile`, `context.txt` (a listing, see `skycap_testkit::listing`), `archive-NAME.txt` (a listing that becomes the
//!   tar NAME of the context, packed as its suffix says), `image-NAME.txt` (images for FROM), `directory-NAME.txt` (other
//!   directories), `ignore`;
//! * `options`: lines `arg NAME=VALUE`, `context NAME=image IMAGE`, `context NAME=directory DIRECTORY`, `label NAME=VALUE`, `secret ID=VALUE`, `host NAME=IP`, `target NAME`, `platform P`,
//!   `docker`, `shell` (there is a base `shell`, and a sandbox is needed), `ids` (one with several ids), `output` (show what
//!   RUN prints), `whole` (show the configuration as it is);
//! * `expected.txt`: the new layers' entries, the configuration and the history, or the error. Times that are not shown are
//!   the fixed one of `docs/decisions/0004`; those of RUN are never shown. A wrong one is written anew when the environment
//!   has `SKYCAP_UPDATE_EXPECTED`: read what it says against the row before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use skycap_build::ignore::Ignore;
use skycap_build::{Built, NamedContext, Request, SandboxAccess};
use skycap_image::{Artifact, Compression, SecretBytes};
use skycap_testkit::listing;

use crate::world::{World, access, chain, list, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("every_case_gives_what_it_says", every_case_gives_what_it_says),
    ("every_row_of_the_language_has_a_case", every_row_of_the_language_has_a_case),
    ("what_buildkit_does_not_know_of_a_base_ends_with_it", what_buildkit_does_not_know_of_a_base_ends_with_it),
];

/// What a step says of itself in the history, if it does not say something else.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// The time of all builds: that of files of the context, so that earlier ones show.
const EPOCH: &str = "1980-01-02T00:00:00Z";
const EPOCH_SECONDS: i64 = 315_619_200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(root().join("build")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn every_case_gives_what_it_says() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases were found", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(case: &Path) -> Option<String> {
    let found = describe(case)?;
    settle(&case.join("expected.txt"), &found)
}

/// Docker once put the container that an image was made in into its configuration, and builders put caches there.
fn what_buildkit_does_not_know_of_a_base_ends_with_it() {
    let mut world = World::new();
    world.image_of(
        "old",
        r#"{"architecture":"amd64","os":"linux","os.version":"1","author":"somebody","container":"c","docker_version":"1.6",
        "container_config":{"Cmd":["/bin/sh","-c","\u0023(nop) CMD"]},"moby.buildkit.cache.v0":"x","rootfs":{"type":"layers","diff_ids":[]},
        "config":{"Hostname":"c","Image":"sha256:0","AttachStdin":false,"StopTimeout":3,"StopSignal":"9","Env":["PATH=/bin"]}}"#,
    );
    let mut request = world.request("FROM old\nLABEL a=b\n");
    request.source_date_epoch = Some(EPOCH_SECONDS);
    let built = world.built_as(&request);
    let found: serde_json::Value = serde_json::from_slice(built.image.config_bytes()).unwrap();
    let expected = serde_json::json!({
        "architecture": "amd64", "os": "linux", "os.version": "1", "author": "somebody", "created": EPOCH,
        "config": {"Env": ["PATH=/bin"], "Labels": {"a": "b"}, "StopSignal": "9"},
        "history": [{"created": EPOCH, "created_by": "LABEL a=b", "comment": COMMENT, "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    assert_eq!(found, expected);
}

/// Compares with what a file says, or writes it anew.
fn settle(path: &Path, found: &str) -> Option<String> {
    let expected = fs::read_to_string(path).unwrap_or_default();
    if found == expected {
        return None;
    }
    #[allow(clippy::disallowed_methods, reason = "a switch for people, of this test only")]
    if std::env::var_os("SKYCAP_UPDATE_EXPECTED").is_some() {
        fs::write(path, found).unwrap();
        return None;
    }
    Some(format!("{}:\n--- expected\n{expected}+++ found\n{found}", path.display()))
}

/// What a case gives; nothing if it cannot be built here.
fn describe(case: &Path) -> Option<String> {
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let options = fs::read_to_string(case.join("options")).unwrap_or_default();
    let has = |word: &str| options.lines().any(|line| line == word);
    let mut world = World::new();
    if has("shell") {
        with_shell(&mut world, &name)?;
    }
    if has("ids") && !matches!(access(), SandboxAccess::Available(sandbox) if sandbox.owners_kept()) {
        skycap_testkit::skipped!("{name}: this sandbox has a single id");
        return None;
    }
    fill(&mut world, case);
    let request = request(&world, case, &options);
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.build(&request)));
    let mut text = match built.unwrap_or_else(|_| panic!("{name} panicked")) {
        Ok(built) => built.iter().map(|built| show(built, &world, has("whole"))).collect(),
        Err(error) => chain(&error) + "\n",
    };
    if has("output") {
        text = format!("output {:?}\n{text}", world.output());
    }
    Some(text)
}

/// Images, the context and its archives.
fn fill(world: &mut World, case: &Path) {
    if let Ok(text) = fs::read_to_string(case.join("context.txt")) {
        world.context_of(&text);
    }
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let Some((kind, name)) = name.strip_suffix(".txt").and_then(|name| name.split_once('-')) else { continue };
        let text = fs::read_to_string(entry.path()).unwrap();
        match kind {
            "image" => world.image(name, &text),
            "archive" => fs::write(world.context().join(name), packed(name, &listing::tar(&text))).unwrap(),
            "directory" => World::directory_of(&world.path().join(name), &text),
            other => panic!("{}: what is {other}?", entry.path().display()),
        }
    }
}

fn packed(name: &str, tar: &[u8]) -> Vec<u8> {
    let compression = match name.rsplit_once('.').map_or(name, |(_, suffix)| suffix) {
        "gz" | "tgz" => Compression::Gzip,
        "zst" => Compression::Zstd,
        _ => Compression::None,
    };
    let mut encoder = skycap_image::compress::LayerEncoder::new(Vec::new(), compression, false, 1).unwrap();
    std::io::copy(&mut &tar[..], &mut encoder).unwrap();
    encoder.finish().unwrap().1
}

fn request(world: &World, case: &Path, options: &str) -> Request {
    let mut request = world.request(&fs::read_to_string(case.join("Dockerfile")).unwrap());
    request.source_date_epoch = Some(EPOCH_SECONDS);
    if let Ok(bytes) = fs::read(case.join("ignore")) {
        request.ignore = Ignore::parse(&bytes).unwrap();
    }
    let mut targets = Vec::new();
    for line in options.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || {
            let (name, value) = rest.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        match word {
            "arg" => request.build_args.extend([pair()]),
            "label" => request.labels.extend([pair()]),
            "secret" => {
                let (id, value) = pair();
                request.secrets.insert(id, SecretBytes::new(value));
            }
            "host" => {
                let (name, address) = pair();
                request.add_hosts.push((name, address.parse().unwrap()));
            }
            "context" => {
                let (name, kind) = pair();
                let context = match kind.split_once(' ').unwrap() {
                    ("image", image) => NamedContext::Image(world.images.known[&format!("library/{image}")].clone()),
                    ("directory", name) => {
                        let path = world.path().join(name);
                        NamedContext::Directory {
                            ignore: Ignore::for_dockerfile(&path, &path.join("Dockerfile")).unwrap(),
                            path,
                        }
                    }
                    (other, _) => panic!("{}: unknown context {other}", case.display()),
                };
                request.contexts.insert(name, context);
            }
            "target" => targets.push(Some(rest.to_owned())),
            "platform" => request.platforms.push(rest.parse().unwrap()),
            "docker" => request.docker_media_types = true,
            "shell" | "ids" | "output" | "whole" => {}
            other => panic!("{}: unknown option {other}", case.display()),
        }
    }
    if !targets.is_empty() {
        request.targets = targets;
    }
    request
}

fn show(built: &Built, world: &World, whole: bool) -> String {
    let mut text = format!("{} for {}\n", built.target.as_deref().unwrap_or("default"), built.platform);
    let shell = world.images.known.get("library/shell").map(|artifact| match artifact {
        Artifact::Image(image) => image.layers()[0].diff_id,
        Artifact::Index(_) => panic!("the shell is one image"),
    });
    for layer in built.image.layers() {
        let media_type = layer.descriptor.media_type.to_string();
        let kind = if media_type == "application/vnd.oci.image.layer.v1.tar+gzip" { "" } else { &media_type };
        text.push_str(format!("layer {kind}").trim_end());
        if shell == Some(layer.diff_id) {
            text.push_str(" of the shell\n");
            continue;
        }
        text.push('\n');
        let listed = list(&layer);
        text.push_str(&if shell.is_some() { without_times(&listed) } else { listed });
    }
    let mut config: serde_json::Value = serde_json::from_slice(built.image.config_bytes()).unwrap();
    if let Some(rootfs) = config.get_mut("rootfs").and_then(|rootfs| rootfs.as_object_mut()) {
        rootfs.remove("diff_ids");
    }
    text + &if whole { serde_json::to_string_pretty(&config).unwrap() + "\n" } else { brief(&config) }
}

fn without_times(listed: &str) -> String {
    let word = |word: &&str| !word.starts_with("mtime=");
    let line = |line: &str| line.split(' ').filter(word).collect::<Vec<_>>().join(" ") + "\n";
    listed.lines().map(line).collect()
}

/// The configuration without what every image of a build has: a setting a line, then an entry of the history a line,
/// `+` for a layer and `-` for none.
fn brief(config: &serde_json::Value) -> String {
    let mut text = String::new();
    let fields = |value: &serde_json::Value| value.as_object().cloned().unwrap_or_default();
    for (name, value) in fields(config) {
        if !["architecture", "config", "created", "history", "os", "rootfs", "variant"].contains(&&*name) {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    let platform = ["os", "architecture", "variant"].map(|name| config[name].as_str().unwrap_or_default());
    let _ = writeln!(text, "{}", platform.join(" ").trim_end());
    for (name, value) in fields(&config["config"]) {
        let _ = writeln!(text, "  {name} {value}");
    }
    if config["created"] != EPOCH {
        let _ = writeln!(text, "created {}", config["created"]);
    }
    let history = config["history"].as_array();
    for entry in history.into_iter().flatten() {
        let sign = if entry["empty_layer"] == true { '-' } else { '+' };
        let _ = write!(text, "{sign} {}", entry["created_by"].as_str().unwrap_or_default().replace('\n', "\\n"));
        for (name, usual) in [("created", EPOCH), ("comment", COMMENT)] {
            if entry[name] != usual {
                let _ = write!(text, " ({name} {})", entry[name]);
            }
        }
        text.push('\n');
    }
    text
}

/// A line of `testdata/rows.txt`: `id | what must hold`, or `id | what must hold | file: test` where a row is shown by a
/// test of its own. Lines with `#` are headings.
struct Row {
    id: String,
    text: String,
    tests: Vec<(String, String)>,
}

fn rows(text: &str) -> Vec<Row> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(" | ").map(str::trim);
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let (id, text, tests) = (part(), part(), part());
            let test = |test: &str| {
                let (file, name) = test.split_once(": ").unwrap_or_else(|| panic!("{line}: expected FILE: TEST"));
                (file.trim().to_owned(), name.to_owned())
            };
            let tests = tests.split("; ").filter(|test| !test.is_empty()).map(test).collect();
            Row { id, text, tests }
        })
        .collect()
}

fn every_row_of_the_language_has_a_case() {
    let source = fs::read_to_string(root().join("rows.txt")).unwrap();
    let rows = rows(&source);
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let why = fs::read_to_string(case.join("why")).unwrap_or_default();
        let Some(ids) = why.lines().next().and_then(|line| line.strip_prefix("rows: ")) else {
            wrong.push(format!("{name}: why does not begin with the rows that it shows"));
            continue;
        };
        ids.split(' ').for_each(|id| shown.entry(id.to_owned()).or_default().push(name.clone()));
    }
    let known: BTreeSet<&str> = rows.iter().map(|row| &*row.id).collect();
    assert_eq!(known.len(), rows.len(), "a row is there twice");
    wrong.extend(shown.keys().filter(|id| !known.contains(&***id)).map(|id| format!("{id}: there is no such row")));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for row in &rows {
        if row.tests.is_empty() && !shown.contains_key(&row.id) {
            wrong.push(format!("{}: no case shows this row", row.id));
        }
        for (file, test) in &row.tests {
            let path = workspace.join(file);
            // A test is a function, or the folder of a case.
            let function = || fs::read_to_string(&path).is_ok_and(|text| text.contains(&format!("fn {test}(")));
            if !path.join(test).is_dir() && !function() {
                wrong.push(format!("{}: there is no test {test} in {file}", row.id));
            }
        }
    }
    wrong.extend(settle(&workspace.join("docs/reference/dockerfile-cases.md"), &table(&source, &rows, &shown)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page that says which case shows which row.
fn table(source: &str, rows: &[Row], shown: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = "# The Dockerfile language, row by row\n\n\
        Every row is shown by cases, folders of `crates/build/testdata/build`, or by tests that are named. A case holds a\n\
        Dockerfile, what it is built with, and the files, the configuration and the history that it must give; its `why` says\n\
        what is looked at and where other builders differ. This page is written by `every_row_of_the_language_has_a_case`.\n"
        .to_owned();
    let mut rows = rows.iter();
    for line in source.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            let _ = write!(text, "\n## {heading}\n\n| row | what must hold | cases and tests |\n|---|---|---|\n");
        } else if !line.is_empty() && !line.starts_with('#') {
            let Some(row) = rows.next() else { break };
            let cases = shown.get(&row.id).into_iter().flatten().map(|case| format!("`{case}`"));
            let tests = row.tests.iter().map(|(file, test)| format!("`{test}` ({file})"));
            let all = cases.chain(tests).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "| {} | {} | {all} |", row.id, row.text);
        }
    }
    text
}
