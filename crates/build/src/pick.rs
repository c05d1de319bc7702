//! Which files the sources of a `COPY` name: patterns, links, directories, exclusions. The same for every kind of tree.

use std::collections::BTreeMap;

use skycap_image::Digest;
use skycap_rootfs::{Entry, Kind, TreePath};

use crate::changes::Place;
use crate::context::Read;
use crate::error::Fault;
use crate::files::Files;
use crate::glob;
use crate::graph::{Copy, From, Source};
use crate::ignore::Ignore;
use crate::key::Encoder;

/// A file or directory that a source names.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// Which tree it is in.
    pub tree: From,
    /// The name that it has in a destination directory.
    pub name: Vec<u8>,
    /// Where it is, links followed.
    pub path: TreePath,
    /// What it is; never a link.
    pub entry: Entry,
    /// What is in it, relative to it, parents first.
    pub below: Vec<(TreePath, Entry)>,
}

/// What a source of a copy names.
pub(crate) fn pick(files: &dyn Files, copy: &Copy, source: &Source) -> Result<Vec<Picked>, Fault> {
    let exclude = patterns(copy.exclude.iter().map(String::as_str))?;
    let path = source.path.as_str();
    let tree = source.from;
    if source.is_exact {
        return Ok(one(files, tree, TreePath::parse(path.as_bytes())?, &exclude, path)?.into_iter().collect());
    }
    if copy.parents {
        return with_parents(files, tree, path, &exclude);
    }
    let mut picked = Vec::new();
    for found in matches(files, path)? {
        let leads_to = files.resolve(&found)?;
        // As in BuildKit, a match that is a link to nowhere is an error.
        if glob::has_wildcard(path.as_bytes()) && leads_to != found && files.find(&leads_to)?.is_none() {
            let why = format!("{found} matches {path}, but is a link to {leads_to}, and there is nothing to copy");
            return Err(not_found(&found.to_string()).with_hint(why));
        }
        picked.extend(one(files, tree, leads_to, &exclude, path)?.map(|one| one.called(&found)));
    }
    Ok(picked)
}

/// One path and everything below it.
pub(crate) fn whole(files: &dyn Files, tree: From, source: &str) -> Result<Vec<Picked>, Fault> {
    let path = files.resolve(&clean(source)?)?;
    Ok(one(files, tree, path, &Ignore::default(), source)?.into_iter().collect())
}

impl Picked {
    /// Something below it, or itself.
    pub fn at(&self, relative: &TreePath) -> Place {
        Place { tree: self.tree, path: self.path.below(relative) }
    }

    /// The same under the name of the path that led to it.
    fn called(self, path: &TreePath) -> Self {
        Self { name: path.file_name().unwrap_or_default().to_vec(), ..self }
    }
}

fn patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Ignore, Fault> {
    Ignore::from_patterns(patterns).map_err(|error| Fault::new(error.to_string()))
}

/// The paths that a source names, before links are followed.
fn matches(files: &dyn Files, source: &str) -> Result<Vec<TreePath>, Fault> {
    let source = clean(source)?;
    let components: Vec<&[u8]> = source.components().collect();
    let Some(wild) = components.iter().position(|component| glob::has_wildcard(component)) else {
        return Ok(vec![source]);
    };
    let mut start = TreePath::root();
    for component in &components[..wild] {
        start = start.join(component)?;
    }
    let start = files.resolve(&start)?;
    if !files.find(&start)?.is_some_and(|entry| entry.is_directory()) {
        return Ok(Vec::new());
    }
    let pattern = components[wild..].join(&b'/');
    let mut found = Vec::new();
    search(files, &start, &TreePath::root(), &pattern, components.len() - wild, &mut found)?;
    Ok(found)
}

