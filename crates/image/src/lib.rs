//! What is an image, and is this one whole?
//!
//! An image is a value; the places where one can live (a registry, a layout, an archive, memory) are peers that implement
//! [`ImageSource`] and [`ImageSink`], so a copy is `sink.put(&source.get(&name)?, &names)`. Bytes are checked in one
//! place: every reader that a [`BlobSource`] hands out through [`BlobSource::open`] is a [`Verified`] one.

pub mod annotate;
pub mod archive;
pub mod attestation;
mod choose;
pub mod compress;
mod config;
mod descriptor;
mod digest;
mod direct;
pub mod directory;
mod document;
mod image;
pub mod layout;
mod manifest;
mod media_type;
mod memory;
mod outline;
mod parallel;
mod platform;
pub mod progress;
mod reference;
mod referrers;
mod repack;
mod secret;
mod source;
mod staged;
pub mod suggest;
pub mod tar;
pub mod transport;
mod verify;
mod version_order;
mod walk;
mod watched;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use image::{Artifact, Image, Index, Layer};
pub use manifest::{IndexManifest, Manifest, RawManifest};
pub use media_type::{Compression, MediaType};
pub use memory::Memory;
pub use outline::{InvalidOutline, Outline};
pub use platform::{InvalidPlatform, Platform};
pub use progress::{Event, Progress, Silent};
pub use reference::{InvalidReference, Reference, Repository};
pub use repack::{Repack, repack};
pub use secret::{Secret, SecretBytes};
pub use source::{BlobReader, BlobSource, ImageSink, ImageSource, Kind, Name, Resolver, SourceError};
pub use staged::{Placed, Staged};
pub use verify::Verified;
pub use version_order::by_version;
pub use watched::Watched;
