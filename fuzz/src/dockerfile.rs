//! A Dockerfile: read, planned and checked. What is said about it is shown.
//!
//! - It is read the same twice; instructions stand below each other, and end before the next begins.
//! - An error and a finding name a line that there is, and show it.
//! - A trigger that was taken is taken again where a child runs it.
//! - Findings come by line; no image is fetched and nothing is run for them.

use std::path::Path;
use std::sync::OnceLock;

use skycap_build::dockerfile::{Dockerfile, Instruction, ParseError, Span, parse, parse_trigger};
use skycap_build::{Finding, Request, SandboxAccess, World, check, remote};
use skycap_image::{Artifact, Descriptor, Kind, Platform, Reference, Resolver, Silent, SourceError};
use skycap_store::Store;

/// Knows no image.
struct NoImages;

impl Resolver for NoImages {
    fn find(&self, _: &Reference) -> Result<Option<Descriptor>, SourceError> {
        Ok(None)
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        Err(SourceError::new(Kind::NotFound, format!("no image {reference}")))
    }
}

/// See the module.
pub fn dockerfile(input: &[u8]) {
    let lines = input.split_inclusive(|byte| *byte == b'\n').count().max(1);
    match parse(input, "Dockerfile") {
        Ok(read) => {
            assert_eq!(parse(input, "Dockerfile").as_ref(), Ok(&read));
            assert!(read.notes.lines.len() <= lines);
            in_order(&read, lines);
            triggers(&read);
            findings(input, lines);
        }
        Err(error) => shown(&error, lines),
    }
}

fn shown(error: &ParseError, lines: usize) {
    assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error:?}");
    assert!(error.render().starts_with(&format!("Dockerfile:{}:{}: {}", error.line, error.column, error.message)));
}

fn in_order(read: &Dockerfile, lines: usize) {
    let mut spans: Vec<Span> = read.global_args.iter().map(|args| args.span).collect();
    for stage in &read.stages {
        spans.push(stage.from.span);
        spans.extend(stage.instructions.iter().map(|instruction| instruction.span));
    }
    let mut free = 1;
    for span in spans {
        assert!(span.line >= free && span.end_line >= span.line && span.end_line <= lines, "{span:?}");
        free = span.end_line + 1;
    }
}

fn triggers(read: &Dockerfile) {
    if read.directives.escape != '\\' {
        return;
    }
    for instruction in read.stages.iter().flat_map(|stage| &stage.instructions) {
        if let Instruction::Onbuild(trigger) = &instruction.value {
            assert!(parse_trigger(trigger, "trigger").is_ok(), "{trigger:?}");
        }
    }
}

fn findings(input: &[u8], lines: usize) {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let place = std::env::temp_dir().join(format!("skycap-fuzz-{}", std::process::id()));
        Store::open(&place).expect("the directory for temporary files can be written to")
    });
    let mut request = Request::new(Path::new("/nowhere"), input);
    request.platforms = vec![Platform::new("linux", "amd64")];
    let refused = skycap_sandbox::Refused { attempts: Vec::new() };
    let sandbox = SandboxAccess::Refused(&refused);
    let world = World { resolver: &NoImages, remote: &remote::Offline, store, sandbox, progress: &Silent };
    match check(&request, &world) {
        Ok(findings) => findings.iter().fold(1, |least, finding| told(finding, least, lines)),
        Err(error) => error.line().unwrap_or(1).min(lines),
    };
}

fn told(finding: &Finding, least: usize, lines: usize) -> usize {
    assert!(finding.line >= least && finding.end_line <= lines.max(finding.line) && finding.column >= 1, "{finding:?}");
    assert!(finding.render().contains(&finding.url()));
    finding.line
}
