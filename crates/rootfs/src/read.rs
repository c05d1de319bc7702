//! What the entries of a layer say.

use std::io::{self, Read};

use skycap_image::tar::Segment;
use skycap_image::{Layer, tar};

use crate::error::Fault;
use crate::name::{Name, name};
use crate::stream::pool::Slice;
use crate::stream::{LayerTar, read_layer_tar};
use crate::{Change, Device, Limits, Metadata, Time, Tree, TreePath, UnpackError};

/// Streams a layer into a tree: verified, decompressed by content, compared with its diff ID, read to its very end. After
/// an error the tree is worthless.
pub fn read_layer(layer: &Layer, tree: &mut dyn Tree, limits: &Limits) -> Result<(), UnpackError> {
    read_layer_tar(layer, limits, &mut |tar| {
        visit(tar, limits, &mut |_, path, change| tree.apply(path, change))?;
        tree.end_layer().map_err(|source| Fault::Apply { path: TreePath::root(), source })
    })
}

/// Takes the entries of a layer in its order.
pub(crate) trait Entries {
    /// A regular file; its data begins at `at` in the bare tar.
    fn file(&mut self, at: u64, path: &TreePath, metadata: &Metadata, data: &mut Data<'_, '_>) -> io::Result<()>;

    /// Anything else.
    fn other(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()>;
}

/// Takes an entry: where its data begins in the bare tar, its path, what it does.
pub(crate) type Visit<'v> = dyn FnMut(u64, &TreePath, Change<'_>) -> io::Result<()> + 'v;

/// Visits every entry.
pub(crate) fn visit(tar: &mut LayerTar<'_>, limits: &Limits, visit: &mut Visit<'_>) -> Result<(), Fault> {
    struct Visitor<'a, 'v>(&'a mut Visit<'v>);

    impl Entries for Visitor<'_, '_> {
        fn file(&mut self, at: u64, path: &TreePath, metadata: &Metadata, data: &mut Data<'_, '_>) -> io::Result<()> {
            self.0(at, path, Change::File(metadata, data.size(), data))
        }

        fn other(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
            self.0(0, path, change)
        }
    }

    entries(tar, limits, &mut Visitor(visit))
}

/// Hands over every entry.
pub(crate) fn entries(tar: &mut LayerTar<'_>, limits: &Limits, to: &mut dyn Entries) -> Result<(), Fault> {
    let mut count = 0;
    while let Some(header) = tar.next()? {
        count += 1;
        if count > limits.entries {
            return Err(Fault::Limit { limit: limits.entries, what: "entries", name: "entries" });
        }
        entry(&header, tar, limits, to)?;
    }
    Ok(())
}

fn entry(header: &tar::Header, tar: &mut LayerTar<'_>, limits: &Limits, to: &mut dyn Entries) -> Result<(), Fault> {
    check_lengths(header, limits)?;
    let mut say =
        |path: TreePath, change: Change<'_>| to.other(&path, change).map_err(|source| Fault::Apply { path, source });
    let senseless = |what: &str| Fault::Entry { path: header.path.escape_ascii().to_string(), what: what.to_owned() };
    let named = name(&header.path).map_err(|error| error.fault(&header.path))?;
    check_kernel(header).map_err(|what| senseless(&what))?;
    let path = match named {
        Name::Plain(path) => path,
        Name::Whiteout(path) => return say(path, Change::Whiteout),
        Name::Opaque(path) => return say(path, Change::Opaque),
        Name::Ignored => return Ok(()),
    };
    let metadata = metadata(header).map_err(senseless)?;
    let device = |block| Device { block, major: header.device.0, minor: header.device.1 };
    match header.kind {
        tar::Kind::Directory => say(path, Change::Directory(&metadata)),
        tar::Kind::File => {
            let at = tar.data_offset();
            let mut data = Data { tar, size: header.size, failed: None };
            let result = to.file(at, &path, &metadata, &mut data);
            // A fault of the stream, not of the tree, must not look like one of the tree.
            match data.failed {
                Some(error) => Err(error.into()),
                None => result.map_err(|source| Fault::Apply { path, source }),
            }
        }
        tar::Kind::Symlink => say(path, Change::Symlink(&metadata, &header.link)),
        tar::Kind::Hardlink => {
            let target = TreePath::parse(&header.link).map_err(Fault::Name)?;
            if target.is_root() {
                return Err(senseless("a hard link to the root"));
            }
            say(path, Change::Hardlink(&metadata, &target))
        }
        tar::Kind::CharacterDevice => say(path, Change::Device(&metadata, device(false))),
        tar::Kind::BlockDevice => say(path, Change::Device(&metadata, device(true))),
        tar::Kind::Fifo => say(path, Change::Fifo(&metadata)),
    }
}

