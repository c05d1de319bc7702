//! Finding the parent directory of an entry, inside the root.
//!
//! Links in an image lead to places inside the root, as they would after `chroot`: `openat2` with `RESOLVE_IN_ROOT` does
//! that in one step that nobody can race. Where it is missing, or where a parent has yet to be made, [`Resolver::walk`]
//! goes name by name, opens each without following, and reads links itself; it never uses the kernel's `..`.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::handle::{LONGEST_PIECE, LOOK_UP, again, below, file_type, open_below};

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
/// Open directories that are remembered.
const CACHED: usize = 16;

/// An open directory of the tree.
pub(super) struct Parent {
    /// Opened with [`LOOK_UP`].
    pub(super) fd: OwnedFd,
    /// Its inode number, its identity within the tree.
    pub(super) inode: u64,
}

/// What a walk does at a name that is not there.
pub(super) enum Missing {
    /// It fails.
    Absent,
    /// It makes a directory; the walk then goes on in it.
    Make,
}

/// Decides about missing names on a walk.
pub(super) trait Maker {
    /// `path` is the missing directory, free of links.
    fn missing(&mut self, path: &[u8]) -> Missing;
    /// A directory was made at this path.
    fn made(&mut self, path: &[u8], directory: &Parent) -> io::Result<()>;
}

pub(super) struct Resolver {
    root: OwnedFd,
    use_openat2: bool,
    /// Directories opened lately. Dropped as soon as anything is removed from the tree, so that a path cannot lead to what
    /// it once meant (tokio-tar GHSA-3wgq-wrwc-vqmv).
    cache: HashMap<Box<[u8]>, Rc<Parent>>,
}

impl Resolver {
    /// Resolves below `root`.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, use_openat2: true, cache: HashMap::new() }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Something was removed or replaced: remembered paths may mean something else now.
    pub(super) fn forget(&mut self) {
        self.cache.clear();
    }

    /// The directory at `path`, links followed inside the root. Names that are missing are up to `maker`.
    pub(super) fn directory(&mut self, path: &[u8], maker: &mut dyn Maker) -> io::Result<Rc<Parent>> {
        if let Some(found) = self.cache.get(path) {
            return Ok(Rc::clone(found));
        }
        let parent = Rc::new(match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.walk(path, maker)?,
            other => other?,
        });
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(path.into(), Rc::clone(&parent));
        Ok(parent)
    }

    fn open(&mut self, path: &[u8]) -> io::Result<Parent> {
        if let Some(directory) = self.below_known(path) {
            return parent(directory);
        }
        // The kernel takes no longer paths in one call.
        if self.use_openat2 && path.len() <= LONGEST_PIECE {
            let path = if path.is_empty() { b"." } else { path };
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match again(|| rustix::fs::openat2(&self.root, path, LOOK_UP, Mode::empty(), how)) {
                Err(Errno::NOSYS | Errno::PERM) => self.use_openat2 = false,
                other => return parent(other?),
            }
        }
        self.walk(path, &mut Nobody)
    }

    /// A directory in one that is remembered, so that a deep tree costs no more than a flat one. Links are for others.
    fn below_known(&self, path: &[u8]) -> Option<OwnedFd> {
        let slash = path.iter().rposition(|&byte| byte == b'/')?;
        let known = self.cache.get(&path[..slash])?;
        rustix::fs::openat(&known.fd, &path[slash + 1..], LOOK_UP | OFlags::NOFOLLOW, Mode::empty()).ok()
    }

    /// Goes name by name. `real` is where it has come to, free of links.
    fn walk(&self, path: &[u8], maker: &mut dyn Maker) -> io::Result<Parent> {
        let mut left: VecDeque<Vec<u8>> = names(path).map(<[u8]>::to_vec).collect();
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut at = open_below(&self.root, b"", LOOK_UP)?;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == b".." {
                real.pop();
                at = open_below(&self.root, &real.join(&b'/'), LOOK_UP)?;
                continue;
            }
            let target = match step(&at, &name, &real, maker)? {
                Step::Into(child) => {
                    at = child;
                    real.push(name);
                    continue;
                }
                Step::Link(target) => target,
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            if target.starts_with(b"/") {
                real.clear();
                at = open_below(&self.root, b"", LOOK_UP)?;
            }
            for name in names(&target).rev() {
                left.push_front(name.to_vec());
            }
        }
        parent(at)
    }
}