/// Goes down no further than the pattern has components: a star does not match a slash.
fn search(
    files: &dyn Files,
    start: &TreePath,
    relative: &TreePath,
    pattern: &[u8],
    depth: usize,
    found: &mut Vec<TreePath>,
) -> Result<(), Fault> {
    for (name, entry) in files.list(&start.below(relative))? {
        let path = relative.join(&name)?;
        let is_match = glob::matches(pattern, path.as_bytes()).map_err(|error| {
            let fault = Fault::new(format!("{}: {error}", String::from_utf8_lossy(pattern)));
            let is_open = pattern.starts_with(b"[");
            if is_open { fault.with_hint("a JSON array has its strings in double quotes") } else { fault }
        })?;
        if is_match {
            found.push(start.below(&path));
        } else if entry.is_directory() && depth > 1 {
            search(files, start, &path, pattern, depth - 1, found)?;
        }
    }
    Ok(())
}

/// A source that must exist; nothing if its own name is excluded.
fn one(files: &dyn Files, tree: From, path: TreePath, exclude: &Ignore, source: &str) -> Result<Option<Picked>, Fault> {
    let name = path.file_name().unwrap_or_default().to_vec();
    let Some(entry) = files.find(&path)? else { return Err(not_found(source)) };
    if !entry.is_directory() && exclude.matches(&name) {
        return Ok(None);
    }
    let mut content = Vec::new();
    if entry.is_directory() {
        walk(files, &path, &TreePath::root(), &|relative| !exclude.matches(relative), exclude, &mut content)?;
    }
    Ok(Some(Picked { tree, name, path, entry, below: content }))
}

/// Lists what is below a directory and wanted, with the directories that lead to it.
fn walk(
    files: &dyn Files,
    start: &TreePath,
    relative: &TreePath,
    wanted: &dyn Fn(&[u8]) -> bool,
    exclude: &Ignore,
    found: &mut Vec<(TreePath, Entry)>,
) -> Result<(), Fault> {
    for (name, entry) in files.list(&start.below(relative))? {
        let path = relative.join(&name)?;
        let is_wanted = wanted(path.as_bytes());
        if !entry.is_directory() {
            if is_wanted {
                found.push((path, entry));
            }
            continue;
        }
        if !is_wanted && exclude.matches(path.as_bytes()) && !exclude.may_reinclude_below(path.as_bytes()) {
            continue;
        }
        let before = found.len();
        found.push((path.clone(), entry));
        walk(files, start, &path, wanted, exclude, found)?;
        if !is_wanted && found.len() == before + 1 {
            found.truncate(before);
        }
    }
    Ok(())
}

/// `COPY --parents`: what a pattern matches below the pivot `/./`, or below the root, with the directories in between.
fn with_parents(files: &dyn Files, tree: From, source: &str, exclude: &Ignore) -> Result<Vec<Picked>, Fault> {
    let (pivot, pattern) = source.split_once("/./").unwrap_or(("/", source));
    let pattern = clean(pattern)?;
    let pattern_text = String::from_utf8_lossy(pattern.as_bytes()).into_owned();
    let include = patterns([pattern_text.as_str()])?;
    let is_plain = !glob::has_wildcard(source.as_bytes());
    let mut picked = Vec::new();
    for path in matches(files, pivot)? {
        let path = files.resolve(&path)?;
        let Some(entry) = files.find(&path)? else { return Err(not_found(source)) };
        if is_plain && files.find(&path.below(&pattern))?.is_none() {
            return Err(not_found(source));
        }
        let wanted = |relative: &[u8]| (pattern.is_root() || include.matches(relative)) && !exclude.matches(relative);
        let mut content = Vec::new();
        walk(files, &path, &TreePath::root(), &wanted, exclude, &mut content)?;
        picked.push(Picked { tree, name: Vec::new(), path, entry, below: content });
    }
    Ok(picked)
}

