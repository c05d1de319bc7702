//! Names in order, a page at a time, without keeping all of them: a directory is read once for many pages, and only as many
//! names are kept as a window holds.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::client::lock;

/// Names kept of one directory.
const WINDOW: usize = 20_000;
/// Directories of which names are kept.
const WINDOWS: usize = 4;
/// A directory that changed less than this ago may change again without a new time.
const SETTLED: Duration = Duration::from_secs(1);

/// Some names in order, and whether there are more behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub names: Vec<String>,
    pub more: bool,
}

/// The smallest of what it is given, so many at most.
pub(super) struct Smallest<T: Ord> {
    kept: BinaryHeap<T>,
    most: usize,
    more: bool,
}

impl<T: Ord> Smallest<T> {
    pub fn new(most: usize) -> Self {
        Self { kept: BinaryHeap::new(), most, more: false }
    }

    pub fn add(&mut self, item: T) {
        if self.kept.len() < self.most {
            self.kept.push(item);
            return;
        }
        self.more = true;
        if let Some(mut largest) = self.kept.peek_mut()
            && item < *largest
        {
            *largest = item;
        }
    }

    /// What was kept, the smallest first.
    pub fn into_sorted(self) -> Vec<T> {
        self.kept.into_sorted_vec()
    }
}

impl From<Smallest<String>> for Page {
    fn from(smallest: Smallest<String>) -> Self {
        let more = smallest.more;
        Self { names: smallest.into_sorted(), more }
    }
}

/// What was read of directories lately.
#[derive(Default)]
pub(super) struct Windows(Mutex<Vec<Window>>);

struct Window {
    directory: PathBuf,
    stamp: Stamp,
    /// The names behind this one.
    after: String,
    page: Page,
}

/// Changes whenever a name comes, goes or gets another file.
type Stamp = (u64, i64, i64);

impl Windows {
    /// At most so many names of a directory behind `after`. A directory that is not there is empty.
    pub fn page(&self, directory: &Path, after: &str, count: usize) -> io::Result<Page> {
        if count == 0 {
            return Ok(Page::default());
        }
        let Some(metadata) = super::files::present(fs::metadata(directory))? else { return Ok(Page::default()) };
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
        let mut windows = lock(&self.0);
        windows.retain(|window| window.directory != directory || window.stamp == stamp);
        let mut known = windows.iter().filter(|window| window.directory == directory && *window.after <= *after);
        if let Some(page) = known.find_map(|window| cut(&window.page, after, count)) {
            return Ok(page);
        }
        let page = read(directory, after, WINDOW.max(count))?;
        let answer = cut(&page, after, count).unwrap_or_default();
        let age = SystemTime::now().duration_since(metadata.modified()?);
        if age.is_ok_and(|age| age > SETTLED) {
            windows.retain(|window| window.directory != directory);
            windows.truncate(WINDOWS - 1);
            windows.insert(0, Window { directory: directory.to_owned(), stamp, after: after.to_owned(), page });
        }
        Ok(answer)
    }
}

/// The next names of a window; `None` if those might lie behind its end.
fn cut(page: &Page, after: &str, count: usize) -> Option<Page> {
    let start = page.names.partition_point(|name| name.as_str() <= after);
    let rest = page.names.get(start..)?;
    if rest.len() < count && page.more {
        return None;
    }
    let names = rest.get(..count).unwrap_or(rest);
    Some(Page { names: names.to_vec(), more: page.more || names.len() < rest.len() })
}

fn read(directory: &Path, after: &str, most: usize) -> io::Result<Page> {
    let mut found = Smallest::new(most);
    for entry in fs::read_dir(directory)? {
        match entry?.file_name().into_string() {
            Ok(name) if name.as_str() > after => found.add(name),
            _ => {}
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        dir
    }

    fn page(names: &[&str], more: bool) -> Page {
        Page { names: names.iter().map(ToString::to_string).collect(), more }
    }

    #[test]
    fn pages_are_cut_from_a_window_until_its_end() {
        let whole = page(&["a", "b", "c"], false);
        assert_eq!(cut(&whole, "", 2), Some(page(&["a", "b"], true)));
        assert_eq!(cut(&whole, "b", 2), Some(page(&["c"], false)));
        assert_eq!(cut(&whole, "z", 2), Some(page(&[], false)));
        let part = page(&["a", "b", "c"], true);
        assert_eq!(cut(&part, "a", 2), Some(page(&["b", "c"], true)));
        assert_eq!(cut(&part, "b", 2), None, "the rest has to be read");
    }

    #[test]
    fn a_window_is_dropped_when_its_directory_changes() {
        let dir = directory(&["a", "b"]);
        let windows = Windows::default();
        let long_ago = SystemTime::now() - Duration::from_secs(100);
        fs::File::open(dir.path()).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(windows.page(dir.path(), "", 5).unwrap(), page(&["a", "b"], false));
        assert_eq!(lock(&windows.0).len(), 1);
        fs::write(dir.path().join("c"), "").unwrap();
        assert_eq!(windows.page(dir.path(), "a", 1).unwrap(), page(&["b"], true));
        assert_eq!(lock(&windows.0).len(), 0, "too young to be trusted");
        assert_eq!(windows.page(&dir.path().join("absent"), "", 1).unwrap(), Page::default());
    }

    #[test]
    fn only_so_many_names_are_kept() {
        let mut smallest = Smallest::new(3);
        for number in (0..100).rev() {
            smallest.add(number);
            assert!(smallest.kept.len() <= 3);
        }
        assert!(smallest.more);
        assert_eq!(smallest.into_sorted(), [0, 1, 2]);
    }
}
