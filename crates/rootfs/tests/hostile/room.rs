//! The test room: a place to unpack with traps around it, and proof that none of them was touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use skycap_image::Digest;

use crate::identity::is_full;
use crate::tree;

/// Files around the target. `p/rootfs` is the target; `p/rootfs-evil` begins with its name.
const CANARIES: [&str; 9] = [
    "canary",
    "victim/hello",
    "victim/dir/deep",
    "p/canary",
    "p/victim/hello",
    "p/victim/dir/deep",
    "p/rootfs-evil/secret",
    "etc/passwd",
    "p/etc/passwd",
];

/// A fresh directory, as hostile layers would like to leave it.
pub(crate) struct Room {
    directory: Option<tempfile::TempDir>,
    path: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Room {
    pub(crate) fn new() -> Self {
        working_directory();
        let directory = temporary("skycap-room-");
        let path = directory.path().to_owned();
        for (number, file) in CANARIES.iter().enumerate() {
            let file = path.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, format!("the content of {}", file.display())).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode([0o644, 0o600, 0o4711][number % 3])).unwrap();
        }
        symlink("victim", path.join("p/link")).unwrap();
        // Where attributes are possible, losing one must be noticed.
        let _ = rustix::fs::setxattr(path.join("p/canary"), "user.canary", b"sings", rustix::fs::XattrFlags::empty());
        let before = outside(&path, &[]);
        Self { directory: Some(directory), path, before }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where to unpack.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("p/rootfs")
    }

    /// What has changed outside of `p/rootfs` and of other names beside it that a test used; nothing if all is well.
    pub(crate) fn changes(&self, own: &[&str]) -> Result<(), String> {
        let after = outside(&self.path, own);
        if after == self.before {
            return Ok(());
        }
        let mut text = "something outside the root changed:".to_owned();
        for path in self.before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (before, after) = (self.before.get(path), after.get(path));
            if before != after {
                write!(text, "\n  {}: {before:?} became {after:?}", path.display()).unwrap();
            }
        }
        Err(text)
    }
}

/// Everything in a room but the root, and the working directory: type, mode, owner, times, links, attributes, content. The
/// inode's own time betrays whatever was changed and changed back. Only the target's parent may have new times, since the
/// target appears in it.
fn outside(room: &Path, own: &[&str]) -> BTreeMap<PathBuf, String> {
    let own: Vec<PathBuf> = own.iter().chain(&["rootfs"]).map(|name| room.join("p").join(name)).collect();
    let mut found = BTreeMap::new();
    let mut pending = vec![room.to_owned(), working_directory().to_owned()];
    while let Some(path) = pending.pop() {
        if own.contains(&path) {
            continue;
        }
        let stat = fs::symlink_metadata(&path).unwrap();
        let mut text = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
        if path != room.join("p") {
            let (modified, changed) = ((stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()));
            write!(text, " {} links {modified:?} {changed:?}", stat.nlink()).unwrap();
        }
        if stat.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if stat.is_symlink() {
            write!(text, " -> {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii()).unwrap();
        } else if stat.is_file() {
            write!(text, " {}", Digest::sha256(&fs::read(&path).unwrap())).unwrap();
        }
        text.push_str(&tree::attributes(&path));
        found.insert(path, text);
    }
    found
}

/// A temporary directory: in memory where files there can have attributes, unless everything is to be done, and for real.
pub(crate) fn temporary(prefix: &str) -> tempfile::TempDir {
    static IN_MEMORY: OnceLock<bool> = OnceLock::new();
    let make = |directory: &Path| tempfile::Builder::new().prefix(prefix).tempdir_in(directory);
    let in_memory = *IN_MEMORY.get_or_init(|| {
        let attribute = |directory: tempfile::TempDir| {
            rustix::fs::setxattr(directory.path(), "user.try", b"1", rustix::fs::XattrFlags::empty()).is_ok()
        };
        !is_full() && make(Path::new("/dev/shm")).is_ok_and(attribute)
    });
    let standard = Path::new("/dev/shm");
    if in_memory { make(standard).unwrap() } else { tempfile::Builder::new().prefix(prefix).tempdir().unwrap() }
}

/// The working directory of this process: it holds a secret, which a hard link might be resolved against.
fn working_directory() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = temporary("skycap-cwd-");
        fs::create_dir(directory.path().join("etc")).unwrap();
        for file in ["secret", "etc/passwd", "canary"] {
            fs::write(directory.path().join(file), "of the working directory").unwrap();
        }
        std::env::set_current_dir(directory.path()).unwrap();
        directory
    });
    directory.path()
}

impl Drop for Room {
    fn drop(&mut self) {
        // Directories without rights, and trees deeper than the standard library removes.
        let Some(directory) = self.directory.take() else { return };
        if fs::remove_dir_all(&self.path).is_err() {
            let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.path).output();
            let _ = Command::new("rm").arg("-rf").arg(&self.path).output();
        }
        let _ = directory.keep();
    }
}
