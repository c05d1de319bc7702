//! Layers from text, trees as text.
//!
//! A layer is written like this, one entry a line; `##` begins the next layer:
//!
//! ```text
//! dir   etc 0755 [uid:gid] [@seconds] [name=value …]
//! file  etc/motd 0644 [uid:gid] [@seconds] [name=value …] "content"
//! link  bin -> usr/bin
//! hard  a => b
//! char  dev/null 1 3
//! block dev/sda 8 0
//! fifo  pipe
//! ```
//!
//! In names `%xx` stands for a byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use skycap_image::tar::{Header, Kind, Writer};
use skycap_image::{Digest, Event, Layer, MediaType, Memory, Progress, Silent};
use skycap_rootfs::{Limits, Owners, Unpack, UnpackError};

/// Every layer of a text.
pub(crate) fn layers(text: &str) -> Vec<Layer> {
    text.split("##").map(layer).collect()
}

/// One layer.
pub(crate) fn layer(text: &str) -> Layer {
    stored(&tar(text))
}

/// A layer of these bytes, not packed.
pub(crate) fn stored(bytes: &[u8]) -> Layer {
    let memory = Memory::default();
    let descriptor = memory.add(MediaType::OciLayer, bytes);
    Layer { descriptor, diff_id: Digest::sha256(bytes), blobs: Arc::new(memory) }
}

pub(crate) fn tar(text: &str) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (header, content) = entry(line);
        tar.entry(&header).unwrap();
        tar.write_all(content.as_bytes()).unwrap();
    }
    tar.finish().unwrap()
}

fn entry(line: &str) -> (Header, String) {
    let (line, content) = match line.split_once('"') {
        Some((line, content)) => (line, content.trim_end_matches('"')),
        None => (line, ""),
    };
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap();
    let path = name(words.next().unwrap());
    let mut header = match kind {
        "dir" => Header::directory(path),
        "file" => Header::file(path, content.len() as u64),
        "link" => Header::symlink(path, target(&mut words)),
        "hard" => Header::hardlink(path, target(&mut words)),
        "fifo" => Header { kind: Kind::Fifo, ..Header::file(path, 0) },
        "char" | "block" => {
            let kind = if kind == "char" { Kind::CharacterDevice } else { Kind::BlockDevice };
            let mut number = || words.next().unwrap().parse().unwrap();
            let device = (number(), number());
            Header { kind, device, ..Header::file(path, 0) }
        }
        other => panic!("unknown entry {other}"),
    };
    for word in words {
        attribute(&mut header, word);
    }
    (header, content.replace("\\n", "\n"))
}

fn attribute(header: &mut Header, word: &str) {
    if let Some(seconds) = word.strip_prefix('@') {
        let (seconds, nanos) = seconds.split_once('.').unwrap_or((seconds, "0"));
        (header.mtime, header.mtime_nanos) = (seconds.parse().unwrap(), nanos.parse().unwrap());
    } else if let Some((key, value)) = word.split_once('=') {
        header.xattrs.insert(key.into(), name(value));
    } else if let Some((uid, gid)) = word.split_once(':') {
        (header.uid, header.gid) = (uid.parse().unwrap(), gid.parse().unwrap());
    } else {
        header.mode = u32::from_str_radix(word, 8).unwrap();
    }
}

