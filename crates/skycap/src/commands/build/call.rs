//! `--check` and `--call`: what can be said about a Dockerfile without building it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use skycap_build::dockerfile::{self, Dockerfile, Instruction, MountKind, Stage};
use skycap_build::{Finding, Request, World, check};

use super::source::Source;
use crate::args::Reporting;
use crate::commands::print;
use crate::failure::Failure;
use crate::report::columns;

/// What is asked, and whether a program reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

impl Call {
    /// `--check`, or `--call METHOD[,format=text|json]`.
    pub fn parse(reporting: &Reporting) -> Result<Self, Failure> {
        let text = reporting.call.as_deref().unwrap_or(if reporting.check { "check" } else { "build" });
        let (method, options) = text.split_once(',').unwrap_or((text, ""));
        let wrong = |what: &str| Failure::usage(format!("--call {text}: {what}"));
        let method = match method {
            "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            _ => {
                return Err(wrong("there is no such method").with_hint("methods are build, check, outline and targets"));
            }
        };
        let json = match options {
            "" | "format=text" => false,
            "format=json" => true,
            _ => return Err(wrong("the only option is format=text or format=json")),
        };
        Ok(Self { method, json })
    }

    /// Prints the answer; whether there was nothing to complain about.
    pub fn answer(self, source: &Source, request: &Request, world: &World<'_>) -> Result<bool, Failure> {
        if self.method == Method::Check {
            return self.findings(&check(request, world).map_err(|error| super::failed(&error, source))?);
        }
        let parsed = dockerfile::parse(&source.dockerfile, &source.name)
            .map_err(|error| super::failed(&error.into(), source))?;
        let comments = Comments::of(&source.dockerfile);
        if self.method == Method::Targets {
            self.targets(&parsed, &comments)?;
        } else {
            self.outline(&parsed, &comments, request)?;
        }
        Ok(true)
    }

    fn findings(self, findings: &[Finding]) -> Result<bool, Failure> {
        if self.json {
            let warnings: Vec<_> = findings.iter().map(finding).collect();
            print(&format!("{:#}\n", json!({ "warnings": warnings })))?;
        } else if findings.is_empty() {
            print("Check complete, no warnings found.\n")?;
        } else {
            let (count, have) = (findings.len(), if findings.len() == 1 { "warning has" } else { "warnings have" });
            let shown: Vec<String> =
                findings.iter().map(|finding| format!("WARNING: {}\n", finding.render())).collect();
            print(&format!("Check complete, {count} {have} been found!\n\n{}", shown.join("\n")))?;
        }
        Ok(findings.is_empty())
    }

    fn targets(self, parsed: &Dockerfile, comments: &Comments) -> Result<(), Failure> {
        let last = parsed.stages.len().saturating_sub(1);
        let stages = parsed.stages.iter().enumerate().map(|(number, stage)| {
            let name = stage.from.value.name.clone().unwrap_or_default();
            let description = comments.of_name(stage.from.span.line, &name);
            (name, description, stage.from.value.image.clone(), number == last)
        });
        if self.json {
            let targets: Vec<_> = stages
                .map(|(name, description, base, default)| json!({"name": name, "description": description, "base": base, "default": default}))
                .collect();
            return print(&format!("{:#}\n", json!({ "targets": targets })));
        }
        let rows =
            stages.filter(|(name, .., is_last)| !name.is_empty() || *is_last).map(|(name, description, _, is_last)| {
                let shown = match (name.is_empty(), is_last) {
                    (true, _) => "(default)".to_owned(),
                    (false, true) => format!("{name} (default)"),
                    (false, false) => name,
                };
                vec![shown, description]
            });
        print(&columns(std::iter::once(vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]).chain(rows)))
    }

    fn outline(self, parsed: &Dockerfile, comments: &Comments, request: &Request) -> Result<(), Failure> {
        let wanted = request.targets.first().cloned().flatten();
        let number = target(parsed, wanted.as_deref())?;
        let outline = Outline::of(parsed, number, comments, &request.build_args);
        let stage = parsed.stages.get(number);
        let name = stage.and_then(|stage| stage.from.value.name.clone());
        let description =
            stage.map(|stage| comments.of_name(stage.from.span.line, name.as_deref().unwrap_or_default()));
        let (name, description) = (name.unwrap_or_else(|| "default".to_owned()), description.unwrap_or_default());
        if self.json {
            let args: Vec<_> = outline
                .args
                .iter()
                .map(|(name, (value, description))| json!({"name": name, "value": value, "description": description}))
                .collect();
            let required = |list: &BTreeMap<String, bool>| {
                list.iter().map(|(name, required)| json!({"name": name, "required": required})).collect::<Vec<_>>()
            };
            let document = json!({"name": name, "description": description, "args": args, "secrets": required(&outline.secrets), "ssh": required(&outline.ssh), "cache": outline.caches});
            return print(&format!("{document:#}\n"));
        }
        print(&format!("TARGET:       {name}\n"))?;
        if !description.is_empty() {
            print(&format!("DESCRIPTION:  {description}\n"))?;
        }
        let args = outline
            .args
            .iter()
            .map(|(name, (value, description))| [name.clone(), value.clone(), description.clone()].to_vec());
        table(["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect())?;
        let required = |list: &BTreeMap<String, bool>| {
            list.iter()
                .map(|(name, required)| vec![name.clone(), if *required { "true".to_owned() } else { String::new() }])
                .collect()
        };
        table(["SECRET", "REQUIRED"], required(&outline.secrets))?;
        table(["SSH", "REQUIRED"], required(&outline.ssh))?;
        table(["CACHE"], outline.caches.iter().map(|id| vec![id.clone()]).collect())
    }
}

fn table<const N: usize>(head: [&str; N], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    print(&format!("\n{}", columns(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows))))
}

