//! Makes file systems of what servers hold.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use skycap_image::{BlobSource as _, Descriptor, Digest};
use skycap_rootfs::{Entry, Kind, Metadata, Time, TreePath, View};
use skycap_store::{Scratch, Store};

use super::address::GitAddress;
use super::secrets::Secrets;
use super::{GitAsk, GitCheckout, GitTree, Remote};
use crate::archive;
use crate::changes::{Changes, Content, FIXED_TIME, Item, Place};
use crate::commit::{self, Packing, Sources};
use crate::context::{Context, Contexts};
use crate::error::Fault;
use crate::execute::Engine;
use crate::files::Files as _;
use crate::graph::{ContextId, Fetch, Found, From, NodeId, Wanted};
use crate::ignore::Ignore;
use crate::pick::{self, Picked};
use crate::request::Request;
use crate::ssh::{Served, SshSource};

/// What a file has that comes from a URL, as in BuildKit.
const FILE_MODE: u32 = 0o600;
/// git's own directory, and the file that leads a submodule to its own.
const GIT: &[u8] = b".git";

impl Engine<'_> {
    /// What a server holds, as a layer.
    pub fn fetch(&self, id: NodeId, fetch: &Fetch) -> Result<(Descriptor, Digest), Fault> {
        match (&fetch.what, &fetch.found) {
            (Wanted::Http { name, unpack, .. }, Some(Found::Http { blob, modified })) => {
                self.http_file(id, name, *unpack, blob, *modified)
            }
            (Wanted::Git { address, keep_git_dir }, Some(Found::Git { commit, reference })) => {
                self.git_tree(id, address, *keep_git_dir, commit, reference.as_deref())
            }
            _ => Err(Fault::new("nobody was asked what the server holds")),
        }
    }

    fn http_file(
        &self,
        id: NodeId,
        name: &str,
        unpack: bool,
        blob: &Descriptor,
        modified: Option<i64>,
    ) -> Result<(Descriptor, Digest), Fault> {
        let scratch = self.tools.store.scratch()?;
        let mut file = blob_file(self.tools.store, blob, scratch.path())?;
        let (spool_file, mut spool) = commit::spool(scratch.path(), &self.cancel)?;
        let nothing = View::default();
        let mut changes = Changes::to(&nothing);
        let is_archive = unpack && archive::is_archive(&file, name.as_bytes())?;
        file.rewind()?;
        if is_archive {
            archive::unpack(file, &TreePath::root(), None, &mut changes, &mut spool)?;
        } else {
            let (offset, size) = spool.add(&mut file)?;
            let mtime = Time { seconds: modified.unwrap_or_default(), nanoseconds: 0 };
            let entry = Entry {
                kind: Kind::File { size },
                metadata: Metadata { mode: FILE_MODE, mtime, ..Metadata::default() },
            };
            changes.put(&TreePath::root().join(name.as_bytes())?, Item { entry, content: Content::Spooled { offset } });
        }
        commit::end_spool(spool)?;
        commit_spooled(self.tools.store, self.packing(id), &changes, &spool_file)
    }

    fn git_tree(
        &self,
        id: NodeId,
        address: &GitAddress,
        keep_git_dir: bool,
        commit: &str,
        reference: Option<&str>,
    ) -> Result<(Descriptor, Digest), Fault> {
        let scratch = self.tools.store.scratch()?;
        let directory = scratch.path().join("tree");
        let checkout = Checkout { address, keep_git_dir, commit, reference };
        let tree = check_out(&checkout, &directory, self.tools.request, self.tools.remote, self.tools.store)?;
        let time = if address.commit_times { Time { seconds: tree.time, nanoseconds: 0 } } else { FIXED_TIME };
        let context = Context::open(&directory, Ignore::default())?;
        let picked = whole(&context, address, keep_git_dir)?;
        let nothing = View::default();
        let mut changes = Changes::to(&nothing);
        for (relative, entry) in &picked.below {
            let content = if entry.is_file() { Content::Source(picked.at(relative)) } else { Content::None };
            changes.put(relative, Item { entry: as_git_says(entry, time), content });
        }
        let paths: Vec<TreePath> =
            pick::regular_files(std::slice::from_ref(&picked)).into_iter().map(|place| place.path).collect();
        let place = |path| Place { tree: From::Context(ContextId::MAIN), path };
        let read = context.digests(&paths, self.tools.request.threads, &self.cancel)?;
        let read = paths.into_iter().map(place).zip(read.into_iter().map(|(read, _)| read)).collect();
        let (spool_file, spool) = commit::spool(scratch.path(), &self.cancel)?;
        commit::end_spool(spool)?;
        let contexts = Contexts::new(vec![context]);
        let copied = BTreeMap::new();
        let sources = Sources { contexts: &contexts, read: &read, copied: &copied, spool: &spool_file };
        commit::commit(self.tools.store, self.packing(id), |pack| commit::write(&changes, &sources, pack))
    }
}

