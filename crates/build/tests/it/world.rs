//! A store, a context and images for one test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use skycap_build::{BuildError, Built, Outcome, Request, SandboxAccess, build};
use skycap_image::{
    Artifact, Descriptor, Event, Kind, Layer, Memory, Name, Progress, Reference, Resolver, SourceError, compress, tar,
};
use skycap_sandbox::Sandbox;
use skycap_store::Store;
use skycap_testkit::listing::{self, Style};

/// A temporary directory with a store and a build context, and images that FROM can name.
pub struct World {
    directory: tempfile::TempDir,
    pub images: Images,
    pub log: Log,
}

/// Images by the path of their repository (`library/base`).
#[derive(Default)]
pub struct Images {
    pub known: BTreeMap<String, Artifact>,
    /// What was asked for, in order.
    pub asked: Mutex<Vec<String>>,
}

impl Resolver for Images {
    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, SourceError> {
        Ok(self.known.get(reference.repository.path()).map(|artifact| artifact.descriptor().clone()))
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        let path = reference.repository.path();
        self.asked.lock().unwrap().push(path.to_owned());
        let found = self.known.get(path).cloned();
        found.ok_or_else(|| SourceError::new(Kind::NotFound, format!("no image {path} in this test")))
    }
}

/// Keeps what a build reports.
#[derive(Default)]
pub struct Log {
    pub lines: Mutex<Vec<String>>,
    pub debug: Mutex<Vec<String>>,
    pub output: Mutex<Vec<u8>>,
    labels: Mutex<BTreeMap<u64, String>>,
}

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { id, label, .. } => {
                self.labels.lock().unwrap().insert(id, label.to_owned());
            }
            Event::Finished { id, outcome } => {
                let label = self.labels.lock().unwrap().remove(&id).unwrap_or_default();
                self.lines.lock().unwrap().push(format!("{label}: {outcome}"));
            }
            Event::Output { bytes, .. } => self.output.lock().unwrap().extend_from_slice(bytes),
            Event::Note(text) | Event::Warning(text) => self.lines.lock().unwrap().push(text.to_owned()),
            Event::Debug(text) => self.debug.lock().unwrap().push(text.to_owned()),
            Event::Advanced { .. } | Event::Expected { .. } => {}
        }
    }
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        Self { directory, images: Images::default(), log: Log::default() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    pub fn store_directory(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub fn store(&self) -> Store {
        Store::open(&self.store_directory()).unwrap()
    }

    /// Makes an image that FROM can name.
    pub fn image(&mut self, name: &str, text: &str) {
        let artifact = listing::artifact(&Memory::default(), text, Style::default());
        self.images.known.insert(format!("library/{name}"), artifact);
    }

    /// Makes an image without layers that FROM can name, from its configuration.
    pub fn image_of(&mut self, name: &str, config: &str) {
        let config = serde_json::from_str(config).unwrap();
        let image = skycap_image::Image::assemble(&config, Vec::new(), false, Arc::new(Memory::default())).unwrap();
        self.images.known.insert(format!("library/{name}"), Artifact::Image(image));
    }

    /// Writes a file of the context, mode 0644.
    pub fn file(&self, name: &str, content: &str) {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Makes the context what a listing says; owners do not count.
    pub fn context_of(&self, text: &str) {
        Self::directory_of(&self.context(), text);
    }

    /// Makes a directory what a listing says, likewise.
    pub fn directory_of(directory: &Path, text: &str) {
        let bytes = listing::tar(text);
        let mut reader = tar::Reader::new(&bytes[..]);
        while let Some(header) = reader.next().unwrap() {
            let path = directory.join(std::ffi::OsStr::from_bytes(&header.path));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match header.kind {
                tar::Kind::Directory => fs::create_dir_all(&path).unwrap(),
                tar::Kind::Symlink => {
                    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&header.link), &path).unwrap();
                    continue;
                }
                tar::Kind::File => {
                    let mut content = Vec::new();
                    reader.read_to_end(&mut content).unwrap();
                    fs::write(&path, content).unwrap();
                }
                tar::Kind::Hardlink => {
                    let target = directory.join(std::ffi::OsStr::from_bytes(&header.link));
                    fs::hard_link(target, &path).unwrap();
                    continue;
                }
                other => panic!("a context cannot hold a {other:?}"),
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(header.mode)).unwrap();
        }
    }

    pub fn request(&self, dockerfile: &str) -> Request {
        let mut request = Request::new(self.context(), dockerfile);
        request.threads = 2;
        request
    }

    pub fn build(&self, request: &Request) -> Result<Vec<Built>, BuildError> {
        self.log.lines.lock().unwrap().clear();
        self.log.debug.lock().unwrap().clear();
        self.log.output.lock().unwrap().clear();
        let (store, sandbox) = (self.store(), access());
        build(request, &around(&self.images, &store, sandbox, &self.log))
    }

    /// Builds one target that must succeed.
    pub fn built(&self, dockerfile: &str) -> Built {
        self.built_as(&self.request(dockerfile))
    }

    pub fn built_as(&self, request: &Request) -> Built {
        match self.build(request) {
            Ok(mut built) => built.remove(0),
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    pub fn error(&self, dockerfile: &str) -> String {
        match self.build(&self.request(dockerfile)) {
            Ok(_) => panic!("this should not build:\n{dockerfile}"),
            Err(error) => chain(&error),
        }
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.log.output.lock().unwrap()).into_owned()
    }
}

/// A world without a network.
pub fn around<'a>(
    resolver: &'a dyn Resolver,
    store: &'a Store,
    sandbox: SandboxAccess<'a>,
    progress: &'a dyn Progress,
) -> skycap_build::World<'a> {
    skycap_build::World { resolver, remote: &skycap_build::remote::Offline, store, sandbox, progress }
}