/// Everything of the picked files that makes a difference, but their times. `read` knows what regular files hold, and which
/// of them are one file. A file with further names that are not picked is a file like others: whether a checkout was cloned
/// or linked makes no difference.
pub(crate) fn digest(picked: &[Picked], read: &dyn Fn(&Place) -> Option<Read>) -> Digest {
    let mut encoder = Encoder::new("files");
    // The numbers of the first names of files that may have others.
    let mut files = BTreeMap::new();
    let mut number = 0;
    encoder.number(picked.len() as u64);
    for source in picked {
        encoder.bytes(&source.name).number(source.below.len() as u64);
        let top = (&TreePath::root(), &source.entry);
        for (relative, entry) in std::iter::once(top).chain(source.below.iter().map(|(path, entry)| (path, entry))) {
            let read = if entry.is_file() { read(&source.at(relative)) } else { None };
            describe(&mut encoder, relative, entry, read.map(|read| read.digest));
            // The second name of a file says which one was the first.
            let inode = read.and_then(|read| read.inode);
            match inode.and_then(|inode| files.get(&inode)) {
                Some(first) => encoder.number(1).number(*first),
                None => encoder.number(0),
            };
            if let Some(inode) = inode {
                files.entry(inode).or_insert(number);
            }
            number += 1;
        }
    }
    encoder.finish()
}

fn describe(encoder: &mut Encoder, path: &TreePath, entry: &Entry, content: Option<Digest>) {
    encoder.bytes(path.as_bytes()).number(u64::from(entry.metadata.mode));
    encoder.number(u64::from(entry.metadata.uid)).number(u64::from(entry.metadata.gid));
    match &entry.kind {
        Kind::Directory => encoder.text("directory"),
        Kind::File { size } => encoder.text("file").number(*size).option(content.map(|d| d.to_string()).as_deref()),
        Kind::Symlink(target) => encoder.text("symlink").bytes(target),
        Kind::Device(d) => {
            encoder.text("device").number(u64::from(d.block)).number(u64::from(d.major)).number(u64::from(d.minor))
        }
        Kind::Fifo => encoder.text("fifo"),
    };
    encoder.number(entry.metadata.xattrs.len() as u64);
    for (name, value) in &entry.metadata.xattrs {
        encoder.bytes(name).bytes(value);
    }
}

/// The regular files among the picked ones.
pub(crate) fn regular_files(picked: &[Picked]) -> Vec<Place> {
    let mut places = Vec::new();
    for source in picked {
        if source.entry.is_file() {
            places.push(source.at(&TreePath::root()));
        }
        for (relative, entry) in &source.below {
            if entry.is_file() {
                places.push(source.at(relative));
            }
        }
    }
    places
}

/// `..` cannot leave the tree, so a source cannot climb.
pub(crate) fn clean(source: &str) -> Result<TreePath, Fault> {
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(TreePath::parse(parts.join("/").as_bytes())?)
}

fn not_found(source: &str) -> Fault {
    Fault::new(format!("\"/{}\": not found", source.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use skycap_rootfs::Metadata;

    use super::*;
    use crate::graph::ContextId;

    #[test]
    fn names_of_one_file_count_where_several_are_picked() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        let file = || Entry { kind: Kind::File { size: 1 }, metadata: Metadata::default() };
        let directory = Entry { kind: Kind::Directory, metadata: Metadata::default() };
        let below = ["a", "b", "c"].map(|name| (path(name), file())).to_vec();
        let tree = From::Context(ContextId::MAIN);
        let picked = [Picked { tree, name: b"d".to_vec(), path: path("d"), entry: directory, below }];
        // The inodes of a, b and c; a file with a single name has none.
        let digest = |inodes: [Option<u64>; 3]| {
            let read = |place: &Place| {
                let at = (*place.path.file_name().unwrap().first().unwrap() - b'a').into();
                let inode = inodes.get::<usize>(at).copied().flatten().map(|number| (1, number));
                Some(Read { digest: Digest::sha256(b"x"), inode })
            };
            super::digest(&picked, &read)
        };
        let apart = digest([None; 3]);
        for inodes in [[Some(7), None, None], [None, Some(8), Some(9)], [Some(1), Some(2), Some(3)]] {
            assert_eq!(digest(inodes), apart, "{inodes:?}: the other names are not picked");
        }
        let together =
            [[Some(1), Some(1), None], [Some(1), None, Some(1)], [None, Some(1), Some(1)], [Some(1), Some(1), Some(1)]];
        let mut digests: Vec<Digest> = together.into_iter().map(digest).chain([apart]).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 5);
        assert_eq!(digest([Some(1), Some(1), Some(2)]), digest([Some(5), Some(5), None]));
    }
}
