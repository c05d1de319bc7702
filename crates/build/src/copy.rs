//! `COPY`, `ADD` and `WORKDIR`: what they put where. The rules are those of BuildKit's copier (`tonistiigi/fsutil`).
//!
//! * The destination's links are followed inside the root, the last one too.
//! * A file goes into a destination that is a directory; of a directory, the content goes into the destination.
//! * Missing directories get mode 0755 and the owner of `--chown`; the destination itself keeps what it is, directories
//!   inside it become what the source says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek as _, Write};
use std::path::Path;

use skycap_image::Layer;
use skycap_rootfs::{Entry, Kind, Metadata, TreePath, View};

use crate::archive::{self, Spool};
use crate::changes::{Changes, Content, FIXED_TIME, Item, Place};
use crate::context::Contexts;
use crate::error::Fault;
use crate::files::tree_path;
use crate::graph::{ContextId, Copy, From, NodeId, Source};
use crate::owner::Owner;
use crate::pick::Picked;

/// The file systems that a copy reads, with their layers.
pub(crate) type Trees = BTreeMap<NodeId, (View, Vec<Layer>)>;

/// Where archives are read.
pub(crate) struct Files<'a> {
    /// The directories outside.
    pub contexts: &'a Contexts,
    /// Other file systems.
    pub trees: &'a Trees,
    /// Takes a file of a layer while it is read.
    pub scratch: &'a Path,
}

impl Files<'_> {
    /// Opens a regular file of a tree.
    fn open(&self, place: &Place) -> Result<File, Fault> {
        let missing = || Fault::new(format!("{} is not there any more", place.path));
        let node = match place.tree {
            From::Context(id) => return self.contexts.get(id).file(&place.path),
            From::Node(node) => node,
        };
        let (view, layers) = self.trees.get(&node).ok_or_else(missing)?;
        let path = self.scratch.join("archive");
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        view.contents(std::slice::from_ref(&place.path), layers, &mut |_, _, content| {
            std::io::copy(content, &mut file).map(drop)
        })?;
        file.rewind()?;
        Ok(file)
    }
}

/// Puts files into a layer.
pub(crate) struct Putting<'a, 'v, W: Write> {
    /// The instruction.
    pub copy: &'a Copy,
    /// Whose the files become; those of a context are root's otherwise, others keep their owner.
    pub owner: Option<Owner>,
    /// Whether files of the context keep their times.
    pub keep_file_times: bool,
    /// Where archives are read from.
    pub files: &'a Files<'a>,
    /// What the layer is made of.
    pub changes: &'a mut Changes<'v>,
    /// Where files of archives go meanwhile.
    pub spool: &'a mut Spool<'v, BufWriter<W>>,
}

impl<W: Write> Putting<'_, '_, W> {
    /// Puts everything that the instruction names.
    pub fn put_all(&mut self, sources: &[(&Source, Vec<Picked>)]) -> Result<(), Fault> {
        for (source, picked) in sources.iter().flat_map(|(source, all)| all.iter().map(|one| (*source, one))) {
            if !source.unpack || !self.unpack(picked)? {
                self.put(picked)?;
            }
        }
        for (name, content) in &self.copy.documents {
            let metadata = Metadata { mode: 0o644, mtime: FIXED_TIME, ..Metadata::default() };
            let entry = Entry { kind: Kind::File { size: content.len() as u64 }, metadata };
            let target = self.target(name.as_bytes(), &entry)?;
            let content = Content::Bytes(content.as_bytes().into());
            self.place(&target, &entry, content, From::Context(ContextId::MAIN))?;
        }
        Ok(())
    }

    /// Unpacks a source if it is an archive, and says whether it is.
    fn unpack(&mut self, source: &Picked) -> Result<bool, Fault> {
        if !source.entry.is_file() {
            return Ok(false);
        }
        let mut file = self.files.open(&source.at(&TreePath::root()))?;
        if !archive::is_archive(&file, &source.name)? {
            return Ok(false);
        }
        file.rewind()?;
        let directory = self.changes.resolve(&self.destination()?)?;
        self.changes.make_directories(&directory, self.owner.unwrap_or_default())?;
        archive::unpack(file, &directory, self.owner, self.changes, self.spool)?;
        Ok(true)
    }

    fn put(&mut self, source: &Picked) -> Result<(), Fault> {
        let target = self.target(&source.name, &source.entry)?;
        if !source.entry.is_directory() {
            let place = source.at(&TreePath::root());
            return self.place(&target, &source.entry, Content::Source(place), source.tree);
        }
        for (relative, entry) in &source.below {
            let content = match entry.kind {
                Kind::File { .. } => Content::Source(source.at(relative)),
                _ => Content::None,
            };
            self.place(&target.below(relative), entry, content, source.tree)?;
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
    fn place(&mut self, target: &TreePath, entry: &Entry, content: Content, tree: From) -> Result<(), Fault> {
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
        if matches!(tree, From::Context(_)) && !self.keep_file_times {
            metadata.mtime = FIXED_TIME;
        }
        self.changes.put(target, Item { entry: Entry { kind: entry.kind.clone(), metadata }, content });
        Ok(())
    }
}
