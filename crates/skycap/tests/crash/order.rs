//! The order in which things become durable: data, sync, rename, sync of the directory; by the log of a real run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::fixture::Fixture;
use crate::operation::{Build, Get, Operation};
use crate::trace::{CHANGING, Line, can_trace, lines, log_file, logged};
use crate::world::with_stdin;

/// What a disk holds after the power fails at the worst moment: a name that was given counts, bytes only if they were
/// synced after they were written. This is the model of the log.
#[derive(Default)]
struct Model {
    /// Files with bytes that were not synced, by path.
    dirty: BTreeSet<PathBuf>,
    /// Directories whose names were changed and not synced.
    unnamed: BTreeSet<PathBuf>,
    /// Renames to final names while what got the name was dirty.
    too_early: Vec<String>,
    renames: BTreeMap<PathBuf, bool>,
}

impl Model {
    /// `finals` says which names mean something to others.
    fn of(log: &[Line], finals: impl Fn(&Path) -> bool) -> Self {
        let mut model = Self::default();
        for line in log {
            model.step(line, &finals);
        }
        model
    }

    fn step(&mut self, line: &Line, finals: &impl Fn(&Path) -> bool) {
        if line.text.contains("= -1 ") {
            return;
        }
        match line.call.as_str() {
            "write" | "writev" | "pwrite64" | "ftruncate" | "copy_file_range" => {
                self.dirty.extend(descriptor(&line.text).filter(|path| path.is_absolute()));
            }
            "fsync" | "fdatasync" => {
                let Some(path) = descriptor(&line.text) else { return };
                self.dirty.remove(&path);
                self.unnamed.remove(&path);
            }
            "syncfs" => {
                self.dirty.clear();
                self.unnamed.clear();
            }
            "rename" | "renameat" | "renameat2" => {
                let [from, to] = &quoted(&line.text)[..] else { return };
                self.rename(Path::new(from), Path::new(to), finals, &line.text);
            }
            _ => {}
        }
    }

    fn rename(&mut self, from: &Path, to: &Path, finals: &impl Fn(&Path) -> bool, text: &str) {
        let moved: Vec<_> = self.dirty.iter().filter(|path| path.starts_with(from)).cloned().collect();
        if finals(to) {
            self.renames.insert(to.to_owned(), moved.is_empty());
            if !moved.is_empty() {
                self.too_early.push(format!("{text}: {} not synced, such as {}", moved.len(), moved[0].display()));
            }
            self.unnamed.extend(to.parent().map(Path::to_owned));
        }
        for path in moved {
            self.dirty.remove(&path);
            let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
            self.dirty.insert(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) });
        }
    }
}

/// The path that a call's first descriptor stands for.
fn descriptor(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    Some(PathBuf::from(path.trim_end_matches(" (deleted)")))
}

/// The paths that are arguments, made absolute by the descriptor in front of them.
fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        let Some((path, next)) = after.split_once('"') else { break };
        let directory = before.rsplit_once('<').and_then(|(_, tail)| tail.split_once('>')).map(|(path, _)| path);
        let absolute = match directory {
            Some(directory) if !path.starts_with('/') => format!("{directory}/{path}"),
            _ => path.to_owned(),
        };
        found.push(absolute);
        rest = next;
    }
    found
}

fn run_logged(operation: &dyn Operation) -> (crate::operation::Site, Vec<Line>) {
    let site = operation.site();
    let log = log_file(&site.world.path(""));
    let command = logged(&site.world, CHANGING, &log, &operation.program(), &operation.arguments(&site));
    with_stdin(command, operation.input(&site).as_bytes()).ok();
    let lines = lines(&log);
    (site, lines)
}

/// K04, K05: the trees in a get's directory, `rootfs` and `oci`, are not synced, because a container's volume dies with its
/// machine; the files are, and everything that says what the directory holds.
#[test]
fn what_a_get_names_was_synced_before_and_its_directory_after() {
    if !can_trace("what_a_get_names_was_synced_before_and_its_directory_after") {
        return;
    }
    let fixture = Fixture::new();
    for format in ["rootfs", "oci", "oci-layout"] {
        let (site, log) = run_logged(&Get::new(&fixture, format));
        let out = site.world.path("out");
        let finals =
            |path: &Path| path.parent() == Some(&*out) && !path.file_name().unwrap().to_string_lossy().starts_with('.');
        let model = Model::of(&log, finals);
        let is_tree = |text: &&String| ["/rootfs\"", "/oci\""].iter().any(|tree| text.contains(tree));
        let others: Vec<_> = model.too_early.iter().filter(|text| !is_tree(text)).collect();
        assert!(others.is_empty(), "{format}: {others:?}");
        assert!(model.renames.len() >= 4, "{:?}", model.renames);
        assert!(!model.unnamed.contains(&out), "the names in the directory are not synced");
    }
}

/// K04, K05: what a build gives is durable under its names; what the store keeps of it says of itself that it is not.
#[test]
fn what_a_build_keeps_was_synced_before_it_got_its_name() {
    if !can_trace("what_a_build_keeps_was_synced_before_it_got_its_name") {
        return;
    }
    let fixture = Fixture::new();
    let (site, log) = run_logged(&Build::new(&fixture));
    let layout = site.world.path("layout");
    let model = Model::of(&log, |path| path.starts_with(&layout));
    assert_eq!(model.too_early, [""; 0]);
    assert!(model.renames.len() > 8, "{:?}", model.renames);
    for directory in [&layout, &layout.join("blobs/sha256")] {
        assert!(!model.unnamed.contains(directory), "names in {} are not synced", directory.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(log: &str) -> Model {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), log).unwrap();
        Model::of(&lines(path.path()), |path| path.ends_with("final"))
    }

    #[test]
    fn the_model_sees_what_is_out_of_order() {
        let written = "1 openat(AT_FDCWD, \"/d/.t\", O_CREAT) = 3</d/.t>\n1 write(3</d/.t>, \"x\", 1) = 1\n";
        let renamed = "1 rename(\"/d/.t\", \"/d/final\") = 0\n";
        let good = format!("{written}1 fsync(3</d/.t>) = 0\n{renamed}1 fsync(4</d>) = 0\n");
        assert!(model(&good).too_early.is_empty() && model(&good).unnamed.is_empty());
        assert_eq!(model(&format!("{written}{renamed}1 fsync(4</d>) = 0\n")).too_early.len(), 1);
        assert_eq!(model(&format!("{written}1 fsync(3</d/.t>) = 0\n{renamed}")).unnamed.len(), 1);
        let failed = format!("{written}1 fsync(3</d/.t>) = -1 EIO (Input/output error)\n{renamed}");
        assert_eq!(model(&failed).too_early.len(), 1);
        let tree = "1 write(3</d/.t/a/f>, \"x\", 1) = 1\n1 renameat2(5</d>, \".t\", 5</d>, \"final\", 0) = 0\n";
        assert_eq!(model(tree).too_early.len(), 1);
        let synced = tree.replace("1 renameat2", "1 syncfs(3</d>) = 0\n1 renameat2");
        assert_eq!(model(&synced).too_early.len(), 0);
    }
}
