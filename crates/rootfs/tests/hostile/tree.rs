//! Trees as text, in the words in which layers are written: from disk, from a view, and from a stack of overlay directories.
//!
//! ```text
//! dir  etc 0755 0:0 @5.0
//! file etc/motd 0644 0:0 @0.0 user.note=hi "hello\n"
//! link bin 0:0 @0.0 -> usr/bin
//! hard sh => busybox
//! ```
//!
//! sorted by path, the root first as `.`. Everything is looked at beneath a descriptor of the root, so paths up to the
//! kernel's limit are no problem.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use skycap_image::Layer;
use skycap_rootfs::{Device, Kind, Metadata, Time, TreePath, View};

/// A file of a tree, comparable wherever it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    /// Of a regular file.
    pub(crate) content: Vec<u8>,
    /// Tells hard links apart.
    pub(crate) inode: (u64, u64),
}

/// Paths and what is there; the root is the empty path. Components are separated by NUL, which no name holds, so that a
/// directory is directly followed by what is in it.
pub(crate) type Nodes = BTreeMap<Vec<u8>, Node>;

/// The key of a path as it is written.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

fn path_of(key: &[u8]) -> Vec<u8> {
    key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect()
}

fn below(path: &[u8], name: &[u8], separator: u8) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, &[separator], name].concat() }
}

/// How much of a tree to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Detail {
    /// Modes and times.
    pub(crate) metadata: bool,
    pub(crate) owners: bool,
    pub(crate) xattrs: bool,
}

impl Detail {
    pub(crate) const SHAPE: Self = Self { metadata: false, owners: false, xattrs: false };
}

/// Content that is longer is printed as its digest.
const LONGEST: usize = 200;

pub(crate) fn print(nodes: &Nodes, detail: Detail) -> String {
    let mut text = String::new();
    let mut first_names: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for (path, node) in nodes {
        let shown = if path.is_empty() { ".".to_owned() } else { path_of(path).escape_ascii().to_string() };
        if node.kind != Kind::Directory {
            let first = first_names.entry(node.inode).or_insert_with(|| shown.clone());
            if *first != shown {
                writeln!(text, "hard {shown} => {first}").unwrap();
                continue;
            }
        }
        let word = match &node.kind {
            Kind::Directory => "dir",
            Kind::File { .. } => "file",
            Kind::Symlink(_) => "link",
            Kind::Device(Device { block: true, .. }) => "block",
            Kind::Device(_) => "char",
            Kind::Fifo => "fifo",
        };
        write!(text, "{word} {shown}").unwrap();
        let Metadata { mode, uid, gid, mtime, xattrs } = &node.metadata;
        if detail.metadata && !matches!(node.kind, Kind::Symlink(_)) {
            write!(text, " {mode:04o}").unwrap();
        }
        if detail.owners {
            write!(text, " {uid}:{gid}").unwrap();
        }
        if detail.metadata {
            write!(text, " @{}.{}", mtime.seconds, mtime.nanoseconds).unwrap();
        }
        if detail.xattrs {
            for (name, value) in xattrs {
                write!(text, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
            }
        }
        match &node.kind {
            Kind::Symlink(target) => write!(text, " -> {}", target.escape_ascii()).unwrap(),
            Kind::Device(Device { major, minor, .. }) => write!(text, " {major} {minor}").unwrap(),
            Kind::File { .. } if node.content.len() > LONGEST => {
                let digest = skycap_image::Digest::sha256(&node.content);
                write!(text, " {} bytes {digest}", node.content.len()).unwrap();
            }
            Kind::File { .. } => write!(text, " \"{}\"", node.content.escape_ascii()).unwrap(),
            _ => {}
        }
        text.push('\n');
    }
    text
}

/// A tree on disk. Rights that are missing are given for the moment of looking.
pub(crate) fn of_disk(root: &Path) -> Nodes {
    let (mode, is_shut) = {
        let mode = std::fs::symlink_metadata(root).unwrap().mode() & 0o7777;
        (mode, mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root())
    };
    let set = |mode| std::fs::set_permissions(root, std::fs::Permissions::from_mode(mode)).unwrap();
    if is_shut {
        set(mode | 0o700);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut nodes = disk_below(&rustix::fs::open(root, flags, Mode::empty()).unwrap());
    if is_shut {
        set(mode);
    }
    if let Some(root) = nodes.get_mut(&Vec::new()) {
        root.metadata.mode = mode;
    }
    nodes
}

fn disk_below(root: &OwnedFd) -> Nodes {
    let mut nodes = Nodes::new();
    let (mut restore, mut opened) = (Vec::new(), BTreeMap::new());
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let (parent, name) = parent_of(root, &path);
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let file_type = FileType::from_raw_mode(stat.st_mode);
        // It may have been opened under another name.
        let mode = opened.get(&stat.st_ino).copied().unwrap_or(stat.st_mode & 0o7777);
        let wanted = if file_type == FileType::Directory { 0o700 } else { 0o400 };
        let is_open = file_type == FileType::Directory || file_type == FileType::RegularFile;
        if is_open && mode & wanted != wanted && !rustix::process::geteuid().is_root() {
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode | wanted), AtFlags::empty()).unwrap();
            opened.insert(stat.st_ino, mode);
            restore.push((path.clone(), mode));
        }
        let mut content = Vec::new();
        let kind = match file_type {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, name, flags, Mode::empty()).unwrap();
                for entry in rustix::fs::Dir::read_from(&directory).unwrap() {
                    let entry = entry.unwrap();
                    let child = entry.file_name().to_bytes();
                    if !matches!(child, b"." | b"..") {
                        pending.push(below(&path, child, b'/'));
                    }
                }
                Kind::Directory
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = std::fs::File::from(rustix::fs::openat(&parent, name, flags, Mode::empty()).unwrap());
                std::io::Read::read_to_end(&mut file, &mut content).unwrap();
                Kind::File { size: content.len() as u64 }
            }
            FileType::Symlink => {
                Kind::Symlink(rustix::fs::readlinkat(&parent, name, Vec::new()).unwrap().into_bytes().into())
            }
            FileType::Fifo => Kind::Fifo,
            other => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                Kind::Device(Device { block: other == FileType::BlockDevice, major, minor })
            }
        };
        let node = rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let node = node.unwrap();
        let xattrs = list(&PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd())), true);
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec.try_into().unwrap() };
        let metadata = Metadata { mode, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs };
        nodes.insert(key(&path), Node { kind, metadata, content, inode: (stat.st_dev, stat.st_ino) });
    }
    for (path, mode) in restore.into_iter().rev() {
        let (parent, name) = parent_of(root, &path);
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
    }
    nodes
}

