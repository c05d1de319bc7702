//! PAX extended headers (POSIX.1-2001 pax, "pax Interchange Format").

use std::collections::BTreeMap;

use super::sparse;

/// What a PAX header changes in the header behind it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Overrides {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: Option<sparse::Records>,
}

/// Where star, GNU tar, Go and Docker keep extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Reads all records. The last one of a keyword wins.
pub(super) fn parse(mut bytes: &[u8], limit: usize) -> Result<Overrides, String> {
    let mut overrides = Overrides::default();
    let mut count = 0;
    while !bytes.is_empty() {
        count += 1;
        if count > limit {
            return Err(format!("a PAX header has more than {limit} records"));
        }
        let record = record(bytes)?;
        overrides.apply(record.key, record.value)?;
        bytes = record.rest;
    }
    Ok(overrides)
}

/// Checks a global header. `git archive` puts a comment there. What would change an entry is refused: GNU tar applies it, Go
/// and bsdtar do not.
pub(super) fn check_global(mut bytes: &[u8], limit: usize) -> Result<(), String> {
    let mut count = 0;
    while !bytes.is_empty() {
        count += 1;
        if count > limit {
            return Err(format!("a global PAX header has more than {limit} records"));
        }
        let record = record(bytes)?;
        let mut changes = Overrides::default();
        changes.apply(record.key, record.value)?;
        if changes != Overrides::default() {
            return Err(format!("a global PAX header sets the {} of what follows", record.key.escape_ascii()));
        }
        bytes = record.rest;
    }
    Ok(())
}

/// A record taken apart.
struct Record<'b> {
    key: &'b [u8],
    value: &'b [u8],
    rest: &'b [u8],
}

/// Splits `LENGTH KEY=VALUE\n` off; the length counts the whole record.
fn record(bytes: &[u8]) -> Result<Record<'_>, String> {
    let malformed = |why: &str| format!("malformed PAX record: {why}");
    let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(|| malformed("it has no length"))?;
    let (digits, _) = bytes.split_at(space);
    let length = decimal(digits).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or_else(|| malformed("its length is no number"))?;
    let record = bytes.get(space + 1..length).ok_or_else(|| malformed("its length is wrong"))?;
    let rest = bytes.get(length..).unwrap_or_default();
    let body = record.strip_suffix(b"\n").ok_or_else(|| malformed("it does not end where its length says"))?;
    let equals = body.iter().position(|&b| b == b'=').ok_or_else(|| malformed("it has no ="))?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(malformed("its keyword is empty or holds NUL"));
    }
    Ok(Record { key, value, rest })
}

impl Overrides {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let shown = || String::from_utf8_lossy(key).into_owned();
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() {
                return Err("a PAX record names no extended attribute".to_owned());
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.get_or_insert_default().apply(key, value);
        }
        let number = || decimal(value).ok_or_else(|| format!("PAX {} is no number", shown()));
        match key {
            b"path" => self.path = Some(name(value).ok_or_else(|| format!("PAX {} is empty or holds NUL", shown()))?),
            b"linkpath" => {
                self.link = Some(name(value).ok_or_else(|| format!("PAX {} is empty or holds NUL", shown()))?);
            }
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| format!("PAX {} is no time", shown()))?),
            // Times of other kinds, owners' names, comments and other programs' own keywords change nothing here.
            _ => {}
        }
        Ok(())
    }
}

/// A name that is neither empty nor cut short by NUL.
pub(super) fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

/// Digits only: signs and spaces are where readers differ. At most `i64::MAX`, as in Go and GNU tar.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value <= i64::MAX.cast_unsigned()).then_some(value)
}

/// Seconds and nanoseconds of `[-]SECONDS[.FRACTION]`, rounded down.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |digits| (true, digits));
    let dot = digits.iter().position(|&b| b == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(decimal(&digits[..dot])?).ok()?;
    let fraction = digits.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = padded.fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
    let inexact = fraction.iter().skip(9).any(|&digit| digit != b'0');
    Some(match (negative, nanos, inexact) {
        (false, nanos, _) => (seconds, nanos),
        (true, 0, false) => (-seconds, 0),
        (true, 0, true) => (-seconds - 1, 999_999_999),
        (true, nanos, inexact) => (-seconds - 1, 1_000_000_000 - nanos - u32::from(inexact)),
    })
}

/// Appends a record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + digits_of(body);
    if body + digits_of(length) != length {
        length = body + digits_of(length);
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits_of(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_records_are_refused() {
        for text in [
            &b"30 path=short\n"[..],
            b"12 path=long name\n",
            b"+9 path=a\n",
            b" 9 path=a\n",
            b"11 path=a\n",
            b"9 path=a ",
            b"8 pathaa\n",
            b"6 =ab\n",
            b"8 path=\n",
            b"11 path=a\0b\n",
            b"12 size=-12\n",
            b"11 size=1x\n",
            b"30 size=99999999999999999999\n",
            b"13 mtime=now\n",
            b"99999999999999999999999 a=b\n",
            b"22 GNU.sparse.major=x\n",
            b"22 GNU.sparse.mayor=1\n",
            b"18 SCHILY.xattr.=\n",
            b"path=a\n",
            b"0 a=b\n",
        ] {
            assert!(parse(text, 100).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_last_record_of_a_keyword_wins() {
        let overrides = parse(b"9 path=a\n9 path=b\n", 100).unwrap();
        assert_eq!(overrides.path.as_deref(), Some(&b"b"[..]));
        assert!(parse(b"9 path=a\n9 path=b\n", 1).is_err());
    }

    #[test]
    fn times_round_down() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("12.5", (12, 500_000_000)),
            ("12.", (12, 0)),
            ("1.0000000019", (1, 1)),
            ("-1", (-1, 0)),
            ("-1.5", (-2, 500_000_000)),
            ("-0.0000000001", (-1, 999_999_999)),
        ] {
            assert_eq!(time(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "-", ".5", "1.x", "--1", "1e3"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn written_records_are_read_back_at_every_length() {
        for length in (1..120).chain(9980..10_010) {
            let value = vec![b'x'; length];
            let mut out = Vec::new();
            push(&mut out, b"path", &value);
            assert_eq!(parse(&out, 1).unwrap().path.unwrap(), value, "{length}");
        }
    }
}
