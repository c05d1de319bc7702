//! `ADD` of a local archive: recognised and unpacked by content.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use skycap_image::compress;
use skycap_image::tar;
use skycap_rootfs::{Device, Entry, Kind, LONGEST_PATH, Limits, Metadata, Time, TreePath};
use skycap_sandbox::Cancel;

use crate::changes::{Changes, Content, Item};
use crate::error::{Fault, cancelled};
use crate::files;
use crate::owner::Owner;

/// Whether a file is an archive: a tar, packed or not, whose first entry can be read.
///
/// A packing that cannot be undone here is an error: copying whole what BuildKit unpacks would make another image. One that
/// is broken is no archive, as in BuildKit.
pub(crate) fn is_archive(file: impl Read + Send, name: &[u8]) -> Result<bool, Fault> {
    let first = compress::decoder(file).and_then(|(_, decoded)| Ok(tar::Reader::new(decoded).next()?.is_some()));
    match first {
        Ok(is_archive) => Ok(is_archive),
        Err(error) if is_beyond_us(&error) => {
            let name = String::from_utf8_lossy(name);
            Err(Fault::caused(format!("cannot tell whether {name} is an archive"), error).with_hint(
                "repack it with gzip, zstd or xz at their usual levels, or use COPY if it is to stay packed",
            ))
        }
        Err(_) => Ok(false),
    }
}

/// Whether a stream may be sound, but is packed in a way that is not known here, or wants more memory than it gets.
fn is_beyond_us(error: &io::Error) -> bool {
    // The words of the zstd library, which gives its errors no kind.
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::OutOfMemory)
        || error.to_string().contains("requires too much memory")
}

/// Bytes of files that come in an order that is not the layer's.
pub(crate) struct Spool<'c, W> {
    out: W,
    length: u64,
    /// Nobody may want them any more: large files take long.
    cancel: &'c Cancel,
    /// No more than this: an archive that a server gives may be a bomb.
    most: u64,
}

impl<'c, W: Write> Spool<'c, W> {
    /// Writes to the end of an empty file, until the build is cancelled.
    pub fn new(out: W, cancel: &'c Cancel) -> Self {
        Self { out, length: 0, cancel, most: Limits::default().unpacked_bytes }
    }

    /// Takes a file and says where it begins. No two files begin at one place, since that is what tells them apart.
    pub fn add(&mut self, mut content: impl Read) -> io::Result<(u64, u64)> {
        let (offset, left) = (self.length, self.most.saturating_sub(self.length));
        let mut wanted = Wanted { content: content.by_ref().take(left), cancel: self.cancel };
        let length = io::copy(&mut wanted, &mut self.out)?;
        if length == left && content.read(&mut [0])? != 0 {
            let text = format!("its files hold more than {} bytes", self.most);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.length += length;
        if length == 0 {
            self.out.write_all(b"\0")?;
            self.length += 1;
        }
        Ok((offset, length))
    }

    /// Writes out what is buffered.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Content that is read for as long as the build goes on.
struct Wanted<'c, R> {
    content: R,
    cancel: &'c Cancel,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        self.content.read(buffer)
    }
}

/// Unpacks an archive into a directory of the layer, which is the root for its links. Modes and times are the archive's own;
/// so are owners, unless there is one for everything.
pub(crate) fn unpack<W: Write>(
    archive: impl Read + Send,
    directory: &TreePath,
    owner: Option<Owner>,
    changes: &mut Changes<'_>,
    spool: &mut Spool<'_, W>,
) -> Result<(), Fault> {
    let (_, decoded) = compress::decoder(archive).map_err(broken)?;
    let mut reader = tar::Reader::new(decoded);
    let mut contents: BTreeMap<TreePath, (u64, u64)> = BTreeMap::new();
    let most = Limits::default().entries;
    let mut entries = 0;
    while let Some(header) = reader.next().map_err(broken)? {
        if spool.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        entries += 1;
        if entries > most {
            return Err(Fault::new(format!("the archive cannot be unpacked: it has more than {most} entries")));
        }
        let relative = entry_path(&header.path)?;
        if relative.is_root() {
            continue;
        }
        let path = place(directory, &relative, changes)?;
        let mut metadata = metadata(&header, owner)?;
        let (kind, content) = match header.kind {
            tar::Kind::Directory => (Kind::Directory, Content::None),
            tar::Kind::Symlink => {
                metadata.mode = 0o777;
                (Kind::Symlink(header.link.clone().into()), Content::None)
            }
            tar::Kind::Fifo => (Kind::Fifo, Content::None),
            tar::Kind::CharacterDevice => (Kind::Device(device(&header, false)), Content::None),
            tar::Kind::BlockDevice => (Kind::Device(device(&header, true)), Content::None),
            tar::Kind::File => {
                let added = spool.add(&mut reader);
                let given_up = |error| if spool.cancel.is_cancelled() { Fault::Cancelled } else { broken(error) };
                let (offset, size) = added.map_err(given_up)?;
                contents.insert(path.clone(), (offset, size));
                (Kind::File { size }, Content::Spooled { offset })
            }
            tar::Kind::Hardlink => {
                let target = place(directory, &entry_path(&header.link)?, changes)?;
                let (entry, offset) = linked(&target, changes, &contents)?;
                contents.insert(path.clone(), offset);
                metadata = entry.metadata;
                (entry.kind, Content::Spooled { offset: offset.0 })
            }
        };
        // Over a directory that is there already only its metadata changes; over anything else, the archive wins.
        changes.put(&path, Item { entry: Entry { kind, metadata }, content });
    }
    reader.finish().map_err(broken)
}

