//! The words of SSH's protocols: numbers, and strings with their length in front.

/// Reads words one after the other; nothing where the bytes end early.
pub(super) struct Words<'b>(pub &'b [u8]);

impl<'b> Words<'b> {
    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A number of four bytes.
    pub fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// A string.
    pub fn string(&mut self) -> Option<&'b [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A string that is text.
    pub fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A number of any size that is not negative, without zeros in front.
    pub fn natural(&mut self) -> Option<&'b [u8]> {
        let bytes = self.string()?;
        let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        (!is_negative).then(|| without_zeros(bytes))
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Adds a string.
pub(super) fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len());
    to.extend_from_slice(bytes);
}

/// Adds a number of four bytes.
pub(super) fn put_number(to: &mut Vec<u8>, number: usize) {
    to.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// Adds a number of any size; `bytes` are its digits, the highest first.
pub(super) fn put_natural(to: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = without_zeros(bytes);
    let is_negative_looking = bytes.first().is_some_and(|first| first & 0x80 != 0);
    put_number(to, bytes.len() + usize::from(is_negative_looking));
    to.extend(is_negative_looking.then_some(0));
    to.extend_from_slice(bytes);
}

/// Digits without zeros in front.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"abc");
        put_natural(&mut bytes, &[0, 0, 0x80, 1]);
        put_natural(&mut bytes, &[0x7f]);
        put_natural(&mut bytes, &[]);
        assert_eq!(bytes, b"\0\0\0\x03abc\0\0\0\x03\0\x80\x01\0\0\0\x01\x7f\0\0\0\0");
        let mut words = Words(&bytes);
        assert_eq!(words.text(), Some("abc"));
        assert_eq!(words.natural(), Some(&[0x80, 1][..]));
        assert_eq!(words.natural(), Some(&[0x7f][..]));
        assert_eq!(words.natural(), Some(&[][..]));
        assert_eq!(words.byte(), None);
        assert_eq!(Words(b"\0\0\0\x04abc").string(), None);
        assert_eq!(Words(b"\0\0\0\x01\x80").natural(), None, "it is negative");
    }
}
