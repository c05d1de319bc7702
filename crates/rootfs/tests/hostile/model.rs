//! What the image specification makes of layers, in the plainest words: a judge that shares no code with the product.
//!
//! Entries are applied in the order of the archive. On the way to an entry links are followed as after `chroot`, and missing
//! directories are made. A marker hides what lower layers made and nothing of its own layer; a hard link whose target is not
//! there waits for the end of its layer.

use std::collections::{BTreeMap, VecDeque};

use skycap_rootfs::{Device, Kind, Metadata, Time};

use crate::tree::{Node, Nodes};

/// What an entry does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Fifo,
    Device(Device),
    Whiteout,
    Opaque,
}

/// An entry of a layer: the path as names, without `..`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<Vec<u8>>,
    pub(crate) op: Op,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) seconds: i64,
}

/// Why layers are refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// The layer and the entry in it that are at fault, and why.
pub(crate) type Fault = ((usize, usize), Refused);

#[derive(Debug)]
enum What {
    Directory(BTreeMap<Vec<u8>, Name>),
    Other(Kind, Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
struct Name {
    file: usize,
    /// The layer with an entry of this very name, if one set it last.
    set_by: Option<usize>,
}

#[derive(Debug)]
struct File {
    what: What,
    metadata: Metadata,
    /// The layer in which it came to be; nothing for the root.
    born: Option<usize>,
}

pub(crate) struct Model {
    files: Vec<File>,
    layer: usize,
    /// The entry in its layer, for the hard links that wait.
    number: usize,
    waiting: Vec<(usize, Vec<Vec<u8>>, Vec<u8>)>,
}

/// Where a walk ends without a directory.
#[derive(PartialEq, Eq)]
enum Stuck {
    Missing,
    File,
    Loop,
}

const ROOT: usize = 0;

impl Model {
    pub(crate) fn of(layers: &[Vec<Entry>]) -> Result<Nodes, Fault> {
        let root = File { what: What::Directory(BTreeMap::new()), metadata: implied(), born: None };
        let mut model = Self { files: vec![root], layer: 0, number: 0, waiting: Vec::new() };
        for (number, layer) in layers.iter().enumerate() {
            model.layer = number;
            for (index, entry) in layer.iter().enumerate() {
                model.number = index;
                model.entry(entry).map_err(|why| ((number, index), why))?;
            }
            for (index, path, target) in std::mem::take(&mut model.waiting) {
                model.late_link(&path, &target).map_err(|why| ((number, index), why))?;
            }
        }
        Ok(model.nodes())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Refused> {
        let metadata = Metadata {
            mode: entry.mode,
            uid: entry.owner.0,
            gid: entry.owner.1,
            mtime: Time { seconds: entry.seconds, nanoseconds: 0 },
            ..Metadata::default()
        };
        let Some((name, directories)) = entry.path.split_last() else {
            return match entry.op {
                Op::Directory => {
                    self.files[ROOT].metadata = metadata;
                    Ok(())
                }
                Op::Opaque => self.opaque(&[]),
                _ => Err(Refused("the root is a directory")),
            };
        };
        match &entry.op {
            Op::Whiteout => return self.whiteout(directories, name),
            Op::Opaque => return self.opaque(&entry.path),
            _ => {}
        }
        let parent = self.walk(directories, true).map_err(|_| Refused("no way to its directory"))?;
        let what = match &entry.op {
            Op::Hardlink(target) => return self.link(parent, name, target, &entry.path),
            Op::Directory => {
                let there = self.names(parent).get(name).map(|name| name.file);
                if let Some(there) = there.filter(|&there| self.is_directory(there)) {
                    self.files[there].metadata = metadata;
                    self.set(parent, name, there);
                    return Ok(());
                }
                What::Directory(BTreeMap::new())
            }
            Op::File(content) => What::Other(Kind::File { size: content.len() as u64 }, content.clone()),
            Op::Symlink(target) => What::Other(Kind::Symlink(target.clone().into()), Vec::new()),
            Op::Fifo => What::Other(Kind::Fifo, Vec::new()),
            Op::Device(device) => What::Other(Kind::Device(*device), Vec::new()),
            Op::Whiteout | Op::Opaque => unreachable!("markers have returned"),
        };
        self.files.push(File { what, metadata, born: Some(self.layer) });
        self.set(parent, name, self.files.len() - 1);
        Ok(())
    }

    fn link(&mut self, parent: usize, name: &[u8], target: &[u8], path: &[Vec<u8>]) -> Result<(), Refused> {
        if let Some(file) = self.target(target)? {
            return self.link_to(parent, name, file, target);
        }
        self.names_mut(parent).remove(name);
        self.waiting.push((self.number, path.to_vec(), target.to_vec()));
        Ok(())
    }

    fn link_to(&mut self, parent: usize, name: &[u8], file: usize, target: &[u8]) -> Result<(), Refused> {
        let there = self.names(parent).get(name).map(|name| name.file);
        if there.is_some_and(|there| self.is_directory(there)) {
            self.names_mut(parent).remove(name);
            if self.target(target)?.is_none() {
                return Err(Refused("it replaces the directory of its target"));
            }
        }
        self.set(parent, name, file);
        Ok(())
    }

    fn late_link(&mut self, path: &[Vec<u8>], target: &[u8]) -> Result<(), Refused> {
        let Some((name, directories)) = path.split_last() else { return Ok(()) };
        let parent = match self.walk(directories, false) {
            Ok(parent) => parent,
            Err(Stuck::Loop) => return Err(Refused("a loop")),
            Err(_) => return Ok(()),
        };
        if self.names(parent).contains_key(name) {
            return Ok(());
        }
        let file = self.target(target)?.ok_or(Refused("a hard link to nothing"))?;
        self.link_to(parent, name, file, target)
    }

    /// The file that a hard link names.
    fn target(&mut self, target: &[u8]) -> Result<Option<usize>, Refused> {
        let names: Vec<Vec<u8>> = parts(target);
        let Some((name, directories)) = names.split_last() else { return Err(Refused("a hard link to the root")) };
        let parent = match self.walk(directories, false) {
            Ok(parent) => parent,
            Err(Stuck::Loop) => return Err(Refused("a loop")),
            Err(_) => return Ok(None),
        };
        match self.names(parent).get(name).map(|name| name.file) {
            Some(file) if self.is_directory(file) => Err(Refused("a hard link to a directory")),
            found => Ok(found),
        }
    }

    fn whiteout(&mut self, directories: &[Vec<u8>], name: &[u8]) -> Result<(), Refused> {
        match self.walk(directories, false) {
            Ok(parent) if self.files[parent].born != Some(self.layer) => {
                self.hide(parent, name);
                Ok(())
            }
            Err(Stuck::Loop) => Err(Refused("a loop")),
            _ => Ok(()),
        }
    }

    fn opaque(&mut self, path: &[Vec<u8>]) -> Result<(), Refused> {
        let directory = match self.walk(path, true) {
            Ok(directory) => directory,
            Err(Stuck::Loop) => return Err(Refused("a loop")),
            Err(_) => return Ok(()),
        };
        if self.files[directory].born != Some(self.layer) {
            for name in self.names(directory).keys().cloned().collect::<Vec<_>>() {
                self.hide(directory, &name);
            }
        }
        Ok(())
    }

    /// Takes away what lower layers made under a name.
    fn hide(&mut self, parent: usize, name: &[u8]) {
        let Some(&Name { file, set_by }) = self.names(parent).get(name) else { return };
        let is_own_name = set_by == Some(self.layer);
        if !self.is_directory(file) {
            if !is_own_name {
                self.names_mut(parent).remove(name);
            }
            return;
        }
        if self.files[file].born == Some(self.layer) {
            return;
        }
        for child in self.names(file).keys().cloned().collect::<Vec<_>>() {
            self.hide(file, &child);
        }
        if is_own_name {
            return;
        }
        if self.names(file).is_empty() {
            self.names_mut(parent).remove(name);
        } else {
            self.files[file].metadata = implied();
        }
    }

    /// The directory at a path.
    fn walk(&mut self, path: &[Vec<u8>], make: bool) -> Result<usize, Stuck> {
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut way = vec![ROOT];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            let here = *way.last().unwrap();
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(file) = self.names(here).get(&name).map(|name| name.file) else {
                if !make {
                    return Err(Stuck::Missing);
                }
                let what = What::Directory(BTreeMap::new());
                self.files.push(File { what, metadata: implied(), born: Some(self.layer) });
                let made = self.files.len() - 1;
                self.names_mut(here).insert(name, Name { file: made, set_by: None });
                way.push(made);
                continue;
            };
            match &self.files[file].what {
                What::Directory(_) => way.push(file),
                What::Other(Kind::Symlink(target), _) => {
                    links += 1;
                    if links > 40 {
                        return Err(Stuck::Loop);
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for part in parts(target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                What::Other(..) => return Err(Stuck::File),
            }
        }
        Ok(*way.last().unwrap())
    }

    fn is_directory(&self, file: usize) -> bool {
        matches!(self.files[file].what, What::Directory(_))
    }

    fn set(&mut self, parent: usize, name: &[u8], file: usize) {
        let set_by = Some(self.layer);
        self.names_mut(parent).insert(name.to_vec(), Name { file, set_by });
    }

    fn names(&self, directory: usize) -> &BTreeMap<Vec<u8>, Name> {
        let What::Directory(names) = &self.files[directory].what else { unreachable!("a directory") };
        names
    }

    fn names_mut(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, Name> {
        let What::Directory(names) = &mut self.files[directory].what else { unreachable!("a directory") };
        names
    }

    fn nodes(&self) -> Nodes {
        let mut nodes = Nodes::new();
        let mut pending = vec![(Vec::new(), ROOT)];
        while let Some((key, number)) = pending.pop() {
            let file = &self.files[number];
            let (kind, content) = match &file.what {
                What::Directory(names) => {
                    for (name, child) in names {
                        let below: Vec<u8> =
                            if key.is_empty() { name.clone() } else { [&key[..], b"\0", name].concat() };
                        pending.push((below, child.file));
                    }
                    (Kind::Directory, Vec::new())
                }
                What::Other(kind, content) => (kind.clone(), content.clone()),
            };
            nodes.insert(key, Node { kind, metadata: file.metadata.clone(), content, inode: (0, number as u64) });
        }
        nodes
    }
}

fn implied() -> Metadata {
    Metadata { mode: 0o755, ..Metadata::default() }
}

/// The names of a path; `.` and empty ones say nothing.
pub(crate) fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}
