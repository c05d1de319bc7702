//! Go's regular expressions (RE2 syntax with Perl extensions) on the `regex` crate, which is RE2's cousin: the pattern is
//! walked once, classes become ASCII, literals are spelled out, and what only one of the two understands is refused with
//! Go's text. Matching is linear in both.

use regex::bytes::{Regex, RegexBuilder};

use super::{Cursor, literal};

/// Go's `1000`: the most that a repetition may ask for.
const MOST_REPEATS: u32 = 1000;

/// A compiled pattern; it matches anywhere in a text.
#[derive(Clone, Debug)]
pub(crate) struct GoPattern(Regex);

/// A pattern that Go refuses; the text is Go's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub(crate) struct InvalidGoPattern {
    what: String,
    part: String,
}

impl GoPattern {
    /// Reads a pattern.
    pub(crate) fn parse(pattern: &str) -> Result<Self, InvalidGoPattern> {
        let mut translation = Translation { cursor: Cursor::new(pattern), out: String::new(), depth: 0 };
        translation.whole()?;
        let regex = RegexBuilder::new(&translation.out).build();
        regex.map(Self).map_err(|error| invalid(&reason(&error), pattern))
    }

    /// Whether it matches somewhere in the text.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

/// The engine's own words without its drawing of the pattern, which users did not write that way.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

fn invalid(what: &str, part: &str) -> InvalidGoPattern {
    InvalidGoPattern { what: what.to_owned(), part: part.chars().take(200).collect() }
}

struct Translation<'p> {
    cursor: Cursor<'p>,
    out: String,
    /// Open groups.
    depth: u32,
}

/// What stood before a repetition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that can be repeated.
    Nothing,
    /// Something that can.
    Atom,
    /// A repetition, which began there.
    Repetition(usize),
}

