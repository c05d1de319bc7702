//! Checking everything: bytes against digests, records against checksums, lower directories against their layers.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;

use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use skycap_image::{Algorithm, Descriptor, Digest, Hasher, MediaType, Verified};
use skycap_rootfs::{Change, LayerIndex, Limits, Tree, TreePath, read_layer};

use crate::blobs::{open_file, tells_damage};
use crate::inventory::{Item, Sort, digest_of};
use crate::lowers::{ROOT, SEAL, Seal};
use crate::records::{claimed_key, opened, read};
use crate::remove::remove;
use crate::seal::{Lasts, Stamp, settle};
use crate::{Store, hashed, locks, session, table};

/// What an audit found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Audit {
    /// Items that were looked at.
    pub checked: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// What was not right.
    pub damaged: Vec<Damage>,
    /// What we may not look at, or cannot compare, and why.
    pub unchecked: Vec<(Item, String)>,
}

/// Something in the store that is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// What.
    pub item: Item,
    /// What is wrong with it, in lower case.
    pub fault: String,
    /// Whether it is gone now. What somebody uses at the moment stays, and will not be used again.
    pub removed: bool,
}

/// What is known about one item.
enum Finding {
    Right,
    Wrong(String),
    /// Nobody can say.
    Unknown(String),
}

impl Store {
    /// Reads everything and removes what is damaged: from then on it is absent, and made or fetched again when it is needed.
    /// What is right needs no reading when it is next used. Cache mounts are not looked at: what they hold is the user's.
    /// `about_to` is told each item before it is checked.
    pub fn audit(&self, about_to: &mut dyn FnMut(&Item)) -> io::Result<Audit> {
        let mut audit = Audit::default();
        let mut confirmed = Vec::new();
        for item in self.inventory()? {
            if matches!(item.sort, Sort::CacheMount | Sort::Scratch) {
                continue;
            }
            about_to(&item);
            let seen = fs::symlink_metadata(item.path(self));
            let finding = match item.sort {
                Sort::Blob => self.audit_blob(&item),
                Sort::Lower => self.audit_lower(&item, &mut confirmed),
                _ => self.audit_record(&item),
            };
            let Ok(seen) = seen else { continue };
            audit.checked += 1;
            audit.bytes += item.size;
            match finding {
                Finding::Right => {}
                Finding::Wrong(fault) => {
                    if let Some(removed) = self.discard(&item, &Stamp::from(&seen))? {
                        audit.damaged.push(Damage { item, fault, removed });
                    }
                }
                Finding::Unknown(why) => audit.unchecked.push((item, why)),
            }
        }
        self.make_durable(&confirmed)?;
        Ok(audit)
    }

