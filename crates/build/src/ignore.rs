//! `.dockerignore`, and the `--exclude` of `COPY` and `ADD`, with the rules of `moby/patternmatcher`.
//!
//! * The last pattern that matches wins; `!` takes back what an earlier one left out.
//! * A pattern that matches a directory goes for everything below it.
//! * `**` is any number of directories; at the end it is everything below, and at the beginning of a pattern without
//!   another wildcard it is any text at all: `**foo` leaves out `xfoo`.
//! * The rest is [`glob`].
//!
//! Two faults of the original are not copied: wildcards in a class (`[*]`) and escaped letters (`\d`) stand for
//! themselves here, where the original passes them to a regular expression.

mod rule;

use std::path::{Path, PathBuf};
use std::{fs, io};

use self::rule::{Rule, clean, trim};
use crate::glob::BadPattern;

/// What an ignore file says.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

/// Which rules match a directory, for the paths below it. [`Ignore::descend`] makes one from the other.
#[derive(Debug, Clone, Default)]
pub struct Seen(Vec<bool>);

/// An ignore file that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIgnore {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    BareExclamationMark,
    /// A class that is not closed, or the like.
    #[error("{pattern:?}: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: BadPattern,
    },
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidIgnore> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut rules = Vec::new();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.starts_with(b"#")) {
            let line = trim(line);
            let (takes_back, pattern) = line.strip_prefix(b"!").map_or((false, line), |rest| (true, trim(rest)));
            let mut pattern = if pattern.is_empty() { Vec::new() } else { clean(pattern) };
            // A pattern from the root is one from the context.
            if pattern.len() > 1 && pattern.starts_with(b"/") {
                pattern.remove(0);
            }
            if takes_back {
                pattern.insert(0, b'!');
            }
            rules.extend(Rule::parse(&pattern)?);
        }
        Ok(Self { rules })
    }

    /// Reads the ignore file of a build: `<dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the
    /// context. Without either nothing is ignored. Errors name the file.
    pub fn for_dockerfile(context: &Path, dockerfile: &Path) -> io::Result<Self> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), context.join(".dockerignore")] {
            let failed =
                |kind, error: &dyn std::fmt::Display| io::Error::new(kind, format!("{}: {error}", path.display()));
            match fs::read(&path) {
                Ok(bytes) => return Self::parse(&bytes).map_err(|error| failed(io::ErrorKind::InvalidData, &error)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error.kind(), &error)),
            }
        }
        Ok(Self::default())
    }

    /// From patterns, such as those of `--exclude`.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidIgnore> {
        let rules = patterns.into_iter().filter_map(|pattern| Rule::parse(pattern.as_bytes()).transpose());
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is ever left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some pattern takes something back.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }

    /// Whether some pattern leaves out whatever the context holds.
    pub fn leaves_out_everything(&self) -> bool {
        self.rules.iter().any(|rule| !rule.takes_back && matches!(rule.text.as_slice(), b"*" | b"**" | b"**/*"))
    }

    /// Whether a path is left out: it or a directory above it matches, and no later `!` takes it back. The path is relative
    /// to the context, with `/` between its parts.
    pub fn matches(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut seen = Seen::default();
        let mut ignored = false;
        for end in ends.chain([path.len()]) {
            (ignored, seen) = self.descend(&seen, path.get(..end).unwrap_or(path));
        }
        ignored
    }

    /// The pattern that leaves a path out, if one does.
    pub fn left_out_by(&self, path: &[u8]) -> Option<String> {
        let leave_it_out =
            |count: &usize| Self { rules: self.rules.iter().take(*count).cloned().collect() }.matches(path);
        // The shortest beginning from which on every longer one leaves it out ends with the pattern that does.
        let enough = (1..=self.rules.len()).rev().take_while(leave_it_out).last()?;
        let pattern = self.rules.get(enough.checked_sub(1)?)?;
        Some(String::from_utf8_lossy(&pattern.text).into_owned())
    }

    /// As [`Self::matches`], one step down a tree: `above` is what this said about the directory that holds `path`, and
    /// [`Seen::default`] for the context itself.
    pub fn descend(&self, above: &Seen, path: &[u8]) -> (bool, Seen) {
        let mut ignored = false;
        let mut seen = Vec::with_capacity(self.rules.len());
        for (at, rule) in self.rules.iter().enumerate() {
            let above = above.0.get(at).copied().unwrap_or_default();
            // A rule that could change nothing is not asked, and counts as not matching below: as in the original.
            let matches = above || (rule.takes_back == ignored && rule.matches(path));
            if matches {
                ignored = !rule.takes_back;
            }
            seen.push(matches);
        }
        (ignored, Seen(seen))
    }

    /// Whether something below an ignored directory may be taken back, so that a walk must go in. `true` may be wrong,
    /// `false` may not.
    pub fn may_reinclude_below(&self, directory: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.takes_back && rule.may_match_below(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &[&str], path: &str) -> bool {
        Ignore::from_patterns(patterns.iter().copied()).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn who_leaves_a_path_out_is_named() {
        for (patterns, path, expected) in [
            (&["*.log", "dist"][..], "dist/app", Some("dist")),
            (&["*", "!src", "src/*.tmp"], "src/a.tmp", Some("src/*.tmp")),
            (&["*", "!src", "src/*.tmp"], "README", Some("*")),
            (&["*", "!src"], "src/a", None),
            (&["a", "!a", "a"], "a", Some("a")),
            (&[], "a", None),
        ] {
            let ignore = Ignore::from_patterns(patterns.iter().copied()).unwrap();
            assert_eq!(ignore.left_out_by(path.as_bytes()).as_deref(), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn one_pattern_matches_as_in_moby() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "a/dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir", "adir", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir2", false),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "dir/xfile", true),
            ("**file*", "dir/xfile1", false),
            ("**file*", "dir/file1", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a**/*.txt", "ab/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt.d/x", true),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/*.whl", "dist/proxy-2.4+g08-py3.whl", true),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("[*]", "*", true),
            ("docs/", "docs/a", true),
            ("./docs/../docs//a", "docs/a", true),
            ("한*", "한국", true),
            (".", "a", false),
            ("../a", "a", false),
        ] {
            assert_eq!(ignored(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_wins_also_for_what_is_below() {
        for (patterns, path, expected) in [
            (&["docs", "!docs/README.md"][..], "docs/README.md", false),
            (&["docs", "!docs/README.md"], "docs/other", true),
            (&["docs/*", "!docs/README.md"], "docs/README.md", false),
            (&["!fileutils.go", "*.go"], "fileutils.go", true),
            (&["*.go", "!fileutils.go"], "fileutils.go", false),
            (&["**", "!util/docker/web"], "util/docker/web/foo", false),
            (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (&["**", "!dist/*.whl"], "dist/a+b.whl", false),
            (&["**", "!dist/*.whl"], "dist", true),
            (&["a", "!a/b", "a/b/c"], "a/b/c/d", true),
            (&["a", "!a/b", "a/b/c"], "a/b/d", false),
            // A repeated pattern that changed nothing at the directory is not asked again below it.
            (&["a", "!a/b", "a"], "a/b", false),
        ] {
            assert_eq!(ignored(patterns, path), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn an_ignore_file_is_read_line_by_line() {
        let file = b"\xef\xbb\xbf# comment\r\n  # not-a-comment  \r\n\r\n/rooted/\n! /kept \n*.log\n";
        let ignore = Ignore::parse(file).unwrap();
        for (path, expected) in [
            ("# comment", false),
            ("# not-a-comment", true),
            ("rooted", true),
            ("rooted/a", true),
            ("a.log", true),
            ("a/a.log", false),
            ("kept", false),
        ] {
            assert_eq!(ignore.matches(path.as_bytes()), expected, "{path}");
        }
        assert!(Ignore::parse(b"").unwrap().is_empty());
        assert!(!Ignore::parse(b"/").unwrap().matches(b"a"));
    }

    #[test]
    fn the_dockerfiles_own_ignore_file_wins() {
        let context = tempfile::tempdir().unwrap();
        let path = |name: &str| context.path().join(name);
        let reads = |name: &str| {
            Ignore::for_dockerfile(context.path(), &path("ci/Dockerfile")).map(|i| i.matches(name.as_bytes()))
        };
        assert!(!reads("general").unwrap());
        fs::write(path(".dockerignore"), "general").unwrap();
        assert!(reads("general").unwrap());
        fs::create_dir(path("ci")).unwrap();
        fs::write(path("ci/Dockerfile.dockerignore"), "own").unwrap();
        assert!(reads("own").unwrap() && !reads("general").unwrap());
        fs::write(path("ci/Dockerfile.dockerignore"), "!").unwrap();
        let error = reads("own").unwrap_err().to_string();
        assert!(error.ends_with("ci/Dockerfile.dockerignore: illegal exclusion pattern: \"!\""), "{error}");
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(Ignore::parse(b"!\n").unwrap_err().to_string(), "illegal exclusion pattern: \"!\"");
        assert_eq!(Ignore::parse(b"a\na[\n").unwrap_err().to_string(), "\"a[\": syntax error in pattern");
        assert_eq!(Ignore::parse(b"a\\\n").unwrap_err().to_string(), "\"a\\\\\": syntax error in pattern");
    }

    #[test]
    fn a_walk_goes_into_an_ignored_directory_only_for_a_reason() {
        for (patterns, directory, expected) in [
            (&["a"][..], "a", false),
            (&["a", "!a/b/c"], "a", true),
            (&["a", "!a/b/c"], "a/b", true),
            (&["a", "!a/b/c"], "a/b/c", false),
            (&["a", "!a/b/c"], "a/x", false),
            (&["a", "!b"], "a", false),
            (&["**", "!*/b"], "a", true),
            (&["**", "!**/b"], "a/b/c", true),
            (&["**", "!a[^b]c"], "a", true),
            (&["**", "!dist/*.whl"], "src", false),
        ] {
            let ignore = Ignore::from_patterns(patterns.iter().copied()).unwrap();
            assert_eq!(ignore.may_reinclude_below(directory.as_bytes()), expected, "{patterns:?} {directory}");
        }
    }

    #[test]
    fn pruning_never_hides_what_a_full_walk_would_keep() {
        let patterns = ["a", "b", "*", "**", "a/b", "a/*", "**/b", "a/**", "[ab]", "a/b/a", "*/a", "**/a/b", "a**"];
        let paths = ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/b/a", "a/b/b", "b/a/b", "a/a/b", "b/b/a", "ab/a"];
        for first in patterns {
            for second in patterns {
                let ignore = Ignore::from_patterns([first, &format!("!{second}")]).unwrap();
                for path in paths.iter().filter(|path| !ignore.matches(path.as_bytes())) {
                    for (at, _) in path.match_indices('/') {
                        let above = &path.as_bytes()[..at];
                        let pruned = ignore.matches(above) && !ignore.may_reinclude_below(above);
                        assert!(!pruned, "{first} !{second}: {path} is hidden at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, expected) in [
            ("a//b/", "a/b"),
            ("./a", "a"),
            ("a/../b", "b"),
            ("..", ".."),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("/", "/"),
            (".", "."),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