impl Translation<'_> {
    fn whole(&mut self) -> Result<(), InvalidGoPattern> {
        let mut before = Before::Nothing;
        let start = self.cursor.at;
        while let Some(next) = self.cursor.peek() {
            before = match next {
                '*' | '+' | '?' => self.repetition(before, 1)?,
                '{' => match counted(self.cursor.rest()) {
                    Some(length) => self.repetition(before, length)?,
                    None => self.single(),
                },
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.copy();
                    Before::Nothing
                }
                '[' => self.class()?,
                '\\' => self.escape()?,
                '.' | '^' | '$' => self.copy(),
                _ => self.single(),
            };
        }
        if self.depth > 0 { Err(invalid("missing closing )", self.cursor.since(start).0)) } else { Ok(()) }
    }

    /// A character that means the same to both.
    fn copy(&mut self) -> Before {
        self.out.extend(self.cursor.next());
        Before::Atom
    }

    /// A character that stands for itself.
    fn single(&mut self) -> Before {
        if let Some(next) = self.cursor.next() {
            literal(next, &mut self.out);
        }
        Before::Atom
    }

    fn repetition(&mut self, before: Before, length: usize) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        let operator = self.cursor.rest().get(..length).unwrap_or_default();
        self.cursor.at += length;
        self.out.push_str(operator);
        if self.cursor.eat("?") {
            self.out.push('?');
        }
        match before {
            Before::Nothing => return Err(invalid("missing argument to repetition operator", operator)),
            Before::Repetition(first) => {
                return Err(invalid("invalid nested repetition operator", self.cursor.since(first).1));
            }
            Before::Atom => {}
        }
        if length > 1 && !counts_are_sound(operator) {
            return Err(invalid("invalid repeat count", operator));
        }
        Ok(Before::Repetition(start))
    }

    fn open(&mut self) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        self.cursor.next();
        if !self.cursor.eat("?") {
            self.out.push('(');
            self.depth += 1;
            return Ok(Before::Nothing);
        }
        if self.cursor.eat("P<") || (!self.cursor.rest().starts_with(['=', '!', '#']) && self.cursor.eat("<")) {
            let name = self.cursor.eat_while(usize::MAX, |c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() || !self.cursor.eat(">") {
                return Err(invalid("invalid named capture", self.cursor.since(start).0));
            }
            // Nobody asks for names, and the two dialects differ in what they allow.
            self.out.push('(');
            self.depth += 1;
            return Ok(Before::Nothing);
        }
        self.flags(start)
    }

    /// `(?i)`, `(?i-s:…)`.
    fn flags(&mut self, start: usize) -> Result<Before, InvalidGoPattern> {
        let flags = self.cursor.eat_while(usize::MAX, |c| matches!(c, 'i' | 'm' | 's' | 'U' | '-'));
        let end = self.cursor.next();
        let negations = flags.matches('-').count();
        let sound = negations <= 1 && !flags.ends_with('-') && matches!(end, Some(')' | ':'));
        if !sound || (flags.is_empty() && end == Some(')')) {
            return Err(invalid("invalid or unsupported Perl syntax", self.cursor.since(start).1));
        }
        // Repeating a flag is an error to one of the two only.
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        self.out.push_str("(?");
        self.out.extend("imsU".chars().filter(|flag| on.contains(*flag) && !off.contains(*flag)));
        if !off.is_empty() {
            self.out.push('-');
            self.out.extend("imsU".chars().filter(|flag| off.contains(*flag)));
        }
        self.out.extend(end);
        if end == Some(':') {
            self.depth += 1;
        }
        Ok(Before::Nothing)
    }

    fn close(&mut self) -> Result<Before, InvalidGoPattern> {
        self.depth = self.depth.checked_sub(1).ok_or_else(|| invalid("unexpected )", self.cursor.pattern))?;
        Ok(self.copy())
    }

    fn escape(&mut self) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        if self.cursor.eat(r"\Q") {
            let quoted = self.cursor.rest();
            let (text, end) = quoted.split_once(r"\E").map_or((quoted, 0), |(text, _)| (text, 2));
            text.chars().for_each(|character| literal(character, &mut self.out));
            self.cursor.at += text.len() + end;
            return Ok(if text.is_empty() { Before::Nothing } else { Before::Atom });
        }
        self.cursor.next();
        let boundary = match self.cursor.peek() {
            Some('A') => r"\A",
            Some('z') => r"\z",
            Some('b') => r"(?-u:\b)",
            Some('B') => r"(?-u:\B)",
            _ => "",
        };
        if boundary.is_empty() {
            self.cursor.at = start;
            match self.escaped_set()? {
                Some(set) => self.out.push_str(&set),
                None => literal(self.escaped_character()?, &mut self.out),
            }
        } else {
            self.cursor.next();
            self.out.push_str(boundary);
        }
        Ok(Before::Atom)
    }

    /// An escape that stands for many characters; none if another one comes next.
    fn escaped_set(&mut self) -> Result<Option<String>, InvalidGoPattern> {
        match self.escaped_class() {
            Some(class) => Ok(Some(class.to_owned())),
            None => self.escaped_property(),
        }
    }

    /// `\d` and its like, which are ASCII in Go.
    fn escaped_class(&mut self) -> Option<&'static str> {
        let class = match self.cursor.rest().get(..2)? {
            r"\d" => "[0-9]",
            r"\D" => "[^0-9]",
            r"\s" => r"[\t\n\x0c\r ]",
            r"\S" => r"[^\t\n\x0c\r ]",
            r"\w" => "[0-9A-Za-z_]",
            r"\W" => "[^0-9A-Za-z_]",
            _ => return None,
        };
        self.cursor.at += 2;
        Some(class)
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`.
    fn escaped_property(&mut self) -> Result<Option<String>, InvalidGoPattern> {
        let start = self.cursor.at;
        let positive = if self.cursor.eat(r"\p") {
            true
        } else if self.cursor.eat(r"\P") {
            false
        } else {
            return Ok(None);
        };
        let negated = self.cursor.eat("{^");
        let name = if negated || self.cursor.eat("{") {
            let name = self.cursor.eat_while(usize::MAX, |c| c.is_ascii_alphanumeric() || c == '_');
            if self.cursor.eat("}") { name } else { "" }
        } else {
            self.cursor.eat_while(1, |c| c.is_ascii_alphabetic())
        };
        if name.is_empty() {
            return Err(invalid("invalid character class range", self.cursor.since(start).1));
        }
        let letter = if positive == negated { 'P' } else { 'p' };
        Ok(Some(format!(r"\{letter}{{{name}}}")))
    }

    /// An escape that stands for one character.
    fn escaped_character(&mut self) -> Result<char, InvalidGoPattern> {
        let start = self.cursor.at;
        self.cursor.next();
        let Some(character) = self.cursor.next() else {
            return Err(invalid("trailing backslash at end of expression", ""));
        };
        let found = match character {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(character),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other),
            _ => None,
        };
        found.ok_or_else(|| invalid("invalid escape sequence", self.cursor.since(start).1))
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.cursor.eat("{") {
            let digits = self.cursor.eat_while(8, |c| c.is_ascii_hexdigit());
            if !self.cursor.eat("}") {
                return None;
            }
            digits
        } else {
            let digits = self.cursor.eat_while(2, |c| c.is_ascii_hexdigit());
            if digits.len() < 2 {
                return None;
            }
            digits
        };
        u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
    }

    /// `\012`; a single digit that is not zero would be a reference back, which there is not.
    fn octal(&mut self, first: char) -> Option<char> {
        let more = self.cursor.eat_while(2, |c| matches!(c, '0'..='7'));
        if first != '0' && more.is_empty() {
            return None;
        }
        u32::from_str_radix(&format!("{first}{more}"), 8).ok().and_then(char::from_u32)
    }

    fn class(&mut self) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        self.cursor.next();
        self.out.push('[');
        if self.cursor.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            match self.cursor.peek() {
                None => return Err(invalid("missing closing ]", self.cursor.since(start).0)),
                Some(']') if !is_first => break,
                Some(_) => self.class_member()?,
            }
            is_first = false;
        }
        Ok(self.copy())
    }

    fn class_member(&mut self) -> Result<(), InvalidGoPattern> {
        let start = self.cursor.at;
        if self.cursor.rest().starts_with("[:")
            && let Some(length) = self.cursor.rest().find(":]")
        {
            self.cursor.at += length + 2;
            let name = self.cursor.since(start).1;
            if !POSIX.contains(&name.trim_start_matches("[:^").trim_start_matches("[:").trim_end_matches(":]")) {
                return Err(invalid("invalid character class range", name));
            }
            self.out.push_str(name);
            return Ok(());
        }
        if let Some(set) = self.escaped_set()? {
            self.out.push_str(&set);
            return Ok(());
        }
        let low = self.class_character()?;
        let is_range =
            self.cursor.rest().starts_with('-') && !self.cursor.rest().starts_with("-]") && self.cursor.rest() != "-";
        if !is_range {
            literal(low, &mut self.out);
            return Ok(());
        }
        self.cursor.next();
        let high = self.class_character()?;
        if high < low {
            return Err(invalid("invalid character class range", self.cursor.since(start).1));
        }
        literal(low, &mut self.out);
        self.out.push('-');
        literal(high, &mut self.out);
        Ok(())
    }

    fn class_character(&mut self) -> Result<char, InvalidGoPattern> {
        if self.cursor.peek() == Some('\\') {
            return self.escaped_character();
        }
        self.cursor.next().ok_or_else(|| invalid("missing closing ]", self.cursor.pattern))
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The length of `{n}`, `{n,}` or `{n,m}` at the beginning; any other brace stands for itself.
fn counted(text: &str) -> Option<usize> {
    let (counts, _) = text.strip_prefix('{')?.split_once('}')?;
    let (least, most) = counts.split_once(',').unwrap_or((counts, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(counts.len() + 2)
}

fn counts_are_sound(operator: &str) -> bool {
    let counts = operator.trim_matches(['{', '}']);
    let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
    let number = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= MOST_REPEATS);
    match (number(least), most.is_empty()) {
        (Some(_), true) => true,
        (Some(least), false) => number(most).is_some_and(|most| least <= most),
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern, texts that it matches, texts that it does not. Every line follows from the documentation of
    /// Go's `regexp/syntax`.
    const CASES: &[(&str, &[&str], &[&str])] = &[
        (r"^v\d+$", &["v10"], &["v", "xv1", "v1\n"]),
        (r"1\.2", &["x1.2.3"], &["1x2"]),
        (r"\Q1.2\E+", &["1.22"], &["1x2", "1."]),
        (r"\Q[a", &["[a"], &["a"]),
        (r"a{,3}", &["a{,3}"], &["a", "aaa"]),
        (r"a{2}", &["aa"], &["a"]),
        (r"a{2,}b", &["aaab"], &["ab"]),
        (r"^a{1,2}?$", &["aa"], &["aaa"]),
        (r"{", &["{"], &["a"]),
        (r"a{x}", &["a{x}"], &["a"]),
        (r"[[a]", &["[", "a"], &["b"]),
        (r"[]a]", &["]", "a"], &["b"]),
        (r"[^]a]", &["b"], &["]"]),
        (r"^[a&&b]$", &["&", "a", "b"], &["c"]),
        (r"^[+--b]$", &["+", ",", "-", "b"], &["a", "c"]),
        (r"^[a~~b]$", &["~"], &["c"]),
        (r"^[\d-x]$", &["-", "x", "5"], &["a"]),
        (r"^[a-]$", &["-", "a"], &["b"]),
        (r"^[-a]$", &["-", "a"], &["b"]),
        (r"^\d$", &["5"], &["٣"]),
        (r"^\w$", &["_"], &["é", "-"]),
        (r"^\W$", &["é"], &["_"]),
        (r"^[\W\d]$", &["é", "5"], &["_"]),
        (r"\<a", &["<a"], &["a"]),
        (r"\_", &["_"], &["a"]),
        (r"(?i)RC", &["rc1"], &["r"]),
        (r"(?i:A)b", &["ab"], &["aB"]),
        (r"(?P<name>a)|b", &["a", "b"], &["c"]),
        (r"(?<name>a)", &["a"], &["c"]),
        (r"(?s).$", &["\n"], &[""]),
        (r"^[[:alpha:]]+$", &["abc"], &["1"]),
        (r"^[[:^digit:]]$", &["a"], &["1"]),
        (r"\x41\x{42}\103", &["ABC"], &["abc"]),
        (r"\bfoo\b", &["a foo-b"], &["food"]),
        (r"o\B", &["oo"], &["o"]),
        (r"\pL", &["é"], &["1"]),
        (r"\p{^Greek}", &["a"], &["α"]),
        (r"^(|a)*$", &["", "aa"], &["b"]),
        (r"#a b", &["#a b"], &["ab"]),
        ("", &["", "a"], &[]),
        (r"^(?:alpine|slim)-[0-9]+$", &["alpine-3"], &["alpine", "xslim-1"]),
        (r"^*a", &["a"], &["b"]),
    ];

    #[test]
    fn patterns_mean_what_they_mean_in_go() -> Result<(), InvalidGoPattern> {
        for (pattern, matched, other) in CASES {
            let compiled = GoPattern::parse(pattern)?;
            for text in *matched {
                assert!(compiled.is_match(text), "{pattern} should match {text:?}");
            }
            for text in *other {
                assert!(!compiled.is_match(text), "{pattern} should not match {text:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_go_refuses_is_refused_with_its_text() {
        let cases = [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("[]", "missing closing ]: `[]`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a*+", "invalid nested repetition operator: `*+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\Z", r"invalid escape sequence: `\Z`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            (r"[a-\d]", r"invalid escape sequence: `\d`"),
            ("[a--b]", "invalid character class range: `a--`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?R)", "invalid or unsupported Perl syntax: `(?R`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ];
        for (pattern, expected) in cases {
            let error = GoPattern::parse(pattern).err().map(|error| error.to_string());
            assert_eq!(error, Some(format!("error parsing regexp: {expected}")), "{pattern}");
        }
        for pattern in
            [r"\p{Nonsense}", r"(?<=a)b", "(?<>a)", r"\x{110000}", r"\p", "(((((a{1000}){1000}){1000}){1000}))"]
        {
            assert!(GoPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
