//! What do we already have on this disk, and how does it stay whole?
//!
//! A store is a directory that several processes may use at once and that anything may happen to: it can be deleted,
//! damaged or left half-written at any time, and the answers stay right. So nothing in it is believed without a reason:
//!
//! | below the directory | what | why it is believed |
//! |---|---|---|
//! | `blobs/<algorithm>/<hex>` | blobs, as in an OCI layout | their size and digest; the digest is computed once and again when the file looks touched, and while it is read |
//! | `seals-1/<algorithm>-<hex>` | what a blob's file looked like when its digest was computed, and the boot of the machine until which it may be lost, if it was made here | a checksum, and that the file still looks so |
//! | `records-1/<kind>/<hash of the key>` | small documents, among them layer listings | a checksum over key and content |
//! | `lowers-2/<name>/root` | layers unpacked for overlayfs | a seal beside it: the attributes of all files, and the boot of the machine until which they may be lost |
//! | `mounts-1/<hash of the id>/root` | cache mounts | not at all: their content is the user's |
//! | `locks-1/` | locks by name, and the gate | the kernel lets go of a dead process's locks |
//! | `sessions-1/` | of each handle: its lease and its temporary directory | the lock on the lease: without one the owner is dead |
//! | `pruned-1` | an empty file, whose time says when [`Store::prune`] last collected | not needed |
//!
//! Whatever a handle uses goes into its lease, so that [`Store::gc`] in any process spares it as long as the handle
//! lives. The *gate* keeps the two apart: a lease is written under a shared lock, the collector decides under an
//! exclusive one. What is damaged is removed and counts as absent. Numbers in names are versions of formats; other
//! versions are left alone.

mod audit;
mod blobs;
mod boot;
mod gc;
mod inventory;
mod layers;
mod locks;
mod lowers;
mod records;
mod remove;
mod seal;
mod session;
mod table;
mod temporary;
mod through;

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use skycap_image::Digest;
use skycap_rootfs::LayerIndex;

pub use audit::{Audit, Damage};
pub use blobs::BlobWriter;
pub use gc::Collected;
pub use inventory::{Item, Sort};
pub use locks::{Hold, Lock};
pub use session::Scratch;
pub use temporary::Temporary;

use seal::Stamp;
use session::Session;

const BLOBS: &str = "blobs";
const RECORDS: &str = "records-1";
const SEALS: &str = "seals-1";
const LOWERS: &str = "lowers-2";
const MOUNTS: &str = "mounts-1";
const LOCKS: &str = "locks-1";
const SESSIONS: &str = "sessions-1";
const PRUNED: &str = "pruned-1";
/// How exactly the time of last use is known.
const NOTED: Duration = Duration::from_hours(1);
/// The mode of the directories above.
const PRIVATE: u32 = 0o700;

/// A handle on the store of a directory. Clones are the same handle; what it has used is spared by [`Store::gc`] until
/// the last clone is gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// A store that is only looked at. It holds nothing, so what it has seen may go at any time.
pub struct Looked(Store);

impl Looked {
    /// [`Store::inventory`]
    pub fn inventory(&self) -> io::Result<Vec<Item>> {
        self.0.inventory()
    }

    /// [`Store::gc_dry_run`]
    pub fn gc_dry_run(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        self.0.gc_dry_run(limit, age)
    }
}

struct Inner {
    dir: PathBuf,
    session: Session,
    state: Mutex<State>,
}

/// What a handle remembers. All of it could be found out again.
#[derive(Default)]
struct State {
    /// Entries in our lease, by their paths below the directory.
    leased: HashSet<String>,
    /// Blobs that were read and found right, and what the file looked like then.
    whole: HashMap<Digest, Stamp>,
    /// Lower directories that were found as they were made.
    sound: HashSet<String>,
    indexes: HashMap<Digest, Weak<LayerIndex>>,
}

impl Store {
    /// Opens the store in a directory, which is made if it is missing, and cleans up after dead processes. Other users
    /// cannot look into what it holds: among that are setuid files of images and what private repositories hold. A
    /// directory that was there before keeps its own mode.
    pub fn open(dir: &Path) -> io::Result<Self> {
        for name in [BLOBS, "blobs/sha256", SEALS, RECORDS, LOWERS, MOUNTS, LOCKS, SESSIONS] {
            let path = dir.join(name);
            let made = DirBuilder::new().recursive(true).mode(PRIVATE).create(&path).and_then(|()| close(&path));
            made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        let session = Session::start(dir)?;
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), session, state: Mutex::default() })))
    }

    /// Looks at the store in a directory without making or removing anything; `None` if there is none.
    pub fn look(dir: &Path) -> io::Result<Option<Looked>> {
        let names = [SEALS, RECORDS, LOWERS, MOUNTS, LOCKS, SESSIONS];
        if !names.iter().any(|name| dir.join(name).is_dir()) {
            // Whether nothing is there or we may not see it is a difference.
            return match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(None),
            };
        }
        let session = Session::none(dir)?;
        Ok(Some(Looked(Self(Arc::new(Inner { dir: dir.to_owned(), session, state: Mutex::default() })))))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Makes a private directory on the store's file system. It is removed with its content when it is dropped, or by
    /// the next process if this one dies.
    pub fn scratch(&self) -> io::Result<Scratch> {
        self.0.session.scratch(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry into our lease and notes that it is used. From then on it stays, if it is there.
    fn lease(&self, entry: &str) -> io::Result<()> {
        if self.state().leased.contains(entry) {
            return Ok(());
        }
        {
            let _gate = locks::gate_shared(&self.0.dir)?;
            self.0.session.write_lease(entry)?;
        }
        self.state().leased.insert(entry.to_owned());
        if !entry.starts_with(BLOBS) {
            note_use(&self.0.dir.join(entry));
        }
        Ok(())
    }
}

/// Whether a directory holds an image layout that is not ours, such as a cache that BuildKit exported. A store in the same
/// directory does not read its index; its blobs are blobs like others, and the collector takes them when they are old.
pub fn has_foreign_layout(dir: &Path) -> bool {
    dir.join("index.json").exists()
}

/// Closes a directory to others. One that is not ours is its owner's business.
fn close(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(PRIVATE)) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Sets the time of last use, by which the collector judges: the modification time, because looking changes the access time.
/// A blob has it elsewhere ([`seal`]).
fn note_use(path: &Path) {
    // An entry that is not there, or not ours, has no time to set.
    let _ = fs::File::open(path).and_then(|file| set_used(&file));
}

/// Nothing is written if it was used a moment ago: a cache that is carried from build to build should not change for being
/// looked at.
fn set_used(file: &fs::File) -> io::Result<()> {
    let (now, before) = (SystemTime::now(), file.metadata()?.modified()?);
    let is_noted = now.duration_since(before).is_ok_and(|age| age < NOTED);
    if is_noted { Ok(()) } else { file.set_times(fs::FileTimes::new().set_modified(now)) }
}

/// A name of fixed length for any text.
fn hashed(text: &str) -> String {
    Digest::sha256(text.as_bytes()).hex()
}
