//! What a source or a context names: a path, a file at a URL, or a tree of a git repository. Pure.
//!
//! The grammar is BuildKit's (`dfgitutil.ParseGitRef`): an `ssh://` or `git://` URL and `user@host:path` are git's, an
//! `http(s)://` URL only if its path ends in `.git`. What is wanted of a repository stands in the fragment
//! (`#ref:directory`) or in the query; where both say something, they must agree.

use std::collections::BTreeMap;

use crate::error::Fault;

/// Something that has to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A file at an http or https URL.
    Http(String),
    /// A tree of a repository.
    Git(GitAddress),
}

/// A tree of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GitAddress {
    /// Where the repository is, without fragment and query.
    pub url: String,
    /// A branch, a tag, a full reference or a commit; none for the default branch.
    pub reference: Option<String>,
    /// The directory in the repository that is wanted.
    pub directory: Option<String>,
    /// The commit that it must be.
    pub checksum: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are filled; they are unless something else is said.
    pub submodules: Option<bool>,
    /// Whether files get the commit's time.
    pub commit_times: bool,
    /// Whether the commit is asked for by its checksum instead of by a name.
    pub fetch_by_commit: bool,
}

/// Reads a source; `None` is a path. `known_git` says that a URL that could be either is a repository.
pub(crate) fn parse(text: &str, known_git: bool) -> Result<Option<Address>, Fault> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Ok(if is_scp(text) { Some(Address::Git(git(text)?)) } else { None });
    };
    match scheme.to_ascii_lowercase().as_str() {
        "ssh" | "git" => Ok(Some(Address::Git(git(text)?))),
        "http" | "https" if known_git || has_git_suffix(text) => Ok(Some(Address::Git(git(text)?))),
        "http" | "https" => Ok(Some(Address::Http(text.to_owned()))),
        _ => Ok(None),
    }
}

/// The same for a context, where `github.com/user/repository` is a repository, too.
pub(crate) fn parse_context(text: &str) -> Result<Option<Address>, Fault> {
    if text.starts_with("github.com/") {
        return Ok(Some(Address::Git(git(&format!("https://{text}"))?)));
    }
    parse(text, false)
}

/// The name of a file that comes from a URL: the last part of its path.
pub(crate) fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    let name = decoded(path.rsplit('/').next().unwrap_or_default());
    // What a slash or a dot is written as in a URL is no way out of the directory.
    let name = name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') { "__unnamed__".to_owned() } else { name.to_owned() }
}

fn has_git_suffix(url: &str) -> bool {
    let address = url.split(['?', '#']).next().unwrap_or_default();
    let path = address.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    path.strip_suffix(".git").is_some()
}

/// `user@host:path`
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_word = |text: &str, also: &[char]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
    };
    is_word(user, &['-', '_']) && is_word(host, &['-', '.'])
}

fn git(text: &str) -> Result<GitAddress, Fault> {
    let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, fragment)| (rest, Some(fragment)));
    let (url, query) = rest.split_once('?').map_or((rest, None), |(url, query)| (url, Some(query)));
    let mut address = GitAddress { url: url.to_owned(), ..GitAddress::default() };
    if let Some(fragment) = fragment {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        address.reference = Some(decoded(reference)).filter(|text| !text.is_empty());
        address.directory = Some(decoded(directory)).filter(|text| !text.is_empty());
    }
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        address.read_query(query)?;
    }
    address.check()?;
    Ok(address)
}

impl GitAddress {
    /// The address as messages and progress name it.
    pub fn shown(&self) -> String {
        let reference = self.reference.as_deref().map(|name| format!("#{name}")).unwrap_or_default();
        super::shown(&self.url) + &reference
    }

