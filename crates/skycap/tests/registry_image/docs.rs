//! The pages name cases that exist, every field has some, and the page's pipeline runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::pages::{exists, page, quoted, repository, rows};
use crate::standin::StandIn;
use crate::{cases, names, state, testdata};

/// The fields of a struct, from what its reader matches on: `"name" =>`.
fn fields(source: &str, reader: &str) -> BTreeSet<String> {
    let (_, body) = source.split_once(reader).unwrap_or_else(|| panic!("no {reader}"));
    let body = body.split_once("value.unknown()").map_or(body, |(body, _)| body);
    let arms = body.lines().map(str::trim).map(|line| line.trim_start_matches("| "));
    let named = arms.filter_map(|line| line.strip_prefix('"')?.split_once('"'));
    named
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with(" =>") || rest.starts_with(" |"))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn every_field_has_cases_and_every_case_that_is_named_exists() {
    let (page, cases) = (page("components/registry-image.md"), cases());
    let mut documented = BTreeSet::new();
    for row in rows(&page, "## Every field and its cases").iter().skip(1) {
        documented.extend(quoted(&row[0]).iter().map(|name| (*name).to_owned()));
        assert!(!quoted(&row[1]).is_empty(), "{row:?}");
        for case in quoted(&row[1]) {
            assert!(exists(case, &cases), "{case} of {}", row[0]);
        }
    }
    let code = |name: &str| {
        let path = repository().join("crates/concourse/src/registry_image").join(name);
        fs::read_to_string(path).unwrap()
    };
    let (source, request, trust) = (code("source.rs"), code("request.rs"), code("trust.rs"));
    let identity = code("identity.rs");
    let mut known = BTreeSet::new();
    for (prefix, code, reader) in [
        ("source.", &source, "fn field(&mut self"),
        ("source.", &identity, "fn field(&mut self"),
        ("source.platform.", &source, "impl PlatformSource"),
        ("source.registry_mirror.", &source, "fn decode_mirror"),
        ("source.content_trust.", &trust, "impl ContentTrustSource"),
        ("source.cosign.", &trust, "impl CosignSource"),
        ("version.", &request, "impl Version"),
    ] {
        known.extend(fields(code, reader).into_iter().map(|name| format!("{prefix}{name}")));
    }
    let params = request.split("resource.GetParams").nth(1).unwrap();
    known.extend(fields(params, "").into_iter().map(|name| format!("params.{name}")));
    let params = request.split("resource.PutParams").nth(1).unwrap();
    known.extend(fields(params, "").into_iter().map(|name| format!("params.{name}")));
    assert!(known.len() > 50, "{known:?}");
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "without a row in the table: {missing:?}");
    let written = rows(&page, "## source").concat().join(" ")
        + &rows(&page, "## get").concat().join(" ")
        + &rows(&page, "## put").concat().join(" ");
    for name in known.iter().filter_map(|name| name.strip_prefix("source.").or_else(|| name.strip_prefix("params."))) {
        assert!(name.contains('.') || quoted(&written).contains(&name), "{name} is not explained");
    }
}

#[test]
fn every_fault_of_the_original_has_its_row_and_its_cases() {
    let (page, cases) = (page("differences.md"), cases());
    let rows = rows(&page, "## registry-image");
    let numbered: BTreeMap<&str, &Vec<String>> = rows.iter().map(|row| (row[0].as_str(), row)).collect();
    for number in 1..=19 {
        let row = numbered.get(format!("F{number}").as_str()).unwrap_or_else(|| panic!("no F{number}"));
        assert!(!quoted(&row[3]).is_empty(), "{row:?}");
    }
    for row in &rows {
        for case in quoted(row.last().unwrap()) {
            assert!(exists(case, &cases), "{case}");
        }
    }
}

#[test]
fn every_folder_of_cases_is_named_in_the_pages() {
    let pages = page("components/registry-image.md") + &page("differences.md");
    let groups: BTreeSet<String> = cases().iter().map(|case| case.rsplit_once('/').unwrap().0.to_owned()).collect();
    for group in groups.iter().filter(|group| *group != "check/explain") {
        assert!(pages.contains(&format!("`{group}/")), "{group} is in no page");
    }
    assert!(testdata().join("check/explain").is_dir());
}

#[test]
fn the_pipeline_of_the_page_runs() {
    let page = page("components/registry-image.md");
    let pipeline = page.split("```yaml\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    let registries = "
server hub
repository library/busybox
image base 1.36.1 1.36
  layer
    file bin/busybox 0755 0:0 \"x\"
tags old 1.35.0
server ghcr
auth basic ci hunter2-ghcr
";
    let (world, mut known) = (tempfile::tempdir().unwrap(), names::Names::default());
    let mut servers: BTreeMap<String, StandIn> =
        state::parse(registries, &mut known).into_iter().map(|(name, server)| (name, StandIn::start(server))).collect();
    let (hub, ghcr) = (servers.remove("hub").unwrap(), servers.remove("ghcr").unwrap());
    fs::write(world.path().join("pipeline.yml"), pipeline).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_skycap"));
    run.args(["run", "pipeline.yml", "copy", "-v", "user=ci", "-v", "password=hunter2-ghcr", "--state", "state"]);
    run.args(["--store", "store", "--host", &format!("docker.io=http://{}", hub.address())]);
    run.args(["--host", &format!("ghcr.io=http://{}", ghcr.address())]);
    run.env_clear().env("TEST", "true").env("HOME", world.path()).current_dir(world.path());
    let output = run.output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let pushed = known.hide(&ghcr.changes());
    for tag in ["1.36.1", "1.36", "1", "latest"] {
        assert!(pushed.contains(&format!("example/busybox:{tag} = {{digest:base}}")), "{pushed}");
    }
}