/// What the kernel takes for a component of a path, for the target of a symbolic link, and for the numbers of a device.
const NAME_MAX: usize = 255;
const LINK_MAX: usize = 4095;
const DEVICE_MAX: (u32, u32) = (0xfff, 0xf_ffff);

fn check_lengths(header: &tar::Header, limits: &Limits) -> Result<(), Fault> {
    let target = if header.kind == tar::Kind::Symlink { limits.path_bytes.min(LINK_MAX) } else { limits.path_bytes };
    for (path, most) in [(&header.path, limits.path_bytes), (&header.link, target)] {
        if path.len() > most {
            return Err(Fault::Limit { limit: most as u64, what: "bytes in a path", name: "path_bytes" });
        }
    }
    let components = |path: &[u8]| path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).count();
    let most = limits.path_components;
    if header.path.len() > most && components(&header.path) > most {
        return Err(Fault::Limit { limit: most as u64, what: "components in a path", name: "path_components" });
    }
    Ok(())
}

/// What no Linux could make would be found out late, or, worse, made as something else.
fn check_kernel(header: &tar::Header) -> Result<(), String> {
    let is_long = |path: &[u8]| path.split(|&byte| byte == b'/').any(|name| name.len() > NAME_MAX);
    if is_long(&header.path) || (header.kind == tar::Kind::Hardlink && is_long(&header.link)) {
        return Err(format!("a component of its name has more than {NAME_MAX} bytes"));
    }
    let (major, minor) = header.device;
    let is_device = matches!(header.kind, tar::Kind::CharacterDevice | tar::Kind::BlockDevice);
    if is_device && (major > DEVICE_MAX.0 || minor > DEVICE_MAX.1) {
        return Err(format!("there is no device number {major}:{minor}"));
    }
    Ok(())
}

/// The data of the current entry; remembers what the stream failed with. Reading gives the whole file, with zeros for
/// holes, until [`Data::take_segments`] is called.
pub(crate) struct Data<'d, 'b> {
    tar: &'d mut LayerTar<'b>,
    size: u64,
    failed: Option<io::Error>,
}

impl Data<'_, '_> {
    /// The file's length, holes included.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// If it is sparse, where its data belongs; reading then gives the stored data only.
    pub(crate) fn take_segments(&mut self) -> Option<Vec<Segment>> {
        self.tar.take_segments()
    }

    /// Gives the stored data away piece by piece.
    pub(crate) fn slices(&mut self, to: &mut dyn FnMut(Slice)) -> io::Result<()> {
        let taken = self.tar.take_stored(|bare, mut left| {
            while left > 0 {
                let slice = bare.slice(left)?;
                left -= slice.len() as u64;
                to(slice);
            }
            Ok(())
        });
        taken.map_err(|error| self.remember(error))
    }

    fn remember(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.failed = Some(error);
        kind.into()
    }
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer).map_err(|error| self.remember(error))
    }
}

fn metadata(header: &tar::Header) -> Result<Metadata, &'static str> {
    // The number with all bits set means "leave it as it is" to the kernel.
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    Ok(Metadata {
        mode: header.mode & 0o7777,
        uid: id(header.uid).ok_or("its owner is not within 0 to 4294967294")?,
        gid: id(header.gid).ok_or("its group is not within 0 to 4294967294")?,
        mtime: Time { seconds: header.mtime, nanoseconds: header.mtime_nanos.min(999_999_999) },
        xattrs: header.xattrs.clone(),
    })
}
