//! Names in a tree: relative, without `.` or `..`, bytes and not text.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A path below a root. It cannot be absolute, cannot climb and holds no NUL; the root itself is the empty path.
///
/// Ordered by components, so a directory comes directly before everything in it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Box<[u8]>);

/// A name that no tree can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It has a `..` component (`docs/decisions/0002-dotdot-in-archive-names.md`).
    #[error("{0:?} climbs: a name in an archive may not contain \"..\"")]
    Climbs(String),
    /// It holds a NUL byte.
    #[error("{0:?} holds a NUL byte")]
    Nul(String),
}

impl TreePath {
    /// Takes a name as archives spell it: a leading `/`, `.` components and doubled or trailing slashes are dropped.
    /// Everything else is kept byte by byte.
    pub fn parse(name: &[u8]) -> Result<Self, InvalidPath> {
        if name.contains(&0) {
            return Err(InvalidPath::Nul(escape(name)));
        }
        let mut clean = Vec::with_capacity(name.len());
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(InvalidPath::Climbs(escape(name))),
                component => push(&mut clean, component),
            }
        }
        Ok(Self(clean.into()))
    }

    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path with slashes between components and none around them; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as the standard library's type: relative, empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The directory it is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(parent, _)| Self(parent.into()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split().map(|(_, name)| name)
    }

    /// The bytes of the parent, and the last component; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        })
    }

    /// This path and one more component, which must be a plain name.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|&byte| matches!(byte, b'/' | 0)) {
            return Self::parse(&joined(&self.0, name));
        }
        Ok(Self(joined(&self.0, name)))
    }

    /// A path that is relative to this one.
    #[must_use]
    pub fn below(&self, relative: &Self) -> Self {
        match (self.is_root(), relative.is_root()) {
            (true, _) => relative.clone(),
            (_, true) => self.clone(),
            _ => Self(joined(&self.0, &relative.0)),
        }
    }

    /// Whether it is `ancestor` or below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// Puts components together that are known to be plain names.
    pub(crate) fn from_components<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut path = Vec::new();
        for component in components {
            push(&mut path, component);
        }
        Self(path.into())
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Box<[u8]> {
    if directory.is_empty() { name.into() } else { [directory, b"/", name].concat().into() }
}

fn push(path: &mut Vec<u8>, component: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(component);
}

/// For messages: odd bytes escaped, long names cut.
pub(crate) fn escape(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned();
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The order of the components, because no name holds a byte that is smaller than where another one ends.
        let end = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        match self.0.iter().zip(&other.0).find(|(one, two)| one != two) {
            Some((one, two)) => end(one).cmp(&end(two)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    /// Escaped for logs: control characters cannot reach a terminal. The root is `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { write!(f, "{}", self.0.escape_ascii()) }
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_but_never_climb() {
        for (name, expected) in [
            (&b"a/b"[..], Some(&b"a/b"[..])),
            (b"./a//b/./c/", Some(b"a/b/c")),
            (b"/etc/passwd", Some(b"etc/passwd")),
            (b"", Some(b"")),
            (b"./", Some(b"")),
            (b"/", Some(b"")),
            (b"..gitme/...", Some(b"..gitme/...")),
            (b"C:\\x\n\xff", Some(b"C:\\x\n\xff")),
            (b"..", None),
            (b"../x", None),
            (b"a/../b", None),
            (b"a/..", None),
            (b"/..", None),
            (b"a\0b", None),
        ] {
            let parsed = TreePath::parse(name).ok();
            assert_eq!(parsed.as_ref().map(TreePath::as_bytes), expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_directory_sorts_directly_before_its_content() {
        let mut paths =
            ["a-b", "a/b", "a", "a.b", "", "a/b/c", "b"].map(|name| TreePath::parse(name.as_bytes()).unwrap());
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(TreePath::as_bytes).collect();
        assert_eq!(sorted, [&b""[..], b"a", b"a/b", b"a/b/c", b"a-b", b"a.b", b"b"]);
    }

    #[test]
    fn the_order_is_that_of_the_components() {
        let letters = [b'a', b'/', b'-', 1, 0xff];
        let names = (0..5_usize.pow(4)).map(|number| [1, 5, 25, 125].map(|place| letters[number / place % 5]));
        let paths: Vec<TreePath> = names.map(|name| TreePath::parse(&name).unwrap()).collect();
        for (one, two) in paths.iter().flat_map(|one| paths.iter().map(move |two| (one, two))) {
            assert_eq!(one.cmp(two), one.components().cmp(two.components()), "{one:?} {two:?}");
        }
    }

    #[test]
    fn paths_are_put_together_by_components() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        for (directory, name, expected) in
            [("", "a", "a"), ("a/b", "c", "a/b/c"), ("a", "b/./c/", "a/b/c"), ("a", "", "a")]
        {
            assert_eq!(path(directory).join(name.as_bytes()).unwrap(), path(expected));
            assert_eq!(path(directory).below(&path(name)), path(expected));
        }
        for name in ["..", "b/../c", "b\0"] {
            assert!(path("a").join(name.as_bytes()).is_err(), "{name:?}");
        }
        assert_eq!(path("a").join(b".").unwrap(), path("a"));
    }

    #[test]
    fn a_sibling_with_the_same_prefix_is_not_below() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        assert!(path("rootfs/x").starts_with(&path("rootfs")));
        assert!(!path("rootfs-evil/x").starts_with(&path("rootfs")));
        assert!(path("x").starts_with(&TreePath::root()));
    }
}
