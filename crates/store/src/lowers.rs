//! Layers as overlayfs lower directories: `lowers-2/<name>/root`, and beside it a seal that says why to believe in it.
//!
//! The files are not synced: that would cost time in every build, and they can be made again from the layer. So a seal
//! names the boot of the machine. Within it nothing is lost, and the tree's attributes tell whether somebody changed it.
//! After a reboot the directory is absent, unless it was found right since (`docs/decisions/0011-lower-directories.md`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::{Descriptor, Digest, Kind, Layer, MediaType, Progress, SourceError};
use skycap_rootfs::{LayerIndex, Limits, OverlayXattrs, Owners, Record, Unpack, View, unpack_overlay};

use crate::records::{opened, read, sealed};
use crate::{LOWERS, Store, boot, hashed, table};

/// The layer's files.
pub(crate) const ROOT: &str = "root";
/// Why they are believed.
pub(crate) const SEAL: &str = "seal";

/// What is known of a lower directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seal {
    /// The boot after which its files may be lost; `None` if they are durable.
    boot: Option<String>,
    /// About as many bytes as its files take.
    pub size: u64,
    /// Of its attributes.
    table: Digest,
    /// The layer.
    pub blob: Descriptor,
    pub diff_id: Digest,
}

impl Store {
    /// The layer unpacked as a lower directory of overlayfs. `below` are the layers under it, lowest first: a few layers
    /// do not say everything themselves. It is made once, whole, for all processes that see owners as this one does; it
    /// must never be written to. One that was is made again.
    pub fn lower(
        &self,
        layer: &Layer,
        below: &[Layer],
        owners: Owners,
        style: OverlayXattrs,
        progress: &dyn Progress,
    ) -> Result<PathBuf, SourceError> {
        let index = self.layer_index(layer)?;
        let below = if index.needs_below() { below } else { &[] };
        let entry = format!("{LOWERS}/{}", name(layer, below, owners, style));
        let failed = |error| {
            let directory = self.dir().display();
            SourceError::io(format!("cannot keep layer {} unpacked in {directory}", layer.diff_id), error)
        };
        self.lease(&entry).map_err(failed)?;
        let root = self.dir().join(&entry).join(ROOT);
        if self.is_sound(&entry) {
            return Ok(root);
        }
        let _lock = self.lock_or_go_alone(&entry).map_err(failed)?;
        if self.is_sound(&entry) {
            return Ok(root);
        }
        let scratch = self.scratch().map_err(failed)?;
        let indexes: Result<Vec<_>, _> = below.iter().map(|layer| self.layer_index(layer)).collect();
        let view = View::new(&indexes?);
        let view = view.map_err(|error| SourceError::caused(Kind::Corrupt, "the layers do not fit together", error))?;
        let options = Unpack { owners, concurrency: 1, limits: Limits::default(), sync: false };
        self.with_layer("unpack", layer, |layer| {
            unpack_overlay(layer, &index, &view, &scratch.path().join(ROOT), &options, style, progress)
        })?;
        self.place_lower(scratch.path(), &entry, layer, bytes_of(&index)).map_err(failed)?;
        Ok(root)
    }

