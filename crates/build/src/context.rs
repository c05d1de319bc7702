//! The build context: a directory of the user's, read in place.
//!
//! Paths are opened beneath a descriptor of the directory, and no link is followed by the kernel: links are followed by
//! [`Files::resolve`], inside the context. What the ignore file hides is not there. Files belong to root, whoever owns
//! them outside, and sockets do not exist.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use skycap_image::{Algorithm, Digest, Hasher};
use skycap_rootfs::{Device, Entry, Kind, Metadata, Time, TreePath};
use skycap_sandbox::Cancel;

use crate::changes::FIXED_TIME;
use crate::error::Fault;
use crate::files::{Files, outside};
use crate::graph::ContextId;
use crate::ignore::Ignore;
use crate::missing::Hides;
use crate::parallel;

const BUFFER: usize = 128 * 1024;
/// How many files a thread takes at once: of one directory or a few.
const AT_ONCE: usize = 64;
/// How files are opened: what took the place of one since it was looked at is neither followed nor waited for.
const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// All directories outside that a build reads.
pub(crate) struct Contexts(Vec<Context>);

impl Contexts {
    /// The build context first, then the others in the order of their numbers.
    pub fn new(contexts: Vec<Context>) -> Self {
        Self(contexts)
    }

    /// The directory of a number that the graph gave.
    pub fn get(&self, id: ContextId) -> &Context {
        &self.0[id.number()]
    }
}

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a regular file held when it was read for the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// Its content.
    pub digest: Digest,
    /// The file that it is one name of, where it has several.
    pub inode: Option<(u64, u64)>,
}

/// A directory to copy from.
pub(crate) struct Context {
    root: PathBuf,
    directory: OwnedFd,
    ignore: Ignore,
    /// Where the store lies, if it is in here.
    store: Option<TreePath>,
}

