//! The checks, case by case: `testdata/lint/<rule>-<what>/` holds a `Dockerfile` and `expected.txt`, what is shown about it
//! (nothing, if the rule should be silent). A `.dockerignore` and an `image.txt`, the listing of the image `base`, may be
//! there, too, and `args`: `NAME=VALUE` for each build argument, or `--target NAME`.
//!
//! Spec: every row of "Lint rules", with its message, and the grammar of `check`.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use skycap_build::ignore::Ignore;
use skycap_build::{BuildError, Finding, Request, Rule, SandboxAccess, World, build, check, remote};
use skycap_image::{Artifact, Descriptor, Event, Kind, Memory, Platform, Progress, Reference, Resolver, SourceError};
use skycap_store::Store;
use skycap_testkit::listing::{self, Style};

/// Knows the image `base`.
struct Images(Artifact);

impl Resolver for Images {
    fn find(&self, _: &Reference) -> Result<Option<Descriptor>, SourceError> {
        Ok(None)
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        match reference.repository.path() {
            "library/base" => Ok(self.0.clone()),
            path => Err(SourceError::new(Kind::NotFound, format!("no image {path} in this test"))),
        }
    }
}

/// Keeps warnings.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// A request for a case in a world of its own.
struct Case {
    request: Request,
    images: Images,
    directory: tempfile::TempDir,
    log: Log,
}

impl Case {
    fn new(dockerfile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        fs::create_dir(&context).unwrap();
        let mut request = Request::new(context, dockerfile);
        request.platforms = vec![Platform::new("linux", "amd64")];
        let image = "platform linux/amd64\nlayer\n  file a 0644 0:0 \"a\"\n";
        Self { request, images: Self::images(image), directory, log: Log::default() }
    }

    fn open(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let mut case = Self::new(&read("Dockerfile").unwrap());
        case.request.ignore = Ignore::parse(read(".dockerignore").unwrap_or_default().as_bytes()).unwrap();
        if let Some(image) = read("image.txt") {
            case.images = Self::images(&image);
        }
        for line in read("args").unwrap_or_default().lines() {
            match line.strip_prefix("--target ") {
                Some(target) => case.request.targets = vec![Some(target.to_owned())],
                None => case.argument(line),
            }
        }
        case
    }

    fn images(text: &str) -> Images {
        Images(listing::artifact(&Memory::default(), text, Style::default()))
    }

    fn argument(&mut self, line: &str) {
        let (name, value) = line.split_once('=').unwrap();
        self.request.build_args.insert(name.to_owned(), value.to_owned());
    }

    fn within<T>(&self, act: impl FnOnce(&World<'_>) -> T) -> T {
        let store = Store::open(&self.directory.path().join("store")).unwrap();
        let refused = skycap_sandbox::Refused { attempts: Vec::new() };
        let sandbox = SandboxAccess::Refused(&refused);
        act(&World { resolver: &self.images, remote: &remote::Offline, store: &store, sandbox, progress: &self.log })
    }

    fn check(&self) -> Result<Vec<Finding>, BuildError> {
        self.within(|world| check(&self.request, world))
    }

    fn build(&self) -> Result<(), BuildError> {
        self.within(|world| build(&self.request, world).map(drop))
    }

    fn warnings(&self) -> String {
        self.log.0.lock().unwrap().join("\n")
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lint");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_is_told_what_it_should_be() {
    let (mut wrong, mut fired) = (Vec::new(), BTreeSet::new());
    for folder in cases() {
        let actual = match Case::open(&folder).check() {
            Ok(findings) => {
                fired.extend(findings.iter().map(|finding| finding.rule));
                assert!(findings.is_sorted_by_key(|finding| finding.line));
                findings.iter().map(Finding::render).collect()
            }
            Err(error) => format!("{error}\n"),
        };
        let expected = fs::read_to_string(folder.join("expected.txt")).unwrap_or_default();
        if actual != expected {
            wrong.push(format!("{} should be\n{expected}but is\n{actual}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let silent: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !fired.contains(rule)).collect();
    assert!(silent.is_empty(), "no case lets these speak: {silent:?}");
    assert_eq!(Rule::ALL.len(), 22);
}

#[test]
fn a_build_lists_what_its_checks_found() {
    let case = Case::new("FROM scratch AS Odd\nMAINTAINER me\nENV a b\n");
    case.build().unwrap();
    let expected = "3 warnings found:\n \
        - StageNameCasing: Stage name 'Odd' should be lowercase (line 1)\n \
        - MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)\n \
        - LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 3)";
    assert_eq!(case.warnings(), expected);
}

#[test]
fn findings_fail_a_build_only_if_the_file_wants_it() {
    let dockerfile = "FROM scratch\nMAINTAINER me\nCMD a\n";
    for (line, argument, fails) in [
        ("", "", false),
        ("# check=error=true\n", "", true),
        ("# check=error=true;skip=JSONArgsRecommended\n", "", true),
        ("# check=skip=all;error=true\n", "", false),
        ("# check=skip=MaintainerDeprecated,JSONArgsRecommended;error=true\n", "", false),
        ("# check=error=true\n", "BUILDKIT_DOCKERFILE_CHECK=skip=all", false),
        ("# check=skip=all\n", "BUILDKIT_DOCKERFILE_CHECK=error=true", true),
    ] {
        let mut case = Case::new(&format!("{line}{dockerfile}"));
        if !argument.is_empty() {
            case.argument(argument);
        }
        let built = case.build();
        assert_eq!(built.is_err(), fails, "{line}{argument}");
        if let Err(error) = built {
            assert!(matches!(error, BuildError::Lint { .. }), "{error}");
            assert!(case.warnings().contains("MaintainerDeprecated"), "the list comes before the error");
        }
    }
    let error = Case::new(&format!("# check=error=true\n{dockerfile}")).build().unwrap_err().to_string();
    assert_eq!(error, "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated");
}

#[test]
fn options_that_do_not_parse_are_an_error() {
    let mut case = Case::new("FROM scratch\n");
    case.argument("BUILDKIT_DOCKERFILE_CHECK=loud=true");
    let error = case.check().unwrap_err();
    assert_eq!(error.to_string(), "build argument BUILDKIT_DOCKERFILE_CHECK: invalid check option \"loud\"");
    assert!(error.hint().unwrap().contains("skip="));
}

#[test]
fn what_two_platforms_find_alike_is_told_once() {
    let mut case = Case::new("FROM scratch\nWORKDIR a\n");
    case.request.platforms.push(Platform::new("linux", "arm64"));
    assert_eq!(case.check().unwrap().len(), 1);
}

#[test]
fn what_was_found_before_an_error_is_told() {
    let case = Case::new("FROM scratch\nMAINTAINER me\nSTOPSIGNAL none\n");
    assert_eq!(case.check().unwrap_err().to_string(), "Dockerfile:3: invalid signal: none");
    assert!(case.warnings().contains("MaintainerDeprecated"));
}

#[test]
fn a_rule_says_where_it_is_explained() {
    let url = Rule::JSONArgsRecommended.url();
    assert_eq!(url, "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/");
    let experimental: Vec<&str> =
        Rule::ALL.iter().filter(|rule| rule.is_experimental()).map(|rule| rule.name()).collect();
    assert_eq!(experimental, ["InvalidDefinitionDescription"]);
}