    fn audit_blob(&self, item: &Item) -> Finding {
        let algorithm = if item.name.contains("/sha512/") { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let Some(digest) = digest_of(algorithm, &item.path(self)) else { return Finding::Right };
        let file = match open_file(&item.path(self)) {
            Ok(file) => file,
            Err(error) => return self.unreadable(item, &error),
        };
        let stamp = |file: &File| file.metadata().map(|metadata| Stamp::from(&metadata));
        let _ = settle(&file);
        let (Ok(before), Ok(size)) = (stamp(&file), file.metadata().map(|metadata| metadata.len())) else {
            return Finding::Unknown("it cannot be looked at".to_owned());
        };
        let blob = Descriptor::new(MediaType::default(), digest, size);
        if let Err(error) = Verified::new(&file, &blob).finish() {
            return Finding::Wrong(error.to_string());
        }
        if file.sync_all().is_ok() && stamp(&file).is_ok_and(|after| after == before) {
            self.seal(&digest, &before, Lasts::Forever);
        }
        Finding::Right
    }

    fn audit_record(&self, item: &Item) -> Finding {
        let bytes = match read(&item.path(self)) {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(item, &error),
        };
        let content = claimed_key(&bytes)
            .filter(|key| item.name.ends_with(&format!("/{}", hashed(key))))
            .and_then(|key| opened(&bytes, key));
        match content {
            None => Finding::Wrong("its checksum is wrong".to_owned()),
            Some(content) if item.sort == Sort::LayerIndex && LayerIndex::decode(content).is_none() => {
                Finding::Wrong("it does not list a layer, or not in a way that we know".to_owned())
            }
            Some(_) => Finding::Right,
        }
    }

    fn audit_lower(&self, item: &Item, confirmed: &mut Vec<(String, Seal)>) -> Finding {
        let Some(seal) = self.seal_of(&item.name) else {
            return Finding::Wrong("its seal is missing or damaged".to_owned());
        };
        if !self.is_as_sealed(&item.name, &seal) {
            return Finding::Wrong("it was changed since it was made".to_owned());
        }
        let layer = seal.layer(self);
        if !self.verify(&layer.descriptor) {
            let why = "its layer is not in the store, so its files cannot be compared";
            return if seal.holds() {
                Finding::Unknown(why.to_owned())
            } else {
                Finding::Wrong(format!("the machine was started anew since it was written, and {why}"))
            };
        }
        let mut contents = Contents::default();
        if let Err(error) = read_layer(&layer, &mut contents, &Limits::default()) {
            return Finding::Unknown(format!("its layer cannot be read: {error}"));
        }
        match contents.differs_in(self, item) {
            Ok(None) => {
                if !seal.is_durable() {
                    confirmed.push((item.name.clone(), seal));
                }
                Finding::Right
            }
            Ok(Some(path)) => Finding::Wrong(format!("{path} does not hold what the layer has")),
            Err(error) => Finding::Wrong(error.to_string()),
        }
    }

    fn unreadable(&self, item: &Item, error: &io::Error) -> Finding {
        let judge = if tells_damage(error, &item.path(self)) { Finding::Wrong } else { Finding::Unknown };
        judge(error.to_string())
    }

    /// Removes a damaged item, if it still is what was looked at. `None` if it is not: somebody was faster.
    fn discard(&self, item: &Item, seen: &Stamp) -> io::Result<Option<bool>> {
        let trash = self.0.session.temporary("damaged");
        {
            let _gate = locks::gate_exclusive(self.dir())?;
            let now = fs::symlink_metadata(item.path(self)).map(|metadata| Stamp::from(&metadata));
            // Settling a blob for its reading changes its times.
            if !now.is_ok_and(|now| now.is_same_file(seen)) {
                return Ok(None);
            }
            let holders = session::holders(self.dir())?;
            if item.sort == Sort::Lower && holders.contains_key(&item.name) {
                // An overlay may be mounted on it. Without a seal nobody new takes it.
                let _ = fs::remove_file(item.path(self).join(SEAL));
                return Ok(Some(false));
            }
            if fs::rename(item.path(self), &trash).is_err() {
                return Ok(Some(false));
            }
        }
        if let (Sort::Blob, Ok(digest)) = (item.sort, item.label.parse()) {
            self.unseal(&digest);
        }
        Ok(Some(remove(&trash).is_ok()))
    }

    /// Lower directories that were compared with their layers survive the next reboot.
    fn make_durable(&self, confirmed: &[(String, Seal)]) -> io::Result<()> {
        if !confirmed.is_empty() {
            rustix::fs::syncfs(File::open(self.dir())?)?;
        }
        confirmed.iter().try_for_each(|(entry, seal)| self.confirm(entry, seal))
    }
}

/// The digests of a layer's files: a path's last entry decides.
#[derive(Default)]
struct Contents(HashMap<Vec<u8>, Digest>);

impl Tree for Contents {
    fn apply(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        let digest = match change {
            Change::File(_, _, reader) => Some(digest_all(reader)?),
            Change::Hardlink(_, target) => self.0.get(target.as_bytes()).copied(),
            _ => None,
        };
        match digest {
            Some(digest) => self.0.insert(path.as_bytes().to_vec(), digest),
            None => self.0.remove(path.as_bytes()),
        };
        Ok(())
    }
}

impl Contents {
    /// The first file on disk with another content than the layer gives it. Files that the layer has by another path, over
    /// a link of its own, are not compared.
    fn differs_in(&self, store: &Store, item: &Item) -> io::Result<Option<String>> {
        let mut different = None;
        table::walk(&item.path(store).join(ROOT), &mut |path, stat, directory, name| {
            let Some(expected) = self.0.get(path) else { return Ok(()) };
            if different.is_some() || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(());
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match openat(directory, name, flags, Mode::empty()) {
                // A file without permissions in an ordinary user's store.
                Err(Errno::ACCESS) => {}
                opened => {
                    if digest_all(&mut File::from(opened?))? != *expected {
                        different = Some(String::from_utf8_lossy(path).into_owned());
                    }
                }
            }
            Ok(())
        })?;
        Ok(different)
    }
}

fn digest_all(reader: &mut dyn io::Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