    fn read_query(&mut self, query: &str) -> Result<(), Fault> {
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if pairs.insert(decoded(key), decoded(value)).is_some() {
                return Err(Fault::new(format!("query {key:?} has multiple values")));
            }
        }
        let (mut tag, mut branch) = (None, None);
        for (key, value) in pairs {
            let takes_none = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !takes_none {
                return Err(Fault::new(format!("query {key:?} has no value")));
            }
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, value)?,
                "tag" => tag = Some(full("refs/tags/", &value)),
                "branch" => branch = Some(full("refs/heads/", &value)),
                "subdir" => agree("subdir", &mut self.directory, value)?,
                "checksum" | "commit" => agree("checksum", &mut self.checksum, value)?,
                "keep-git-dir" => self.keep_git_dir = Some(truth(&key, &value)?),
                "submodules" => self.submodules = Some(truth(&key, &value)?),
                "fetch-by-commit" => self.fetch_by_commit = truth(&key, &value)?,
                "mtime" => match value.as_str() {
                    "commit" => self.commit_times = true,
                    "checkout" => self.commit_times = false,
                    _ => return Err(Fault::new(format!("invalid mtime value: {value:?}"))),
                },
                _ => return Err(Fault::new(format!("unexpected query {key:?}"))),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(Fault::new("branch conflicts with tag"));
        }
        match tag.or(branch) {
            Some(name) => agree("ref", &mut self.reference, name),
            None => Ok(()),
        }
    }

    /// Names go to git as they are, so they must be names and nothing else.
    fn check(&mut self) -> Result<(), Fault> {
        if let Some(checksum) = &self.checksum {
            check_commit(checksum)?;
        }
        if self.fetch_by_commit && !self.checksum.as_deref().is_some_and(is_commit) {
            return Err(Fault::new("fetch-by-commit needs the full commit as checksum"));
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        match &self.reference {
            Some(name) if !is_name(name) => Err(Fault::new(format!("{name:?} is no name of a branch, tag or commit"))),
            _ if self.url.starts_with('-') => Err(Fault::new("the address of a repository cannot begin with a dash")),
            _ if self.url.chars().any(|c| c.is_control() || c == ' ') => {
                Err(Fault::new("the address of a repository holds a blank or a control character"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a name is a commit in full.
pub(crate) fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A checksum of a git source: a commit or its beginning.
pub(crate) fn check_commit(text: &str) -> Result<(), Fault> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_hex && (7..=64).contains(&text.len()) {
        return Ok(());
    }
    Err(Fault::new(format!("invalid checksum {text:?} of a git source: it should be a commit in hexadecimal digits")))
}

/// The rules of `git check-ref-format`, and no dash in front.
fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.is_empty()
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains(forbidden)
        && !["..", "//", "@{", "/.", ".lock/"].iter().any(|text| name.contains(text))
        && name != "@"
}

fn agree(what: &str, known: &mut Option<String>, value: String) -> Result<(), Fault> {
    match known {
        Some(known) if *known != value => Err(Fault::new(format!("{what} conflicts: {known:?} vs {value:?}"))),
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

fn full(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn truth(key: &str, value: &str) -> Result<bool, Fault> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Fault::new(format!("invalid {key} value: {value:?}"))),
    }
}

/// Undoes `%41`; what is no such thing stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let value = digits.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git_of(text: &str) -> GitAddress {
        match parse(text, false).unwrap() {
            Some(Address::Git(address)) => address,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn sources_are_paths_files_or_repositories() {
        let kind = |text: &str| match parse(text, false).unwrap() {
            None => "path",
            Some(Address::Http(_)) => "http",
            Some(Address::Git(_)) => "git",
        };
        for (text, expected) in [
            ("a/b", "path"),
            ("git", "path"),
            ("github.com/a/b", "path"),
            ("github.com/a/b.git", "path"),
            ("file:///a/b.git", "path"),
            ("ext::sh -c id", "path"),
            ("@a:b", "path"),
            ("a@b", "path"),
            ("https://a/b.tgz", "http"),
            ("https://a/b.git/c", "http"),
            ("https://a/b?x=.git", "http"),
            ("http://a.git", "http"),
            ("https://a/b.git", "git"),
            ("https://a/b.git#v1", "git"),
            ("https://a/b.git?ref=v1", "git"),
            ("git@a:b", "git"),
            ("git@a:b#v1:c", "git"),
            ("git://a/b", "git"),
            ("ssh://git@a:22/b", "git"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        assert!(matches!(parse("https://a/b", true).unwrap(), Some(Address::Git(_))));
        assert!(matches!(parse_context("github.com/a/b").unwrap(), Some(Address::Git(_))));
    }

    #[test]
    fn fragments_and_queries_say_what_is_wanted() {
        let plain = git_of("https://h/a.git#refs/heads/x:sub/dir");
        assert_eq!(plain.url, "https://h/a.git");
        assert_eq!((plain.reference.as_deref(), plain.directory.as_deref()), (Some("refs/heads/x"), Some("sub/dir")));
        assert_eq!(git_of("git@h:a.git#:sub").directory.as_deref(), Some("sub"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (query, reference) in [
            ("ref=x", "x"),
            ("tag=v1", "refs/tags/v1"),
            ("tag=refs/tags/v1", "refs/tags/v1"),
            ("branch=b", "refs/heads/b"),
            (&format!("checksum={commit}"), commit),
            (&format!("commit={commit}&fetch-by-commit=true&ref=v1"), "v1"),
        ] {
            assert_eq!(git_of(&format!("https://h/a.git?{query}")).reference.as_deref(), Some(reference), "{query}");
        }
        let all = git_of("https://h/a.git?subdir=d&keep-git-dir&submodules=false&mtime=commit");
        assert_eq!(all.directory.as_deref(), Some("d"));
        assert_eq!((all.keep_git_dir, all.submodules, all.commit_times), (Some(true), Some(false), true));
        assert_eq!(git_of("https://h/a.git?ref=x#x").reference.as_deref(), Some("x"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, why) in [
            ("https://h/a.git?ref=x#y", "ref conflicts: \"y\" vs \"x\""),
            ("https://h/a.git?tag=x&branch=y", "branch conflicts with tag"),
            ("https://h/a.git?ref=x&tag=y", "ref conflicts"),
            ("https://h/a.git?ref=", "query \"ref\" has no value"),
            ("https://h/a.git?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("https://h/a.git?depth=1", "unexpected query \"depth\""),
            ("https://h/a.git?submodules=maybe", "invalid submodules value: \"maybe\""),
            ("https://h/a.git?mtime=now", "invalid mtime value"),
            ("https://h/a.git?checksum=xyz", "invalid checksum"),
            ("https://h/a.git?fetch-by-commit", "fetch-by-commit needs"),
            ("https://h/a.git#--upload-pack=touch", "is no name of a branch"),
            ("https://h/a.git#-x", "is no name of a branch"),
            ("https://h/a.git?ref=a..b", "is no name of a branch"),
            ("https://h/a.git?ref=%2Dx", "is no name of a branch"),
            ("https://h/a.git?ref=HEAD%0A", "is no name of a branch"),
        ] {
            let Err(Fault::Failed { what, .. }) = parse(text, false) else { panic!("{text} was taken") };
            assert!(what.contains(why), "{text}: {what}");
        }
    }

    #[test]
    fn files_are_called_like_the_end_of_the_path() {
        for (url, name) in [
            ("https://h/a/b.tgz", "b.tgz"),
            ("https://h/a/b.tgz?token=x#y", "b.tgz"),
            ("https://h/a/b/", "b"),
            ("https://h/a%20b", "a b"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/?x=/y", "__unnamed__"),
            ("https://h/a/..", "__unnamed__"),
            ("https://h/a%2F..%2Fb", "b"),
            ("https://h/%2e%2e", "__unnamed__"),
            ("https://h/a%2F..", "__unnamed__"),
            ("https://h/a%00", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
