//! From a bare tar to a layer, in one pass.

use std::io::{self, Write};

use super::gzip::Gzip;
use crate::{Algorithm, Compression, Descriptor, Digest, Hasher, MediaType};

/// zstd's own default, and what containerd's "default" amounts to.
const ZSTD_LEVEL: i32 = 3;
/// What one thread of zstd takes at a time. Larger pieces compress no better and cost memory.
const ZSTD_PIECE: u32 = 1 << 20;

/// What a [`LayerEncoder`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// The bytes as written.
    pub descriptor: Descriptor,
    /// The digest of the bytes as taken.
    pub diff_id: Digest,
}

/// Packs a bare tar into a layer: it takes the tar through [`Write`], hashes it, compresses it and hashes what comes out.
/// The same tar gives the same bytes for any number of threads. Memory is bounded by a few MiB a thread.
pub struct LayerEncoder<W: Write> {
    taken: Hasher,
    packer: Packer<Measured<W>>,
    media_type: MediaType,
}

enum Packer<W: Write> {
    None(W),
    Gzip(Gzip<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> LayerEncoder<W> {
    /// Packs into `out` with [`Compression::None`], [`Compression::Gzip`] or [`Compression::Zstd`]; others are only read.
    /// `docker` chooses Docker's media types. Work is done on `threads` threads, which end with the encoder.
    pub fn new(out: W, compression: Compression, docker: bool, threads: usize) -> io::Result<Self> {
        let media_type = media_type(compression, docker).ok_or_else(|| {
            let text = format!("layers cannot be packed with {compression:?}; choose gzip, zstd or none");
            io::Error::new(io::ErrorKind::Unsupported, text)
        })?;
        let out = Measured { out, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let packer = match compression {
            Compression::Gzip => Packer::Gzip(Gzip::new(out, threads)?),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                // One thread of its own also where one is wanted: without any the bytes are others.
                encoder.multithread(u32::try_from(threads.clamp(1, 64)).unwrap_or(1))?;
                encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_PIECE))?;
                Packer::Zstd(encoder)
            }
            Compression::None | Compression::Bzip2 | Compression::Xz => Packer::None(out),
        };
        Ok(Self { taken: Hasher::new(Algorithm::Sha256), packer, media_type })
    }

    /// Ends the stream.
    pub fn finish(self) -> io::Result<(Packed, W)> {
        let Measured { out, hasher, size } = match self.packer {
            Packer::None(out) => out,
            Packer::Gzip(gzip) => gzip.finish()?,
            Packer::Zstd(encoder) => encoder.finish()?,
        };
        let descriptor = Descriptor::new(self.media_type, hasher.finish(), size);
        Ok((Packed { descriptor, diff_id: self.taken.finish() }, out))
    }
}

impl<W: Write> Write for LayerEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.packer {
            Packer::None(out) => out.write(bytes)?,
            Packer::Gzip(gzip) => gzip.write(bytes)?,
            Packer::Zstd(encoder) => encoder.write(bytes)?,
        };
        self.taken.update(&bytes[..count]);
        Ok(count)
    }

    /// Does nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes and counts what passes.
struct Measured<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn media_type(compression: Compression, docker: bool) -> Option<MediaType> {
    Some(match (compression, docker) {
        (Compression::None, false) => MediaType::OciLayer,
        (Compression::None, true) => MediaType::DockerLayer,
        (Compression::Gzip, false) => MediaType::OciLayerGzip,
        (Compression::Gzip, true) => MediaType::DockerLayerGzip,
        (Compression::Zstd, false) => MediaType::OciLayerZstd,
        (Compression::Zstd, true) => MediaType::DockerLayerZstd,
        (Compression::Bzip2 | Compression::Xz, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::compress::decoder;

    /// Text-like bytes that compress by about a half.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(format!("{} ", state >> 40).as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn pack(bytes: &[u8], compression: Compression, threads: usize, piece: usize) -> (Packed, Vec<u8>) {
        let mut encoder = LayerEncoder::new(Vec::new(), compression, false, threads).unwrap();
        for piece in bytes.chunks(piece) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_packed_unpacks_and_its_digests_are_right() {
        for length in [0, 1, 131_071, 131_072, 131_073, 262_144, 1_000_000] {
            let bytes = sample(length);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let (packed, out) = pack(&bytes, compression, 2, 50_000);
                assert_eq!(packed.diff_id, Digest::sha256(&bytes));
                assert_eq!(
                    (packed.descriptor.digest, packed.descriptor.size),
                    (Digest::sha256(&out), out.len() as u64)
                );
                assert_eq!(packed.descriptor.media_type.compression(), compression);
                let (found, mut decoder) = decoder(&out[..]).unwrap();
                let mut unpacked = Vec::new();
                decoder.read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == bytes, "{length} {compression:?}");
                assert!(found == compression || length < 4, "{length} {compression:?}");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_threads_or_on_how_they_are_written() {
        let bytes = sample(5_000_000);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (packed, out) = pack(&bytes, compression, 1, bytes.len());
            for (threads, piece) in [(1, 1000), (2, 4096), (3, 200_000), (8, 77_777), (0, bytes.len())] {
                let other = pack(&bytes, compression, threads, piece);
                assert!(other == (packed.clone(), out.clone()), "{compression:?} {threads} {piece}");
            }
        }
    }

    #[test]
    fn gzip_and_zstd_bytes_never_change() {
        // Layer digests are cache keys of the whole world: a new version of a compressor must not pass unnoticed.
        // More than one piece for every compressor.
        let bytes = sample(3_000_000);
        let digests: Vec<String> = [Compression::Gzip, Compression::Zstd]
            .map(|compression| pack(&bytes, compression, 2, 1 << 20).0.descriptor.digest.hex()[..16].to_owned())
            .to_vec();
        assert_eq!(digests, ["3df6e63185e019cd", "cd39b62f0f298f93"]);
    }

    #[test]
    fn what_cannot_be_packed_is_an_error() {
        assert!(LayerEncoder::new(Vec::new(), Compression::Xz, false, 1).is_err());
    }

    #[test]
    fn an_error_of_the_output_comes_back_and_dropping_ends_the_threads() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let encoder = LayerEncoder::new(Full, Compression::Gzip, false, 2);
        let error = encoder.and_then(|mut e| e.write_all(&sample(4_000_000)).and_then(|()| e.finish().map(drop)));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut encoder = LayerEncoder::new(Vec::new(), Compression::Gzip, false, 2).unwrap();
        encoder.write_all(&sample(1_000_000)).unwrap();
        drop(encoder);
    }
}
