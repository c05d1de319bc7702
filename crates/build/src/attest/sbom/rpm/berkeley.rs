//! A hash of Berkeley DB, version 4 and later, as rpm wrote it up to its release 4.15 (`db_page.h`).
//!
//! Which bucket a key is in does not matter to somebody who wants all of them: every hash page is read in turn. Headers
//! are longer than a page, so their pages form chains.

use super::Damaged;
use super::bytes::{Order, byte, range};

const MAGIC: usize = 0x0006_1561;
/// The bytes in front of a page's index.
const PAGE_HEAD: usize = 26;
/// Kinds of pages.
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
/// Kinds of items.
const INLINE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// The headers of the packages.
pub(super) fn headers(file: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
    let order = [Order::Little, Order::Big].into_iter().find(|order| order.u32(file, 12) == Ok(MAGIC));
    let order = order.ok_or(Damaged("it is no hash of Berkeley DB"))?;
    if byte(file, 24)? != 0 {
        return Err(Damaged("it is encrypted"));
    }
    let size = order.u32(file, 20)?;
    if !(512..=65536).contains(&size) || !size.is_power_of_two() {
        return Err(Damaged("its page size is impossible"));
    }
    let mut database = Database { file, order, size, left: file.len() };
    let mut headers = Vec::new();
    for page in (1..file.len() / size).map(|number| &file[number * size..(number + 1) * size]) {
        if matches!(byte(page, 25)?, HASH | HASH_UNSORTED) {
            database.page(page, &mut headers)?;
        }
    }
    Ok(headers)
}

struct Database<'a> {
    file: &'a [u8],
    order: Order,
    /// Of a page.
    size: usize,
    /// How many bytes of values may still come: chains that share pages would make more than the file has.
    left: usize,
}

impl Database<'_> {
    /// The values of a page: its items are keys and values in turn.
    fn page(&mut self, page: &[u8], headers: &mut Vec<Vec<u8>>) -> Result<(), Damaged> {
        let entries = self.order.u16(page, 20)?;
        for number in (0..entries / 2).map(|pair| 2 * pair) {
            let [key, value] = [number, number + 1].map(|number| self.order.u16(page, PAGE_HEAD + 2 * number));
            let (key, value) = (key?, value?);
            // The package of number zero holds the next number.
            let is_counter = byte(page, key)? == INLINE && range(page, key + 1, 4)? == [0; 4];
            let header = match byte(page, value)? {
                OFF_PAGE => self.chain(self.order.u32(page, value + 4)?, self.order.u32(page, value + 8)?)?,
                // An item ends where the one before it begins: they are laid out from the end.
                INLINE => {
                    let item = page.get(value + 1..key).ok_or(Damaged("an item is damaged"))?;
                    self.count(item.len())?;
                    item.to_vec()
                }
                _ => return Err(Damaged("an item is of an unknown kind")),
            };
            if !is_counter {
                headers.push(header);
            }
        }
        Ok(())
    }

    fn count(&mut self, length: usize) -> Result<(), Damaged> {
        self.left = self.left.checked_sub(length).ok_or(Damaged("its values overlap"))?;
        Ok(())
    }

    /// A value that has pages of its own.
    fn chain(&mut self, first: usize, length: usize) -> Result<Vec<u8>, Damaged> {
        self.count(length)?;
        let mut value = Vec::with_capacity(length);
        let mut next = first;
        while value.len() < length {
            let at = next.checked_mul(self.size).filter(|_| next != 0).ok_or(Damaged("a value ends too early"))?;
            let page = range(self.file, at, self.size)?;
            let used = self.order.u16(page, 22)?;
            if byte(page, 25)? != OVERFLOW || used == 0 {
                return Err(Damaged("a value leads to a page of another kind"));
            }
            value.extend_from_slice(range(page, PAGE_HEAD, used)?);
            next = self.order.u32(page, 16)?;
        }
        value.truncate(length);
        Ok(value)
    }
}