fn target<'w>(words: &mut impl Iterator<Item = &'w str>) -> Vec<u8> {
    words.next();
    name(words.next().unwrap())
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let digits = [left.next().unwrap(), left.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What this process can do.
pub(crate) fn options() -> Unpack {
    let owners = if is_root() { Owners::Keep } else { Owners::Squash };
    Unpack { owners, concurrency: 3, limits: Limits::default(), sync: false }
}

pub(crate) fn unpack(layers: &[Layer], destination: &Path) -> Result<(), UnpackError> {
    skycap_rootfs::unpack(layers, destination, &options(), &Silent)
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Remembers warnings.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Progress for Warnings {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// How much of a tree to print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Types, targets, content.
    Shape,
    /// Also modes, owners (of a process that can set them), times, attributes.
    All,
}

/// A tree on disk, one line a file, sorted by path; hard links are numbered by their first name.
pub(crate) fn tree(root: &Path, detail: Detail) -> String {
    let mut text = String::new();
    let mut first_names = BTreeMap::new();
    for path in paths(root) {
        let whole = root.join(&path);
        let stat = fs::symlink_metadata(&whole).unwrap();
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let shown = if shown.is_empty() { "." } else { &shown };
        if !stat.is_dir() && stat.nlink() > 1 {
            let first = first_names.entry(stat.ino()).or_insert_with(|| shown.to_owned());
            if first != shown {
                writeln!(text, "hard {shown} => {first}").unwrap();
                continue;
            }
        }
        let kind = stat.file_type();
        let device = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
        let line = if kind.is_dir() {
            format!("dir {shown}")
        } else if kind.is_symlink() {
            format!("link {shown} -> {}", fs::read_link(&whole).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_fifo() {
            format!("fifo {shown}")
        } else if kind.is_char_device() {
            format!("char {shown} {} {}", device.0, device.1)
        } else if kind.is_block_device() {
            format!("block {shown} {} {}", device.0, device.1)
        } else {
            format!("file {shown}")
        };
        text.push_str(&line);
        if detail == Detail::All {
            if !kind.is_symlink() {
                write!(text, " {:04o}", stat.mode() & 0o7777).unwrap();
            }
            if is_root() {
                write!(text, " {}:{}", stat.uid(), stat.gid()).unwrap();
            }
            write!(text, " @{}.{}", stat.mtime(), stat.mtime_nsec()).unwrap();
            text.push_str(&attributes(&whole));
        }
        if kind.is_file() {
            let content = fs::read(&whole).unwrap_or_else(|_| b"(unreadable)".to_vec());
            write!(text, " \"{}\"", content.escape_ascii()).unwrap();
        }
        text.push('\n');
    }
    text
}

fn attributes(path: &Path) -> String {
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut names: Vec<&[u8]> = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.iter().fold(String::new(), |mut text, name| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, *name, &mut value[..]).unwrap();
        write!(text, " {}={}", name.escape_ascii(), value[..length].escape_ascii()).unwrap();
        text
    })
}

/// All paths below a root and the root itself (empty), parents first.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let whole = root.join(&path);
        if fs::symlink_metadata(&whole).unwrap().is_dir()
            && let Ok(entries) = fs::read_dir(&whole)
        {
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort_by(|a, b| b.cmp(a));
            pending.extend(names.into_iter().map(|name| path.join(name)));
        }
        found.push(path);
    }
    found
}

/// A fresh directory with traps around the place where a test unpacks.
pub(crate) struct Room {
    directory: tempfile::TempDir,
    before: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("skycap-room-").tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("p/rootfs-evil")).unwrap();
        fs::create_dir_all(path.join("p/victim/dir")).unwrap();
        fs::create_dir_all(path.join("victim")).unwrap();
        for file in
            ["canary", "p/canary", "p/rootfs-evil/secret", "p/victim/hello", "p/victim/dir/deep", "victim/hello"]
        {
            fs::write(path.join(file), format!("the content of {file}")).unwrap();
        }
        let before = outside(path);
        Self { directory, before }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where to unpack.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("p/rootfs")
    }

    /// Nothing outside the root was touched, and nothing temporary is left.
    pub(crate) fn assert_untouched(&self, case: &str) {
        assert_eq!(outside(self.path()), self.before, "{case}: something outside the root changed");
    }
}

/// Everything in a room but the root, with link counts; times are left out because the root appears in one directory.
fn outside(room: &Path) -> String {
    let rootfs = PathBuf::from("p/rootfs");
    let mut text = String::new();
    for path in paths(room).into_iter().filter(|path| !path.starts_with(&rootfs)) {
        let whole = room.join(&path);
        let stat = fs::symlink_metadata(&whole).unwrap();
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        let time = if stat.is_dir() { 0 } else { stat.mtime() };
        let content = if stat.is_file() { fs::read(&whole).unwrap() } else { Vec::new() };
        let (mode, uid, gid) = (stat.mode(), stat.uid(), stat.gid());
        let shown = String::from_utf8_lossy(&path.clone().into_os_string().into_vec()).into_owned();
        writeln!(text, "{shown} {mode:o} {uid}:{gid} {links} {time} {}{}", content.escape_ascii(), attributes(&whole))
            .unwrap();
    }
    text
}

impl Drop for Room {
    fn drop(&mut self) {
        // An ordinary user cannot delete what is in directories without rights.
        let mut pending = vec![self.path().to_owned()];
        while let Some(path) = pending.pop() {
            let _ = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700));
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                }
            }
        }
    }
}
