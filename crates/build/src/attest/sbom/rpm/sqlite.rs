//! As much of `SQLite`'s file format as it takes to read one table (<https://www.sqlite.org/fileformat2.html>): rpm keeps
//! headers in `Packages(hnum INTEGER PRIMARY KEY, blob BLOB)`.

use super::Damaged;
use super::bytes::{Order::Big, byte, range};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Kinds of pages.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// Deeper than a table of 2^31 pages can be.
const DEEPEST: usize = 20;

/// The headers of the packages.
pub(super) fn headers(file: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
    let database = Database::open(file)?;
    let root = database.find_table(b"Packages")?;
    let rows = database.rows(root)?;
    rows.iter().map(|row| Ok(column(row, 1)?.to_vec())).collect()
}

struct Database<'a> {
    file: &'a [u8],
    page_size: usize,
    /// Bytes of a page that hold something.
    usable: usize,
}

/// What a table can still have: each page and each byte belongs to one row only.
struct Left {
    pages: usize,
    bytes: usize,
}

impl Left {
    fn page(&mut self) -> Result<(), Damaged> {
        self.pages = self.pages.checked_sub(1).ok_or(Damaged("its pages lead in a circle"))?;
        Ok(())
    }

    fn bytes(&mut self, count: usize) -> Result<(), Damaged> {
        self.bytes = self.bytes.checked_sub(count).ok_or(Damaged("its rows overlap"))?;
        Ok(())
    }
}

impl<'a> Database<'a> {
    fn open(file: &'a [u8]) -> Result<Self, Damaged> {
        if !file.starts_with(MAGIC) {
            return Err(Damaged("it is no SQLite database"));
        }
        let page_size = match Big.u16(file, 16)? {
            1 => 65536,
            size => size,
        };
        let reserved = usize::from(byte(file, 20)?);
        if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() || page_size - reserved < 480 {
            return Err(Damaged("its page size is impossible"));
        }
        Ok(Self { file, page_size, usable: page_size - reserved })
    }

    /// A page by its number, counted from 1.
    fn page(&self, number: usize) -> Result<&'a [u8], Damaged> {
        let at = number.checked_sub(1).and_then(|number| number.checked_mul(self.page_size));
        range(self.file, at.ok_or(Damaged("it refers to no page"))?, self.page_size)
    }

    /// The page where a table begins.
    fn find_table(&self, name: &[u8]) -> Result<usize, Damaged> {
        for row in self.rows(1)? {
            if column(&row, 0)? == b"table" && column(&row, 1)? == name {
                return integer(column(&row, 3)?);
            }
        }
        Err(Damaged("it has no table of packages"))
    }

    /// All rows of a table.
    fn rows(&self, root: usize) -> Result<Vec<Vec<u8>>, Damaged> {
        let mut left = Left { pages: self.file.len() / self.page_size, bytes: self.file.len() };
        let mut rows = Vec::new();
        let mut open = vec![(root, 0)];
        while let Some((number, depth)) = open.pop() {
            left.page()?;
            if depth > DEEPEST {
                return Err(Damaged("its pages lead in a circle"));
            }
            let page = self.page(number)?;
            let head = if number == 1 { 100 } else { 0 };
            let cells = Big.u16(page, head + 3)?;
            match byte(page, head)? {
                LEAF => {
                    for cell in 0..cells {
                        rows.push(self.row(page, Big.u16(page, head + 8 + 2 * cell)?, &mut left)?);
                    }
                }
                INTERIOR => {
                    open.push((Big.u32(page, head + 8)?, depth + 1));
                    for cell in (0..cells).rev() {
                        open.push((Big.u32(page, Big.u16(page, head + 12 + 2 * cell)?)?, depth + 1));
                    }
                }
                _ => return Err(Damaged("a table leads to a page of another kind")),
            }
        }
        Ok(rows)
    }

    /// A row's record: what fits into its page, and pages of its own for the rest.
    fn row(&self, page: &[u8], at: usize, left: &mut Left) -> Result<Vec<u8>, Damaged> {
        let (length, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        left.bytes(length)?;
        let most = self.usable - 35;
        if length <= most {
            return range(page, at, length).map(<[u8]>::to_vec);
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = least + (length - least) % (self.usable - 4);
        let here = if here <= most { here } else { least };
        let mut record = range(page, at, here)?.to_vec();
        let mut next = Big.u32(page, at + here)?;
        while record.len() < length {
            left.page()?;
            let page = self.page(next)?;
            let part = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(range(page, 4, part)?);
            next = Big.u32(page, 0)?;
        }
        Ok(record)
    }
}

/// The bytes of a record's column.
fn column(record: &[u8], wanted: usize) -> Result<&[u8], Damaged> {
    let (head, mut at) = varint(record, 0)?;
    let mut start = head;
    for number in 0..=wanted {
        if at >= head {
            return Err(Damaged("a row lacks a column"));
        }
        let (kind, next) = varint(record, at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(Damaged("a value is of an unknown kind")),
            _ => (kind - 12) / 2,
        };
        if number == wanted {
            return range(record, start, length);
        }
        start = start.checked_add(length).ok_or(Damaged("a value is too long"))?;
        at = next;
    }
    Err(Damaged("a row lacks a column"))
}

/// A small number, big-endian without leading bytes.
fn integer(bytes: &[u8]) -> Result<usize, Damaged> {
    if bytes.is_empty() || bytes.len() > 4 {
        return Err(Damaged("a page's number is no number"));
    }
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// A number of one to nine bytes, and the place behind it.
fn varint(bytes: &[u8], at: usize) -> Result<(usize, usize), Damaged> {
    let mut number: u64 = 0;
    for place in 0..9 {
        let next = byte(bytes, at + place)?;
        if place == 8 {
            number = number << 8 | u64::from(next);
        } else {
            number = number << 7 | u64::from(next & 0x7f);
        }
        if next & 0x80 == 0 || place == 8 {
            let number = usize::try_from(number).map_err(|_| Damaged("a number is too large"))?;
            return Ok((number, at + place + 1));
        }
    }
    Err(Damaged("a number is too long"))
}
