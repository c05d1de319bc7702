//! What a case says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub struct Case {
    pub name: String,
    directory: PathBuf,
    project: String,
    archives: Vec<String>,
    pub args: Vec<String>,
    pub secrets: Vec<(String, String)>,
    /// Whether RUN may use the key `key` of the room.
    pub ssh: bool,
    pub target: Option<String>,
    pub file: Option<String>,
    /// Arguments of a container, and what it prints.
    pub run: Option<(Vec<String>, String)>,
    pub no_buildah: Option<String>,
    /// What buildah makes otherwise, and why.
    pub differences: Vec<(String, String)>,
}

/// This test's own directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfiles")
}

impl Case {
    pub fn all() -> Vec<Self> {
        Self::below(&root().join("cases"))
    }

    pub fn below(directory: &Path) -> Vec<Self> {
        let mut directories: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        directories.sort();
        directories.into_iter().map(Self::read).collect()
    }

    fn read(directory: PathBuf) -> Self {
        let mut case = Self {
            name: directory.file_name().unwrap().to_string_lossy().into_owned(),
            directory,
            project: String::new(),
            archives: Vec::new(),
            args: Vec::new(),
            secrets: Vec::new(),
            ssh: false,
            target: None,
            file: None,
            run: None,
            no_buildah: None,
            differences: Vec::new(),
        };
        let mut command = None;
        for line in fs::read_to_string(case.directory.join("options")).unwrap().lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let text = rest.to_owned();
            match word {
                "project" => case.project = text,
                "archive" => case.archives.push(text),
                "arg" => case.args.push(text),
                "secret" => {
                    let (id, value) = rest.split_once('=').unwrap();
                    case.secrets.push((id.to_owned(), value.to_owned()));
                }
                "ssh" => case.ssh = true,
                "target" => case.target = Some(text),
                "file" => case.file = Some(text),
                "buildah" => case.no_buildah = Some(text),
                "run" => command = Some(rest.split_whitespace().map(str::to_owned).collect()),
                "prints" => case.run = Some((command.take().expect("prints without run"), text)),
                "crlf" => {}
                other => panic!("{}: unknown option {other}", case.name),
            }
        }
        let differences = fs::read_to_string(case.directory.join("differences")).unwrap_or_default();
        let pair = |line: &str| {
            let (what, why) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}: why?", case.name));
            (what.to_owned(), why.to_owned())
        };
        case.differences = differences.lines().map(pair).collect();
        case
    }

    /// Makes the context.
    pub fn lay_out(&self, room: &Path) -> PathBuf {
        let context = room.join("context");
        if !self.project.is_empty() {
            copy(&root().join("projects").join(&self.project), &context);
        }
        copy(&self.directory.join("context"), &context);
        for name in &self.archives {
            let is_gzip = Path::new(name).extension().is_some_and(|suffix| suffix == "gz");
            let how = if is_gzip { "-czf" } else { "-cf" };
            let mut tar = std::process::Command::new("tar");
            tar.args(["--owner=7:7", "--group=8:8", "--mtime=@1000000000", "--sort=name", how]).arg(context.join(name));
            tar.arg("-C").arg(root().join("projects/web")).arg(".");
            assert!(tar.status().unwrap().success());
        }
        for (id, value) in &self.secrets {
            fs::write(room.join(id), value).unwrap();
        }
        context
    }

    pub fn dockerfile(&self, context: &Path) -> PathBuf {
        context.join(self.file.as_deref().unwrap_or("Dockerfile"))
    }
}

/// Copies a tree with modes that do not depend on how the sources were checked out.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::write(&target, bytes).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
    }
}
