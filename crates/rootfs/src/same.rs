//! What a RUN touched and left as it was is not in its layer.
//!
//! A program that opens a file for writing, gives it the owner and the mode that it has, or makes a further name for it and
//! removes that again, brings it into an overlay's upper directory; in a whole tree it leaves a trace in the time of the last
//! change of status, or none. BuildKit's layers have such files no more than ours: the answer must not depend on what a RUN
//! stands on. Of what has several names, all are written, so that the layer keeps them together.
//!
//! Same means metadata, the time of modification to the nanosecond, and every byte: a time can be set back.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{FileType, OFlags};
use skycap_image::Layer;

use crate::directory::handle::{file_type, open_below};
use crate::scan::{Content, Scanned};
use crate::{Entry, Kind, Recorded, TreePath, View};

/// For reading what is perhaps no regular file.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What the bytes of files are compared with.
pub(crate) enum Below {
    /// The lower directories of an overlay, topmost first.
    Directories(Vec<OwnedFd>),
    /// It is done: these are the same.
    Compared(BTreeSet<TreePath>),
}

impl Below {
    pub(crate) fn directories(lowers: &[PathBuf]) -> io::Result<Self> {
        lowers.iter().map(|lower| crate::directory::open_root(lower)).collect::<io::Result<_>>().map(Self::Directories)
    }

    /// Of a whole tree, in which only what was touched is looked at: the layers below are read for it.
    pub(crate) fn of_tree(tree: &OwnedFd, view: &View, before: &Recorded, layers: &[Layer]) -> io::Result<Self> {
        let mut same = BTreeSet::new();
        let touched = before.touched(tree)?;
        let may_be = |path: &TreePath| view.lookup(path).is_some_and(|entry| is_like(tree, path, entry));
        let paths: Vec<TreePath> = touched.into_iter().filter(may_be).collect();
        let compared = view.contents(&paths, layers, &mut |paths, _, content| {
            // One file of a layer may have become several.
            let mut files = Vec::new();
            for path in paths {
                files.push((*path, File::from(open_below(tree, path.as_bytes(), READ)?)));
            }
            compare(content, &mut files)?;
            same.extend(files.into_iter().map(|(path, _)| path.clone()));
            Ok(())
        });
        compared.map_err(io::Error::other)?;
        Ok(Self::Compared(same))
    }

    /// Whether something on disk is what the view has there.
    pub(crate) fn has(&self, path: &TreePath, entry: &Entry, scanned: &Scanned) -> io::Result<bool> {
        if scanned.identity.is_some() || entry.metadata != scanned.metadata {
            return Ok(false);
        }
        match (&entry.kind, &scanned.content) {
            (Kind::File { size }, Content::File(file, length)) => Ok(size == length && self.holds(path, file, *size)?),
            (Kind::Symlink(one), Content::Symlink(other)) => Ok(**one == **other),
            (Kind::Device(one), Content::Device(other)) => Ok(one == other),
            (Kind::Fifo, Content::Fifo) => Ok(true),
            _ => Ok(false),
        }
    }

    fn holds(&self, path: &TreePath, file: &File, size: u64) -> io::Result<bool> {
        let lowers = match self {
            Self::Compared(same) => return Ok(same.contains(path)),
            Self::Directories(lowers) => lowers,
        };
        for lower in lowers {
            // The topmost directory that has it is where the view has it from.
            let Ok(below) = open_below(lower, path.as_bytes(), READ) else { continue };
            let stat = rustix::fs::fstat(&below)?;
            if file_type(&stat) != FileType::RegularFile || u64::try_from(stat.st_size) != Ok(size) {
                return Ok(false);
            }
            let mut files = vec![((), file)];
            compare(&mut File::from(below), &mut files)?;
            return Ok(!files.is_empty());
        }
        Ok(false)
    }
}

/// Whether a file of a tree may be what the view has, as far as can be seen from outside.
fn is_like(tree: &OwnedFd, path: &TreePath, entry: &Entry) -> bool {
    let stat = open_below(tree, path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        .and_then(|file| Ok(rustix::fs::fstat(file)?));
    let Ok(stat) = stat else { return false };
    let Kind::File { size } = entry.kind else { return false };
    file_type(&stat) == FileType::RegularFile
        && stat.st_nlink == 1
        && u64::try_from(stat.st_size) == Ok(size)
        && stat.st_mtime == entry.metadata.mtime.seconds
}

/// Keeps those files that hold what is read, and nothing more. They are read from their beginning, wherever they stand.
fn compare<K, F: std::borrow::Borrow<File>>(mut content: impl Read, files: &mut Vec<(K, F)>) -> io::Result<()> {
    let (mut read, mut other) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut at = 0;
    while !files.is_empty() {
        let count = match content.read(&mut read) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        if count == 0 {
            files.retain(|(_, file)| matches!(file.borrow().read_at(&mut other[..1], at), Ok(0)));
            return Ok(());
        }
        let (read, other) = (&read[..count], &mut other[..count]);
        files.retain(|(_, file)| file.borrow().read_exact_at(other, at).is_ok() && read == other);
        at += count as u64;
    }
    Ok(())
}
