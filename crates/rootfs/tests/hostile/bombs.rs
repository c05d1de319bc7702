//! Class I and L04: what is small and becomes large. Limits have names, memory stays flat, temporary files are gone.

use std::io::{Read, Write as _};
use std::path::Path;

use skycap_image::{Compression, Digest, Layer, MediaType, Memory, Silent};
use skycap_rootfs::{LayerIndex, Limits, UnpackError, View, unpack};
use skycap_testkit::rawtar;

use crate::case::{Format, layer};
use crate::corpus::peak_memory;
use crate::identity::is_full;
use crate::judge::{chain, options};
use crate::room::Room;

const MIB: u64 = 1 << 20;

/// A tar with one file of zeros, compressed while it is made.
fn zeros(size: u64, compression: Compression) -> Layer {
    let mut header = skycap_testkit::rawtar::tar(&format!("file zeros size={size}\nnoend"));
    header.truncate(512);
    let mut encoder = skycap_image::compress::LayerEncoder::new(Vec::new(), compression, false, 1).unwrap();
    encoder.write_all(&header).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(size.next_multiple_of(512) + 1024), &mut encoder).unwrap();
    let (packed, bytes) = encoder.finish().unwrap();
    let memory = Memory::default();
    let descriptor = memory.add(packed.descriptor.media_type, bytes);
    Layer { descriptor, diff_id: packed.diff_id, blobs: std::sync::Arc::new(memory) }
}

fn unpacked(layers: &[Layer], room: &Room, limits: Limits) -> Result<(), UnpackError> {
    let result = unpack(layers, &room.rootfs(), &options(limits), &Silent);
    room.changes(&[]).unwrap();
    result
}

/// Bytes on the disk below a path.
fn used(path: &Path) -> u64 {
    let mut sum = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(stat) = std::fs::symlink_metadata(&path) else { continue };
        sum += stat.len();
        if stat.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    sum
}

/// M22, L04: 60 MiB (full: 4 GiB, gzip) of zeros in a few KiB are taken with flat memory, or refused by the limit that is set.
#[test]
fn a_bomb_of_zeros_is_unpacked_flat_or_refused_by_a_limit() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        // Beyond 64 MiB the ratio refuses what only zstd can do.
        let size = if is_full() && compression == Compression::Gzip { 4096 * MIB } else { 60 * MIB };
        let layer = zeros(size, compression);
        let before = peak_memory();
        let room = Room::new();
        let limits = Limits { unpacked_bytes: size / 4, ..Limits::default() };
        let error = chain(&unpacked(std::slice::from_ref(&layer), &room, limits).unwrap_err());
        assert!(error.contains("(limit unpacked_bytes)"), "{error}");
        assert_eq!(used(&room.rootfs()), 0);
        if size < 100 * MIB {
            unpacked(std::slice::from_ref(&layer), &room, Limits::default()).unwrap();
            assert_eq!(std::fs::metadata(room.rootfs().join("zeros")).unwrap().len(), size);
        }
        let index = LayerIndex::of(&layer, &Limits::default()).unwrap();
        assert_eq!(index.records().len(), 1);
        let grown = peak_memory() - before;
        assert!(grown < 48 * MIB, "{compression:?}: {grown} bytes more memory for {size} bytes of zeros");
    }
}

/// M22: zstd passes gzip's largest ratio a thousandfold; beyond 1,200:1 after 64 MiB is an error.
#[test]
fn a_ratio_that_gzip_cannot_have_is_refused() {
    let layer = zeros(256 * MIB, Compression::Zstd);
    assert!(layer.descriptor.size < 128 * 1024, "{}", layer.descriptor.size);
    let room = Room::new();
    let error = chain(&unpacked(std::slice::from_ref(&layer), &room, Limits::default()).unwrap_err());
    assert!(error.contains("ratio"), "{error}");
    let error = chain(&LayerIndex::of(&layer, &Limits::default()).unwrap_err());
    assert!(error.contains("ratio"), "{error}");
}

