//! Why a source of a `COPY` names nothing, and what was probably meant.

use std::collections::VecDeque;

use skycap_image::suggest;
use skycap_rootfs::{Entry, Kind, TreePath};

use crate::error::Fault;
use crate::files::Files;
use crate::glob;
use crate::graph::{From, Graph, Operation};
use crate::inputs::Inputs;
use crate::pick;

/// As many directories are looked into for a file of the same name.
const MOST_DIRECTORIES: usize = 200;

/// A tree whose files may be hidden.
pub(crate) trait Hides {
    /// The line of the ignore file that hides what is at a path. Nothing if it is not there.
    fn hidden_by(&self, path: &TreePath) -> Option<String>;
}

/// The patterns of a graph that match nothing in the directories outside, each with its line. That is no error, as in
/// `BuildKit`, and seldom what was meant.
pub(crate) fn unmatched<'g>(graph: &'g Graph, inputs: &Inputs) -> Vec<(usize, &'g str)> {
    let mut found = Vec::new();
    for (id, node) in graph.iter() {
        let Operation::Copy(copy) = &node.operation else { continue };
        for (number, source) in copy.sources.iter().enumerate() {
            let is_pattern = !source.is_exact && glob::has_wildcard(source.path.as_bytes());
            let is_empty = inputs.of(id).get(number).is_none_or(Vec::is_empty);
            if is_pattern && is_empty && copy.exclude.is_empty() && matches!(source.from, From::Context(_)) {
                found.push((node.line, source.path.as_str()));
            }
        }
    }
    // Several platforms have the same.
    found.sort_unstable();
    found.dedup();
    found
}

/// What a source names, or why it names nothing.
pub(crate) fn explained<T>(
    result: Result<T, Fault>,
    files: &dyn Files,
    hides: Option<&dyn Hides>,
    source: &str,
) -> Result<T, Fault> {
    result.map_err(|fault| match hint(files, hides, source) {
        Some(hint) if is_missing(files, source) => fault.with_hint(hint),
        _ => fault,
    })
}

/// Other faults than that nothing is there need another hint. A pattern may match nothing, so its faults are others.
fn is_missing(files: &dyn Files, source: &str) -> bool {
    if glob::has_wildcard(source.as_bytes()) {
        return false;
    }
    let found = pick::clean(source).and_then(|path| files.find(&files.resolve(&path)?));
    matches!(found, Ok(None))
}

/// What the user can do about a source that was not found in a tree.
fn hint(files: &dyn Files, hides: Option<&dyn Hides>, source: &str) -> Option<String> {
    let path = pick::clean(source).ok()?;
    if let Some(line) = hides.and_then(|hides| hides.hidden_by(&path)) {
        return Some(format!(
            "{source} is there, but the ignore file (.dockerignore) leaves it out: {line:?}; a line !{path} behind it takes it back"
        ));
    }
    if hides.is_some() && files.list(&TreePath::root()).is_ok_and(|all| all.is_empty()) {
        return Some(
            "the build context is empty; a Dockerfile from standard input has none: `-f - DIRECTORY` gives it one"
                .to_owned(),
        );
    }
    if let Ok(Some(Entry { kind: Kind::Symlink(target), .. })) = files.find(&path) {
        let target = target.escape_ascii();
        return Some(format!("{source} is a link to {target}, and that is not there"));
    }
    if let Some(near) = near(files, &path) {
        return Some(format!("did you mean {near}?"));
    }
    if let Some(other) = elsewhere(files, &path) {
        return Some(format!("there is {other}"));
    }
    let climbs = hides.is_some() && source.split('/').any(|part| part == "..");
    climbs.then(|| {
        "the build context ends at its directory: build the directory above with -f, or name another one with \
         --build-context NAME=DIRECTORY and COPY --from=NAME"
            .to_owned()
    })
}

