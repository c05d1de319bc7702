//! Build contexts that are not a directory yet: repositories, files and archives at URLs, archives from elsewhere.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use skycap_image::{Compression, Layer};
use skycap_rootfs::{Entry, Kind, Limits, Metadata, Owners, TreePath, Unpack, View, unpack_until};
use skycap_sandbox::Cancel;
use skycap_store::Store;

use super::address::{self, Address, GitAddress};
use super::fetch::{Checkout, as_git_says, blob_file, check_out, commit_spooled, whole};
use super::resolve;
use crate::archive;
use crate::attest::Material;
use crate::changes::{Changes, FIXED_TIME};
use crate::commit::{self, Packing};
use crate::context::Context;
use crate::error::{BuildError, Fault};
use crate::files::outside;
use crate::graph::{Found, Wanted};
use crate::ignore::Ignore;
use crate::request::Request;
use crate::world::World;

/// A build context as a directory. No ignore file counts in it, as in BuildKit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainContext {
    /// Below the directory that was given.
    pub directory: PathBuf,
    /// The Dockerfile, where the context is nothing else; otherwise it is a file in the directory.
    pub dockerfile: Option<Vec<u8>>,
    /// The time of the commit or of the file, in seconds since 1970: what `SOURCE_DATE_EPOCH=context` means.
    pub time: Option<i64>,
    /// What it is, for [`Request::context_origin`].
    pub material: Material,
}

/// The largest Dockerfile that is read, in bytes. A larger file that is no archive is none.
pub const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// Fetches the context at an address into `into`, an empty directory; `None` if the text is no address but a path.
///
/// Addresses are those of git (`https://host/repository.git#ref:directory`, `git@host:repository`, `github.com/a/b`) and
/// URLs of an archive or of a Dockerfile. The request's secrets and its SSH agent are shown to servers as for `ADD`; the
/// build argument `BUILDKIT_CONTEXT_KEEP_GIT_DIR` keeps `.git`.
pub fn main_context(
    text: &str,
    request: &Request,
    world: &World<'_>,
    into: &Path,
) -> Result<Option<MainContext>, BuildError> {
    let fail = |fault| BuildError::of_request("the build context", fault);
    match address::parse_context(text).map_err(fail)? {
        None => Ok(None),
        Some(Address::Http(url)) => from_url(&url, request, world, into).map(Some).map_err(fail),
        Some(Address::Git(address)) => from_repository(&address, request, world, into).map(Some).map_err(fail),
    }
}

/// Unpacks an archive of a context (tar, packed or not) into a directory that is empty or does not exist. Nothing in it can
/// lead out of the directory, and owners do not count.
pub fn unpack_context(archive: &mut File, store: &Store, into: &Path, cancel: &Cancel) -> Result<(), BuildError> {
    unpack_archive(archive, store, into, cancel).map_err(|fault| BuildError::of_request("the build context", fault))
}

