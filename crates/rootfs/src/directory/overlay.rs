//! One layer as overlayfs wants it: deleted files are devices 0:0, directories that hide what is below them carry an
//! attribute.
//!
//! What there is to make is known before the layer is read ([`Difference`]), with paths free of links; so this is a tree
//! without replacements, and the marks come last.

use std::io;

use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::io::Errno;

use super::handle::{LOOK_UP, READ, open_below};
use super::{Directory, node};
use crate::read::{Data, Entries};
use crate::view::difference::Difference;
use crate::{Change, Device, Entry, Kind, Metadata, OverlayXattrs, TreePath};

/// What overlayfs makes of a deleted file.
const WHITEOUT: Device = Device { block: false, major: 0, minor: 0 };

/// The directory of one layer.
pub(crate) struct Overlay<'t, 'd> {
    tree: Directory<'t>,
    difference: &'d Difference,
    /// How many of its files have come.
    written: usize,
}

/// What went wrong with which entry.
type Failed = (TreePath, io::Error);

impl<'t, 'd> Overlay<'t, 'd> {
    /// Makes everything but content and marks in an empty tree.
    pub(crate) fn new(tree: Directory<'t>, difference: &'d Difference) -> Result<Self, Failed> {
        let mut overlay = Self { tree, difference, written: 0 };
        for (path, metadata, _) in &difference.directories {
            overlay.tree.other(path, Change::Directory(metadata)).map_err(|error| (path.clone(), error))?;
        }
        for (path, entry) in &difference.others {
            overlay.make(path, entry).map_err(|error| (path.clone(), error))?;
        }
        Ok(overlay)
    }

    fn make(&mut self, path: &TreePath, Entry { kind, metadata }: &Entry) -> io::Result<()> {
        match kind {
            // It would be taken for a mark.
            Kind::Device(WHITEOUT) => {
                self.tree.writers.attributes().warn("devices", node::NO_DEVICES);
                let metadata = node::placeholder(metadata);
                self.tree.file(path, &metadata, |writers, file| writers.empty(file, path, &metadata))
            }
            Kind::Device(device) => self.tree.other(path, Change::Device(metadata, *device)),
            Kind::Symlink(target) => self.tree.other(path, Change::Symlink(metadata, target)),
            Kind::Fifo => self.tree.other(path, Change::Fifo(metadata)),
            Kind::Directory | Kind::File { .. } => Ok(()),
        }
    }

    /// The layer has been read: further names, marks, and what waits for the end.
    pub(crate) fn finish(mut self, style: OverlayXattrs) -> Result<(), Failed> {
        if self.written != self.difference.files.len() {
            let text = "the layer lacks files that its listing has";
            return Err((TreePath::root(), io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let ignored = Metadata::default();
        for (path, first) in &self.difference.links {
            self.tree.other(path, Change::Hardlink(&ignored, first)).map_err(|error| (path.clone(), error))?;
        }
        for path in &self.difference.whiteouts {
            self.hide(path).map_err(|error| (path.clone(), no_mark(&error)))?;
        }
        for (path, _, _) in self.difference.directories.iter().filter(|(_, _, is_opaque)| *is_opaque) {
            self.hide_below(path, style).map_err(|error| (path.clone(), no_mark(&error)))?;
        }
        self.tree.finish().map_err(|error| (TreePath::root(), error))
    }

    fn hide(&self, path: &TreePath) -> io::Result<()> {
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        let parent = open_below(self.tree.resolver.root(), parent, LOOK_UP)?;
        Ok(rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
    }

    fn hide_below(&self, path: &TreePath, style: OverlayXattrs) -> io::Result<()> {
        let directory = open_below(self.tree.resolver.root(), path.as_bytes(), READ)?;
        Ok(rustix::fs::fsetxattr(&directory, style.opaque(), b"y", XattrFlags::empty())?)
    }
}

impl Entries for Overlay<'_, '_> {
    fn file(&mut self, at: u64, _: &TreePath, metadata: &Metadata, data: &mut Data<'_, '_>) -> io::Result<()> {
        match self.difference.files.get(&at) {
            Some(path) => {
                self.written += 1;
                Entries::file(&mut self.tree, at, path, metadata, data)
            }
            None => Ok(()),
        }
    }

    /// All others are made.
    fn other(&mut self, _: &TreePath, _: Change<'_>) -> io::Result<()> {
        Ok(())
    }
}

fn no_mark(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("overlayfs's mark for deleted files cannot be made here ({error})"))
}

impl OverlayXattrs {
    /// The attribute of a directory that hides what is below it.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
