//! Mounts of the container that a takeover meets: those in a directory go with it, and those that stay are seen by the command,
//! but are in no layer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::exchange::identity;
use super::volumes::mount_point;
use crate::error::Failure;

/// Mount points of every container, at which an image's own files are never seen.
pub(super) const SPECIAL: [&str; 3] = ["proc", "dev", "sys"];
/// Files that every RUN has of its own.
const NETWORK: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// A mount directly upon the root.
pub(super) struct Mount {
    pub(super) path: PathBuf,
    is_read_only: bool,
}

/// The mounts upon the root, but for those that an image has files of its own under.
pub(super) fn upon(root: &OwnedFd) -> Result<Vec<Mount>, Failure> {
    let step = "read /proc/self/mountinfo";
    let text = std::fs::read("/proc/self/mountinfo").map_err(Failure::at(step))?;
    let root = identity(root, OsStr::new("")).map_err(Failure::at(step))?.0.to_string();
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        fields.nth(1).filter(|parent| *parent == root.as_bytes())?;
        let options = fields.nth(3)?;
        let is_read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
        let path = mount_point(line)?;
        let is_special = SPECIAL.iter().any(|special| path.starts_with(Path::new("/").join(special)));
        (!is_special).then_some(Mount { path, is_read_only })
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(mount).collect())
}

/// How a file looks: what shows that it was written to. Of a directory, its entries show that.
#[derive(PartialEq, Eq)]
struct Look {
    mode: u32,
    owner: (u32, u32),
    size_and_change: Option<(u64, i64, i64)>,
}

/// What is in the places where a command can leave something that is in no layer.
pub(super) struct Standing {
    mounts: Vec<(PathBuf, BTreeMap<PathBuf, Look>)>,
    shared: PathBuf,
}

impl Standing {
    /// `hidden` is where everything else of the container is; others write to `shared` at any time.
    pub(super) fn now(root: &OwnedFd, hidden: &Path, shared: &Path) -> Result<Self, Failure> {
        let stays = |mount: &Mount| {
            !mount.is_read_only
                && !mount.path.starts_with(hidden)
                && !NETWORK.iter().any(|file| mount.path == Path::new(file))
        };
        let look = |mount: Mount| {
            let files = looked_at(&mount.path, shared);
            (mount.path, files)
        };
        let mounts = upon(root)?.into_iter().filter(stays).map(look).collect();
        Ok(Self { mounts, shared: shared.to_owned() })
    }

    /// Refuses to lose what the command wrote.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for (mount, before) in &self.mounts {
            let after = looked_at(mount, &self.shared);
            let new = after.iter().find(|(path, look)| before.get(*path) != Some(look)).map(|(path, _)| path);
            if let Some(path) = new.or_else(|| before.keys().find(|path| !after.contains_key(*path))) {
                let (path, mount) = (path.display(), mount.display());
                let what = format!("it changed {path}; {mount} is a volume of this container and in no layer");
                return Err(Failure::new(what, libc::EROFS).hint(way_out(&mount)));
            }
        }
        Ok(())
    }
}

/// What to do about a volume that is in the way.
pub(super) fn way_out(mount: &dyn std::fmt::Display) -> String {
    format!(
        "on this rung {mount} stays what it is outside: use another WORKDIR and another directory in the Dockerfile, or a rung \
         with mounts, such as that of `privileged: true`"
    )
}

fn looked_at(mount: &Path, shared: &Path) -> BTreeMap<PathBuf, Look> {
    let mut looks = BTreeMap::new();
    let mut open = vec![mount.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let is_directory = metadata.is_dir();
        if is_directory && path != shared {
            // What cannot be read by us cannot be written to by what we run.
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        let change = (metadata.size(), metadata.ctime(), metadata.ctime_nsec());
        let look = Look {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            size_and_change: (!is_directory).then_some(change),
        };
        looks.insert(path, look);
    }
    looks
}