fn from_url(url: &str, request: &Request, world: &World<'_>, into: &Path) -> Result<MainContext, Fault> {
    let wanted = Wanted::Http { url: url.to_owned(), name: "context".to_owned(), checksum: None, unpack: true };
    let Found::Http { blob, modified } = resolve::find(&wanted, request, world)? else {
        return Err(Fault::new("the server's answer is no file"));
    };
    let material = Material::http(url, blob.digest);
    let scratch = world.store.scratch()?;
    let mut file = blob_file(world.store, &blob, scratch.path())?;
    let is_archive = archive::is_archive(&file, b"the build context")?;
    file.rewind()?;
    let directory = into.join("context");
    if is_archive {
        unpack_archive(&mut file, world.store, &directory, &request.cancel)?;
        return Ok(MainContext { directory, dockerfile: None, time: modified, material });
    }
    if blob.size > LARGEST_DOCKERFILE {
        return Err(Fault::new("what the server holds is neither an archive nor a Dockerfile"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let file = directory.join("context");
    fs::write(&file, &bytes)?;
    fs::set_permissions(file, Permissions::from_mode(0o644))?;
    Ok(MainContext { directory, dockerfile: Some(bytes), time: modified, material })
}

fn from_repository(
    address: &GitAddress,
    request: &Request,
    world: &World<'_>,
    into: &Path,
) -> Result<MainContext, Fault> {
    let keep_git_dir = address.keep_git_dir.unwrap_or(keep_git_dir(request)?);
    let wanted = Wanted::Git { address: address.clone(), keep_git_dir };
    let Found::Git { commit, reference } = resolve::find(&wanted, request, world)? else {
        return Err(Fault::new("the server's answer is no commit"));
    };
    let checkout = Checkout { address, keep_git_dir, commit: &commit, reference: reference.as_deref() };
    let tree = into.join("context");
    let checked_out = check_out(&checkout, &tree, request, world.remote, world.store)?;
    let seconds = if address.commit_times { checked_out.time } else { FIXED_TIME.seconds };
    let context = Context::open(&tree, Ignore::default())?;
    let picked = whole(&context, address, keep_git_dir)?;
    let directory = outside(&tree, &picked.path);
    for (relative, entry) in picked.below.iter().rev() {
        settle(&outside(&directory, relative), entry, seconds)?;
    }
    if !keep_git_dir {
        drop_git(&directory, &TreePath::root(), &context_of(&directory)?)?;
    }
    let material = Material::git(&address.shown(), &commit);
    Ok(MainContext { directory, dockerfile: None, time: Some(checked_out.time), material })
}

fn context_of(directory: &Path) -> Result<Context, Fault> {
    Context::open(directory, Ignore::default())
}

/// Makes a file look as it does on every machine.
fn settle(path: &Path, entry: &Entry, seconds: i64) -> Result<(), Fault> {
    if matches!(entry.kind, Kind::Symlink(_)) {
        return Ok(());
    }
    let Metadata { mode, .. } = as_git_says(entry, FIXED_TIME).metadata;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    let after = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    if mode & 0o200 != 0 {
        File::open(path)?.set_modified(after)?;
    }
    Ok(())
}

/// Removes the files that lead submodules to git's directory, which is not there.
fn drop_git(root: &Path, relative: &TreePath, context: &Context) -> Result<(), Fault> {
    use crate::files::Files as _;
    for (name, entry) in context.list(relative)? {
        let path = relative.join(&name)?;
        if name == b".git" && entry.is_file() {
            fs::remove_file(outside(root, &path))?;
        } else if entry.is_directory() {
            drop_git(root, &path, context)?;
        }
    }
    Ok(())
}

/// The build argument `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
fn keep_git_dir(request: &Request) -> Result<bool, Fault> {
    match request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").map(String::as_str) {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => Err(Fault::new(format!(
            "build argument BUILDKIT_CONTEXT_KEEP_GIT_DIR is {other:?}, neither true nor false"
        ))),
    }
}

/// By way of a layer, so that there is one reader of archives and one writer of trees.
fn unpack_archive(archive: &mut File, store: &Store, into: &Path, cancel: &Cancel) -> Result<(), Fault> {
    let scratch = store.scratch()?;
    let (spool_file, mut spool) = commit::spool(scratch.path(), cancel)?;
    let nothing = View::default();
    let mut changes = Changes::to(&nothing);
    archive::unpack(archive, &TreePath::root(), None, &mut changes, &mut spool)?;
    commit::end_spool(spool)?;
    let packing = Packing { compression: Compression::None, threads: 1, cancel };
    let (descriptor, diff_id) = commit_spooled(store, packing, &changes, &spool_file)?;
    let layer = Layer { descriptor, diff_id, blobs: std::sync::Arc::new(store.clone()) };
    let options = Unpack { owners: Owners::Squash, concurrency: 1, limits: Limits::default(), sync: false };
    Ok(unpack_until(&[layer], into, &options, &skycap_image::Silent, &|| cancel.is_cancelled())?)
}
