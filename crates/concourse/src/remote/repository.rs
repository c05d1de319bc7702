//! Trees of git repositories, for builds.
//!
//! A name is looked up with `ls-remote` and then fetched without its history; a server that gives no commit by its id is
//! asked for all of its branches and tags. Nothing of the repository is run: no hooks, no filters, and submodules only from
//! servers.

use std::fs;
use std::path::Path;

use skycap_build::remote::{Authorization, GitAsk, GitCheckout, GitCommit, GitTree};
use skycap_image::Secret;
use url::Url;

use crate::files::io_failure;
use crate::git::program::Git;
use crate::git::source::Source;
use crate::{Failure, Host};

/// Who a token belongs to, for servers that want a name.
const TOKEN_USER: &str = "x-access-token";

/// What a build can show.
const WAY_IN: &str =
    "a repository that is not public needs the secret GIT_AUTH_TOKEN, or by SSH an agent or a key of the id default";

/// The same as [`settle`], for submodules: a text of our own, in which nothing of the repository is put.
const SETTLE: &str = r#"git -c pack.threads=1 repack -a -d -q && d=$(git rev-parse --absolute-git-dir) &&
    rm -rf "$d/logs" "$d/FETCH_HEAD" "$d/ORIG_HEAD" "$d/index" "$d/branches" "$d/hooks" && git read-tree HEAD"#;

/// Which commit a name stands for.
pub(super) fn commit(host: &Host, ask: &GitAsk<'_>) -> Result<GitCommit, Failure> {
    let (git, url) = connect(host, ask)?;
    let name = ask.reference.unwrap_or("HEAD");
    let peeled = format!("{name}^{{}}");
    let listed = git.run_for_submodules(git.scratch(), &["ls-remote", "--quiet", "--", &url, name, &peeled])?;
    choose(&listed, name).ok_or_else(|| Failure::new(format!("the repository does not contain ref {name}")))
}

/// The line of `ls-remote` that a name means: the name itself, else a branch, else a tag, as `git checkout` has it.
fn choose(listed: &str, name: &str) -> Option<GitCommit> {
    let lines = || listed.lines().filter_map(|line| line.split_once('\t'));
    let find = |wanted: &str| lines().find(|(_, reference)| *reference == wanted).map(|(object, _)| object.to_owned());
    [name.to_owned(), format!("refs/heads/{name}"), format!("refs/tags/{name}")].into_iter().find_map(|reference| {
        let object = find(&reference)?;
        let (commit, tag) = match find(&format!("{reference}^{{}}")) {
            Some(commit) => (commit, Some(object)),
            None => (object, None),
        };
        let is_object = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_object.then_some(GitCommit { commit, tag, reference: Some(reference) })
    })
}

/// Writes the files of a commit into an empty directory.
pub(super) fn check_out(
    host: &Host,
    ask: &GitAsk<'_>,
    checkout: &GitCheckout<'_>,
    into: &Path,
) -> Result<GitTree, Failure> {
    let (git, url) = connect(host, ask)?;
    let format = if checkout.commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.run(into, &["init", "--quiet", "--template=", format])?;
    git.run(into, &["remote", "add", "--", "origin", &url])?;
    fetch(&git, checkout, into)?;
    let commit = format!("{}^{{commit}}", checkout.commit);
    git.run(into, &["checkout", "--quiet", "--force", "--detach", &commit])?;
    if checkout.submodules && into.join(".gitmodules").symlink_metadata().is_ok() {
        let arguments = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", "--force"];
        let filled = git.run_for_submodules(into, &arguments);
        filled.map_err(|failure| failure.with_hint("?submodules=false leaves submodules out"))?;
    }
    let time = git.run(into, &["show", "--no-patch", "--format=%ct", &commit])?;
    let time = time.trim().parse().map_err(|_| Failure::new("git names no time of the commit"))?;
    if checkout.keep_git_dir {
        settle(&git, into)?;
    } else {
        let path = into.join(".git");
        fs::remove_dir_all(&path).map_err(|error| io_failure("remove", &path, &error))?;
    }
    Ok(GitTree { time })
}

