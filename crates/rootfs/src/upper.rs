//! The upper directory of an overlay becomes a layer: the difference that a RUN made.
//!
//! Overlayfs keeps in the upper directory exactly what was written. Three things there are no files: devices 0:0 mark what
//! was deleted, an attribute marks directories that hide what is below them, and directories were copied up only because
//! something in them was touched. Deletions become whiteouts, one for each name that is gone, also for hidden directories:
//! readers disagree about the marker `.wh..wh..opq`, and none about plain whiteouts. Directories are written if they
//! changed or if something in them did; a changed time alone is no change, because mount points and temporary files leave
//! that behind and a RUN that does nothing must make an empty layer. Files that were touched and are the same are not written
//! ([`crate::same`]).
//!
//! Where no overlay can be mounted, a RUN works on a whole tree; then [`Recorded`] says what it did not touch.
//!
//! With [`Owners::Squash`] the disk does not know owners (`docs/decisions/0003-ownership-with-a-single-id.md`): what the
//! view has under the same path and type keeps the view's owner, and what is new belongs to the user and group that the RUN
//! ran as, unless the sandbox has recorded that a program gave it another one.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use skycap_image::Layer;

use crate::directory::handle::{file_type, list};
use crate::pack::{add_scanned, named};
use crate::recorded::Digests;
use crate::same::Below;
use crate::scan::{Content, Marks, Scanned, open_directory, scan};
use crate::{Change, Device, Entry, Kind, Metadata, Owners, Pack, Recorded, TreePath, View};

/// Where the sandbox records owners that it could not give.
const OWNER: &[u8] = b"user.skycap.owner";

/// What every file's owner seems to be there.
const SEEN: &[u8] = b"0:0";

/// What overlayfs makes of a deleted file.
const WHITEOUT: Device = Device { block: false, major: 0, minor: 0 };

/// Packs what an overlay's upper directory says beyond `lower`, sorted, and returns the number of entries. What is the same in
/// `lowers`, the overlay's lower directories, topmost first, is left out ([`crate::same`]). `exclude` names paths, with all below them, that are not of the image: mount points made for the run. With [`Owners::Squash`] what is new
/// belongs to `maker`, a user and a group.
///
/// The root's own mode and owner are not part of it: those of the upper directory are what whoever mounted it chose.
///
/// An overlay that was mounted with `metacopy` or `redirect_dir` and used them is an error, because the upper directory
/// alone does not say what it holds. So is a path longer than the kernel's 4,095 bytes.
pub fn pack_overlay_upper<W: Write>(
    upper: &Path,
    lowers: &[PathBuf],
    lower: &View,
    owners: Owners,
    maker: (u32, u32),
    exclude: &dyn Fn(&TreePath) -> bool,
    pack: &mut Pack<W>,
) -> io::Result<usize> {
    let before = pack.entries();
    let root = crate::directory::open_root(upper)?;
    let (waiting, files) = (Vec::new(), HashMap::new());
    let mut difference = Difference {
        root,
        lower,
        below: Below::directories(lowers)?,
        before: None,
        owners,
        maker,
        exclude,
        pack,
        waiting,
        files,
        digests: Digests::default(),
    };
    difference.whole()?;
    Ok(pack.entries() - before)
}

/// The same for a whole tree: packs what makes it differ from `lower`, of which it was made, and is not as it was when
/// `before` was recorded. What was touched is read in `layers`, those of `lower`: if it is the same there, it is left out.
pub fn pack_changed_tree<W: Write>(
    tree: &Path,
    layers: &[Layer],
    lower: &View,
    before: &Recorded,
    pack: &mut Pack<W>,
) -> io::Result<usize> {
    let entries = pack.entries();
    let root = crate::directory::open_root(tree)?;
    let (waiting, files) = (Vec::new(), HashMap::new());
    let exclude = &|_: &TreePath| false;
    let below = Below::of_tree(&root, lower, before, layers)?;
    let before = Some(before);
    let mut difference = Difference {
        root,
        lower,
        below,
        before,
        owners: Owners::Keep,
        maker: (0, 0),
        exclude,
        pack,
        waiting,
        files,
        digests: Digests::default(),
    };
    difference.whole()?;
    Ok(pack.entries() - entries)
}

