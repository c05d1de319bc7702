//! Where JSON values begin and end, and what Go's `encoding/json` says of a text that is none.

use super::decode::DecodeError;

/// Go's limit.
const DEEPEST: usize = 10_000;

/// The length of the first value of a text, from its beginning; what follows it is not looked at.
pub(super) fn first_value(bytes: &[u8]) -> Result<std::ops::Range<usize>, DecodeError> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.skip_space();
    if scanner.at == bytes.len() {
        return Err(DecodeError::new("EOF"));
    }
    let start = scanner.at;
    scanner.value()?;
    Ok(start..scanner.at)
}

/// The members of an object that was found to be one: each key and value as they were written.
pub(super) fn members(object: &str) -> Vec<(&str, &str)> {
    let parts = parts(object);
    parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The elements of a list that was found to be one, as they were written; or the keys and values of an object.
pub(super) fn parts(list: &str) -> Vec<&str> {
    let mut scanner = Scanner { bytes: list.as_bytes(), at: 1 };
    let mut parts = Vec::new();
    loop {
        scanner.skip_space();
        match scanner.peek() {
            None | Some(b']' | b'}') => return parts,
            Some(b',' | b':') => scanner.at += 1,
            Some(_) => {
                let start = scanner.at;
                // It was scanned before, as a part of the whole.
                if scanner.value().is_err() {
                    return parts;
                }
                parts.push(list.get(start..scanner.at).unwrap_or_default());
            }
        }
    }
}

/// The text of a string as it was written, quotes and all. What is no character becomes U+FFFD.
pub(super) fn unquote(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut characters = after.chars();
        rest = after.get(1..).unwrap_or_default();
        match characters.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (character, length) = unicode(after);
                out.push(character);
                rest = after.get(length..).unwrap_or_default();
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out + rest
}

/// The character of `u0041` or of a pair of surrogates, and how long its text is.
fn unicode(text: &str) -> (char, usize) {
    let unit = |text: &str| u32::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    let first = unit(text).unwrap_or(0xfffd);
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = text.get(5..).and_then(|text| text.strip_prefix('\\')).and_then(unit)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or('\u{fffd}'), 11);
    }
    (char::from_u32(first).unwrap_or('\u{fffd}'), 5)
}

struct Scanner<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// What a container waits for.
#[derive(Clone, Copy)]
enum Inside {
    Value,
    Element,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte; that there is none is Go's error.
    fn next(&mut self) -> Result<u8, DecodeError> {
        let byte = self.peek().ok_or_else(|| DecodeError::new("unexpected EOF"))?;
        self.at += 1;
        Ok(byte)
    }

    fn next_after_space(&mut self) -> Result<u8, DecodeError> {
        self.skip_space();
        self.next()
    }