/// Fetches a commit by the name that led to it, else by itself, else with everything that there is.
fn fetch(git: &Git<'_>, checkout: &GitCheckout<'_>, into: &Path) -> Result<(), Failure> {
    let there = format!("{}^{{commit}}", checkout.commit);
    let is_there = || git.test(into, &["cat-file", "-e", &there]);
    let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "origin"];
    let asked = checkout.reference.into_iter().chain([checkout.commit]);
    for name in asked {
        let mut arguments = shallow.to_vec();
        arguments.push(name);
        let fetched = git.run_for_submodules(into, &arguments);
        if fetched.is_ok() && is_there()? {
            return Ok(());
        }
    }
    let everything = [
        "fetch",
        "--quiet",
        "--no-recurse-submodules",
        "--update-shallow",
        "origin",
        "+refs/heads/*:refs/remotes/origin/*",
        "+refs/tags/*:refs/tags/*",
    ];
    git.run_for_submodules(into, &everything)?;
    if is_there()? {
        return Ok(());
    }
    Err(Failure::new(format!("the repository does not contain the commit {}", checkout.commit)))
}

/// Leaves a `.git` that is the same wherever and whenever it was made: no times of files, no journal, one thread's pack.
fn settle(git: &Git<'_>, into: &Path) -> Result<(), Failure> {
    git.run(into, &["-c", "pack.threads=1", "repack", "-a", "-d", "-q"])?;
    let directory = into.join(".git");
    for name in ["FETCH_HEAD", "ORIG_HEAD", "logs", "index", "branches", "hooks"] {
        let path = directory.join(name);
        let removed = match path.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(_) => Ok(()),
        };
        removed.map_err(|error| io_failure("remove", &path, &error))?;
    }
    git.run(into, &["read-tree", "HEAD"])?;
    // Of a submodule's own directory only git knows where it is.
    git.run(into, &["submodule", "--quiet", "foreach", "--recursive", SETTLE]).map(drop)
}

/// Git with the credentials for an address, and the address without them.
fn connect<'h>(host: &'h Host, ask: &GitAsk<'_>) -> Result<(Git<'h>, String), Failure> {
    let mut source = Source::at(ask.url)?;
    let header = match ask.authorization {
        None => None,
        Some(Authorization::Token(token)) => {
            (source.username, source.password) = (Secret::new(TOKEN_USER), token.clone());
            None
        }
        Some(Authorization::Header(header)) => Some(header.clone()),
    };
    let mut git = Git::new(&source, host)?.with_way_in(WAY_IN);
    if let (Some(header), Ok(url)) = (header, Url::parse(&source.uri)) {
        let base = host_of(&url).and_then(|name| host.hosts.get(&name)).cloned();
        let origin = base.unwrap_or_else(|| url.origin().ascii_serialization());
        git = git.with_header(&origin, header);
    }
    Ok((git.with_agent(ask.ssh_agent), source.uri))
}

/// As `--host` names it.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_then_a_branch_then_a_tag() {
        let listed = "1111\tHEAD\n2222\trefs/heads/v1\n3333\trefs/tags/v1\n4444\trefs/tags/v1^{}\n5555\trefs/heads/x/v1\n\
                      6666\trefs/tags/v2\n7777\trefs/tags/v2^{}\n";
        for (name, commit, tag, reference) in [
            ("HEAD", "1111", None, "HEAD"),
            ("v1", "2222", None, "refs/heads/v1"),
            ("refs/tags/v1", "4444", Some("3333"), "refs/tags/v1"),
            ("v2", "7777", Some("6666"), "refs/tags/v2"),
        ] {
            let chosen = choose(listed, name).unwrap();
            assert_eq!((chosen.commit.as_str(), chosen.tag.as_deref()), (commit, tag), "{name}");
            assert_eq!(chosen.reference.as_deref(), Some(reference), "{name}");
        }
        assert_eq!(choose(listed, "v3"), None);
        assert_eq!(choose("garbage\trefs/heads/v3\n", "v3"), None);
    }
}
