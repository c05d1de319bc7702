//! What layers hold: their listings, and their files as overlayfs lower directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::{Kind, Layer, Progress, SourceError};
use skycap_rootfs::{
    Fault, LayerIndex, Limits, OverlayXattrs, Owners, Record, Unpack, UnpackError, View, unpack_overlay,
};

use crate::{LOWERS, MOUNTS, Store, hashed};

/// The kind of records that listings are.
const INDEX: &str = "layer-index";
/// The layer's files, in its directory below `lowers-1`.
const ROOT: &str = "root";
/// How many bytes they are, beside them.
const SIZE: &str = "size";

impl Store {
    /// The layer's listing. The layer is streamed once, kept, and its listing kept under its diff ID.
    pub fn layer_index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, SourceError> {
        if let Some(index) = self.state().indexes.get(&layer.diff_id).and_then(std::sync::Weak::upgrade) {
            return Ok(index);
        }
        let key = layer.diff_id.to_string();
        let kept = self.record(INDEX, &key).and_then(|bytes| LayerIndex::decode(&bytes));
        let index = Arc::new(match kept {
            Some(index) => index,
            None => self.list(layer, &key)?,
        });
        self.state().indexes.insert(layer.diff_id, Arc::downgrade(&index));
        Ok(index)
    }

    fn list(&self, layer: &Layer, key: &str) -> Result<LayerIndex, SourceError> {
        let layer = self.keep_layer(layer)?;
        let index = LayerIndex::of(&layer, &Limits::default()).map_err(|error| refused("list", &layer, error))?;
        let kept = self.set_record(INDEX, key, &index.encode());
        kept.map_err(|error| SourceError::io(format!("cannot keep the listing of layer {key}"), error))?;
        Ok(index)
    }

    /// The layer unpacked as a lower directory of overlayfs. `below` are the layers under it, lowest first: a few layers
    /// do not say everything themselves. It is made once, whole, for all processes that see owners as this one does; it
    /// must never be written to.
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
        let entry = format!("{LOWERS}/{}", lower_name(layer, below, owners, style));
        let failed = |error| SourceError::io(format!("cannot keep layer {} unpacked", layer.diff_id), error);
        self.lease(&entry).map_err(failed)?;
        let path = self.dir().join(&entry);
        if path.join(ROOT).is_dir() {
            return Ok(path.join(ROOT));
        }
        let _lock = self.lock(&entry).map_err(failed)?;
        if path.join(ROOT).is_dir() {
            return Ok(path.join(ROOT));
        }
        let scratch = self.scratch().map_err(failed)?;
        let indexes: Result<Vec<_>, _> = below.iter().map(|layer| self.layer_index(layer)).collect();
        let view = View::new(&indexes?);
        let view = view.map_err(|error| SourceError::caused(Kind::Corrupt, "the layers do not fit together", error))?;
        let options = Unpack { owners, concurrency: 1, limits: Limits::default(), sync: true };
        let layer = self.keep_layer(layer)?;
        unpack_overlay(&layer, &view, &scratch.path().join(ROOT), &options, style, progress)
            .map_err(|error| refused("unpack", &layer, error))?;
        // Whatever has the name now holds no files of the layer: somebody damaged it.
        let damaged = self.scratch().map_err(failed)?;
        let _ = fs::rename(&path, damaged.path().join("damaged"));
        place(scratch.path(), &path, bytes_of(&index)).map_err(failed)?;
        Ok(path.join(ROOT))
    }

    /// A directory that outlives builds, made if it is missing: what `RUN --mount=type=cache` mounts. Its content is the
    /// user's; the collector may remove it when nobody uses it.
    pub fn cache_mount(&self, id: &str) -> io::Result<PathBuf> {
        let entry = format!("{MOUNTS}/{}", hashed(id));
        self.lease(&entry)?;
        let path = self.dir().join(&entry).join(ROOT);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// Gives a finished lower directory its name. Its files are durable already.
fn place(from: &Path, to: &Path, size: u64) -> io::Result<()> {
    fs::write(from.join(SIZE), size.to_string())?;
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

/// The size that was noted when a lower directory was made.
pub(crate) fn noted_size(path: &Path) -> Option<u64> {
    fs::read_to_string(path.join(SIZE)).ok()?.parse().ok()
}

/// Two processes share a lower directory only if its files have the same owners for both.
fn lower_name(layer: &Layer, below: &[Layer], owners: Owners, style: OverlayXattrs) -> String {
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

fn refused(doing: &str, layer: &Layer, error: UnpackError) -> SourceError {
    let kind = match &error {
        UnpackError::Layer { fault: Fault::Source(source), .. } => source.kind,
        UnpackError::Layer { fault: Fault::Read(source), .. } => Kind::of(source),
        UnpackError::Layer { fault: Fault::Apply { .. }, .. } | UnpackError::Destination { .. } => Kind::Other,
        UnpackError::Layer { .. } | UnpackError::File { .. } => Kind::Corrupt,
    };
    SourceError::caused(kind, format!("cannot {doing} layer {}", layer.descriptor.digest), error)
}
