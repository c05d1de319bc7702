//! How does a layer become files, and files a layer?
//!
//! [`read_layer`] streams a layer once and hands every entry to a [`Tree`] as a [`Change`]. The trees are a directory on
//! disk ([`unpack`], [`unpack_overlay`]), a compact listing ([`LayerIndex`]) and a layer being written ([`Pack`]). A
//! [`View`] merges listings in memory: it is the truth about an image's files, and a directory on disk is one rendering
//! of it, complete as far as the rights of the process allow (`docs/decisions/0003-ownership-with-a-single-id.md`).
//!
//! Nothing that a layer says can name a path outside its root: names are [`TreePath`]s, which cannot climb, and every
//! parent directory is opened by the kernel beneath a descriptor of the root.

mod change;
mod directory;
mod encoding;
mod error;
mod fetch;
mod index;
mod limits;
mod metadata;
mod name;
mod pack;
mod path;
mod read;
mod recorded;
mod same;
mod scan;
mod staging;
mod stream;
mod unpack;
mod upper;
mod view;

pub use change::{Change, Tree};
pub use error::{Fault, UnpackError};
pub use index::{LayerIndex, Record};
pub use limits::Limits;
pub use metadata::{Device, Entry, Kind, Metadata, Time};
pub use pack::{LONGEST_PATH, Pack, pack_directory};
pub use path::{InvalidPath, TreePath};
pub use read::read_layer;
pub use recorded::Recorded;
pub use unpack::{OverlayXattrs, Owners, Unpack, unpack, unpack_onto, unpack_overlay, unpack_until};
pub use upper::{pack_changed_tree, pack_overlay_upper};
pub use view::{MergeError, ResolveError, View, VisitContent};