    /// Gives a finished lower directory its name, in place of a damaged one.
    fn place_lower(&self, from: &Path, entry: &str, layer: &Layer, size: u64) -> io::Result<()> {
        let seal = Seal {
            boot: boot::id(),
            size,
            table: table::digest(&from.join(ROOT))?,
            blob: layer.descriptor.clone(),
            diff_id: layer.diff_id,
        };
        if seal.boot.is_none() {
            rustix::fs::syncfs(fs::File::open(from)?)?;
        }
        fs::write(from.join(SEAL), sealed(entry, seal.encode().as_bytes()))?;
        let path = self.dir().join(entry);
        let damaged = self.scratch()?;
        match fs::rename(&path, damaged.path().join("damaged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(from, path)?;
        self.state().sound.insert(entry.to_owned());
        Ok(())
    }

    /// Whether a lower directory is as it was made. A handle looks once.
    fn is_sound(&self, entry: &str) -> bool {
        let known = self.state().sound.contains(entry);
        if known {
            return self.dir().join(entry).join(ROOT).is_dir();
        }
        let is_sound = self.seal_of(entry).is_some_and(|seal| seal.holds() && self.is_as_sealed(entry, &seal));
        if is_sound {
            self.state().sound.insert(entry.to_owned());
        }
        is_sound
    }

    /// Whether nobody touched the tree since it was sealed.
    pub(crate) fn is_as_sealed(&self, entry: &str, seal: &Seal) -> bool {
        table::digest(&self.dir().join(entry).join(ROOT)).is_ok_and(|table| table == seal.table)
    }

    /// The seal of a lower directory; `None` if it is missing, damaged or that of another.
    pub(crate) fn seal_of(&self, entry: &str) -> Option<Seal> {
        let bytes = read(&self.dir().join(entry).join(SEAL)).ok()?;
        Seal::decode(opened(&bytes, entry)?)
    }

    /// Notes that all of a lower directory was compared with its layer and is durable.
    pub(crate) fn confirm(&self, entry: &str, seal: &Seal) -> io::Result<()> {
        let durable = Seal { boot: None, ..seal.clone() };
        let staged = self.0.session.temporary("seal");
        let written = fs::write(&staged, sealed(entry, durable.encode().as_bytes()));
        written.and_then(|()| fs::rename(&staged, self.dir().join(entry).join(SEAL)))
    }
}

impl Seal {
    /// Whether the files were durable, or the machine runs without a break since they were written.
    pub(crate) fn holds(&self) -> bool {
        self.boot.is_none() || self.boot == boot::id()
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.boot.is_none()
    }

    fn encode(&self) -> String {
        let boot = self.boot.as_deref().unwrap_or("durable");
        let Self { size, table, blob, diff_id, .. } = self;
        format!("{boot} {size} {table} {} {} {diff_id} {}\n", blob.digest, blob.size, blob.media_type)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace();
        let boot = Some(words.next()?).filter(|boot| *boot != "durable").map(str::to_owned);
        let (size, table) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (digest, length) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let diff_id = words.next()?.parse().ok()?;
        let blob = Descriptor::new(MediaType::from(words.next()?), digest, length);
        Some(Self { boot, size, table, blob, diff_id })
    }

    /// The layer, read from the store.
    pub(crate) fn layer(&self, store: &Store) -> Layer {
        Layer { descriptor: self.blob.clone(), diff_id: self.diff_id, blobs: Arc::new(store.clone()) }
    }
}

/// Two processes share a lower directory only if its files have the same owners for both.
fn name(layer: &Layer, below: &[Layer], owners: Owners, style: OverlayXattrs) -> String {
    let owners = match owners {
        Owners::Keep => "keep",
        Owners::Squash => "squash",
    };
    let style = match style {
        OverlayXattrs::Trusted => "trusted",
        OverlayXattrs::User => "user",
    };
    let map = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    let mut context = format!("{user}\n{}\n{}", map("uid_map"), map("gid_map"));
    for layer in below {
        context.push('\n');
        context.push_str(&layer.diff_id.to_string());
    }
    let short: String = hashed(&context).chars().take(16).collect();
    format!("{}-{}-{owners}-{style}-{short}", layer.diff_id.algorithm().name(), layer.diff_id.hex())
}

/// About as many bytes as the layer's files take on disk.
fn bytes_of(index: &LayerIndex) -> u64 {
    let of_record = |record: &Record| match record {
        Record::Entry(entry, _) => match entry.kind {
            skycap_rootfs::Kind::File { size } => size.next_multiple_of(4096).max(512),
            _ => 512,
        },
        _ => 0,
    };
    index.records().iter().map(|(_, record)| of_record(record)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_survives_its_encoding() {
        let digest = Digest::sha256(b"1");
        let blob = Descriptor::new(MediaType::OciLayerGzip, Digest::sha256(b"2"), 99);
        let made = Seal { boot: boot::id(), size: 5, table: digest, blob, diff_id: Digest::sha256(b"3") };
        for seal in [Seal { boot: None, ..made.clone() }, made] {
            assert_eq!(Seal::decode(seal.encode().as_bytes()), Some(seal));
        }
        assert_eq!(Seal::decode(b"durable 5"), None);
    }

    #[test]
    fn a_seal_of_another_boot_does_not_hold() {
        let digest = Digest::sha256(b"1");
        let blob = Descriptor::new(MediaType::OciLayer, digest, 1);
        let seal = |boot: Option<&str>| Seal {
            boot: boot.map(str::to_owned),
            size: 5,
            table: digest,
            blob: blob.clone(),
            diff_id: digest,
        };
        assert!(seal(None).holds());
        assert!(!seal(Some("yesterday")).holds());
        assert!(seal(boot::id().as_deref()).holds());
    }
}
