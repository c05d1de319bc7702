//! The Dockerfile language, case by case: `testdata/language/<case>/` holds a `Dockerfile` and either `expected.json`,
//! what it says, or `error.txt`, how it is refused. Its `why` names the rows of `testdata/language-rows.txt` that it shows.
#![allow(clippy::unwrap_used)] // a test may

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use skycap_build::dockerfile::{
    Add, Arg, Command, Copy, Dockerfile, Document, Healthcheck, Instruction, Mount, Network, Run, Script, Security,
    Spanned, expand, parse, parse_trigger,
};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/language");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_case_reads_as_expected() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases were found", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let dockerfile = fs::read(case.join("Dockerfile")).unwrap();
        let (file, actual) = match parse(&dockerfile, "Dockerfile") {
            Ok(dockerfile) => ("expected.json", format!("{:#}\n", dump(&dockerfile))),
            Err(error) => ("error.txt", format!("{error}\n\n{}", error.render())),
        };
        let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
        if actual != expected {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            wrong.push(format!("{name}/{file} should be\n{expected}but is\n{actual}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_language_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = fs::read_to_string(root.join("testdata/language-rows.txt")).unwrap();
    let rows: Vec<Vec<&str>> =
        rows.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(" | ").collect()).collect();
    let mut shown = BTreeSet::new();
    for case in cases() {
        let why = fs::read_to_string(case.join("why")).unwrap_or_default();
        let named = why.lines().next().and_then(|line| line.strip_prefix("rows: ")).unwrap_or_default();
        assert!(!named.is_empty(), "{} does not say why it is there", case.display());
        for id in named.split_whitespace() {
            assert!(rows.iter().any(|row| row[0] == id), "{}: no row {id}", case.display());
            shown.insert(id.to_owned());
        }
    }
    for row in &rows {
        if let Some((file, test)) = row.get(2).and_then(|place| place.split_once(": ")) {
            let source = fs::read_to_string(root.join("../..").join(file)).unwrap();
            assert!(source.contains(&format!("fn {test}(")), "{}: no test {test} in {file}", row[0]);
            shown.insert(row[0].to_owned());
        }
    }
    let missing: Vec<&str> = rows.iter().map(|row| row[0]).filter(|id| !shown.contains(*id)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

fn dump(dockerfile: &Dockerfile) -> Value {
    let directives = &dockerfile.directives;
    let mut out = Map::new();
    if directives.escape != '\\' {
        out.insert("escape".to_owned(), json!(directives.escape));
    }
    put(&mut out, "syntax", directives.syntax.as_ref().map(|syntax| syntax.value.clone()));
    put(&mut out, "check", directives.check.as_ref().map(|check| check.value.clone()));
    let global: Vec<Value> = dockerfile.global_args.iter().flat_map(|args| &args.value).map(arg).collect();
    put(&mut out, "global_args", Some(global).filter(|args| !args.is_empty()));
    let stages: Vec<Value> = dockerfile
        .stages
        .iter()
        .map(|stage| {
            let from = &stage.from.value;
            let mut out = Map::new();
            put(&mut out, "from", Some(from.image.clone()));
            put(&mut out, "at", Some(lines(&stage.from)));
            put(&mut out, "platform", flag(from.platform.as_ref()));
            put(&mut out, "name", from.name.clone());
            out.insert("instructions".to_owned(), stage.instructions.iter().map(instruction).collect());
            Value::Object(out)
        })
        .collect();
    out.insert("stages".to_owned(), Value::Array(stages));
    Value::Object(out)
}

fn put(out: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        out.insert(key.to_owned(), value.into());
    }
}

/// `12`, `12-14`, or with the column if that is not 1.
fn lines<T>(spanned: &Spanned<T>) -> String {
    let span = spanned.span;
    let column = if span.column == 1 { String::new() } else { format!(":{}", span.column) };
    let end = if span.end_line == span.line { String::new() } else { format!("-{}", span.end_line) };
    format!("{}{column}{end}", span.line)
}

fn flag(flag: Option<&Spanned<String>>) -> Option<String> {
    flag.map(|flag| format!("{} @{}", flag.value, lines(flag)))
}

fn switch(flag: Option<&Spanned<bool>>) -> Option<bool> {
    flag.map(|flag| flag.value)
}

fn instruction(instruction: &Spanned<Instruction>) -> Value {
    let mut out = Map::new();
    out.insert("at".to_owned(), json!(lines(instruction)));
    out.insert("text".to_owned(), json!(instruction.text));
    let value = match &instruction.value {
        Instruction::Add(value) => add(value),
        Instruction::Copy(value) => copy(value),
        Instruction::Run(value) => run(value),
        Instruction::Arg(args) => args.iter().map(arg).collect(),
        Instruction::Cmd(value) | Instruction::Entrypoint(value) => command(value),
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            let mut list: Vec<Value> = pairs.pairs.iter().map(|(key, value)| json!([key, value])).collect();
            if pairs.legacy {
                list.push(json!("legacy"));
            }
            Value::Array(list)
        }
        Instruction::Expose(words) | Instruction::Shell(words) | Instruction::Volume(words) => json!(words),
        Instruction::Healthcheck(Healthcheck::None) => json!("NONE"),
        Instruction::Healthcheck(Healthcheck::Check {
            command: test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }) => json!([command(test), interval, timeout, start_period, start_interval, retries]),
        Instruction::Maintainer(text)
        | Instruction::StopSignal(text)
        | Instruction::User(text)
        | Instruction::Workdir(text) => json!(text),
        Instruction::Onbuild(text) => {
            let trigger = parse_trigger(text, "trigger").unwrap();
            json!([text, self::instruction(&trigger)])
        }
    };
    out.insert(instruction.value.name().to_owned(), value);
    Value::Object(out)
}

fn arg(arg: &Arg) -> Value {
    json!([arg.name, arg.default])
}

fn command(command: &Command) -> Value {
    match command {
        Command::Shell(text) => json!(text),
        Command::Exec(words) => json!(words),
    }
}

fn run(run: &Run) -> Value {
    let mut out = Map::new();
    let mounts: Vec<Value> = run.mounts.iter().map(|flag| mount(&flag.value.resolve(&mut echo).unwrap())).collect();
    put(&mut out, "mounts", Some(mounts).filter(|mounts| !mounts.is_empty()));
    let network = run.network.as_ref().map(|network| match network.value {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    });
    put(&mut out, "network", network);
    let security = run.security.as_ref().map(|security| match security.value {
        Security::Sandbox => "sandbox",
        Security::Insecure => "insecure",
    });
    put(&mut out, "security", security);
    match run.script() {
        Script::Shell(text) => out.insert("shell".to_owned(), json!(text)),
        Script::Exec(words) => out.insert("exec".to_owned(), json!(words)),
        Script::File { name, content } => out.insert("file".to_owned(), json!([name, content])),
    };
    Value::Object(out)
}

/// Shows where variables were.
fn echo(word: &str) -> Result<String, skycap_build::dockerfile::ExpandError> {
    expand(word, '\\', &|name| Some(format!("<{name}>")))
}

fn mount(mount: &Mount) -> Value {
    let mut out = Map::new();
    put(&mut out, "type", Some(mount.kind.name()));
    put(&mut out, "from", mount.from.clone());
    put(&mut out, "source", mount.source.clone());
    put(&mut out, "target", mount.target.clone());
    put(&mut out, "id", mount.id.clone());
    put(&mut out, "env", mount.env.clone());
    put(&mut out, "read_only", Some(mount.read_only));
    put(&mut out, "size", mount.size);
    Value::Object(out)
}

fn copy(copy: &Copy) -> Value {
    let mut out = Map::new();
    put(&mut out, "from", flag(copy.from.as_ref()));
    put(&mut out, "chown", flag(copy.chown.as_ref()));
    put(&mut out, "chmod", flag(copy.chmod.as_ref()));
    put(&mut out, "link", switch(copy.link.as_ref()));
    put(&mut out, "parents", switch(copy.parents.as_ref()));
    files(&mut out, &copy.exclude, &copy.sources, &copy.documents, &copy.destination);
    Value::Object(out)
}

fn add(add: &Add) -> Value {
    let mut out = Map::new();
    put(&mut out, "chown", flag(add.chown.as_ref()));
    put(&mut out, "chmod", flag(add.chmod.as_ref()));
    put(&mut out, "link", switch(add.link.as_ref()));
    put(&mut out, "checksum", flag(add.checksum.as_ref()));
    put(&mut out, "keep_git_dir", switch(add.keep_git_dir.as_ref()));
    put(&mut out, "unpack", switch(add.unpack.as_ref()));
    files(&mut out, &add.exclude, &add.sources, &add.documents, &add.destination);
    Value::Object(out)
}

fn files(
    out: &mut Map<String, Value>,
    exclude: &[Spanned<String>],
    sources: &[String],
    documents: &[Document],
    to: &str,
) {
    let exclude: Vec<String> = exclude.iter().filter_map(|exclude| flag(Some(exclude))).collect();
    put(out, "exclude", Some(exclude).filter(|exclude| !exclude.is_empty()));
    put(out, "sources", Some(sources.to_vec()).filter(|sources| !sources.is_empty()));
    let documents: Vec<Value> = documents
        .iter()
        .map(|document| json!([document.name, document.content, if document.expands { "expands" } else { "as it is" }]))
        .collect();
    put(out, "documents", Some(documents).filter(|documents| !documents.is_empty()));
    put(out, "to", Some(to));
}

/// A small generator: the same numbers every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

#[test]
fn no_input_makes_the_reader_panic() {
    let originals: Vec<Vec<u8>> = cases().iter().map(|case| fs::read(case.join("Dockerfile")).unwrap()).collect();
    let pieces: [&[u8]; 24] = [
        b"\\",
        b"\"",
        b"'",
        b"$",
        b"${",
        b"}",
        b"<<",
        b"<<-EOF",
        b"\n",
        b"\r\n",
        b"#",
        b"[",
        b"]",
        b"--",
        b"=",
        b"\xff",
        b"\xef\xbb\xbf",
        b"`",
        b"\0",
        b"# escape=`\n",
        "é한".as_bytes(),
        b"ONBUILD ",
        b"RUN ",
        b"COPY ",
    ];
    let mut numbers = Numbers(0x5eed_cafe);
    for round in 0..20_000 {
        let mut bytes = originals[numbers.below(originals.len())].clone();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len() + 1);
            match numbers.below(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, pieces[numbers.below(pieces.len())].iter().copied())),
                2 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
                _ => {
                    let end = at + numbers.below(bytes.len() - at + 1);
                    let other = &originals[numbers.below(originals.len())];
                    drop(bytes.splice(at..end, other.iter().copied().take(numbers.below(40))));
                }
            }
        }
        match parse(&bytes, "Dockerfile") {
            Ok(dockerfile) => drop(expand_everything(&dockerfile)),
            Err(error) => assert!(!error.render().is_empty(), "round {round}"),
        }
    }
}

