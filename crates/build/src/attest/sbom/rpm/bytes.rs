//! Numbers and ranges of untrusted bytes.

use super::Damaged;

/// `length` bytes at a place.
pub(super) fn range(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Damaged> {
    let end = at.checked_add(length).ok_or(Damaged("a length is too large"))?;
    bytes.get(at..end).ok_or(Damaged("it ends too early"))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Damaged> {
    range(bytes, at, N)?.try_into().map_err(|_| Damaged("it ends too early"))
}

pub(super) fn byte(bytes: &[u8], at: usize) -> Result<u8, Damaged> {
    array::<1>(bytes, at).map(|[byte]| byte)
}

/// How a file writes numbers.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    pub fn u16(self, bytes: &[u8], at: usize) -> Result<usize, Damaged> {
        let array = array(bytes, at)?;
        Ok(usize::from(match self {
            Self::Big => u16::from_be_bytes(array),
            Self::Little => u16::from_le_bytes(array),
        }))
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> Result<usize, Damaged> {
        let array = array(bytes, at)?;
        let number = match self {
            Self::Big => u32::from_be_bytes(array),
            Self::Little => u32::from_le_bytes(array),
        };
        usize::try_from(number).map_err(|_| Damaged("a number is too large"))
    }
}