struct Difference<'d, W: Write> {
    root: OwnedFd,
    lower: &'d View,
    below: Below,
    /// How a whole tree looked when it was `lower`; without it, there is only what was written.
    before: Option<&'d Recorded>,
    owners: Owners,
    /// Who has what is new, where the disk does not know it.
    maker: (u32, u32),
    exclude: &'d dyn Fn(&TreePath) -> bool,
    pack: &'d mut Pack<W>,
    /// Unchanged directories on the way to where the walk is, not written unless something in them is.
    waiting: Vec<(TreePath, Metadata)>,
    files: HashMap<(u64, u64), TreePath>,
    /// Of files of a whole tree that had to be read to know whether they changed.
    digests: Digests,
}

/// What is left to do.
enum Step {
    /// Something in the upper directory; `hides` if a directory above it hides what is below.
    Visit { path: TreePath, hides: bool },
    /// A name that only the lower layers have, in a directory that hides it.
    Delete(TreePath),
}

impl<W: Write> Difference<'_, W> {
    fn whole(&mut self) -> io::Result<()> {
        let mut steps = Vec::new();
        let root = scan(&open_directory(&self.root, &TreePath::root())?, b".")?;
        if let Some(Scanned { content: Content::Directory(marks), .. }) = root {
            // A whole tree hides all that it has not.
            self.children(&TreePath::root(), self.before.is_some() || is_opaque(&marks)?, &mut steps)?;
        }
        while let Some(step) = steps.pop() {
            match step {
                Step::Delete(path) => self.delete(&path)?,
                Step::Visit { path, hides } => {
                    let (parent, name) = path.split().unwrap_or_default();
                    let parent = TreePath::parse(parent).map_err(io::Error::other)?;
                    let directory = open_directory(&self.root, &parent).map_err(|error| named(&parent, &error))?;
                    if self.is_unchanged(&directory, name, &path).map_err(|error| named(&path, &error))? {
                        continue;
                    }
                    let scanned = scan(&directory, name).map_err(|error| named(&path, &error))?;
                    if let Some(scanned) = scanned {
                        self.visit(&path, scanned, hides, &mut steps).map_err(|error| named(&path, &error))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a file of a whole tree is as it was.
    fn is_unchanged(&mut self, directory: &OwnedFd, name: &[u8], path: &TreePath) -> io::Result<bool> {
        let Some(before) = self.before else { return Ok(false) };
        let stat = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(file_type(&stat) != rustix::fs::FileType::Directory
            && before.has(directory, path, &stat, &mut self.digests)?)
    }

    /// Whether nothing was done to a directory of a whole tree. Where the disk could not keep what the view knows, it
    /// must not count as changed.
    fn is_untouched(&self, path: &TreePath) -> io::Result<bool> {
        let Some(before) = self.before else { return Ok(false) };
        let stat = rustix::fs::fstat(&open_directory(&self.root, path)?)?;
        Ok(before.has_directory(path, &stat))
    }

    fn visit(&mut self, path: &TreePath, mut scanned: Scanned, hides: bool, steps: &mut Vec<Step>) -> io::Result<()> {
        self.own(path, &mut scanned);
        match &scanned.content {
            Content::Device(WHITEOUT) => self.delete(path),
            Content::Directory(marks) => {
                let hides = hides || is_opaque(marks)?;
                self.directory(path, &scanned.metadata)?;
                self.children(path, hides, steps)
            }
            _ => {
                if let Some(entry) = self.lower.lookup(path)
                    && self.below.has(path, entry, &scanned)?
                {
                    return Ok(());
                }
                self.write_parents(path)?;
                add_scanned(self.pack, path, scanned, &mut self.files)
            }
        }
    }

    /// Owners that the disk could not keep come from the view.
    fn own(&self, path: &TreePath, scanned: &mut Scanned) {
        if self.owners == Owners::Keep {
            return;
        }
        let below = self.lower.lookup(path).filter(|entry| is_same_kind(entry, &scanned.content));
        let known = below.map_or(self.maker, |entry| (entry.metadata.uid, entry.metadata.gid));
        let given = scanned.metadata.xattrs.remove(OWNER).unwrap_or_default();
        // Programs that write a file anew and put it in the old one's place (`useradd`, `sed -i`, `cp -p`) give it the owner
        // that they saw, and what they see is root.
        let is_file = matches!(scanned.content, Content::File(..));
        let is_repeated = below.is_some() && is_file && !scanned.is_copied_up && given == SEEN;
        let given = if is_repeated { Vec::new() } else { given };
        (scanned.metadata.uid, scanned.metadata.gid) = given_owner(&given, known);
    }

    fn directory(&mut self, path: &TreePath, metadata: &Metadata) -> io::Result<()> {
        let below = self.lower.lookup(path).filter(|entry| entry.is_directory());
        let is_same = below.is_some_and(|entry| is_same_but_time(&entry.metadata, metadata));
        if is_same || self.is_untouched(path)? {
            self.waiting.push((path.clone(), metadata.clone()));
            return Ok(());
        }
        self.write_parents(path)?;
        self.pack.add(path, Change::Directory(metadata))
    }

    /// Adds the steps for what is in a directory, the last name first.
    fn children(&self, path: &TreePath, hides: bool, steps: &mut Vec<Step>) -> io::Result<()> {
        let listed = list(open_directory(&self.root, path)?)?;
        let present: BTreeSet<Vec<u8>> = listed.into_iter().map(|child| child.name).collect();
        let mut names: BTreeSet<&[u8]> = present.iter().map(Vec::as_slice).collect();
        if hides {
            names.extend(self.lower.children(path).map(|(name, _)| name));
        }
        for name in names.into_iter().rev() {
            let child = path.join(name).map_err(io::Error::other)?;
            if (self.exclude)(&child) {
                continue;
            }
            steps.push(if present.contains(name) { Step::Visit { path: child, hides } } else { Step::Delete(child) });
        }
        Ok(())
    }

    /// Nothing need be said about what is not there anyway.
    fn delete(&mut self, path: &TreePath) -> io::Result<()> {
        if self.lower.lookup(path).is_none() {
            return Ok(());
        }
        self.write_parents(path)?;
        self.pack.whiteout(path)
    }

    /// Writes the directories that lead to a change.
    fn write_parents(&mut self, path: &TreePath) -> io::Result<()> {
        for (directory, metadata) in std::mem::take(&mut self.waiting) {
            // Others are left from subtrees without a change.
            if path.starts_with(&directory) {
                self.pack.add(&directory, Change::Directory(&metadata))?;
            }
        }
        Ok(())
    }
}

/// Whether a directory hides all that is below it.
fn is_opaque(marks: &Marks) -> io::Result<bool> {
    if marks.contains_key(&b"overlay.redirect"[..]) {
        let text = "its content is elsewhere (overlay.redirect); mount the overlay with redirect_dir=off";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(marks.get(&b"overlay.opaque"[..]).is_some_and(|value| value == b"y"))
}

/// The owner that a program has given to a file, where the sandbox could only record it: `user:group`, nothing for one that
/// was not changed.
fn given_owner(recorded: &[u8], (uid, gid): (u32, u32)) -> (u32, u32) {
    let text = std::str::from_utf8(recorded).unwrap_or_default();
    let (user, group) = text.split_once(':').unwrap_or_default();
    (user.parse().unwrap_or(uid), group.parse().unwrap_or(gid))
}

fn is_same_kind(entry: &Entry, content: &Content) -> bool {
    matches!(
        (&entry.kind, content),
        (Kind::Directory, Content::Directory(_))
            | (Kind::File { .. }, Content::File(..))
            | (Kind::Symlink(_), Content::Symlink(_))
            | (Kind::Device(_), Content::Device(_))
            | (Kind::Fifo, Content::Fifo)
    )
}

fn is_same_but_time(a: &Metadata, b: &Metadata) -> bool {
    (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_owner_wins_over_the_one_that_is_known() {
        for (recorded, expected) in
            [("", (7, 8)), ("33:44", (33, 44)), (":44", (7, 44)), ("33:", (33, 8)), (":", (7, 8)), ("x:y", (7, 8))]
        {
            assert_eq!(given_owner(recorded.as_bytes(), (7, 8)), expected, "{recorded}");
        }
    }
}
