//! Files become a layer.
//!
//! The bytes of a layer depend on its entries and on nothing else. Times are written as they are given, with a PAX record
//! only where there are nanoseconds; whoever wants round or fixed times gives such ones. Access and change times, user
//! names and device numbers of the disk are never written.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::Path;

use skycap_image::tar::{Header, Kind as TarKind, Writer};

use crate::directory::handle::list;
use crate::scan::{Content, Scanned, open_directory, scan};
use crate::{Change, Device, Metadata, Owners, Tree, TreePath};

/// The bytes of the longest path that a layer is written with: what Linux takes in one piece. Longer paths can be made step
/// by step, but no other program could unpack them.
pub const LONGEST_PATH: usize = 4095;

/// Writes a layer as a bare tar. The same calls make the same bytes.
pub struct Pack<W: Write> {
    tar: Writer<W>,
    entries: usize,
}

impl<W: Write> Pack<W> {
    /// An empty layer. `out` should be buffered.
    pub fn new(out: W) -> Self {
        Self { tar: Writer::new(out), entries: 0 }
    }

    /// Adds an entry. The caller sorts: parents first, hard links after the file they name.
    ///
    /// A name that begins with `.wh.` is an error, because readers would take it for a whiteout; so is a path of more than
    /// 4,095 bytes.
    pub fn add(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        if let Some(marker) = path.components().find(|name| name.starts_with(b".wh.")) {
            let text = format!("{path}: a layer cannot hold a file named {}", marker.escape_ascii());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let name = path.as_bytes();
        if name.len() > LONGEST_PATH {
            let text = format!("{path}: a path of {} bytes is longer than {LONGEST_PATH}", name.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.entries += 1;
        match change {
            Change::Directory(metadata) => self.tar.entry(&header(directory_name(name), TarKind::Directory, metadata)),
            Change::File(metadata, size, data) => {
                self.tar.append(&Header { size, ..header(name, TarKind::File, metadata) }, data)
            }
            Change::Symlink(metadata, target) => {
                self.tar.entry(&Header { link: target.to_vec(), ..header(name, TarKind::Symlink, metadata) })
            }
            Change::Hardlink(metadata, target) => {
                // Attributes belong to the file, which has them already.
                let metadata = Metadata { xattrs: std::collections::BTreeMap::new(), ..metadata.clone() };
                let link = target.as_bytes().to_vec();
                self.tar.entry(&Header { link, ..header(name, TarKind::Hardlink, &metadata) })
            }
            Change::Device(metadata, Device { block, major, minor }) => {
                let kind = if block { TarKind::BlockDevice } else { TarKind::CharacterDevice };
                self.tar.entry(&Header { device: (major, minor), ..header(name, kind, metadata) })
            }
            Change::Fifo(metadata) => self.tar.entry(&header(name, TarKind::Fifo, metadata)),
            Change::Whiteout => self.marker(path.split().map(|(parent, name)| (parent, [b".wh.", name].concat()))),
            Change::Opaque => self.marker(Some((name, b".wh..wh..opq".to_vec()))),
        }
    }

    /// Hides what lower layers have at this path.
    pub fn whiteout(&mut self, path: &TreePath) -> io::Result<()> {
        self.add(path, Change::Whiteout)
    }

    /// Hides what lower layers have in this directory.
    pub fn opaque(&mut self, path: &TreePath) -> io::Result<()> {
        self.add(path, Change::Opaque)
    }

    /// How many entries there are so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Ends the archive.
    pub fn finish(self) -> io::Result<W> {
        self.tar.finish()
    }

    fn marker(&mut self, place: Option<(&[u8], Vec<u8>)>) -> io::Result<()> {
        let (parent, name) = place.ok_or_else(|| crate::directory::invalid("the root cannot be hidden"))?;
        let path = if parent.is_empty() { name } else { [parent, b"/", &name].concat() };
        self.tar.entry(&Header { mode: 0, ..Header::file(path, 0) })
    }
}

impl<W: Write> Tree for Pack<W> {
    fn apply(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        self.add(path, change)
    }
}

fn header(path: impl Into<Vec<u8>>, kind: TarKind, metadata: &Metadata) -> Header {
    Header {
        path: path.into(),
        kind,
        mode: metadata.mode & 0o7777,
        uid: metadata.uid.into(),
        gid: metadata.gid.into(),
        mtime: metadata.mtime.seconds,
        mtime_nanos: metadata.mtime.nanoseconds,
        xattrs: metadata.xattrs.clone(),
        ..Header::default()
    }
}

/// With a slash at the end, which is how every tool writes it; the root is `./`.
fn directory_name(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() }
}

/// Adds everything in a directory on disk below `prefix`, sorted, and returns the number of entries. The directory itself
/// becomes the entry of `prefix`; with the root as prefix it becomes none. `adjust` may change what is recorded of each file.
/// With [`Owners::Squash`] everything belongs to 0:0. Sockets are left out.
pub fn pack_directory<W: Write>(
    directory: &Path,
    prefix: &TreePath,
    owners: Owners,
    adjust: &dyn Fn(&TreePath, &mut Metadata),
    pack: &mut Pack<W>,
) -> io::Result<usize> {
    let before = pack.entries();
    let root = crate::directory::open_root(directory)?;
    let mut walk = Walk { root, prefix, owners, adjust, pack, files: HashMap::new() };
    walk.directory(&TreePath::root())?;
    Ok(pack.entries() - before)
}

struct Walk<'w, W: Write> {
    root: std::os::fd::OwnedFd,
    prefix: &'w TreePath,
    owners: Owners,
    adjust: &'w dyn Fn(&TreePath, &mut Metadata),
    pack: &'w mut Pack<W>,
    /// Names of files that have several, by device and inode.
    files: HashMap<(u64, u64), TreePath>,
}

impl<W: Write> Walk<'_, W> {
    /// Paths are below `root`, as deep as the kernel's longest path.
    fn directory(&mut self, path: &TreePath) -> io::Result<()> {
        let mut pending = vec![path.clone()];
        while let Some(path) = pending.pop() {
            let directory = match path.split() {
                None => {
                    let root = open_directory(&self.root, &TreePath::root())?;
                    if !self.prefix.is_root() {
                        self.add(&path, scan(&root, b".")?)?;
                    }
                    root
                }
                Some((parent, name)) => {
                    let parent = open_directory(&self.root, &TreePath::parse(parent).map_err(io::Error::other)?)?;
                    let scanned = scan(&parent, name).map_err(|error| named(&path, &error))?;
                    let is_directory = matches!(scanned, Some(Scanned { content: Content::Directory(_), .. }));
                    self.add(&path, scanned).map_err(|error| named(&path, &error))?;
                    if !is_directory {
                        continue;
                    }
                    open_directory(&self.root, &path)?
                }
            };
            let mut names: Vec<Vec<u8>> = list(&directory)?.into_iter().map(|child| child.name).collect();
            names.sort_unstable_by(|a, b| b.cmp(a));
            for name in names {
                pending.push(path.join(&name).map_err(io::Error::other)?);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &TreePath, scanned: Option<Scanned>) -> io::Result<()> {
        let Some(mut scanned) = scanned else { return Ok(()) };
        if self.owners == Owners::Squash {
            (scanned.metadata.uid, scanned.metadata.gid) = (0, 0);
        }
        let path = TreePath::from_components(self.prefix.components().chain(path.components()));
        (self.adjust)(&path, &mut scanned.metadata);
        add_scanned(self.pack, &path, scanned, &mut self.files)
    }
}

/// Adds what was found on disk; a file that was added under another name becomes a hard link.
pub(crate) fn add_scanned<W: Write>(
    pack: &mut Pack<W>,
    path: &TreePath,
    scanned: Scanned,
    files: &mut HashMap<(u64, u64), TreePath>,
) -> io::Result<()> {
    let Scanned { metadata, content, identity, .. } = scanned;
    if let Some(identity) = identity {
        if let Some(first) = files.get(&identity) {
            return pack.add(path, Change::Hardlink(&metadata, first));
        }
        files.insert(identity, path.clone());
    }
    match content {
        Content::Directory(_) => pack.add(path, Change::Directory(&metadata)),
        Content::File(mut file, size) => pack.add(path, Change::File(&metadata, size, &mut Buffered::new(&mut file))),
        Content::Symlink(target) => pack.add(path, Change::Symlink(&metadata, &target)),
        Content::Device(device) => pack.add(path, Change::Device(&metadata, device)),
        Content::Fifo => pack.add(path, Change::Fifo(&metadata)),
    }
}

/// Says which file an error is about.
pub(crate) fn named(path: &TreePath, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Reads a file in large pieces.
struct Buffered<'f>(io::BufReader<&'f mut std::fs::File>);

impl<'f> Buffered<'f> {
    fn new(file: &'f mut std::fs::File) -> Self {
        Self(io::BufReader::with_capacity(128 * 1024, file))
    }
}

impl Read for Buffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
