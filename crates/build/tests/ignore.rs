//! Ignore files, case by case: `testdata/ignore/<case>/` holds `ignore`, `why` it is there, and either `expected.txt`, which
//! paths are out and which are in, or `error.txt`.
//!
//! Spec: every sentence of ".dockerignore" about patterns; what `moby/patternmatcher` says of the same.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;

use skycap_build::ignore::{Ignore, Seen};

#[test]
fn every_case_leaves_out_what_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ignore");
    let (mut count, mut wrong) = (0, Vec::new());
    for case in fs::read_dir(root).unwrap() {
        let case = case.unwrap().path();
        count += 1;
        assert!(fs::read_to_string(case.join("why")).unwrap().len() > 5);
        let (file, actual) = match Ignore::parse(&fs::read(case.join("ignore")).unwrap()) {
            Err(error) => ("error.txt", format!("{error}\n")),
            Ok(ignore) => {
                let expected = fs::read_to_string(case.join("expected.txt")).unwrap_or_default();
                let line = |line: &str| {
                    let path = line.split_once(' ').map_or("", |(_, path)| path);
                    let place = if ignore.matches(path.as_bytes()) { "out" } else { "in" };
                    walk(&ignore, path);
                    format!("{place} {path}\n")
                };
                ("expected.txt", expected.lines().map(line).collect())
            }
        };
        let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
        if actual != expected {
            wrong.push(format!("{} should be\n{expected}but is\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "only {count} cases were found");
}

/// A walk that leaves directories out as a whole comes to the same.
fn walk(ignore: &Ignore, path: &str) {
    let mut seen = Seen::default();
    for (at, _) in path.match_indices('/') {
        let above = &path.as_bytes()[..at];
        let (ignored, next) = ignore.descend(&seen, above);
        seen = next;
        if ignored && !ignore.may_reinclude_below(above) {
            assert!(ignore.matches(path.as_bytes()), "{path} is hidden");
        }
    }
}
