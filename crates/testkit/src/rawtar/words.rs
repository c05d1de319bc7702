//! A line's words.

/// A word, and whether it stood in quotes.
pub(super) struct Word {
    pub bytes: Vec<u8>,
    pub is_quoted: bool,
}

impl Word {
    pub fn text(&self, line: &str) -> String {
        String::from_utf8(self.bytes.clone()).unwrap_or_else(|_| super::wrong(line, "not UTF-8"))
    }

    /// `key=value`.
    pub fn pair(&self) -> Option<(&[u8], &[u8])> {
        let equals = self.bytes.iter().position(|&byte| byte == b'=')?;
        Some((&self.bytes[..equals], &self.bytes[equals + 1..]))
    }
}

pub(super) fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (bytes, left) = unquoted(line, quoted);
            words.push(Word { bytes, is_quoted: true });
            rest = left.trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(Word { bytes: bare(line, &rest[..end]), is_quoted: false });
            rest = rest[end..].trim_start();
        }
    }
    words
}

/// Content up to its closing quote, and what stands behind that.
fn unquoted<'l>(line: &str, text: &'l str) -> (Vec<u8>, &'l str) {
    let mut bytes = Vec::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (bytes, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => bytes.push(b'\n'),
                Some((_, 't')) => bytes.push(b'\t'),
                Some((_, '0')) => bytes.push(0),
                Some((_, c @ ('"' | '\\'))) => bytes.push(c as u8),
                Some((at, 'x')) => {
                    bytes.push(hex(line, text.get(at + 1..at + 3)));
                    characters.nth(1);
                }
                _ => super::wrong(line, "unknown escape"),
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    super::wrong(line, "a quote is not closed")
}

/// `%xx` and `{text*N}` undone.
fn bare(line: &str, text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        if rest.as_bytes()[at] == b'%' {
            bytes.push(hex(line, rest.get(at + 1..at + 3)));
            rest = &rest[at + 3..];
            continue;
        }
        let end = rest[at..].find('}').unwrap_or_else(|| super::wrong(line, "{ without }")) + at;
        let (piece, count) = rest[at + 1..end].rsplit_once('*').unwrap_or_else(|| super::wrong(line, "{text*N}"));
        let count = count.parse().unwrap_or_else(|_| super::wrong(line, "{text*N}"));
        bytes.extend_from_slice(&bare(line, piece).repeat(count));
        rest = &rest[end + 1..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn hex(line: &str, digits: Option<&str>) -> u8 {
    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
    byte.unwrap_or_else(|| super::wrong(line, "no byte"))
}
