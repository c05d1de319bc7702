//! Checks told as folders below `testdata/registry_image/check`: `request.json`, `registry.txt` (what the registry
//! holds), and `expected.json` or `error.txt`; `asked.txt`, where it is, lists what was asked about, in order.
//!
//! A line of `registry.txt` is `tag NAME LABEL`, `old LABEL` (known by digest only), `gone NAME` (listed, but not there),
//! `created NAME TIME`, or `fail ping|tags|NAME MESSAGE`. A label stands for a digest, in the other files written `@LABEL`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use skycap_image::{Kind, MediaType};

use super::*;
use crate::encode;

type TestResult = Result<(), Box<dyn std::error::Error>>;

#[derive(Default)]
struct Listing {
    tags: Vec<String>,
    digests: BTreeMap<Name, Digest>,
    created: BTreeMap<String, String>,
    failures: BTreeMap<String, String>,
    asked: Mutex<Vec<String>>,
}

fn digest(label: &str) -> Digest {
    Digest::sha256(label.as_bytes())
}

impl Listing {
    fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                ["tag", name, label] => {
                    listing.tags.push(name.to_owned());
                    listing.digests.insert(Name::Tag(name.to_owned()), digest(label));
                    listing.digests.insert(Name::Digest(digest(label)), digest(label));
                }
                ["old", label] => drop(listing.digests.insert(Name::Digest(digest(label)), digest(label))),
                ["gone", name] => listing.tags.push(name.to_owned()),
                ["created", name, time] => drop(listing.created.insert(name.to_owned(), time.to_owned())),
                ["fail", what, message] => drop(listing.failures.insert(what.to_owned(), message.to_owned())),
                _ => panic!("registry.txt: {line}"),
            }
        }
        listing
    }

    fn fail(&self, what: &str) -> Result<(), SourceError> {
        let failure = self.failures.get(what);
        failure.map_or(Ok(()), |message| Err(SourceError::new(Kind::Transient, message)))
    }
}

impl Tags for Listing {
    fn ping(&self) -> Result<(), SourceError> {
        self.fail("ping")
    }

    fn tags(&self) -> Result<Vec<String>, SourceError> {
        self.fail("tags").map(|()| self.tags.clone())
    }

    fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        let find = |name: &Name| {
            if let Ok(mut asked) = self.asked.lock() {
                asked.push(name.to_string());
            }
            self.fail(&name.to_string())?;
            Ok(self.digests.get(name).map(|digest| Descriptor::new(MediaType::OciManifest, *digest, 1)))
        };
        names.iter().map(find).collect()
    }

    fn created(&self, tag: &str, _: &Platform) -> Result<Option<String>, SourceError> {
        Ok(self.created.get(tag).cloned())
    }
}

/// Replaces `@LABEL` in quotes by the digest.
fn with_digests(text: &str) -> String {
    let mut parts = text.split("\"@");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (label, rest) = part.split_once('"').unwrap_or((part, ""));
        out.extend([format!("\"{}\"", digest(label)), rest.to_owned()]);
    }
    out
}

fn folders() -> std::io::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/registry_image/check");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    folders.sort();
    Ok(folders)
}

fn answer(request: &CheckRequest, listing: &Listing) -> Result<String, Failure> {
    let selection = Selection::of(&request.source)?;
    let versions = look(listing, &selection, &request.source, request.version.as_ref())?;
    Ok(encode(&serde_json::Value::Array(versions.iter().map(Version::to_json).collect())))
}

#[test]
fn every_case_gives_what_it_expects() -> TestResult {
    let mut count = 0;
    for folder in folders()? {
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let context = folder.display().to_string();
        let request = CheckRequest::decode(with_digests(&read("request.json")?).as_bytes())?;
        let listing = Listing::parse(&read("registry.txt")?);
        match answer(&request, &listing) {
            Ok(versions) => {
                let expected: serde_json::Value = serde_json::from_str(&with_digests(&read("expected.json")?))?;
                assert_eq!(versions, encode(&expected), "{context}");
            }
            Err(failure) => assert_eq!(failure.message, read("error.txt")?.trim_end(), "{context}"),
        }
        if let Ok(expected) = read("asked.txt") {
            let asked = listing.asked.lock().map(|asked| asked.clone()).map_err(|e| e.to_string())?;
            let expected: Vec<String> = expected
                .split_whitespace()
                .map(|name| name.strip_prefix('@').map_or_else(|| name.to_owned(), |label| digest(label).to_string()))
                .collect();
            assert_eq!(asked, expected, "{context}");
        }
        count += 1;
    }
    assert!(count > 20, "only {count} cases were found");
    Ok(())
}
