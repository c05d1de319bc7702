//! Cases as data: `testdata/cases/*.txt`.
//!
//! ```text
//! == a name of the case
//! from: M02 CVE-2026-28406
//! file a/../b "x"
//! -- error: climbs
//!
//! == another
//! limits: entries=10
//! repeat 11 file f{n} ""
//! -- limit: entries
//!
//! == a third
//! char null 1 3
//! -- tree
//! char null 1 3
//! -- warns (user, namespace): devices
//! ```
//!
//! The layers are in the language of [`skycap_testkit::rawtar`], separated by `##`. What is expected follows as lines that
//! begin with `--`:
//!
//! | line | meaning |
//! |---|---|
//! | `error: text` | refused, and the error or a cause of it holds the text |
//! | `limit: name` | refused by the limit of that name |
//! | `tree` | accepted; the lines that follow are the tree without its root: types, targets, content |
//! | `tree all` | the same with modes, owners, times and attributes |
//! | `warns: text` | a warning holds the text |
//!
//! A line may be restricted: `-- tree (user, single)`; one without restriction is for all the others. Where devices cannot be
//! made, `char` and `block` stand for the empty files that take their place; where owners are not kept they are left out.
//!
//! Before the layers: `from:` (rows and names the case stands for), `only:` (identities), `limits:` (settings of
//! [`skycap_rootfs::Limits`]), `apart: text` (the overlay form refuses with this text, which the merged one need not).

use std::path::Path;

use skycap_image::compress::LayerEncoder;
use skycap_image::{Compression, Digest, Layer, MediaType, Memory};
use skycap_rootfs::Limits;
use skycap_testkit::rawtar;

use crate::identity::Identity;

pub(crate) struct Case {
    /// The letter of its class.
    pub(crate) class: char,
    pub(crate) name: String,
    pub(crate) from: String,
    only: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) apart: Option<String>,
    pub(crate) text: String,
    expected: Vec<(Option<String>, Expected)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Error(String),
    Limit(String),
    Tree { all: bool, lines: String },
    Warning(String),
}

/// How a layer is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Case {
    pub(crate) fn is_for(&self, identity: Identity) -> bool {
        self.only.as_ref().is_none_or(|only| has(only, identity))
    }

    /// What this identity must get: the outcome and the warnings.
    pub(crate) fn expected(&self, identity: Identity) -> (&Expected, Vec<&str>) {
        let fits = |who: &Option<String>| who.as_ref().is_some_and(|who| has(who, identity));
        let is_warning = |expected: &Expected| matches!(expected, Expected::Warning(_));
        let mut outcomes = self.expected.iter().filter(|(_, expected)| !is_warning(expected));
        let own = outcomes.clone().find(|(who, _)| fits(who));
        let (_, outcome) = own.or_else(|| outcomes.find(|(who, _)| who.is_none())).unwrap_or_else(|| {
            panic!("{}: nothing is expected of {}", self.name, identity.name());
        });
        let warnings = self.expected.iter().filter(|(who, _)| who.is_none() || fits(who));
        let warnings = warnings.filter_map(|(_, expected)| match expected {
            Expected::Warning(text) => Some(text.as_str()),
            _ => None,
        });
        (outcome, warnings.collect())
    }

    pub(crate) fn tars(&self) -> Vec<Vec<u8>> {
        rawtar::layers(&self.text)
    }

    pub(crate) fn layers(&self, format: Format) -> Vec<Layer> {
        self.tars().iter().map(|bytes| layer(bytes, format)).collect()
    }
}

fn has(list: &str, identity: Identity) -> bool {
    list.split(',').any(|name| name.trim() == identity.name())
}

/// A layer in memory.
pub(crate) fn layer(bytes: &[u8], format: Format) -> Layer {
    let memory = Memory::default();
    let diff_id = Digest::sha256(bytes);
    let compression = match format {
        Format::Plain => {
            let descriptor = memory.add(MediaType::OciLayer, bytes);
            return Layer { descriptor, diff_id, blobs: std::sync::Arc::new(memory) };
        }
        Format::Gzip => Compression::Gzip,
        Format::Zstd => Compression::Zstd,
    };
    let mut encoder = LayerEncoder::new(Vec::new(), compression, false, 1).unwrap();
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    let (packed, bytes) = encoder.finish().unwrap();
    let descriptor = memory.add(packed.descriptor.media_type, bytes);
    Layer { descriptor, diff_id, blobs: std::sync::Arc::new(memory) }
}

/// Every case, in the order of the files.
pub(crate) fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| in_file(file)).collect()
}

fn in_file(file: &Path) -> Vec<Case> {
    let class = file.file_name().unwrap().to_str().unwrap().chars().next().unwrap().to_ascii_uppercase();
    let text = format!("\n{}", std::fs::read_to_string(file).unwrap());
    text.split("\n== ").skip(1).map(|text| parse(class, text)).collect()
}

fn parse(class: char, text: &str) -> Case {
    let (name, rest) = text.split_once('\n').unwrap();
    let mut case = Case {
        class,
        name: name.to_owned(),
        from: String::new(),
        only: None,
        limits: Limits::default(),
        apart: None,
        text: String::new(),
        expected: Vec::new(),
    };
    let (body, expected) = rest.split_once("\n-- ").unwrap_or_else(|| panic!("{name}: nothing is expected"));
    for line in body.lines() {
        match line.split_once(": ") {
            Some(("from", text)) => text.clone_into(&mut case.from),
            Some(("only", text)) => case.only = Some(text.to_owned()),
            Some(("apart", text)) => case.apart = Some(text.to_owned()),
            Some(("limits", text)) => text.split(' ').for_each(|limit| set(&mut case.limits, limit)),
            _ => case.text = format!("{}{line}\n", case.text),
        }
    }
    case.expected = expected.split("\n-- ").map(expectation).collect();
    case
}

fn set(limits: &mut Limits, text: &str) {
    let (name, value) = text.split_once('=').unwrap();
    let number = value.parse().unwrap();
    match name {
        "entries" => limits.entries = number,
        "unpacked_bytes" => limits.unpacked_bytes = number,
        "ratio" => limits.ratio = number,
        "path_components" => limits.path_components = value.parse().unwrap(),
        "path_bytes" => limits.path_bytes = value.parse().unwrap(),
        "extension_bytes" => limits.extension_bytes = number,
        other => panic!("unknown limit {other}"),
    }
}

fn expectation(text: &str) -> (Option<String>, Expected) {
    let (first, lines) = text.split_once('\n').unwrap_or((text, ""));
    let (what, value) = first.split_once(": ").unwrap_or((first, ""));
    let (what, who) = match what.split_once(" (") {
        Some((what, who)) => (what, Some(who.trim_end_matches(')').to_owned())),
        None => (what, None),
    };
    let lines: Vec<&str> =
        lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    let expected = match what.trim() {
        "error" => Expected::Error(value.to_owned()),
        "limit" => Expected::Limit(value.to_owned()),
        "warns" => Expected::Warning(value.to_owned()),
        "tree" => Expected::Tree { all: false, lines: lines.join("\n") },
        "tree all" => Expected::Tree { all: true, lines: lines.join("\n") },
        other => panic!("unknown expectation {other}"),
    };
    (who, expected)
}