/// The sandbox of this process.
pub fn access() -> SandboxAccess<'static> {
    match crate::SANDBOX.get().unwrap() {
        Ok(sandbox) => SandboxAccess::Available(sandbox),
        Err(refused) => SandboxAccess::Refused(refused),
    }
}

/// A base with a shell, or why there is none: RUN needs one, and a sandbox.
pub fn with_shell(world: &mut World, test: &str) -> Option<&'static Sandbox> {
    let SandboxAccess::Available(sandbox) = access() else {
        skycap_testkit::skipped!("{test}: there is no sandbox here");
        return None;
    };
    let Ok(busybox) = fs::read("/bin/busybox") else {
        skycap_testkit::skipped!("{test}: /bin/busybox is missing (Debian: busybox-static)");
        return None;
    };
    let artifact = shell_image(&busybox);
    world.images.known.insert("library/shell".to_owned(), artifact);
    Some(sandbox)
}

fn shell_image(busybox: &[u8]) -> Artifact {
    let mut writer = tar::Writer::new(Vec::new());
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("home", 0o755), ("home/app", 0o700)] {
        let owner = if name == "home/app" { 1000 } else { 0 };
        let header = tar::Header { mode, uid: owner, gid: owner, ..tar::Header::directory(name) };
        writer.append(&header, std::io::empty()).unwrap();
    }
    let header = tar::Header { mode: 0o755, ..tar::Header::file("bin/busybox", busybox.len() as u64) };
    writer.append(&header, busybox).unwrap();
    for applet in [
        "sh", "cat", "chmod", "chown", "cp", "echo", "env", "grep", "id", "ln", "ls", "mkdir", "mknod", "mount", "mv",
        "rm", "sleep", "stat", "test", "touch", "tr", "true", "wc",
    ] {
        writer.append(&tar::Header::symlink(format!("bin/{applet}"), "busybox"), std::io::empty()).unwrap();
    }
    for (name, content) in [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"),
        ("etc/group", "root:x:0:\napp:x:1000:\nextra:x:77:app\n"),
    ] {
        writer.append(&tar::Header::file(name, content.len() as u64), content.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let memory = Memory::default();
    let layer = memory.add(skycap_image::MediaType::OciLayer, bytes);
    let config = skycap_image::ImageConfig {
        architecture: skycap_image::Platform::host().architecture,
        os: "linux".to_owned(),
        rootfs: skycap_image::RootFs { diff_ids: vec![layer.digest], ..Default::default() },
        ..Default::default()
    };
    let image = skycap_image::Image::assemble(&config, vec![layer], false, Arc::new(memory)).unwrap();
    Artifact::Image(image)
}

/// An error with its causes and its hint, one a line.
pub fn chain(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, "\n  caused by: {error}");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

/// What became of the steps that make layers, by the instruction's name: `RUN cached`.
pub fn outcomes(built: &Built) -> Vec<String> {
    let steps = built.steps.iter().filter(|step| step.outcome != Outcome::Config);
    let name = |label: &str| label.split("] ").nth(1).unwrap_or(label).split(' ').next().unwrap_or_default().to_owned();
    let steps = steps.map(|step| (name(&step.label), step.outcome)).filter(|(name, _)| name != "FROM");
    steps.map(|(name, outcome)| format!("{name} {outcome:?}").to_lowercase()).collect()
}

/// The entries of a layer, one a line.
pub fn list(layer: &Layer) -> String {
    let mut bytes = layer.open().unwrap();
    let mut text = String::new();
    {
        let (_, decoded) = compress::decoder(&mut bytes).unwrap();
        let mut reader = tar::Reader::new(decoded);
        while let Some(header) = reader.next().unwrap() {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            text.push_str(&line(&header, &content));
        }
        reader.finish().unwrap();
    }
    bytes.finish().unwrap();
    text
}

fn line(header: &tar::Header, content: &[u8]) -> String {
    let kind = match header.kind {
        tar::Kind::File => "file",
        tar::Kind::Directory => "dir",
        tar::Kind::Symlink => "symlink",
        tar::Kind::Hardlink => "hardlink",
        tar::Kind::Fifo => "fifo",
        tar::Kind::CharacterDevice | tar::Kind::BlockDevice => "device",
    };
    let path = header.path.strip_suffix(b"/").unwrap_or(&header.path).escape_ascii();
    let mut line = format!("  {kind} {path} {:04o} {}:{}", header.mode, header.uid, header.gid);
    if header.mtime != 315_619_200 {
        let _ = write!(line, " mtime={}", header.mtime);
    }
    if !header.link.is_empty() {
        let _ = write!(line, " -> {}", header.link.escape_ascii());
    }
    for (name, value) in &header.xattrs {
        let _ = write!(line, " {}={}", name.escape_ascii(), value.escape_ascii());
    }
    if header.kind == tar::Kind::File {
        if content.contains(&0) {
            let _ = write!(line, " {} bytes", content.len());
        } else {
            let _ = write!(line, " \"{}\"", content.escape_ascii());
        }
    }
    line + "\n"
}

/// The name of a tag, for images that are named.
#[allow(dead_code, reason = "used by tests that need a peer")]
pub fn tag(name: &str) -> Name {
    Name::Tag(name.to_owned())
}