impl Context {
    /// Opens a directory.
    pub fn open(root: &Path, ignore: Ignore) -> Result<Self, Fault> {
        let directory = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("open the build context", root, error))?;
        Ok(Self { root: root.to_owned(), directory, ignore, store: None })
    }

    /// Without the store, if it lies in here, as a task's cache may: it changes while it is read, and would hold itself.
    pub fn without(mut self, store: &Path) -> Self {
        let below = |root: PathBuf| Some(store.canonicalize().ok()?.strip_prefix(root).ok()?.to_owned());
        let below = self.root.canonicalize().ok().and_then(below);
        let path = below.and_then(|path| TreePath::parse(path.as_os_str().as_bytes()).ok());
        self.store = path.filter(|path| !path.is_root());
        self
    }

    /// Opens a regular file. What took its place since it was looked at is not waited for: a pipe would never answer.
    pub fn file(&self, path: &TreePath) -> Result<File, Fault> {
        let opened = self.open_beneath(path, TO_READ).map_err(|error| self.failed("open", path, error))?;
        Ok(self.regular(path, opened)?.0)
    }

    fn regular(&self, path: &TreePath, opened: OwnedFd) -> Result<(File, Stat), Fault> {
        let stat = rustix::fs::fstat(&opened).map_err(|error| self.failed("look at", path, error))?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok((File::from(opened), stat));
        }
        Err(Fault::new(format!("{path} of the build context is no regular file any more")))
    }

    /// What regular files hold, and their attributes, in their order, read by several threads until the build is cancelled.
    /// Sorted ones are found quicker.
    pub fn digests(&self, paths: &[TreePath], threads: usize, cancel: &Cancel) -> Result<Vec<(Read, Xattrs)>, Fault> {
        let parts: Vec<&[TreePath]> = paths.chunks(AT_ONCE).collect();
        let read = parallel::map(threads, &parts, |_, part| {
            let mut buffer = vec![0; BUFFER];
            let mut directory = None;
            part.iter().map(|path| self.read(path, &mut directory, &mut buffer, cancel)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(read.into_iter().flatten().collect())
    }

    /// `directory` is the one that was opened for the file before.
    fn read(
        &self,
        path: &TreePath,
        directory: &mut Option<(TreePath, OwnedFd)>,
        buffer: &mut [u8],
        cancel: &Cancel,
    ) -> Result<(Read, Xattrs), Fault> {
        let failed = |error| self.failed("open", path, error);
        let (parent, name) = (path.parent().unwrap_or_default(), path.file_name().unwrap_or(b"."));
        let directory = match directory {
            Some((opened, directory)) if *opened == parent => directory,
            other => {
                let opened = self.open_beneath(&parent, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
                &other.insert((parent, opened)).1
            }
        };
        let opened = rustix::fs::openat(directory, name, TO_READ | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let (file, stat) = self.regular(path, opened)?;
        let inode = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let read = hash(&file, size, buffer, cancel);
        let read = read.map_err(|error| Fault::caused(format!("cannot read {path} of the build context"), error));
        let digest = read?.ok_or(Fault::Cancelled)?;
        let list = |names: &mut [u8]| rustix::fs::flistxattr(&file, names);
        let get = |name: &[u8], value: &mut [u8]| rustix::fs::fgetxattr(&file, name, value);
        let xattrs = xattrs(rustix::fs::flistxattr_query(&file), &list, &get);
        Ok((Read { digest, inode }, xattrs))
    }

    fn open_beneath(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let name = if path.is_root() { Path::new(".") } else { path.as_path() };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel asks for another try when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return answer,
            }
        }
    }

    /// The directory itself. Whoever made it for the build, perhaps for nobody else to see, its files are for all users of a
    /// RUN, as in BuildKit, which has a directory of its own for them.
    fn top() -> Entry {
        Entry { kind: Kind::Directory, metadata: Metadata { mtime: FIXED_TIME, ..Metadata::implied() } }
    }

    /// A file as the build sees it. The attributes of regular files come with their content ([`Self::digests`]): asking by
    /// descriptor is much quicker than by path.
    fn entry(&self, path: &TreePath, stat: &Stat) -> Result<Option<Entry>, Fault> {
        let outside = || outside(&self.root, path);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File { size: u64::try_from(stat.st_size).unwrap_or_default() },
            FileType::Symlink => {
                let target = std::fs::read_link(outside()).map_err(|error| {
                    Fault::caused(format!("cannot read the link {path} of the build context"), error)
                })?;
                Kind::Symlink(target.as_os_str().as_bytes().into())
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Device(device(stat, false)),
            FileType::BlockDevice => Kind::Device(device(stat, true)),
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let xattrs = match kind {
            Kind::Symlink(_) | Kind::File { .. } => BTreeMap::new(),
            _ => {
                let outside = outside();
                let list = |names: &mut [u8]| rustix::fs::llistxattr(&outside, names);
                let get = |name: &[u8], value: &mut [u8]| rustix::fs::lgetxattr(&outside, name, value);
                xattrs(rustix::fs::llistxattr_query(&outside), &list, &get)
            }
        };
        let mtime = Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() };
        let metadata = Metadata { mode: stat.st_mode & 0o7777, uid: 0, gid: 0, mtime, xattrs };
        Ok(Some(Entry { kind, metadata }))
    }

    /// Whether the ignore file lets something be seen that is not the store's. A directory that it hides is there if something below it is not.
    fn is_visible(&self, path: &TreePath, is_directory: bool) -> Result<bool, Fault> {
        if self.store.as_ref().is_some_and(|store| path.starts_with(store)) {
            return Ok(false);
        }
        if self.ignore.is_empty() || path.is_root() || !self.ignore.matches(path.as_bytes()) {
            return Ok(true);
        }
        Ok(is_directory && self.ignore.may_reinclude_below(path.as_bytes()) && !self.list(path)?.is_empty())
    }

    fn failed(&self, doing: &str, path: &TreePath, error: Errno) -> Fault {
        failed(doing, &outside(&self.root, path), error)
    }
}

impl Files for Context {
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, Fault> {
        if path.is_root() {
            return Ok(Some(Self::top()));
        }
        let opened = match self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(self.failed("look at", path, error)),
        };
        let stat = rustix::fs::fstat(&opened).map_err(|error| self.failed("look at", path, error))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        if self.is_visible(path, is_directory)? { self.entry(path, &stat) } else { Ok(None) }
    }

    fn list(&self, directory: &TreePath) -> Result<Vec<(Vec<u8>, Entry)>, Fault> {
        let fail = |error| self.failed("list", directory, error);
        let opened = self.open_beneath(directory, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let mut found = Vec::new();
        for item in Dir::read_from(&opened).map_err(fail)? {
            let item = item.map_err(fail)?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = directory.join(name)?;
            let stat = match rustix::fs::statat(&opened, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.failed("look at", &path, error)),
            };
            if !self.is_visible(&path, FileType::from_raw_mode(stat.st_mode).is_dir())? {
                continue;
            }
            if let Some(entry) = self.entry(&path, &stat)? {
                found.push((name.to_vec(), entry));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }
}

impl Hides for Context {
    fn hidden_by(&self, path: &TreePath) -> Option<String> {
        let pattern = self.ignore.left_out_by(path.as_bytes())?;
        outside(&self.root, path).symlink_metadata().is_ok().then_some(pattern)
    }
}

fn device(stat: &Stat, block: bool) -> Device {
    Device { block, major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
}

/// One buffer serves all files: most are smaller than a buffer of their own would be. The end of a file is where there is
/// less than was asked for and as much as its size says. None if the build was cancelled meanwhile.
fn hash(mut file: &File, size: u64, buffer: &mut [u8], cancel: &Cancel) -> std::io::Result<Option<Digest>> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut seen = 0;
    loop {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let count = match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(&buffer[..count]);
        seen += count as u64;
        if count == 0 || (count < buffer.len() && seen == size) {
            return Ok(Some(hasher.finish()));
        }
    }
}

/// How long a list or a value is.
type Length = rustix::io::Result<usize>;

/// The attributes that mean something in another place: those of users, and file capabilities. Labels of the machine's
/// security modules and the marks of its overlays stay behind, and a file system without attributes has none.
fn xattrs(length: Length, list: &dyn Fn(&mut [u8]) -> Length, get: &dyn Fn(&[u8], &mut [u8]) -> Length) -> Xattrs {
    // Most files have none: asking for the length first saves a large buffer for each.
    let Ok(1..) = length else { return BTreeMap::new() };
    let mut names = vec![0_u8; 64 * 1024];
    let Ok(length) = list(&mut names) else { return BTreeMap::new() };
    names.truncate(length);
    let mut found = BTreeMap::new();
    for name in names.split(|&byte| byte == 0) {
        let travels =
            (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")) || name == b"security.capability";
        if !travels {
            continue;
        }
        let mut value = vec![0_u8; 64 * 1024];
        if let Ok(length) = get(name, &mut value) {
            value.truncate(length);
            found.insert(name.to_vec(), value);
        }
    }
    found
}

fn failed(doing: &str, path: &Path, error: Errno) -> Fault {
    Fault::caused(format!("cannot {doing} {}", path.display()), std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat};

    #[test]
    fn what_became_a_pipe_or_a_device_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::open(directory.path(), Ignore::default()).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        mknodat(CWD, directory.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        std::thread::spawn(move || {
            for name in ["pipe", "directory"] {
                let path = TreePath::parse(name.as_bytes()).unwrap();
                let _ = send.send(context.file(&path).map(drop).map_err(|fault| format!("{fault:?}")));
            }
        });
        for name in ["pipe", "directory"] {
            let opened = receive.recv_timeout(std::time::Duration::from_secs(10)).expect("it is not waited for");
            assert!(opened.as_ref().is_err_and(|error| error.contains("no regular file")), "{name}: {opened:?}");
        }
    }
}