/// The directory of a path, opened piece by piece because the kernel takes 4,095 bytes at once, and the last name.
fn parent_of<'p>(root: &OwnedFd, path: &'p [u8]) -> (OwnedFd, &'p [u8]) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |at: &OwnedFd, path: &[u8]| rustix::fs::openat(at, path, flags, Mode::empty()).unwrap();
    let (mut at, mut rest) = (open(root, b"."), path);
    while rest.len() > 4000 {
        let slash = rest[..4000].iter().rposition(|&byte| byte == b'/').unwrap();
        at = open(&at, &rest[..slash]);
        rest = &rest[slash + 1..];
    }
    match rest.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (open(&at, &rest[..slash]), &rest[slash + 1..]),
        None if rest.is_empty() => (at, b"."),
        None => (at, rest),
    }
}

/// The extended attributes of something that is not followed if it is a link.
pub(crate) fn attributes(path: &Path) -> String {
    list(path, false).iter().fold(String::new(), |mut text, (name, value)| {
        write!(text, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        text
    })
}

fn list(path: &Path, follow: bool) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length =
        if follow { rustix::fs::listxattr(path, &mut names[..]) } else { rustix::fs::llistxattr(path, &mut names[..]) };
    let names = &names[..length.unwrap_or(0)];
    names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = if follow {
                rustix::fs::getxattr(path, name, &mut value[..])
            } else {
                rustix::fs::lgetxattr(path, name, &mut value[..])
            };
            value.truncate(length.unwrap_or(0));
            (name.to_vec(), value)
        })
        .collect()
}

/// What a view says.
pub(crate) fn of_view(view: &View, layers: &[Layer]) -> Result<Nodes, String> {
    let mut nodes = Nodes::new();
    let mut files = Vec::new();
    for (path, entry) in view.walk(&TreePath::root()) {
        let inode = (0, view.inode_of(&path).unwrap());
        let node = Node { kind: entry.kind.clone(), metadata: entry.metadata.clone(), content: Vec::new(), inode };
        nodes.insert(key(path.as_bytes()), node);
        if entry.is_file() {
            files.push(path);
        }
    }
    let mut contents = BTreeMap::new();
    let mut visit = |paths: &[&TreePath], _: &skycap_rootfs::Entry, data: &mut dyn std::io::Read| {
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        for path in paths {
            contents.insert((*path).clone(), content.clone());
        }
        Ok(())
    };
    view.contents(&files, layers, &mut visit).map_err(|error| format!("the view's content: {error}"))?;
    for (path, content) in contents {
        nodes.get_mut(&key(path.as_bytes())).unwrap().content = content;
    }
    Ok(nodes)
}

/// What overlayfs would show of these directories, the uppermost first: written from its documentation
/// (Documentation/filesystems/overlayfs.rst), so that no mount is needed.
pub(crate) fn of_overlay(lowers: &[PathBuf]) -> Nodes {
    let stack: Vec<Nodes> = lowers.iter().map(|lower| of_disk(lower)).collect();
    let children: Vec<BTreeMap<Vec<u8>, Vec<Vec<u8>>>> = stack.iter().map(by_parent).collect();
    let mut merged = Nodes::new();
    let mut pending: Vec<(Vec<u8>, Vec<usize>)> = vec![(Vec::new(), (0..stack.len()).collect())];
    while let Some((path, layers)) = pending.pop() {
        let Some(&top) = layers.first() else { continue };
        let mut node = stack[top][&path].clone();
        node.metadata
            .xattrs
            .retain(|name, _| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
        merged.insert(path.clone(), node);
        let mut names = std::collections::BTreeSet::new();
        for &layer in &layers {
            names.extend(children[layer].get(&path).into_iter().flatten().cloned());
        }
        for name in names {
            let mut visible = Vec::new();
            for &layer in &layers {
                let Some(node) = stack[layer].get(&name) else { continue };
                match node.kind {
                    Kind::Device(Device { block: false, major: 0, minor: 0 }) => break,
                    Kind::Directory => {
                        visible.push(layer);
                        let is_opaque =
                            |(name, value): (&Vec<u8>, &Vec<u8>)| name.ends_with(b".overlay.opaque") && value == b"y";
                        if node.metadata.xattrs.iter().any(is_opaque) {
                            break;
                        }
                    }
                    _ => {
                        if visible.is_empty() {
                            merged.insert(name.clone(), node.clone());
                        }
                        break;
                    }
                }
            }
            if !visible.is_empty() {
                pending.push((name, visible));
            }
        }
    }
    merged
}

/// Paths by the directory that they are in.
fn by_parent(nodes: &Nodes) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut found: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for path in nodes.keys().filter(|path| !path.is_empty()) {
        let end = path.iter().rposition(|&byte| byte == 0).unwrap_or(0);
        found.entry(path[..end].to_vec()).or_default().push(path.clone());
    }
    found
}
