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
    /// Remembers a whiteout, unless there is nothing it could hide.
    pub(super) fn hide(&mut self, path: &TreePath) {
        let Some(name) = path.file_name() else { return };
        if let Some(parent) = self.below(path.parent().unwrap_or_default().as_bytes())
            && let Ok(path) = parent.join(name)
        {
            self.layer.hidden.insert(path);
        }
    }

    /// Remembers an opaque directory and makes sure that it is there.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> io::Result<()> {
        if let Some(path) = self.below(path) {
            self.layer.opaque.insert(path);
        }
        match self.parent(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Where a directory of the layer lies among the files below, if it is a directory there.
    fn below(&self, path: &[u8]) -> Option<TreePath> {
        let Form::Overlay(_, view) = self.form else { return None };
        let path = view.resolve(TreePath::parse(path).ok()?.as_path(), true).ok()?;
        view.lookup(&path).is_some_and(crate::Entry::is_directory).then_some(path)
    }

    /// Writes the marks of overlayfs.
    pub(super) fn overlay_marks(&mut self) -> io::Result<()> {
        let Form::Overlay(style, view) = self.form else { return Ok(()) };
        let hidden = std::mem::take(&mut self.layer.hidden);
        let is_below_hidden = |path: &TreePath| {
            std::iter::successors(path.parent(), TreePath::parent).any(|ancestor| hidden.contains(&ancestor))
        };
        for path in hidden.iter().filter(|path| view.lookup(path).is_some() && !is_below_hidden(path)) {
            let Some((directory, name)) = path.split() else { continue };
            let parent = match self.parent(directory) {
                // The layer has a file there, which hides all that was below.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => continue,
                other => other?,
            };
            match look(&parent.fd, name)?.map(|stat| file_type(&stat)) {
                None => {
                    let kind = FileType::CharacterDevice;
                    rustix::fs::mknodat(&parent.fd, name, kind, Mode::empty(), 0).map_err(no_mark)?;
                }
                Some(FileType::Directory) => mark_opaque(&open_child(&parent.fd, name, READ)?, style)?,
                // It replaces what is below without any mark.
                Some(_) => {}
            }
        }
        for path in std::mem::take(&mut self.layer.opaque) {
            let Some(directory) = self.existing(path.as_bytes())? else { continue };
            mark_opaque(&open_child(&directory.fd, b".", READ)?, style)?;
        }
        Ok(())
    }
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