fn expand_everything(dockerfile: &Dockerfile) -> usize {
    let env = |name: &str| name.len().is_multiple_of(2).then(|| format!("${name} *a?"));
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let texts = instructions.map(|instruction| {
        if let Instruction::Run(run) = &instruction.value {
            drop(run.script());
            run.mounts.iter().for_each(|mount| {
                drop(mount.value.resolve(&mut |word| expand(word, dockerfile.directives.escape, &env)));
            });
        }
        instruction.text.as_str()
    });
    texts.filter(|text| expand(text, dockerfile.directives.escape, &env).is_ok()).count()
}

#[test]
fn the_examples_of_the_reference_are_read() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/dockerfile.md");
    let reference = fs::read_to_string(reference).unwrap();
    let examples: Vec<&str> =
        reference.split("```dockerfile\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        if let Err(error) = parse(example.as_bytes(), "the reference") {
            panic!("{}", error.render());
        }
    }
}

#[test]
fn a_line_may_be_as_long_as_buildkit_allows() {
    let dockerfile = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length - 4));
    assert!(parse(dockerfile(65535).as_bytes(), "Dockerfile").is_ok());
    let error = parse(dockerfile(65536).as_bytes(), "Dockerfile").unwrap_err();
    assert_eq!(error.to_string(), "Dockerfile:2: dockerfile line greater than max allowed size of 65535");
}

#[test]
fn a_trigger_is_one_instruction() {
    for (trigger, message) in [
        ("", "onbuild trigger should be a single expression"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("RUNN a", "unknown instruction: RUNN"),
    ] {
        assert_eq!(parse_trigger(trigger, "trigger of base").unwrap_err().message, message, "{trigger}");
    }
}
