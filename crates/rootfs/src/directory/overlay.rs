//! One layer as overlayfs wants it.
//!
//! In an overlay the uppermost directory decides mode, owner and attributes, and hides a link of the same name. So a
//! parent that the layer does not describe is made a copy of the one below it, and where there is a link below, the entry
//! goes to where that link leads. Marks are written when the layer is complete, because a marker hides nothing of its own
//! layer.

use std::io;

use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::io::Errno;

use super::handle::{READ, file_type, look, open_child};
use super::layer::CurrentLayer;
use super::resolve::Missing;
use super::{Directory, Form};
use crate::{Kind, Metadata, OverlayXattrs, TreePath, View};

/// What a walk does where the layer has nothing.
pub(super) fn missing(view: &View, layer: &CurrentLayer, path: &[u8]) -> Missing {
    match visible(view, layer, path).map(|entry| &entry.kind) {
        Some(Kind::Symlink(target)) => Missing::Follow(target.to_vec()),
        _ => Missing::Make,
    }
}

/// What a directory is like that the layer does not describe.
pub(super) fn implied(view: &View, layer: &CurrentLayer, path: &[u8]) -> Metadata {
    let below = visible(view, layer, path).filter(|entry| entry.is_directory());
    below.map_or_else(Metadata::implied, |entry| entry.metadata.clone())
}

/// What is below the layer at a path, unless the layer has hidden it.
fn visible<'v>(view: &'v View, layer: &CurrentLayer, path: &[u8]) -> Option<&'v crate::Entry> {
    let path = TreePath::parse(path).ok()?;
    let mut at = path.clone();
    loop {
        if layer.hidden.contains(&at) || (at != path && layer.opaque.contains(&at)) {
            return None;
        }
        match at.parent() {
            Some(parent) => at = parent,
            None => return view.lookup(&path),
        }
    }
}

impl Directory<'_> {
    /// Remembers a whiteout.
    pub(super) fn hide(&mut self, path: &TreePath) {
        let Some((parent, name)) = path.split() else { return };
        let path = self.below(parent).and_then(|parent| parent.join(name).ok());
        self.layer.hidden.extend(path);
    }

    /// Remembers an opaque directory and makes sure that it is there.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let below = self.below(path);
        self.layer.opaque.extend(below);
        match self.parent(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Where a directory lies once the links below the layer are followed; unchanged if nothing is known of it there.
    fn below(&self, path: &[u8]) -> Option<TreePath> {
        let Form::Overlay(_, view) = self.form else { return None };
        let path = TreePath::parse(path).ok()?;
        Some(view.resolve(path.as_path(), true).unwrap_or(path))
    }

    /// Writes the marks of overlayfs.
    pub(super) fn overlay_marks(&mut self) -> io::Result<()> {
        let Form::Overlay(style, view) = self.form else { return Ok(()) };
        let hidden = std::mem::take(&mut self.layer.hidden);
        let is_below_hidden = |path: &TreePath| {
            std::iter::successors(path.parent(), TreePath::parent).any(|ancestor| hidden.contains(&ancestor))
        };
        for path in hidden.iter().filter(|path| !is_below_hidden(path)) {
            self.mark_hidden(path, style, view)?;
        }
        for path in std::mem::take(&mut self.layer.opaque) {
            let Some(directory) = self.existing(path.as_bytes())? else { continue };
            mark_opaque(&open_child(&directory.fd, b".", READ)?, style)?;
        }
        Ok(())
    }

    fn mark_hidden(&mut self, path: &TreePath, style: OverlayXattrs, view: &View) -> io::Result<()> {
        let Some((directory, name)) = path.split() else { return Ok(()) };
        // Where neither this layer nor one below it has a directory, there is nothing to hide.
        let parent = match self.existing(directory)? {
            Some(parent) => parent,
            None if is_directory(view, directory) => match self.parent(directory) {
                // The layer has a file on the way, which hides all that was below.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => return Ok(()),
                other => other?,
            },
            None => return Ok(()),
        };
        match look(&parent.fd, name)?.map(|stat| file_type(&stat)) {
            None => {
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(&parent.fd, name, kind, Mode::empty(), 0).map_err(no_mark)
            }
            Some(FileType::Directory) => mark_opaque(&open_child(&parent.fd, name, READ)?, style),
            // It replaces what is below without any mark.
            Some(_) => Ok(()),
        }
    }
}

fn is_directory(view: &View, path: &[u8]) -> bool {
    let path = TreePath::parse(path).ok();
    path.and_then(|path| view.lookup(&path)).is_some_and(crate::Entry::is_directory)
}

fn mark_opaque(directory: &std::os::fd::OwnedFd, style: OverlayXattrs) -> io::Result<()> {
    rustix::fs::fsetxattr(directory, style.opaque(), b"y", XattrFlags::empty()).map_err(no_mark)
}

fn no_mark(error: Errno) -> io::Error {
    let text = format!("overlayfs's mark for deleted files cannot be made here ({error})");
    io::Error::new(io::Error::from(error).kind(), text)
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
