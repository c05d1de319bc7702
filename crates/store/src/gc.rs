//! Removing what is not used.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::inventory::{Item, Sort, children};
use crate::remove::remove;
use crate::{Hold, PRUNED, SEALS, Store, locks, session};

/// How often a store that prunes itself looks whether it must.
const EVERY: Duration = Duration::from_hours(1);
/// What a store may always hold.
const LEAST_LIMIT: u64 = 10 << 30;

/// What a collection did, or would do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// What went, the longest unused first.
    pub removed: Vec<Item>,
    /// The bytes that it took.
    pub freed: u64,
    /// The bytes that stay.
    pub kept: u64,
    /// Those of them that stay because somebody uses them, although the limits say otherwise.
    pub in_use: u64,
}

impl Store {
    /// Removes what was not used for `age`, then what was not used for longest until at most `limit` bytes are left. What
    /// any living handle uses stays, even beyond the limit. Being killed in the middle leaves nothing half-removed.
    pub fn gc(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        self.collect(limit, age, |_| false)
    }

    /// The same for a directory that is copied from build to build, as the caches of Concourse's tasks are: there every file
    /// costs, so unpacked layers go whatever their age. They are made again from their blobs.
    ///
    /// What this handle uses stays, so it should be a new one.
    pub fn gc_for_moving(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        self.collect(limit, age, |item| item.sort == Sort::Lower)
    }

    /// Does [`Store::gc`], unless that was done in the last hour: for whoever has just used the store. `None` if nothing was
    /// looked at.
    pub fn prune(&self, limit: u64, age: Duration) -> io::Result<Option<Collected>> {
        let stamp = self.dir().join(PRUNED);
        // A time in the future is none: a clock went back.
        let is_recent = |at: SystemTime| SystemTime::now().duration_since(at).is_ok_and(|passed| passed < EVERY);
        let pruned = fs::symlink_metadata(&stamp).ok().filter(fs::Metadata::is_file);
        if pruned.and_then(|stamp| stamp.modified().ok()).is_some_and(is_recent) {
            return Ok(None);
        }
        let Some(_lock) = self.try_lock(PRUNED, Hold::Alone)? else { return Ok(None) };
        if fs::symlink_metadata(&stamp).is_ok_and(|found| !found.is_file()) {
            remove(&stamp)?;
        }
        File::create(&stamp)?.set_modified(SystemTime::now())?;
        self.gc(limit, age).map(Some)
    }

    /// What a store on this file system should hold at most if nobody says: a tenth of it, and at least 10 GiB.
    pub fn usual_limit(&self) -> u64 {
        let size = rustix::fs::statvfs(self.dir()).map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize));
        (size / 10).max(LEAST_LIMIT)
    }

    fn collect(&self, limit: u64, age: Duration, goes: impl Fn(&Item) -> bool) -> io::Result<Collected> {
        let items = self.collectable()?;
        let mut trash = Vec::new();
        let collected = {
            let _gate = locks::gate_exclusive(self.dir())?;
            let holders = session::holders(self.dir())?;
            let chosen = choose(items, limit, age, goes, |item| holders.contains_key(&item.name));
            let collected = chosen.only(|item| {
                let to = self.0.session.temporary("trash");
                // Another collector may have been faster, and what somebody with more rights made is left to them.
                fs::rename(item.path(self), &to).inspect(|()| trash.push(to)).is_ok()
            });
            trash.extend(self.0.session.take_over_dead(self.dir())?);
            locks::sweep(self.dir())?;
            self.sweep_seals(&mut trash)?;
            collected
        };
        self.state().indexes.retain(|_, index| index.strong_count() > 0);
        let outcomes: Vec<_> = trash.iter().map(|path| remove(path)).collect();
        outcomes.into_iter().collect::<io::Result<()>>().map(|()| collected)
    }

    /// What [`Store::gc`] would do now.
    pub fn gc_dry_run(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        Ok(choose(self.collectable()?, limit, age, |_| false, |item| !item.holders.is_empty()))
    }

    fn collectable(&self) -> io::Result<Vec<Item>> {
        Ok(self.inventory()?.into_iter().filter(|item| item.sort != Sort::Scratch).collect())
    }

    /// Takes away the seals of blobs that are gone. The caller holds the gate alone.
    fn sweep_seals(&self, trash: &mut Vec<PathBuf>) -> io::Result<()> {
        for (path, _) in children(&self.dir().join(SEALS))? {
            let digest = path.file_name().and_then(|name| name.to_str()?.replacen('-', ":", 1).parse().ok());
            let has_blob = digest.is_some_and(|digest| self.blob_path(&digest).exists());
            let to = self.0.session.temporary("seal");
            if !has_blob && fs::rename(&path, &to).is_ok() {
                trash.push(to);
            }
        }
        Ok(())
    }
}

impl Collected {
    /// The same with only those removals that take place.
    fn only(self, mut takes_place: impl FnMut(&Item) -> bool) -> Self {
        let (removed, stayed): (Vec<_>, Vec<_>) = self.removed.into_iter().partition(|item| takes_place(item));
        let size: u64 = stayed.iter().map(|item| item.size).sum();
        Self { removed, freed: self.freed - size, kept: self.kept + size, in_use: self.in_use }
    }
}

/// What the limits condemn, and what goes anyhow.
fn choose(
    mut items: Vec<Item>,
    limit: u64,
    age: Duration,
    goes: impl Fn(&Item) -> bool,
    is_used: impl Fn(&Item) -> bool,
) -> Collected {
    let now = SystemTime::now();
    // What goes anyhow goes first, so that it does not take other things with it.
    items.sort_by_key(|item| (!goes(item), item.used));
    let mut chosen = Collected { kept: items.iter().map(|item| item.size).sum(), ..Collected::default() };
    for item in items {
        // A clock that went back makes things young, not old.
        let is_old = goes(&item) || now.duration_since(item.used).unwrap_or_default() >= age;
        if !is_old && chosen.kept <= limit {
            continue;
        }
        if is_used(&item) {
            chosen.in_use += item.size;
            continue;
        }
        chosen.kept -= item.size;
        chosen.freed += item.size;
        chosen.removed.push(item);
    }
    chosen
}
