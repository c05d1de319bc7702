//! `COPY`, `ADD` and `WORKDIR`: what they put where. The rules are those of BuildKit's copier (`tonistiigi/fsutil`).
//!
//! * The destination's links are followed inside the root, the last one too.
//! * A file goes into a destination that is a directory; of a directory, the content goes into the destination.
//! * Missing directories get mode 0755 and the owner of `--chown`; the destination itself keeps what it is, directories
//!   inside it become what the source says.

use std::io::{BufWriter, Write};

use skycap_rootfs::{Entry, Kind, Metadata, TreePath};

use crate::archive::{self, Spool};
use crate::changes::{Changes, Content, FIXED_TIME, Item};
use crate::context::Context;
use crate::error::Fault;
use crate::files::tree_path;
use crate::graph::{Copy, From};
use crate::owner::Owner;
use crate::pick::{Picked, below};

/// Puts files into a layer.
pub(crate) struct Putting<'a, 'v, W: Write> {
    /// The instruction.
    pub copy: &'a Copy,
    /// Whose the files become; those of a context are root's otherwise, others keep their owner.
    pub owner: Option<Owner>,
    /// Whether files of the context keep their times.
    pub keep_file_times: bool,
    /// Where archives are read from.
    pub context: &'a Context,
    /// What the layer is made of.
    pub changes: &'a mut Changes<'v>,
    /// Where files of archives go meanwhile.
    pub spool: &'a mut Spool<BufWriter<W>>,
}

impl<W: Write> Putting<'_, '_, W> {
    /// Puts everything that the instruction names.
    pub fn put_all(&mut self, picked: &[Picked]) -> Result<(), Fault> {
        for source in picked {
            if self.is_archive(source)? {
                self.unpack(source)?;
            } else {
                self.put(source)?;
            }
        }
        for (name, content) in &self.copy.documents {
            let metadata = Metadata { mode: 0o644, mtime: FIXED_TIME, ..Metadata::default() };
            let entry = Entry { kind: Kind::File { size: content.len() as u64 }, metadata };
            let target = self.target(name.as_bytes(), &entry)?;
            self.place(&target, &entry, Content::Bytes(content.as_bytes().into()))?;
        }
        Ok(())
    }

    fn is_archive(&self, source: &Picked) -> Result<bool, Fault> {
        if !self.copy.unpack || self.copy.from != From::Context || !source.entry.is_file() {
            return Ok(false);
        }
        archive::is_archive(self.context.file(&source.path)?, &source.name)
    }

    fn unpack(&mut self, source: &Picked) -> Result<(), Fault> {
        let directory = self.changes.resolve(&self.destination()?)?;
        self.changes.make_directories(&directory, self.owner.unwrap_or_default())?;
        archive::unpack(self.context.file(&source.path)?, &directory, self.changes, self.spool)
    }

    fn put(&mut self, source: &Picked) -> Result<(), Fault> {
        let target = self.target(&source.name, &source.entry)?;
        if !source.entry.is_directory() {
            return self.place(&target, &source.entry, Content::Source(source.path.clone()));
        }
        for (relative, entry) in &source.below {
            let content = match entry.kind {
                Kind::File { .. } => Content::Source(below(&source.path, relative)?),
                _ => Content::None,
            };
            self.place(&below(&target, relative)?, entry, content)?;
        }
        Ok(())
    }

    fn destination(&self) -> Result<TreePath, Fault> {
        tree_path(&self.copy.destination)
    }

    /// Where a source goes; the directories on the way are made.
    fn target(&mut self, name: &[u8], entry: &Entry) -> Result<TreePath, Fault> {
        let owner = self.owner.unwrap_or_default();
        let destination = self.destination()?;
        let directory =
            if self.copy.into_directory { destination.clone() } else { destination.parent().unwrap_or_default() };
        let directory = self.changes.resolve(&directory)?;
        self.changes.make_directories(&directory, owner)?;
        let mut target = self.changes.resolve(&destination)?;
        let there = self.changes.find(&target).map(Entry::is_directory).or(target.is_root().then_some(true));
        if entry.is_directory() {
            if there == Some(false) {
                return Err(Fault::new(format!("cannot copy to non-directory: /{target}")));
            }
            self.changes.make_directories(&target, owner)?;
        } else if there == Some(true) {
            target = target.join(name)?;
        }
        Ok(target)
    }

    /// Puts one file or directory exactly there.
    fn place(&mut self, target: &TreePath, entry: &Entry, content: Content) -> Result<(), Fault> {
        match (self.changes.find(target).map(Entry::is_directory), entry.is_directory()) {
            (Some(false), true) => return Err(Fault::new(format!("cannot copy to non-directory: /{target}"))),
            (Some(true), false) => {
                return Err(Fault::new(format!("cannot replace to directory /{target} with file")));
            }
            _ => {}
        }
        let mut metadata = entry.metadata.clone();
        if let Some(owner) = self.owner {
            (metadata.uid, metadata.gid) = (owner.uid, owner.gid);
        }
        if let Some(chmod) = &self.copy.chmod
            && !matches!(entry.kind, Kind::Symlink(_))
        {
            metadata.mode = chmod.apply(metadata.mode, entry.is_directory());
        }
        if self.copy.from == From::Context && !self.keep_file_times {
            metadata.mtime = FIXED_TIME;
        }
        self.changes.put(target, Item { entry: Entry { kind: entry.kind.clone(), metadata }, content });
        Ok(())
    }
}
