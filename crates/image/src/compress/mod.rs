//! Compression of layers.
//!
//! Reading goes by content ([`decoder`]), because media types lie: BuildKit has labelled zstd as gzip, and
//! go-containerregistry still does. Writing ([`LayerEncoder`]) gives the same bytes for the same tar on every machine.

mod decode;
mod encode;
mod gzip;
mod members;
mod ratio;

pub(crate) use decode::recognise;
pub use decode::{Limits, decoder, decoder_with};
pub use encode::{LayerEncoder, Packed};