/// The path of an entry. One that no layer can hold is refused before it is looked for, component by component.
fn entry_path(bytes: &[u8]) -> Result<TreePath, Fault> {
    let path = TreePath::parse(bytes)?;
    let length = path.as_bytes().len();
    if length > LONGEST_PATH {
        let text = format!("the archive cannot be unpacked: it has a path of {length} bytes, more than {LONGEST_PATH}");
        return Err(Fault::new(text));
    }
    Ok(path)
}

/// Where an entry goes: links on the way are followed and cannot leave the directory; the last component is not followed.
fn place(directory: &TreePath, relative: &TreePath, changes: &mut Changes<'_>) -> Result<TreePath, Fault> {
    let last = relative.file_name().ok_or_else(|| Fault::new("an archive's link leads to its root"))?;
    let parent = relative.parent().unwrap_or_default();
    let parent = files::resolve(&|path| Ok(changes.find(&directory.below(path)).cloned()), &parent)?;
    let parent = directory.below(&parent);
    changes.make_directories(&parent, Owner::default())?;
    Ok(parent.join(last)?)
}

fn linked(
    target: &TreePath,
    changes: &Changes<'_>,
    contents: &BTreeMap<TreePath, (u64, u64)>,
) -> Result<(Entry, (u64, u64)), Fault> {
    let missing = || Fault::new(format!("the archive has a hard link to {target}, which is not a file in it"));
    let offset = contents.get(target).ok_or_else(missing)?;
    Ok((changes.find(target).cloned().ok_or_else(missing)?, *offset))
}

fn metadata(header: &tar::Header, owner: Option<Owner>) -> Result<Metadata, Fault> {
    let id = |number: u64| {
        u32::try_from(number).map_err(|_| Fault::new(format!("the archive names an owner {number} that cannot exist")))
    };
    Ok(Metadata {
        mode: header.mode,
        uid: owner.map_or_else(|| id(header.uid), |owner| Ok(owner.uid))?,
        gid: owner.map_or_else(|| id(header.gid), |owner| Ok(owner.gid))?,
        mtime: Time { seconds: header.mtime, nanoseconds: header.mtime_nanos },
        xattrs: header.xattrs.clone(),
    })
}

fn device(header: &tar::Header, block: bool) -> Device {
    Device { block, major: header.device.0, minor: header.device.1 }
}

#[allow(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn broken(error: io::Error) -> Fault {
    Fault::new(format!("the archive cannot be unpacked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_rootfs::View;

    #[test]
    fn a_path_that_no_layer_holds_is_refused_before_anybody_looks_for_it() {
        let unpacked = |header: tar::Header| {
            let mut archive = tar::Writer::new(Vec::new());
            archive.append(&header, &mut io::empty()).unwrap();
            let cancel = Cancel::new();
            let (below, archive) = (View::new(&[]).unwrap(), archive.finish().unwrap());
            let (mut changes, mut spool) = (Changes::to(&below), Spool::new(io::sink(), &cancel));
            unpack(&archive[..], &TreePath::root(), None, &mut changes, &mut spool)
                .map_err(|fault| fault.at("Dockerfile", 1).to_string())
        };
        let deep = [b"a/".repeat(100_000), b"a".to_vec()].concat();
        let wanted = "Dockerfile:1: the archive cannot be unpacked: it has a path of 200001 bytes, more than 4095";
        let file = tar::Header { path: deep.clone(), ..tar::Header::default() };
        assert_eq!(unpacked(file), Err(wanted.to_owned()));
        let link = tar::Header { path: b"l".to_vec(), link: deep, kind: tar::Kind::Hardlink, ..tar::Header::default() };
        assert_eq!(unpacked(link), Err(wanted.to_owned()));
        let dots = tar::Header { path: [b"./".repeat(3000), b"a".to_vec()].concat(), ..tar::Header::default() };
        assert_eq!(unpacked(dots), Ok(()));
    }

    #[test]
    fn empty_files_begin_where_no_other_does() {
        let mut bytes = Vec::new();
        let cancel = Cancel::new();
        let mut spool = Spool::new(&mut bytes, &cancel);
        let added: Vec<_> = ["", "one", "", "", "two"].iter().map(|text| spool.add(text.as_bytes()).unwrap()).collect();
        spool.finish().unwrap();
        let mut places: Vec<u64> = added.iter().map(|(offset, _)| *offset).collect();
        places.dedup();
        assert_eq!(places.len(), 5);
        for ((offset, size), text) in added.into_iter().zip(["", "one", "", "", "two"]) {
            let (offset, size) = (usize::try_from(offset).unwrap(), usize::try_from(size).unwrap());
            assert_eq!(&bytes[offset..offset + size], text.as_bytes());
        }
    }

    /// Content without an end, of a build that is cancelled when some of it was read.
    struct Endless<'c>(&'c Cancel, u32);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            assert!(self.1 < 100, "it is read on");
            if self.1 == 3 {
                self.0.cancel();
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn of_a_cancelled_build_nothing_more_is_unpacked() {
        let cancel = Cancel::new();
        let mut spool = Spool::new(io::sink(), &cancel);
        let added = spool.add(Endless(&cancel, 0));
        assert_eq!(added.unwrap_err().to_string(), "the build was cancelled");
    }
}
