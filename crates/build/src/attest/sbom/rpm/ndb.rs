//! rpm's own database: a table of slots, each leading to the header of a package (rpm, `lib/backend/ndb/rpmpkg.c`).

use super::Damaged;
use super::bytes::{Order::Little, range};

const FILE: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
/// The table is in pages of this size; the first two slots' places hold the file's own header.
const PAGE: usize = 4096;
const SLOT_SIZE: usize = 16;
/// Places of headers are counted in blocks of this size.
const BLOCK: usize = 16;
const BLOB_HEAD: usize = 16;

/// The headers of the packages.
pub(super) fn headers(file: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
    if !file.starts_with(FILE) {
        return Err(Damaged("it is no database of rpm"));
    }
    if Little.u32(file, 4)? != 0 {
        return Err(Damaged("it is a database of an unknown version"));
    }
    let pages = Little.u32(file, 12)?;
    let table = range(file, 0, pages.checked_mul(PAGE).ok_or(Damaged("its table is too large"))?)?;
    let slots = table.chunks_exact(SLOT_SIZE).skip(2);
    // The lengths together are no more than the file, unless blobs overlap.
    let mut left = file.len();
    slots.filter_map(|slot| header(file, slot, &mut left).transpose()).collect()
}

fn header(file: &[u8], slot: &[u8], left: &mut usize) -> Result<Option<Vec<u8>>, Damaged> {
    if !slot.starts_with(SLOT) {
        return Err(Damaged("a slot is damaged"));
    }
    let (package, place) = (Little.u32(slot, 4)?, Little.u32(slot, 8)?);
    if package == 0 || place == 0 {
        return Ok(None);
    }
    let at = place.checked_mul(BLOCK).ok_or(Damaged("a slot leads nowhere"))?;
    let head = range(file, at, BLOB_HEAD)?;
    if !head.starts_with(BLOB) || Little.u32(head, 4)? != package {
        return Err(Damaged("a slot leads to no package"));
    }
    let length = Little.u32(head, 12)?;
    *left = left.checked_sub(length).ok_or(Damaged("its packages overlap"))?;
    Ok(Some(range(file, at + BLOB_HEAD, length)?.to_vec()))
}
