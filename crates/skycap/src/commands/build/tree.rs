//! The files of an image, in a directory or as a tar.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::{Image, Layer, Placed};
use skycap_rootfs::{Change, Entry, Kind, Limits, Owners, Pack, TreePath, Unpack, View, unpack_until};
use skycap_store::{Store, Temporary};

use crate::commands::Context;
use crate::failure::Failure;
use crate::report::Notices;

/// How many layers are read at once.
const LAYERS_AT_ONCE: usize = 4;
const BUFFER: usize = 1 << 20;

/// An image and the directory below the root that its files go to; empty is the root itself.
pub type Rooted<'i> = (&'i Image, String);

/// Puts the files into a directory, which need not exist. What is there stays unless a file of the image has its name, or
/// `delete` says that nothing else is wanted. All belongs to who asks.
pub fn into_directory(images: &[Rooted<'_>], dir: &Path, delete: bool, context: &Context) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::because(format!("cannot write the files to {}", dir.display()), error)
    };
    fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    let staged = Temporary::create(dir, ".skycap-files-").map_err(|error| failed(&error))?;
    let options =
        Unpack { owners: Owners::Squash, concurrency: LAYERS_AT_ONCE, limits: Limits::default(), sync: false };
    let tree = staged.path().join("tree");
    fs::create_dir(&tree).map_err(|error| failed(&error))?;
    for (image, below) in images {
        let at = if below.is_empty() { staged.path().join("only") } else { tree.join(below) };
        let notices = Notices(Arc::clone(&context.progress));
        unpack_until(&image.layers(), &at, &options, &notices, &|| context.cancel.is_cancelled())
            .map_err(|error| failed(&error))?;
    }
    let from = if images.iter().any(|(_, below)| below.is_empty()) { staged.path().join("only") } else { tree };
    let keep = staged.path().file_name().map(OsString::from);
    merge(&from, dir, delete, keep.as_ref()).map_err(|error| failed(&error))
}

/// Moves what is in `from` into `to`. Nothing is followed: a link in the way is replaced.
fn merge(from: &Path, to: &Path, delete: bool, keep: Option<&OsString>) -> io::Result<()> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        names.insert(entry.file_name());
        let there = match fs::symlink_metadata(&target) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match there {
            Some(there) if there.is_dir() && entry.file_type()?.is_dir() => {
                fs::set_permissions(&target, entry.metadata()?.permissions())?;
                merge(&source, &target, delete, None)?;
            }
            Some(there) => {
                if there.is_dir() {
                    fs::remove_dir_all(&target)?;
                } else {
                    fs::remove_file(&target)?;
                }
                fs::rename(&source, &target)?;
            }
            None => fs::rename(&source, &target)?,
        }
    }
    if delete {
        for entry in fs::read_dir(to)?.collect::<io::Result<Vec<_>>>()? {
            if names.contains(&entry.file_name()) || keep == Some(&entry.file_name()) {
                continue;
            }
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    Ok(())
}

/// Writes a tar of the files to a file, which appears whole, or to standard output.
pub fn into_tar(images: &[Rooted<'_>], file: Option<&PathBuf>, store: &Store) -> Result<(), Failure> {
    let Some(path) = file else {
        let out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
        pack(images, out, store)?.flush()?;
        return Ok(());
    };
    let failed = |error: io::Error| Failure::because(format!("cannot write {}", path.display()), &error);
    let mut placed = Placed::open(path).map_err(failed)?;
    pack(images, BufWriter::with_capacity(BUFFER, &mut placed), store)?.flush().map_err(failed)?;
    placed.commit(0o644).map_err(failed)
}

fn pack<W: Write>(images: &[Rooted<'_>], out: W, store: &Store) -> Result<W, Failure> {
    let mut pack = Pack::new(out);
    for (image, below) in images {
        let layers = image.layers();
        let indexes = layers.iter().map(|layer| store.layer_index(layer)).collect::<Result<Vec<_>, _>>()?;
        let view = View::new(&indexes)?;
        write_view(&view, &layers, below, &mut pack)?;
    }
    Ok(pack.finish()?)
}

/// What needs no content first, then files in the order in which their layers hold them, then further names of them.
fn write_view<W: Write>(view: &View, layers: &[Layer], below: &str, pack: &mut Pack<W>) -> Result<(), Failure> {
    let at = |path: &TreePath| TreePath::parse([below.as_bytes(), b"/", path.as_bytes()].concat().as_slice());
    let (mut files, mut known, mut links) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (path, entry) in view.walk(&TreePath::root()) {
        if path.is_root() && below.is_empty() {
            continue;
        }
        if !entry.is_directory()
            && let Some(inode) = view.inode_of(&path)
            && let Some(first) = known.insert(inode, path.clone())
        {
            known.insert(inode, first.clone());
            links.push((path, first, entry));
            continue;
        }
        if entry.is_file() { files.push(path) } else { add(pack, &at(&path)?, entry)? }
    }
    view.contents(&files, layers, &mut |paths, entry, data| {
        let Kind::File { size } = entry.kind else { return Ok(()) };
        for path in paths.iter().take(1) {
            let path = at(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            pack.add(&path, Change::File(&entry.metadata, size, &mut *data))?;
        }
        Ok(())
    })?;
    for (path, first, entry) in links {
        pack.add(&at(&path)?, Change::Hardlink(&entry.metadata, &at(&first)?))?;
    }
    Ok(())
}

fn add<W: Write>(pack: &mut Pack<W>, path: &TreePath, entry: &Entry) -> io::Result<()> {
    let metadata = &entry.metadata;
    match &entry.kind {
        Kind::Directory => pack.add(path, Change::Directory(metadata)),
        Kind::Symlink(target) => pack.add(path, Change::Symlink(metadata, target)),
        Kind::Device(device) => pack.add(path, Change::Device(metadata, *device)),
        Kind::Fifo => pack.add(path, Change::Fifo(metadata)),
        Kind::File { .. } => Ok(()),
    }
}