    /// A whole value. Containers are kept in a list, not on the stack: the text may be hostile.
    fn value(&mut self) -> Result<(), DecodeError> {
        let mut open: Vec<Inside> = Vec::new();
        loop {
            let first = self.next_after_space()?;
            match first {
                b'{' => {
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        enter(&mut open, Inside::Value)?;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        enter(&mut open, Inside::Element)?;
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number(first)?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                other => return Err(invalid(other, "looking for beginning of value")),
            }
            if self.leave(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Closes what the value was the last of; whether nothing is open any more.
    fn leave(&mut self, open: &mut Vec<Inside>) -> Result<bool, DecodeError> {
        loop {
            let Some(inside) = open.last().copied() else { return Ok(true) };
            match (inside, self.next_after_space()?) {
                (Inside::Element, b',') => return Ok(false),
                (Inside::Value, b',') => {
                    self.key()?;
                    return Ok(false);
                }
                (Inside::Element, b']') | (Inside::Value, b'}') => drop(open.pop()),
                (Inside::Element, other) => return Err(invalid(other, "after array element")),
                (Inside::Value, other) => return Err(invalid(other, "after object key:value pair")),
            }
        }
    }

    /// A key with its colon.
    fn key(&mut self) -> Result<(), DecodeError> {
        match self.next_after_space()? {
            b'"' => self.string()?,
            other => return Err(invalid(other, "looking for beginning of object key string")),
        }
        match self.next_after_space()? {
            b':' => Ok(()),
            other => Err(invalid(other, "after object key")),
        }
    }

    fn string(&mut self) -> Result<(), DecodeError> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let digit = self.next()?;
                            if !digit.is_ascii_hexdigit() {
                                return Err(invalid(digit, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    other => return Err(invalid(other, "in string escape code")),
                },
                control @ 0..0x20 => return Err(invalid(control, "in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Result<(), DecodeError> {
        let first = if first == b'-' { self.next()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            other => return Err(invalid(other, "in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.one_digit("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.one_digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// At least one.
    fn one_digit(&mut self, context: &str) -> Result<(), DecodeError> {
        let first = self.next()?;
        if !first.is_ascii_digit() {
            return Err(invalid(first, context));
        }
        self.digits();
        Ok(())
    }

    /// The rest of a word whose first letter was read.
    fn literal(&mut self, word: &str) -> Result<(), DecodeError> {
        for expected in word.bytes().skip(1) {
            let found = self.next()?;
            if found != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(invalid(found, &context));
            }
        }
        Ok(())
    }
}

fn enter(open: &mut Vec<Inside>, inside: Inside) -> Result<(), DecodeError> {
    open.push(inside);
    if open.len() > DEEPEST { Err(DecodeError::new("exceeded max depth")) } else { Ok(()) }
}

/// Go shows a byte as the character of that number.
fn invalid(byte: u8, context: &str) -> DecodeError {
    let shown = match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x7 => r"'\a'".to_owned(),
        0x8 => r"'\b'".to_owned(),
        0xb => r"'\v'".to_owned(),
        0xc => r"'\f'".to_owned(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        printable => format!("'{}'", char::from(printable)),
    };
    DecodeError::new(format!("invalid character {shown} {context}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<&str, String> {
        first_value(text.as_bytes()).map(|range| &text[range]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_value_is_found() {
        let texts = [
            "{}",
            "[]",
            "{ }",
            "[ ]",
            "null",
            "true",
            "false",
            "0",
            "-0",
            "12",
            "-1.5e+10",
            "1E5",
            "\"\"",
            "\"\\u00e9\\n\\/\"",
            "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
            "[1 , 2]",
            "\"é\"",
            "[[[]]]",
        ];
        for text in texts {
            for behind in ["", " ", "\n{", " garbage", "]"] {
                let whole = format!(" \n{text}{behind}");
                assert_eq!(scan(&whole), Ok(text), "{whole}");
            }
        }
        assert_eq!(scan("01"), Ok("0"));
        assert_eq!(scan("nullx"), Ok("null"));
    }

    #[test]
    fn what_is_no_value_is_refused_with_gos_words() {
        let cases = [
            ("", "EOF"),
            (" \n\t\r", "EOF"),
            ("{", "unexpected EOF"),
            ("{\"a\"", "unexpected EOF"),
            ("{\"a\":", "unexpected EOF"),
            ("{\"a\":1", "unexpected EOF"),
            ("[", "unexpected EOF"),
            ("[1,", "unexpected EOF"),
            ("\"a", "unexpected EOF"),
            ("\"\\u12", "unexpected EOF"),
            ("nul", "unexpected EOF"),
            ("-", "unexpected EOF"),
            ("1.", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("}", "invalid character '}' looking for beginning of value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
            ("\u{0}", "invalid character '\\x00' looking for beginning of value"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{,}", "invalid character ',' looking for beginning of object key string"),
            ("{\"a\"}", "invalid character '}' after object key"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1]", "invalid character ']' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1}", "invalid character '}' after array element"),
            ("[01]", "invalid character '1' after array element"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("tRUE", "invalid character 'R' in literal true (expecting 'r')"),
            ("fals\n", "invalid character '\\n' in literal false (expecting 'e')"),
            ("nil", "invalid character 'i' in literal null (expecting 'u')"),
        ];
        for (text, expected) in cases {
            assert_eq!(scan(text), Err(expected.to_owned()), "{text}");
        }
        assert_eq!(scan(&"[".repeat(100_000)), Err("exceeded max depth".to_owned()));
        assert!(scan(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))).is_ok());
    }

    #[test]
    fn strings_are_read_and_what_is_no_character_is_replaced() {
        let cases = [
            (r#""a\"b\\c\/d""#, "a\"b\\c/d"),
            (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
            (r#""\u0041\u00e9""#, "Aé"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00x""#, "\u{fffd}x"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""é\u0000""#, "é\0"),
        ];
        for (text, expected) in cases {
            assert_eq!(unquote(text), expected, "{text}");
        }
    }

    #[test]
    fn objects_and_lists_come_apart() {
        assert_eq!(members(r#"{ "a" : [1,{"b":2}] , "c":"}" }"#), [("\"a\"", r#"[1,{"b":2}]"#), ("\"c\"", "\"}\"")]);
        assert_eq!(parts(r#"[ "a,]" , null,{} ]"#), ["\"a,]\"", "null", "{}"]);
        assert!(members("{}").is_empty() && parts("[ ]").is_empty());
    }
}
