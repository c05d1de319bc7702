//! The 512 bytes of a header: v7, ustar, GNU and star.

use super::{BLOCK, Kind};

/// A header block.
pub(super) type Block = [u8; BLOCK];

/// The fields of a header block that a reader needs, extensions not applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    pub path: Vec<u8>,
    pub typeflag: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub device: (u32, u32),
    /// Whether it is of GNU's own dialect.
    pub is_gnu: bool,
}

/// The dialects differ in what bytes 257 to 500 mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    Gnu,
    Star,
}

/// Reads a block that is not all zeros.
pub(super) fn parse(block: &Block) -> Result<Raw, String> {
    check_sum(block)?;
    let dialect = dialect(block)?;
    let typeflag = block[156];
    let has_devices = dialect != Dialect::V7;
    let device = if has_devices && matches!(typeflag, b'3' | b'4') {
        (device_number(&block[329..337])?, device_number(&block[337..345])?)
    } else {
        (0, 0)
    };
    Ok(Raw {
        path: joined(prefix(block, dialect), text(&block[..100])),
        typeflag,
        link: text(&block[157..257]).to_vec(),
        mode: u32::try_from(unsigned(&block[100..108], "mode")? & 0o7777).unwrap_or_default(),
        uid: unsigned(&block[108..116], "uid")?,
        gid: unsigned(&block[116..124], "gid")?,
        size: unsigned(&block[124..136], "size")?,
        mtime: number(&block[136..148], "mtime")?,
        device,
        is_gnu: dialect == Dialect::Gnu,
    })
}

/// What a type flag means, for entries that are not extensions.
pub(super) fn kind(typeflag: u8) -> Option<Kind> {
    Some(match typeflag {
        b'0' | 0 | b'7' => Kind::File,
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

/// The sum of all bytes with the sum's own field as spaces. Some old programs added signed bytes.
pub(super) fn sums(block: &Block) -> (u64, i64) {
    block.iter().enumerate().fold((0, 0), |(unsigned, signed), (index, &byte)| {
        let byte = if (148..156).contains(&index) { b' ' } else { byte };
        (unsigned + u64::from(byte), signed + i64::from(byte.cast_signed()))
    })
}

fn check_sum(block: &Block) -> Result<(), String> {
    let stated = number(&block[148..156], "checksum")?;
    let (unsigned, signed) = sums(block);
    if i64::try_from(unsigned) == Ok(stated) || signed == stated {
        return Ok(());
    }
    Err(format!("the header's checksum is {unsigned}, not {stated}"))
}

fn dialect(block: &Block) -> Result<Dialect, String> {
    match (&block[257..263], &block[263..265]) {
        (b"ustar ", [b' ', 0]) => Ok(Dialect::Gnu),
        (b"ustar\0", b"00") if &block[508..512] == b"tar\0" => {
            // Who does not know star reads on.
            if block[475] == 0 { Ok(Dialect::Star) } else { Err("a star header's prefix does not end".to_owned()) }
        }
        (b"ustar\0", b"00") => Ok(Dialect::Ustar),
        ([b'u', b's', b't', b'a', b'r', ..], version) => Err(format!("unknown ustar version {version:?}")),
        _ => Ok(Dialect::V7),
    }
}

fn prefix(block: &Block, dialect: Dialect) -> &[u8] {
    match dialect {
        Dialect::Ustar => text(&block[345..500]),
        Dialect::Star => text(&block[345..476]),
        Dialect::V7 | Dialect::Gnu => b"",
    }
}

fn joined(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// Up to the first NUL, or all of it.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

fn unsigned(field: &[u8], name: &str) -> Result<u64, String> {
    u64::try_from(number(field, name)?).map_err(|_| format!("the {name} is negative"))
}

fn device_number(field: &[u8]) -> Result<u32, String> {
    let value = unsigned(field, "device number")?;
    u32::try_from(value).map_err(|_| format!("the device number {value} is too large"))
}

/// Octal text, or GNU's big-endian binary if the top bit is set. An empty field is 0.
pub(super) fn number(field: &[u8], name: &str) -> Result<i64, String> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field).ok_or_else(|| format!("the {name} is out of range")),
        _ => octal(field).ok_or_else(|| format!("the {name} {:?} is not octal", String::from_utf8_lossy(field))),
    }
}

fn binary(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    // The top bit only marks the encoding; the next one is the sign.
    let start = if negative { i128::from(first) - 0x100 } else { i128::from(first & 0x3f) };
    let mut value = start;
    for &byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
    }
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(is_padding).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(is_padding) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"12345670", Some(0o12_345_670)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"644\0junk", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field, "field").ok(), expected, "{field:?}");
        }
    }
}
