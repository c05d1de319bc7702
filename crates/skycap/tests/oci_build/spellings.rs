//! How parameters may be spelt: four ways, tried in byte order, for those that the original gave no name; one for the rest.

use std::process::Command;

use crate::case::Installed;

/// A parameter, a value that is an error, and what the error begins with.
const FOUR: [(&str, &str, &str); 13] = [
    ("BUILDKIT_SECRETS", "x", "BUILDKIT_SECRETS cannot hold secrets"),
    ("BUILDKIT_SSH", "x=/nowhere", "BUILDKIT_SSH: "),
    ("BUILD_ARGS", "x", "build argument \"x\" is not NAME=VALUE"),
    ("BUILD_ARGS_FILE", "nowhere", "config: read build args file: "),
    ("DEBUG", "maybe", "failed to parse config from env: "),
    ("IMAGE_ARGS", "x", "image argument \"x\" is not NAME=VALUE"),
    ("IMAGE_PLATFORM", "x", "IMAGE_PLATFORM: "),
    ("LABELS", "x", "label \"x\" is not NAME=VALUE"),
    ("LABELS_FILE", "nowhere", "config: read labels file: "),
    ("OUTPUT_OCI", "maybe", "failed to parse config from env: "),
    ("TARGET", "nowhere", "target stage "),
    ("TARGET_FILE", "nowhere", "config: read target file: "),
    ("UNPACK_ROOTFS", "maybe", "failed to parse config from env: "),
];

/// The same for those with one spelling.
const ONE: [(&str, &str, &str); 18] = [
    ("ADDITIONAL_TARGETS", "no/where", "ADDITIONAL_TARGETS: "),
    ("ATTEST_PROVENANCE", "maybe", "ATTEST_PROVENANCE: "),
    ("ATTEST_SBOM", "maybe", "ATTEST_SBOM: "),
    ("BUILDKIT_ADD_HOSTS", "x", "BUILDKIT_ADD_HOSTS: "),
    ("BUILDKIT_EXTRA_CONFIG", "x", "generate config: Extra buildkit config must be valid TOML"),
    ("BUILDKIT_SECRET_x", "nowhere", "BUILDKIT_SECRET_x: "),
    ("BUILDKIT_SSHTEXT_x", "x", "BUILDKIT_SSHTEXT_x: "),
    ("BUILD_CONTEXT_x", "nowhere", "BUILD_CONTEXT_x: "),
    ("CACHE_FROM", "type=tape", "CACHE_FROM: "),
    ("CACHE_TO", "type=tape", "CACHE_TO: "),
    ("CONTEXT", "nowhere", "the build context "),
    ("DOCKERFILE", "nowhere", "cannot read "),
    ("IMAGE_ARG_x", "nowhere", "IMAGE_ARG_x: "),
    ("LOGIN", "pass", "LOGIN=PASS: "),
    ("OUTPUT_COMPRESSION", "x", "OUTPUT_COMPRESSION: "),
    ("REGISTRY_CA_CERTS", "nowhere", "REGISTRY_CA_CERTS: "),
    ("REGISTRY_MIRRORS", "https://x", "REGISTRY_MIRRORS: "),
    ("SOURCE_DATE_EPOCH", "x", "SOURCE_DATE_EPOCH must be "),
];

/// What goes wrong with these parameters, if anything does.
fn error(installed: &Installed, params: &[(&str, &str)]) -> Option<String> {
    let world = tempfile::tempdir().unwrap();
    std::fs::write(world.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let mut command = Command::new(installed.program("build"));
    command.env_clear().env("TMPDIR", world.path()).envs(params.iter().copied()).current_dir(world.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let error = said.lines().rev().find_map(|line| line.strip_prefix("error: "));
    assert_eq!(output.status.code(), Some(i32::from(error.is_some())), "{params:?}: {said}");
    error.map(str::to_owned)
}

fn spellings(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut all = vec![name.replace('_', ""), name.to_owned(), lower.clone(), lower.replace('_', "")];
    all.sort();
    all.dedup();
    all
}

#[test]
fn parameters_without_a_name_have_four_spellings_and_the_first_that_says_something_wins() {
    let installed = Installed::new();
    for (name, value, expected) in FOUR {
        let spellings = spellings(name);
        for spelling in &spellings {
            let error = error(&installed, &[(spelling, value)]).unwrap_or_default();
            assert!(error.starts_with(expected), "{spelling}: {error}");
        }
        let (first, last) = (spellings.first().unwrap(), spellings.last().unwrap());
        let with_empty = error(&installed, &[(first, ""), (last, value)]).unwrap_or_default();
        assert!(with_empty.starts_with(expected), "{name}: {with_empty}");
        // One that is sound hides a later one that is not.
        let sound = match name {
            "DEBUG" | "OUTPUT_OCI" | "UNPACK_ROOTFS" => "false",
            "TARGET" => "0",
            _ => continue,
        };
        assert_eq!(error(&installed, &[(first, sound), (last, value)]), None, "{name}");
    }
}

#[test]
fn every_other_parameter_has_one_spelling() {
    let installed = Installed::new();
    for (name, value, expected) in ONE {
        let said = error(&installed, &[(name, value)]).unwrap_or_default();
        assert!(said.starts_with(expected), "{name}: {said}");
        for other in spellings(name).iter().filter(|other| *other != name) {
            assert_eq!(error(&installed, &[(other, value)]), None, "{other}");
        }
        assert_eq!(error(&installed, &[(name, "")]).filter(|_| !name.contains("_x")), None, "{name}");
    }
}

#[test]
fn booleans_are_those_of_go() {
    let installed = Installed::new();
    for text in ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(error(&installed, &[("UNPACK_ROOTFS", text)]), None, "{text}");
    }
    for text in ["yes", "on", "tRUE", "2", " true"] {
        let expected = format!(
            "failed to parse config from env: envconfig: unable to parse value {text:?} for possible keys [UNPACKROOTFS \
             UNPACK_ROOTFS unpack_rootfs unpackrootfs]. err=strconv.ParseBool: parsing {text:?}: invalid syntax"
        );
        assert_eq!(error(&installed, &[("UNPACK_ROOTFS", text)]), Some(expected));
    }
}
