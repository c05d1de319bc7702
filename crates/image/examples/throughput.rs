//! How fast layers are packed and unpacked here: `cargo run --release -p skycap-image --example throughput [FILE]`.
//! Without a file it makes up 256 MiB that compress by about a half.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program")]

use std::io::{self, Read, Write};
use std::time::Instant;

use skycap_image::compress::{LayerEncoder, decoder};
use skycap_image::{Algorithm, Compression, Hasher};

fn main() -> io::Result<()> {
    let bytes = match std::env::args_os().nth(1) {
        Some(file) => std::fs::read(file)?,
        None => made_up(256 << 20),
    };
    timed("sha256", bytes.len(), || {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&bytes);
        hasher.finish();
        Ok(0)
    })?;
    for (compression, threads) in
        [(Compression::Gzip, 1), (Compression::Gzip, 2), (Compression::Zstd, 1), (Compression::Zstd, 2)]
    {
        let mut packed = Vec::new();
        timed(&format!("{compression:?} on {threads} threads"), bytes.len(), || {
            let mut encoder = LayerEncoder::new(io::sink(), compression, false, threads)?;
            encoder.write_all(&bytes)?;
            Ok(encoder.finish()?.0.descriptor.size)
        })?;
        let mut encoder = LayerEncoder::new(&mut packed, compression, false, threads)?;
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        if threads == 1 {
            timed(&format!("un{compression:?}"), bytes.len(), || {
                let (_, mut reader) = decoder(&packed[..])?;
                let mut piece = vec![0; 256 * 1024];
                while reader.read(&mut piece)? > 0 {}
                Ok(packed.len() as u64)
            })?;
        }
    }
    Ok(())
}

/// MB/s of what is not packed; `work` answers how large the packed form is.
fn timed(name: &str, size: usize, work: impl FnOnce() -> io::Result<u64>) -> io::Result<()> {
    let start = Instant::now();
    let packed = work()?;
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let (rate, share) = (size as f64 / 1e6 / start.elapsed().as_secs_f64(), packed as f64 / size as f64);
    println!("{name:24} {rate:8.0} MB/s  {:5.1} %", share * 100.0);
    Ok(())
}

fn made_up(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(format!("{} ", state >> 40).as_bytes());
    }
    bytes.truncate(length);
    bytes
}
