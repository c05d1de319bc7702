//! Folder cases: `input.yml`, perhaps `vars.yml`, and `expected`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use skycap_pipeline::vars::Missing;
use skycap_pipeline::{Vars, config, load, plan};

fn cases(kind: &str, run: impl Fn(&Path) -> String) {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(kind);
    let mut dirs: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    assert!(!dirs.is_empty(), "no cases in {}", root.display());
    let mut wrong = Vec::new();
    for dir in dirs {
        let found = run(&dir);
        let expected = fs::read_to_string(dir.join("expected")).unwrap_or_default();
        if found.trim_end() != expected.trim_end() {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- found\n{found}", dir.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn vars(dir: &Path) -> Vars {
    let mut vars = Vars::default();
    if let Ok(bytes) = fs::read(dir.join("vars.yml")) {
        vars.add_file("vars.yml", &bytes).unwrap();
    }
    vars
}

fn input(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("input.yml")).unwrap()
}

fn explain(error: &skycap_pipeline::ConfigError) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}")
}

#[test]
fn yaml_is_read_as_concourse_reads_it() {
    cases("yaml", |dir| match config::read(&input(dir), "input.yml", &vars(dir), Missing::Keep) {
        Ok(node) => serde_json::to_string_pretty(&node.to_json()).unwrap(),
        Err(error) => explain(&error),
    });
}

#[test]
fn pipelines_are_refused_with_concourses_words_and_a_line() {
    cases("load", |dir| match load(&input(dir), "input.yml", &vars(dir)) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => explain(&error),
    });
}

#[test]
fn validation_says_what_concourse_says() {
    cases("validate", |dir| {
        let config = load(&input(dir), "input.yml", &vars(dir)).unwrap_or_else(|error| panic!("{}", explain(&error)));
        let validation = config.validate();
        let mut text = validation.to_string();
        for warning in &validation.warnings {
            let line = warning.at.line.to_string();
            text.extend(["warning, line ", &line, ": ", &warning.message, "\n"]);
        }
        if text.is_empty() { "looks good".to_owned() } else { text }
    });
}

#[test]
fn plans_print() {
    cases("plan", |dir| {
        let config = load(&input(dir), "input.yml", &vars(dir)).unwrap_or_else(|error| panic!("{}", explain(&error)));
        assert!(config.validate().is_sound(), "{}", config.validate());
        let plans: Vec<String> =
            config.jobs.iter().map(|job| format!("{}:\n{}", job.name, plan(&config, &job.name).unwrap())).collect();
        plans.join("\n")
    });
}

#[test]
fn hostile_documents_are_refused_in_time() {
    let laughs: Vec<String> =
        (1..30).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let laughs = laughs.concat();
    let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let blocks: Vec<String> = (0..500).map(|n| " ".repeat(n) + "a:").collect();
    let blocks = blocks.join("\n");
    for (text, expected) in [
        (format!("a0: &a0 [x]\n{laughs}"), "excessive aliasing"),
        (deep, ""),
        (blocks, "nested deeper"),
        ("a: &a [*a]".to_owned(), "contains itself"),
        ("a: *nobody".to_owned(), ""),
        ("\u{feff}a: {b: 1".to_owned(), ""),
        ("%YAML 9.9\n---\na".to_owned(), ""),
    ] {
        let error = load(text.as_bytes(), "p.yml", &Vars::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(load(b"\xff\xfe", "p.yml", &Vars::default()).is_err());
}
