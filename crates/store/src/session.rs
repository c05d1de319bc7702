//! What belongs to one handle: a lease, which is a locked file that lists what the handle uses, and a directory for
//! everything temporary. Both go when the handle does; if its process dies, the next one that opens the store sees that
//! the lock is free and removes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::inventory::{Holders, children};
use crate::remove::remove;
use crate::{SESSIONS, Store, boot, locks};

const LEASE: &str = "lease";

/// One handle's belongings.
pub(crate) struct Session {
    lease: File,
    lease_path: PathBuf,
    /// Everything temporary.
    directory: PathBuf,
    next: AtomicU64,
}

/// A private directory on the store's file system, removed with its content when this is dropped.
pub struct Scratch {
    path: PathBuf,
    /// The session must outlive what lies in its directory.
    _store: Store,
}

impl Session {
    pub fn start(dir: &Path) -> io::Result<Self> {
        let session = {
            // The collector takes an unlocked lease for a dead one, so it waits until ours is locked.
            let _gate = locks::gate_shared(dir)?;
            Self::create(&dir.join(SESSIONS))?
        };
        // Cleaning is for later handles' good; whatever keeps it from succeeding must not keep us from working.
        let left_over = locks::gate_exclusive(dir).and_then(|_gate| session.take_over_dead(dir)).unwrap_or_default();
        for path in left_over {
            let _ = remove(&path);
        }
        Ok(session)
    }

    /// Of a handle that only looks: nothing can be written to its lease, nor to its directory, which does not exist.
    pub fn none(dir: &Path) -> io::Result<Self> {
        let nowhere = dir.join(SESSIONS).join("none/none");
        Ok(Self { lease: File::open(dir)?, lease_path: nowhere.clone(), directory: nowhere, next: AtomicU64::new(0) })
    }

    fn create(sessions: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            // The numbers of process and boot are for people; the time tells apart processes of several namespaces.
            let boot = boot::id().map_or_else(|| "0".to_owned(), |id| id.chars().take(8).collect());
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let name = format!("{}-{boot}-{time}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let lease_path = sessions.join(format!("{name}.{LEASE}"));
            match OpenOptions::new().append(true).create_new(true).open(&lease_path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(lease) => {
                    let directory = sessions.join(name);
                    let locked = lease.lock().map_err(locks::explained).and_then(|()| fs::create_dir(&directory));
                    if let Err(error) = locked {
                        let _ = fs::remove_file(&lease_path);
                        return Err(error);
                    }
                    return Ok(Self { lease, lease_path, directory, next: AtomicU64::new(0) });
                }
            }
        }
    }

    /// Adds an entry to the lease. The caller holds the gate.
    pub fn write_lease(&self, entry: &str) -> io::Result<()> {
        (&self.lease).write_all(format!("{entry}\n").as_bytes())
    }

    /// Moves what dead handles left into our own directory, to be removed without hurry, and forgets their leases. The
    /// caller holds the gate alone.
    pub fn take_over_dead(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut taken = Vec::new();
        for lease in dead_leases(dir)? {
            let to = self.temporary("dead");
            match fs::rename(lease.with_extension(""), &to) {
                Ok(()) => taken.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Somebody with more rights made it; they may clean it up.
                Err(_) => continue,
            }
            let _ = fs::remove_file(lease);
        }
        Ok(taken)
    }

    /// The directory for everything temporary.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new name in the temporary directory.
    pub fn temporary(&self, prefix: &str) -> PathBuf {
        self.directory.join(format!("{prefix}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn scratch(&self, store: Store) -> io::Result<Scratch> {
        let path = self.temporary("scratch");
        fs::create_dir(&path)?;
        Ok(Scratch { path, _store: store })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The lease goes last: as long as there is one, somebody can find the directory. The directory itself is not
        // given to `remove`, which moves things beside what it removes.
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let _ = remove(&entry.path());
        }
        if fs::remove_dir(&self.directory).is_ok() {
            let _ = fs::remove_file(&self.lease_path);
        }
    }
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is tried again with the session.
        let _ = remove(&self.path);
    }
}

/// Who uses what: the holders of every entry in the leases of living handles. The collector holds the gate.
pub(crate) fn holders(dir: &Path) -> io::Result<Holders> {
    let mut holders = Holders::new();
    for lease in leases(dir)? {
        if is_dead(&lease) {
            continue;
        }
        let holder = lease.file_name().and_then(|name| pid(name.as_ref())).unwrap_or_default();
        for entry in fs::read_to_string(&lease).unwrap_or_default().lines() {
            let of_entry = holders.entry(entry.to_owned()).or_default();
            if !of_entry.contains(&holder) {
                of_entry.push(holder);
            }
        }
    }
    Ok(holders)
}

/// The process that a session's name states.
pub(crate) fn pid(name: &Path) -> Option<u32> {
    name.to_str()?.split('-').next()?.parse().ok()
}

/// Whether a session's directory has an owner.
pub(crate) fn is_alive(directory: &Path) -> bool {
    let lease = directory.with_extension(LEASE);
    lease.exists() && !is_dead(&lease)
}

fn dead_leases(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(leases(dir)?.into_iter().filter(|lease| is_dead(lease)).collect())
}

fn leases(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = children(&dir.join(SESSIONS))?.into_iter().map(|(path, _)| path);
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == LEASE)).collect())
}

/// Whether nobody holds the lock any more. A lease that cannot be opened is somebody else's and taken for alive.
fn is_dead(lease: &Path) -> bool {
    File::open(lease).is_ok_and(|file| file.try_lock_shared().is_ok())
}