/// L04: an archive in an archive is a file, whatever it would become.
#[test]
fn what_is_compressed_twice_is_decompressed_once() {
    let inner = zeros(16 * MIB, Compression::Gzip);
    let mut bytes = Vec::new();
    inner.blobs.open_unverified(&inner.descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    // As the content of a file: left as it is.
    let mut tar = rawtar::tar(&format!("file bomb.gz size={}\nnoend", bytes.len()));
    tar.truncate(512);
    tar.extend_from_slice(&bytes);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let room = Room::new();
    unpacked(&[layer(&tar, Format::Gzip)], &room, Limits::default()).unwrap();
    assert_eq!(std::fs::read(room.rootfs().join("bomb.gz")).unwrap(), bytes);
    // As the layer: what comes out of the first is no tar.
    let memory = Memory::default();
    let mut encoder = skycap_image::compress::LayerEncoder::new(Vec::new(), Compression::Gzip, false, 1).unwrap();
    encoder.write_all(&bytes).unwrap();
    let (packed, twice) = encoder.finish().unwrap();
    let descriptor = memory.add(MediaType::OciLayer, twice);
    let twice = Layer { descriptor, diff_id: packed.diff_id, blobs: std::sync::Arc::new(memory) };
    assert_eq!(twice.diff_id, Digest::sha256(&bytes));
    let room = Room::new();
    let error = chain(&unpacked(&[twice], &room, Limits::default()).unwrap_err());
    assert!(error.contains("malformed tar"), "{error}");
}

/// L04, L05: 20,000 (full: 200,000) empty files in one directory and one each, in time that grows with their number only.
#[test]
fn very_many_empty_files_take_linear_time() {
    let count = if is_full() { 200_000 } else { 20_000 };
    let time = |text: &str| {
        let layer = layer(&rawtar::tar(text), Format::Gzip);
        let room = Room::new();
        let start = std::time::Instant::now();
        unpacked(std::slice::from_ref(&layer), &room, Limits::default()).unwrap();
        let elapsed = start.elapsed();
        let index = LayerIndex::of(&layer, &Limits::default()).unwrap();
        View::new(&[index.into()]).unwrap();
        elapsed
    };
    for line in ["file d/f{n} \"\"", "file d{n}/f \"\"", "hard h{n} => f"] {
        let text = |count: usize| format!("file f \"\"\nrepeat {count} {line}");
        // As many names of one inode as ext4 takes are fewer.
        let count = if line.starts_with("hard") { count.min(60_000) } else { count };
        let (small, large) = (time(&text(count / 10)), time(&text(count)));
        eprintln!("hostile: {count} x {line}: {large:?}, a tenth {small:?}");
        // Generous: the machine has other things to do. Quadratic time would be a hundredfold.
        assert!(large < small * 40 + std::time::Duration::from_secs(1), "{line}: {small:?}, then {large:?}");
    }
    assert!(peak_memory() < 256 * MIB + 200 * MIB * u64::from(is_full()), "{} bytes of memory", peak_memory());
}

/// L02, class I: 300 (full: 1,000) layers, each hiding what the one below has made.
#[test]
fn three_hundred_layers_are_no_trouble() {
    let count = if is_full() { 1000 } else { 300 };
    let text = |number: usize| match number {
        0 => "dir d\nfile d/f0 \"0\"".to_owned(),
        number => format!("file d/.wh.f{}\nfile d/f{number} \"{number}\"\nlink l -> d/f{number}", number - 1),
    };
    let layers: Vec<Layer> = (0..count).map(|number| layer(&rawtar::tar(&text(number)), Format::Gzip)).collect();
    let room = Room::new();
    unpacked(&layers, &room, Limits::default()).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(room.rootfs().join("d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [format!("f{}", count - 1).as_str()]);
    assert_eq!(std::fs::read_to_string(room.rootfs().join("l")).unwrap(), (count - 1).to_string());
}

/// Class C: more names for one inode than the file system takes are an error that names the entry, or work.
#[test]
fn links_beyond_what_the_file_system_takes_are_an_error() {
    if !is_full() {
        eprintln!("hostile: 65,001 hard links only when everything runs");
        return;
    }
    let layer = layer(&rawtar::tar("file f \"x\"\nrepeat 65001 hard h{n} => f"), Format::Plain);
    let room = Room::new();
    if let Err(error) = unpacked(std::slice::from_ref(&layer), &room, Limits::default()) {
        assert!(chain(&error).contains("Too many links"), "{}", chain(&error));
    }
}