/// Writes a layer all of whose files are in the spool.
pub(crate) fn commit_spooled(
    store: &Store,
    packing: Packing<'_>,
    changes: &Changes<'_>,
    spool: &fs::File,
) -> Result<(Descriptor, Digest), Fault> {
    let (contexts, read, copied) = (Contexts::new(Vec::new()), BTreeMap::new(), BTreeMap::new());
    let sources = Sources { contexts: &contexts, read: &read, copied: &copied, spool };
    commit::commit(store, packing, |pack| commit::write(changes, &sources, pack))
}

/// A blob of the store as a file of our own, checked.
pub(crate) fn blob_file(store: &Store, blob: &Descriptor, scratch: &Path) -> Result<fs::File, Fault> {
    let mut file = fs::File::options().create_new(true).read(true).write(true).open(scratch.join("blob"))?;
    let mut bytes = store.open(blob)?;
    std::io::copy(&mut bytes.by_ref(), &mut file)?;
    bytes.finish()?;
    file.rewind()?;
    Ok(file)
}

/// What to check out.
pub(crate) struct Checkout<'a> {
    pub address: &'a GitAddress,
    pub keep_git_dir: bool,
    pub commit: &'a str,
    pub reference: Option<&'a str>,
}

/// Has a commit checked out into a directory that does not exist yet.
pub(crate) fn check_out(
    checkout: &Checkout<'_>,
    directory: &Path,
    request: &Request,
    remote: &dyn Remote,
    store: &Store,
) -> Result<GitTree, Fault> {
    let Checkout { address, keep_git_dir, commit, reference } = *checkout;
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let secrets = Secrets(&request.secrets);
    let authorization = secrets.for_repository(&address.url);
    let agent = agent(address, request, store)?;
    let ask = GitAsk {
        url: &address.url,
        reference,
        authorization: authorization.as_ref(),
        ssh_agent: agent.as_ref().map(Agent::path),
    };
    let submodules = address.submodules.unwrap_or(true);
    let checkout = GitCheckout { commit, reference, keep_git_dir, submodules };
    remote
        .git_checkout(&ask, &checkout, directory)
        .map_err(|error| Fault::caused(format!("cannot check out {}", address.shown()), error))
}

/// The part of a checked-out tree that is wanted. No component of the directory may be a link: it would be the repository
/// that says which files are taken.
pub(crate) fn whole(context: &Context, address: &GitAddress, keep_git_dir: bool) -> Result<Picked, Fault> {
    let directory = address.directory.as_deref().unwrap_or_default();
    let path = pick::clean(directory)?;
    let is_hidden = !keep_git_dir && path.components().any(|name| name == GIT);
    if is_hidden || !context.find(&path)?.is_some_and(|entry| entry.is_directory()) {
        return Err(Fault::new(format!("{} has no directory {directory:?}", address.shown())));
    }
    let picked = pick::whole(context, From::Context(ContextId::MAIN), directory)?.into_iter().next();
    let mut picked = picked.ok_or_else(|| Fault::new(format!("{} has no files", address.shown())))?;
    if !keep_git_dir {
        picked.below.retain(|(path, _)| path.components().all(|name| name != GIT));
    }
    Ok(picked)
}

/// git knows whether a file can be executed; the rest is up to who checks it out.
pub(crate) fn as_git_says(entry: &Entry, mtime: Time) -> Entry {
    let mode = match (&entry.kind, entry.metadata.mode) {
        (Kind::Symlink(_), _) => 0o777,
        (Kind::Directory, _) => 0o755,
        (_, mode) if mode & 0o100 != 0 => 0o755,
        (_, mode) if mode & 0o200 == 0 => 0o444,
        _ => 0o644,
    };
    Entry { kind: entry.kind.clone(), metadata: Metadata { mode, mtime, ..Metadata::default() } }
}

/// An SSH agent that git may ask.
pub(crate) enum Agent<'r> {
    /// One that runs already.
    Running(&'r Path),
    /// Our own, for keys; with the directory that its socket is in.
    Own(Served, #[allow(dead_code, reason = "it goes when this goes")] Scratch),
}

impl Agent<'_> {
    /// Its socket.
    pub fn path(&self) -> &Path {
        match self {
            Self::Running(path) => path,
            Self::Own(served, _) => served.path(),
        }
    }
}

/// The request's default agent, for addresses that use SSH.
pub(crate) fn agent<'r>(address: &GitAddress, request: &'r Request, store: &Store) -> Result<Option<Agent<'r>>, Fault> {
    let is_ssh = address.url.starts_with("ssh://") || !address.url.contains("://");
    Ok(match request.ssh.get("default").filter(|_| is_ssh) {
        None => None,
        Some(SshSource::Agent(path)) => Some(Agent::Running(path)),
        Some(source @ SshSource::Keys(_)) => {
            let scratch = store.scratch()?;
            Some(Agent::Own(Served::start(source, scratch.path(), 0o600)?, scratch))
        }
    })
}