fn finding(finding: &Finding) -> serde_json::Value {
    let range =
        json!({"start": {"line": finding.line, "character": finding.column}, "end": {"line": finding.end_line}});
    json!({
        "ruleName": finding.rule.to_string(),
        "url": finding.url(),
        "detail": finding.message,
        "location": {"file": finding.file, "ranges": [range]},
    })
}

/// A stage by name, whatever its case, or by number.
fn target(parsed: &Dockerfile, wanted: Option<&str>) -> Result<usize, Failure> {
    let Some(wanted) = wanted else { return Ok(parsed.stages.len().saturating_sub(1)) };
    let named = |stage: &Stage| stage.from.value.name.as_deref() == Some(wanted.to_lowercase().as_str());
    let by_name = parsed.stages.iter().rposition(named);
    let by_number = || wanted.parse().ok().filter(|number| *number < parsed.stages.len());
    by_name.or_else(by_number).ok_or_else(|| {
        Failure::new(format!("--target {wanted}: there is no such stage")).with_hint("`--call targets` lists them")
    })
}

/// What a target takes.
#[derive(Default)]
struct Outline {
    /// Values and descriptions by name.
    args: BTreeMap<String, (String, String)>,
    /// Whether they are required, by id.
    secrets: BTreeMap<String, bool>,
    ssh: BTreeMap<String, bool>,
    caches: BTreeSet<String>,
}

impl Outline {
    fn of(parsed: &Dockerfile, number: usize, comments: &Comments, given: &BTreeMap<String, String>) -> Self {
        let mut outline = Self::default();
        let value = |arg: &dockerfile::Arg| given.get(&arg.name).or(arg.default.as_ref()).cloned().unwrap_or_default();
        for args in &parsed.global_args {
            for arg in &args.value {
                outline.args.insert(arg.name.clone(), (value(arg), comments.of_name(args.span.line, &arg.name)));
            }
        }
        let mut open = vec![number];
        let mut seen = BTreeSet::new();
        while let Some(number) = open.pop() {
            let Some(stage) = parsed.stages.get(number).filter(|_| seen.insert(number)) else { continue };
            open.extend(earlier(parsed, number, &stage.from.value.image));
            for instruction in &stage.instructions {
                match &instruction.value {
                    Instruction::Arg(args) => {
                        for arg in args {
                            let known = outline.args.remove(&arg.name).filter(|_| arg.default.is_none());
                            let new = (value(arg), comments.of_name(instruction.span.line, &arg.name));
                            outline.args.insert(arg.name.clone(), known.unwrap_or(new));
                        }
                    }
                    Instruction::Copy(copy) => {
                        open.extend(copy.from.iter().filter_map(|from| earlier(parsed, number, &from.value)));
                    }
                    Instruction::Run(run) => {
                        for mount in &run.mounts {
                            open.extend(outline.mount(&mount.value).and_then(|from| earlier(parsed, number, &from)));
                        }
                    }
                    _ => {}
                }
            }
        }
        outline
    }

    /// Notes a mount; the stage that it is from, if it is from one. A mount whose values hold variables is not looked at.
    fn mount(&mut self, flag: &dockerfile::MountFlag) -> Option<String> {
        let mount = flag.resolve(&mut |text| Ok(text.to_owned())).ok()?;
        let base = |target: &String| target.rsplit('/').next().unwrap_or_default().to_owned();
        match mount.kind {
            MountKind::Secret => {
                let id = mount.id.or(mount.source).or(mount.target.as_ref().map(base)).or(mount.env)?;
                *self.secrets.entry(id).or_default() |= mount.required;
            }
            MountKind::Ssh => {
                *self.ssh.entry(mount.id.unwrap_or_else(|| "default".to_owned())).or_default() |= mount.required;
            }
            MountKind::Cache => {
                self.caches.extend(mount.id.or(mount.target));
            }
            MountKind::Bind | MountKind::Tmpfs => {}
        }
        mount.from
    }
}

/// A stage before this one that a name or number means.
fn earlier(parsed: &Dockerfile, before: usize, name: &str) -> Option<usize> {
    let stages = parsed.stages.get(..before)?;
    let named = stages.iter().rposition(|stage| stage.from.value.name.as_deref() == Some(name.to_lowercase().as_str()));
    named.or_else(|| name.parse().ok().filter(|number| *number < before))
}

/// The lines of a Dockerfile, for the comments above instructions.
struct Comments(Vec<String>);

impl Comments {
    fn of(text: &[u8]) -> Self {
        Self(String::from_utf8_lossy(text).lines().map(|line| line.trim().to_owned()).collect())
    }

    /// What the comment above a line says about a name: `# NAME what it is`.
    fn of_name(&self, line: usize, name: &str) -> String {
        let above = self.0.get(..line.saturating_sub(1)).unwrap_or_default();
        let comment = above.iter().rev().map_while(|line| line.strip_prefix('#'));
        let about = |line: &str| Some(line.trim().strip_prefix(name)?.strip_prefix(' ')?.trim().to_owned());
        if name.is_empty() { String::new() } else { comment.into_iter().find_map(about).unwrap_or_default() }
    }
}
