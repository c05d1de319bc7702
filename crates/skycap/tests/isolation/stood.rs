//! A ground that is stood on: what is to be built there, and what became of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use skycap_image::tar;

use crate::grounds::{Ground, Rung};

/// The shell that every probe has, in a stage called `base`.
pub const BASE: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /tmp /root /etc && chmod 1777 /tmp && echo root:x:0:0::/root:/bin/sh > /etc/passwd && echo app:x:1000:1000::/:/bin/sh >> /etc/passwd
"#;

pub struct Place {
    pub ground: &'static Ground,
    /// Where the builds work, as the machine sees it.
    pub task: PathBuf,
    /// Its directory, which goes with this.
    room: tempfile::TempDir,
    builds: Vec<String>,
    command: Mutex<Option<Command>>,
}

impl Place {
    pub fn new(ground: &'static Ground, room: tempfile::TempDir, task: PathBuf) -> Self {
        Self { ground, task, room, builds: Vec::new(), command: Mutex::new(None) }
    }

    pub fn is(&self, rung: Rung) -> bool {
        self.ground.rung == rung
    }

    /// Whether RUNs of one build run one after the other, at least those with secrets.
    pub fn is_serial(&self) -> bool {
        matches!(self.ground.rung, Rung::Takeover | Rung::Masked)
    }

    /// Everything that is left of the ground.
    pub fn all(&self) -> &Path {
        self.room.path()
    }

    /// Adds a build of this Dockerfile, which begins with [`BASE`] if it has a stage upon it. `before` stands before the command.
    pub fn add(&mut self, name: &str, dockerfile: &str, before: &str, flags: &str) {
        let context = self.task.join("contexts").join(name);
        fs::create_dir_all(&context).unwrap();
        fs::hard_link(self.task.join("contexts/busybox"), context.join("busybox")).unwrap();
        let base = if dockerfile.contains("base") { BASE } else { "" };
        fs::write(context.join("Dockerfile"), format!("{base}{dockerfile}")).unwrap();
        let outputs = format!("-o type=tar,dest=out/{name}.tar -o type=oci,tar=false,dest=out/{name}");
        let before = if before.is_empty() { ":" } else { before };
        self.builds.push(format!("build {name} '{before}' {outputs} {flags} contexts/{name}"));
    }

    /// A file of a build's context.
    pub fn file(&self, name: &str, path: &str, content: impl AsRef<[u8]>) {
        let path = self.task.join("contexts").join(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Every build has a deadline, and what became of it is a file.
    pub fn write_script(&self, skycap: &Path, task: &Path) {
        let rung = if self.is(Rung::Takeover) { "--sandbox takeover" } else { "" };
        let mut script = format!(
            r#"umask 022
cd '{}'
i=0; while [ $i -lt 200 ]; do export "ODD_$i=hunter2-odd"; i=$((i+1)); done
export HOME="$PWD/home" TMPDIR="$PWD/tmp" SOURCE_DATE_EPOCH=1700000000 GIT_SSH_COMMAND=false LD_AUDIT= DOCKER_HOST=unix:///nowhere
build() {{
    name=$1 before=$2
    shift 2
    busybox timeout 120 busybox sh -c "$before"'; exec {} build {rung} --progress plain --store "${{store:-store}}" "$@"' build "$@" > "out/$name.log" 2>&1 < /dev/null
    echo $? > "out/$name.code"
}}
"#,
            task.display(),
            skycap.display()
        );
        for build in &self.builds {
            let _ = writeln!(script, "{build}");
        }
        fs::write(self.task.join("script"), script + "exit 0\n").unwrap();
    }

    pub fn started_by(&mut self, command: Command) {
        *self.command.lock().unwrap() = Some(command);
    }

    pub fn build(&self) {
        let output = self.command.lock().unwrap().take().unwrap().output().unwrap();
        assert!(output.status.success(), "{}: {}", self.ground.name, String::from_utf8_lossy(&output.stderr));
    }

    pub fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.task.join(format!("out/{name}.log"))).unwrap()).into_owned()
    }

    fn code(&self, name: &str) -> String {
        fs::read_to_string(self.task.join(format!("out/{name}.code"))).unwrap().trim().to_owned()
    }

    /// What an image holds, which must have been built.
    #[track_caller]
    pub fn built(&self, name: &str) -> Files {
        assert_eq!(self.code(name), "0", "{name}: {}", self.log(name));
        Files::read(&self.task.join(format!("out/{name}.tar")))
    }

    /// Fails the test unless a build failed, in order, and says one of these.
    #[track_caller]
    pub fn failed(&self, name: &str, texts: &[&str]) -> String {
        let log = self.log(name);
        assert_eq!(self.code(name), "1", "{name}: {log}");
        assert!(texts.iter().any(|text| log.contains(text)), "{name}: none of {texts:?} is in {log}");
        log
    }

    /// The digest of what was built.
    pub fn digest(&self, name: &str) -> String {
        fs::read_to_string(self.task.join(format!("out/{name}/index.json"))).unwrap()
    }
}

/// The files of an image.
pub struct Files(pub BTreeMap<String, (tar::Header, Vec<u8>)>);

impl Files {
    fn read(archive: &Path) -> Self {
        let mut reader = tar::Reader::new(fs::File::open(archive).unwrap());
        let mut files = BTreeMap::new();
        while let Some(header) = reader.next().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            let path = String::from_utf8_lossy(&header.path).trim_end_matches('/').to_owned();
            files.insert(path, (header, content));
        }
        Self(files)
    }

    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let (_, content) = self.0.get(path).unwrap_or_else(|| panic!("there is no {path}"));
        String::from_utf8_lossy(content).into_owned()
    }

    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    #[track_caller]
    pub fn header(&self, path: &str) -> &tar::Header {
        &self.0.get(path).unwrap_or_else(|| panic!("there is no {path}")).0
    }
}