fn step(at: &OwnedFd, name: &[u8], real: &[Vec<u8>], maker: &mut dyn Maker) -> io::Result<Step> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let child = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return missing(at, name, real, maker),
        other => other?,
    };
    match file_type(&rustix::fs::fstat(&child)?) {
        FileType::Directory => Ok(Step::Into(child)),
        FileType::Symlink => Ok(Step::Link(rustix::fs::readlinkat(&child, "", Vec::new())?.into_bytes())),
        _ => Err(Errno::NOTDIR.into()),
    }
}

fn missing(at: &OwnedFd, name: &[u8], real: &[Vec<u8>], maker: &mut dyn Maker) -> io::Result<Step> {
    let path = below(&real.join(&b'/'), name);
    match maker.missing(&path) {
        Missing::Absent => Err(Errno::NOENT.into()),
        Missing::Make => {
            rustix::fs::mkdirat(at, name, Mode::RWXU)?;
            let child = parent(super::handle::open_child(at, name, LOOK_UP)?)?;
            maker.made(&path, &child)?;
            Ok(Step::Into(child.fd))
        }
    }
}

enum Step {
    Into(OwnedFd),
    Link(Vec<u8>),
}

/// Makes nothing.
pub(super) struct Nobody;

impl Maker for Nobody {
    fn missing(&mut self, _: &[u8]) -> Missing {
        Missing::Absent
    }

    fn made(&mut self, _: &[u8], _: &Parent) -> io::Result<()> {
        Ok(())
    }
}

fn parent(fd: OwnedFd) -> io::Result<Parent> {
    let inode = rustix::fs::fstat(fd.as_fd())?.st_ino;
    Ok(Parent { fd, inode })
}

/// The names of a path in an archive or a link; `.` and empty ones say nothing.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    struct MakeAll;

    impl Maker for MakeAll {
        fn missing(&mut self, _: &[u8]) -> Missing {
            Missing::Make
        }

        fn made(&mut self, _: &[u8], _: &Parent) -> io::Result<()> {
            Ok(())
        }
    }

    fn resolver(root: &Path, use_openat2: bool) -> Resolver {
        Resolver { use_openat2, ..Resolver::new(std::fs::File::open(root).unwrap().into()) }
    }

    #[test]
    fn links_lead_to_places_inside_the_root_with_and_without_openat2() {
        for use_openat2 in [true, false] {
            let outside = tempfile::tempdir().unwrap();
            let root = outside.path().join("root");
            std::fs::create_dir_all(root.join("usr/bin")).unwrap();
            std::fs::create_dir_all(root.join("run")).unwrap();
            std::fs::create_dir_all(outside.path().join("victim")).unwrap();
            std::fs::write(root.join("file"), "").unwrap();
            for (name, target) in [
                ("bin", "usr/bin"),
                ("absolute", "/run"),
                ("climbing", "/../../../run"),
                ("relative", "../../run"),
                ("usr/up", "../../../../run"),
                ("loop", "loop"),
                ("out", "../victim"),
            ] {
                symlink(target, root.join(name)).unwrap();
            }
            let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(root.join(path)).unwrap());
            let mut resolver = resolver(&root, use_openat2);
            for (path, expected) in [
                ("", Ok(inode("."))),
                ("bin", Ok(inode("usr/bin"))),
                ("absolute", Ok(inode("run"))),
                ("climbing", Ok(inode("run"))),
                ("relative", Ok(inode("run"))),
                ("usr/up", Ok(inode("run"))),
                ("loop", Err(Errno::LOOP)),
                ("file", Err(Errno::NOTDIR)),
                ("file/below", Err(Errno::NOTDIR)),
                ("none", Err(Errno::NOENT)),
                ("out", Err(Errno::NOENT)),
            ] {
                let found = resolver.directory(path.as_bytes(), &mut Nobody).map(|parent| parent.inode);
                let found = found.map_err(|error| Errno::from_io_error(&error).unwrap());
                assert_eq!(found, expected, "{path}, openat2: {use_openat2}");
            }
        }
    }

    #[test]
    fn missing_parents_are_made_inside_the_root_even_behind_links() {
        for use_openat2 in [true, false] {
            let outside = tempfile::tempdir().unwrap();
            let root = outside.path().join("root");
            std::fs::create_dir(&root).unwrap();
            symlink("../../etc/deep", root.join("dangling")).unwrap();
            let mut resolver = resolver(&root, use_openat2);
            resolver.directory(b"dangling/x", &mut MakeAll).unwrap();
            assert!(root.join("etc/deep/x").is_dir());
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        }
    }
}