/// The path with its first wrong name put right.
fn near(files: &dyn Files, path: &TreePath) -> Option<TreePath> {
    let names: Vec<&[u8]> = path.components().collect();
    let mut reached = TreePath::root();
    for (at, name) in names.iter().enumerate() {
        let next = files.resolve(&reached.join(name).ok()?).ok()?;
        if files.find(&next).ok()?.is_some() {
            reached = next;
            continue;
        }
        let listed = files.list(&reached).ok()?;
        let known: Vec<&str> = listed.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect();
        let written = std::str::from_utf8(name).ok()?;
        let in_another_case = known.iter().find(|known| known.eq_ignore_ascii_case(written)).copied();
        let meant = in_another_case.or_else(|| suggest::nearest(written, known))?;
        let mut right = reached.join(meant.as_bytes()).ok()?;
        for rest in &names[at + 1..] {
            right = right.join(rest).ok()?;
        }
        // What is right up to here need not be there all the same.
        return files.find(&files.resolve(&right).ok()?).ok()?.map(|_| right);
    }
    None
}

/// A path of the same name in another directory, the nearest to the root.
fn elsewhere(files: &dyn Files, path: &TreePath) -> Option<TreePath> {
    let name = path.file_name()?;
    let mut open = VecDeque::from([TreePath::root()]);
    for _ in 0..MOST_DIRECTORIES {
        let directory = open.pop_front()?;
        for (found, entry) in files.list(&directory).ok()? {
            let below = directory.join(&found).ok()?;
            if found == name && below != *path {
                return Some(below);
            }
            if entry.is_directory() {
                open.push_back(below);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use skycap_rootfs::Metadata;

    use super::*;

    /// Paths of files and, with a slash at the end, of directories.
    struct Tree(&'static [&'static str]);

    impl Files for Tree {
        fn find(&self, path: &TreePath) -> Result<Option<Entry>, Fault> {
            let path = path.to_string();
            let entry = |kind| Some(Entry { kind, metadata: Metadata::default() });
            let below = format!("{path}/");
            Ok(if self.0.contains(&path.as_str()) {
                entry(Kind::File { size: 0 })
            } else if path.is_empty() || self.0.iter().any(|known| known.starts_with(&below)) {
                entry(Kind::Directory)
            } else {
                None
            })
        }

        fn list(&self, directory: &TreePath) -> Result<Vec<(Vec<u8>, Entry)>, Fault> {
            let mut names: Vec<&str> = Vec::new();
            for known in self.0 {
                let rest = if directory.is_root() {
                    Some(*known)
                } else {
                    known.strip_prefix(&directory.to_string()).and_then(|rest| rest.strip_prefix('/'))
                };
                names.extend(rest.and_then(|rest| rest.split('/').next()));
            }
            names.sort_unstable();
            names.dedup();
            let entry = |name: &str| Ok((name.into(), self.find(&directory.join(name.as_bytes())?)?.unwrap()));
            names.into_iter().map(entry).collect()
        }
    }

    struct Hidden;

    impl Hides for Hidden {
        fn hidden_by(&self, path: &TreePath) -> Option<String> {
            (path.to_string() == "dist/app").then(|| "dist".to_owned())
        }
    }

    #[test]
    fn what_is_not_there_is_guessed() {
        let tree = Tree(&["README.md", "app/requirements.txt", "app/src/main.rs", "go.mod"]);
        for (source, expected) in [
            ("readme.MD", "did you mean README.md?"),
            ("go.mdo", "did you mean go.mod?"),
            ("ap/src", "did you mean app/src?"),
            ("app/scr/main.rs", "did you mean app/src/main.rs?"),
            ("requirements.txt", "there is app/requirements.txt"),
            (
                "dist/app",
                "dist/app is there, but the ignore file (.dockerignore) leaves it out: \"dist\"; a line !dist/app",
            ),
            ("../lib", "the build context ends at its directory"),
            ("../go.mdo", "did you mean go.mod?"),
        ] {
            let hint = hint(&tree, Some(&Hidden), source).unwrap_or_default();
            assert!(hint.starts_with(expected), "{source}: {hint}");
        }
        assert_eq!(hint(&tree, Some(&Hidden), "nothing/like/it"), None);
        let empty = hint(&Tree(&[]), Some(&Hidden), "a").unwrap();
        assert!(empty.starts_with("the build context is empty"), "{empty}");
        assert_eq!(hint(&tree, None, "../lib"), None, "a stage has nothing above it");
    }
}
