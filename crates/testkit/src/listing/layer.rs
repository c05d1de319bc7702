//! The lines of a layer become a tar.

use std::sync::Arc;

use skycap_image::compress::LayerEncoder;
use skycap_image::tar::{Header, Kind, Writer};
use skycap_image::{Compression, Layer, Memory};

use super::words::{Line, lines};

/// One layer out of the lines of one, without the line `layer` itself, in a place in memory.
///
/// # Panics
///
/// Panics if the listing is wrong.
pub fn layer(listing: &str, compression: Compression) -> Layer {
    let memory = Memory::default();
    let (descriptor, diff_id) = pack(&memory, &tar(listing), compression, false);
    Layer { descriptor, diff_id, blobs: Arc::new(memory) }
}

/// The bare tar of one layer.
///
/// # Panics
///
/// Panics if the listing is wrong.
pub fn tar(listing: &str) -> Vec<u8> {
    tar_of(&lines(listing))
}

pub(super) fn tar_of(lines: &[Line]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data, line) in entries(lines) {
        writer.append(&header, &data[..]).unwrap_or_else(|error| line.wrong(&error.to_string()));
    }
    writer.finish().unwrap_or_else(|error| panic!("a tar in memory: {error}"))
}

pub(super) fn pack(
    memory: &Memory,
    tar: &[u8],
    compression: Compression,
    docker: bool,
) -> (skycap_image::Descriptor, skycap_image::Digest) {
    let packed = LayerEncoder::new(Vec::new(), compression, docker, 1).and_then(|mut encoder| {
        std::io::copy(&mut &tar[..], &mut encoder)?;
        encoder.finish()
    });
    let (packed, bytes) = packed.unwrap_or_else(|error| panic!("a layer in memory: {error}"));
    memory.add(packed.descriptor.media_type.clone(), bytes);
    (packed.descriptor, packed.diff_id)
}

fn entries(lines: &[Line]) -> Vec<(Header, Vec<u8>, &Line)> {
    let mut entries: Vec<(Header, Vec<u8>, &Line)> = Vec::new();
    for line in lines {
        if line.verb() == "xattr" {
            let Some((header, ..)) = entries.last_mut() else { line.wrong("no entry above") };
            header.xattrs.insert(line.bytes(1).to_vec(), line.bytes(2).to_vec());
        } else {
            let (header, data) = entry(line);
            entries.push((header, data, line));
        }
    }
    entries
}

fn entry(line: &Line) -> (Header, Vec<u8>) {
    let path = line.bytes(1);
    let kind = match line.verb().as_str() {
        "dir" => Kind::Directory,
        "file" => Kind::File,
        "symlink" => Kind::Symlink,
        "hardlink" => Kind::Hardlink,
        "fifo" => Kind::Fifo,
        "char" => Kind::CharacterDevice,
        "block" => Kind::BlockDevice,
        "whiteout" => return (marker(path), Vec::new()),
        "opaque" => return (Header::file([path, b"/.wh..wh..opq"].concat(), 0), Vec::new()),
        _ => line.wrong("unknown line"),
    };
    let mode = match kind {
        Kind::Directory => 0o755,
        Kind::Symlink => 0o777,
        _ => 0o644,
    };
    let mut header = Header { kind, mode, ..Header::file(path, 0) };
    let mut index = 2;
    if matches!(kind, Kind::Symlink | Kind::Hardlink) {
        header.link = line.bytes(2).to_vec();
        index = 3;
    }
    let data = attributes(line, index, &mut header);
    header.size = data.len() as u64;
    (header, data)
}

/// Hides a path of lower layers.
fn marker(path: &[u8]) -> Header {
    let start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, name) = path.split_at(start);
    Header::file([directory, b".wh.", name].concat(), 0)
}

/// The words behind the name: mode, owner, device numbers, settings, content. Each is known by its form; content, which
/// may have any form, comes last.
fn attributes(line: &Line, start: usize, header: &mut Header) -> Vec<u8> {
    let mut index = start;
    if let Some(mode) = word(line, index).and_then(|word| octal(&word)) {
        header.mode = mode;
        index += 1;
    }
    if let Some((uid, gid)) = word(line, index).and_then(|word| numbers(&word)) {
        (header.uid, header.gid) = (uid, gid);
        index += 1;
    }
    if matches!(header.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        let device = word(line, index).and_then(|word| numbers(&word));
        let Some((major, minor)) = device else { line.wrong("expected major:minor") };
        header.device = (u32::try_from(major).unwrap_or(u32::MAX), u32::try_from(minor).unwrap_or(u32::MAX));
        index += 1;
    }
    if let Some(time) = word(line, index).and_then(|word| word.strip_prefix("mtime=").map(str::to_owned)) {
        (header.mtime, header.mtime_nanos) = seconds(line, &time);
        index += 1;
    }
    let Some(content) = line.words.get(index) else { return Vec::new() };
    if line.words.len() > index + 1 || header.kind != Kind::File {
        line.wrong("too many words");
    }
    match word(line, index).and_then(|word| word.strip_prefix("size=").and_then(|size| size.parse().ok())) {
        Some(size) => noise(&header.path, size),
        None => content.clone(),
    }
}

fn word(line: &Line, index: usize) -> Option<String> {
    line.words.get(index).and_then(|word| String::from_utf8(word.clone()).ok())
}

fn octal(word: &str) -> Option<u32> {
    (word.len() >= 3).then(|| u32::from_str_radix(word, 8).ok()).flatten()
}

fn numbers(word: &str) -> Option<(u64, u64)> {
    let (first, second) = word.split_once(':')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn seconds(line: &Line, text: &str) -> (i64, u32) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}").parse().ok();
    match (whole.parse(), nanos) {
        (Ok(seconds), Some(nanos)) => (seconds, nanos),
        _ => line.wrong("expected mtime=SECONDS[.FRACTION]"),
    }
}

/// Bytes that hardly compress, a function of the path.
fn noise(path: &[u8], size: usize) -> Vec<u8> {
    let seed = path
        .iter()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |seed, &byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
