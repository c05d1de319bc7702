//! The pages name cases that exist, every parameter has some, every fault of the original is shown, and the page's task runs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::pages::{exists, page, quoted, repository, rows};
use crate::{cases, testdata};

/// The parameters that the code reads: names in quotes behind what reads them.
fn known() -> BTreeSet<String> {
    let code =
        |name: &str| fs::read_to_string(repository().join("crates/concourse/src/oci_build/params").join(name)).unwrap();
    let all = ["environment.rs", "additions.rs", "login.rs"].map(code).concat();
    let names = all
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    names.map(str::to_owned).collect()
}

/// `BUILD_ARG_<name>` is what the code calls `BUILD_ARG_`.
fn plain(name: &str) -> String {
    name.split('<').next().unwrap_or(name).to_owned()
}

#[test]
fn every_parameter_has_cases_and_every_case_that_is_named_exists() {
    let (page, cases) = (page("components/oci-build.md"), cases());
    let mut documented = BTreeSet::new();
    for row in rows(&page, "## Every parameter and its cases").iter().skip(1) {
        documented.extend(quoted(&row[0]).into_iter().map(plain));
        assert!(!quoted(&row[1]).is_empty(), "{row:?}");
        for case in quoted(&row[1]) {
            assert!(exists(case, &cases), "{case} of {}", row[0]);
        }
    }
    // What AWS's own programs read is told in one row.
    let known: BTreeSet<String> =
        known().into_iter().filter(|name| !["PASS", "AWS_DEFAULT_REGION"].contains(&&**name)).collect();
    assert!(known.len() > 30, "{known:?}");
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "without a row in the table: {missing:?}");
    let explained =
        ["## Parameters", "## Further parameters"].map(|heading| rows(&page, heading).concat().join(" ")).concat();
    let explained: BTreeSet<String> = quoted(&explained).into_iter().map(plain).collect();
    let missing: Vec<_> = documented.difference(&explained).collect();
    assert!(missing.is_empty(), "not explained: {missing:?}");
}

#[test]
fn every_fault_of_the_original_has_its_row_and_its_cases() {
    let (page, cases) = (page("differences.md"), cases());
    let rows = rows(&page, "## oci-build");
    for number in 1..=17 {
        let row = rows.iter().find(|row| row[0] == format!("T{number}"));
        assert!(!quoted(row.unwrap_or_else(|| panic!("no T{number}")).last().unwrap()).is_empty(), "T{number}");
    }
    for row in &rows {
        for case in quoted(row.last().unwrap()) {
            assert!(exists(case, &cases), "{case}");
        }
    }
}

#[test]
fn every_folder_of_cases_is_named_in_the_pages() {
    let pages = page("components/oci-build.md") + &page("differences.md");
    let groups: BTreeSet<String> = cases().iter().map(|case| case.rsplit_once('/').unwrap().0.to_owned()).collect();
    for group in &groups {
        assert!(pages.contains(&format!("`{group}/")), "{group} is in no page");
    }
    assert!(testdata().is_dir());
}

#[test]
fn the_task_of_the_page_runs() {
    let page = page("components/oci-build.md");
    let pipeline = page.split("```yaml\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    let world = tempfile::tempdir().unwrap();
    let source = world.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("Dockerfile"), "FROM scratch\nARG version\nLABEL version=$version\nCOPY motd /etc/\n")
        .unwrap();
    fs::write(source.join("motd"), "hello\n").unwrap();
    fs::write(world.path().join("pipeline.yml"), pipeline).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_skycap"));
    run.args(["run", "pipeline.yml", "build", "--state", "state", "--store", "store", "--input", "src=src"]);
    run.env_clear().env("HOME", world.path()).env("TMPDIR", world.path()).current_dir(world.path());
    let output = run.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("building image"), "{said}");
}
