//! Go's regular expressions (RE2 syntax with Perl extensions) on the `regex` crate, which is RE2's cousin: the pattern is
//! walked once, classes become ASCII, literals are spelled out, and what only one of the two understands is refused with
//! Go's text. Matching is linear in both.

use regex::bytes::{Regex, RegexBuilder};

use super::{Cursor, literal};

/// Go's limits: the most that a repetition, or several in one another, may ask for; and how deep groups may be.
const MOST_REPEATS: u64 = 1000;
const DEEPEST: usize = 1000;
/// What a compiled pattern may take, in bytes.
const LARGEST: usize = 32 << 20;
/// The name of the group that holds a version.
const VERSION: &str = "version";

/// A compiled pattern; it matches anywhere in a text.
#[derive(Clone, Debug)]
pub(crate) struct GoPattern {
    regex: Regex,
    /// The group named `version`, or else the first one; none where there is no group.
    version: Option<usize>,
}

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
        let mut translation = Translation { cursor: Cursor::new(pattern), ..Translation::default() };
        translation.whole()?;
        let depth = u32::try_from(DEEPEST * 2).unwrap_or(u32::MAX);
        let regex = RegexBuilder::new(&translation.out).size_limit(LARGEST).nest_limit(depth).build();
        let regex = regex.map_err(|error| invalid(&reason(&error), pattern))?;
        let first = (translation.groups > 0).then_some(1);
        Ok(Self { regex, version: translation.version.or(first) })
    }

    /// Whether it matches somewhere in the text.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }

    /// What of a text that matches is its version: the group named `version`, else the first group, else the match. Nothing
    /// where the text does not match or the group took no part.
    pub(crate) fn version<'t>(&self, text: &'t str) -> Option<&'t str> {
        let found = self.regex.captures(text.as_bytes())?.get(self.version.unwrap_or_default())?;
        text.get(found.range())
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

#[derive(Default)]
struct Translation<'p> {
    cursor: Cursor<'p>,
    out: String,
    /// Flags that stand between something and its repetition: to Go they are not there.
    held: String,
    /// For each open group, how often its content repeats something at most; and the same of what was read last.
    open: Vec<u64>,
    most: u64,
    last: u64,
    /// How many groups capture, and which is named `version`.
    groups: usize,
    version: Option<usize>,
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
        while let Some(next) = self.cursor.peek() {
            let operator = match next {
                '*' | '+' | '?' => Some(Operator { length: 1, counts: None }),
                '{' => counted(self.cursor.rest()),
                _ => None,
            };
            if let Some(operator) = operator {
                before = self.repetition(before, &operator)?;
                continue;
            }
            self.out.push_str(&std::mem::take(&mut self.held));
            before = match next {
                '(' => self.open(before)?,
                ')' => self.close()?,
                '|' => {
                    self.copy();
                    Before::Nothing
                }
                '[' => self.class()?,
                '\\' => self.escape(before)?,
                '.' | '^' | '$' => self.copy(),
                _ => self.single(),
            };
        }
        if self.open.is_empty() { Ok(()) } else { Err(invalid("missing closing )", self.cursor.pattern)) }
    }

    /// Something was read that repeats something so often.
    fn atom(&mut self, repeats: u64) -> Before {
        self.last = repeats;
        self.most = self.most.max(repeats);
        Before::Atom
    }

    /// A character that means the same to both.
    fn copy(&mut self) -> Before {
        self.out.extend(self.cursor.next());
        self.atom(1)
    }

    /// A character that stands for itself.
    fn single(&mut self) -> Before {
        if let Some(next) = self.cursor.next() {
            literal(next, &mut self.out);
        }
        self.atom(1)
    }

    fn repetition(&mut self, before: Before, operator: &Operator) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        self.cursor.at += operator.length;
        let bare = self.cursor.since(start).1;
        if let Some((least, most)) = operator.counts
            && (least > MOST_REPEATS || most.is_some_and(|most| most > MOST_REPEATS || most < least))
        {
            return Err(invalid("invalid repeat count", bare));
        }
        self.cursor.eat("?");
        let whole = self.cursor.since(start).1;
        match before {
            Before::Repetition(first) => {
                return Err(invalid("invalid nested repetition operator", self.cursor.since(first).1));
            }
            Before::Nothing => return Err(invalid("missing argument to repetition operator", whole)),
            Before::Atom => {}
        }
        if let Some((least, most)) = operator.counts {
            // Nothing of what is repeated zero times counts.
            let repeats = self.last.saturating_mul(most.unwrap_or(least)).max(1);
            if least.max(most.unwrap_or_default()) >= 2 && repeats > MOST_REPEATS {
                return Err(invalid("invalid repeat count", whole));
            }
            self.atom(repeats);
        }
        self.out.push_str(whole);
        Ok(Before::Repetition(start))
    }

    fn open(&mut self, before: Before) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        let rest = self.cursor.rest();
        if !rest.starts_with("(?") {
            self.cursor.next();
            return self.enter("(", true);
        }
        // Go looks for the name where something stands behind the bracket.
        let sign = ["(?P<", "(?<"].into_iter().find(|sign| rest.len() > sign.len() && rest.starts_with(sign));
        let Some(sign) = sign else { return self.flags(before) };
        let Some(length) = rest.find('>') else { return Err(invalid("invalid named capture", rest)) };
        self.cursor.at += length + 1;
        let capture = self.cursor.since(start).1;
        let name = capture.get(sign.len()..length).unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(invalid("invalid named capture", capture));
        }
        if name == VERSION {
            self.version.get_or_insert(self.groups + 1);
        }
        // The two dialects differ in the names that they allow.
        self.enter("(", true)
    }

    /// A group begins.
    fn enter(&mut self, text: &str, captures: bool) -> Result<Before, InvalidGoPattern> {
        self.out.push_str(text);
        self.groups += usize::from(captures);
        self.open.push(std::mem::replace(&mut self.most, 1));
        if self.open.len() >= DEEPEST {
            return Err(invalid("expression nests too deeply", self.cursor.pattern));
        }
        Ok(Before::Nothing)
    }

    /// `(?i)`, `(?i-s:…)`.
    fn flags(&mut self, before: Before) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        self.cursor.at += 2;
        let (mut on, mut off, mut negated) = (String::new(), String::new(), false);
        let opens = loop {
            match self.cursor.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => if negated { &mut off } else { &mut on }.push(flag),
                Some('-') if !negated => negated = true,
                Some(end @ (')' | ':')) if !negated || !off.is_empty() => break end == ':',
                _ => return Err(invalid("invalid or unsupported Perl syntax", self.cursor.since(start).1)),
            }
        };
        // Repeating a flag, or turning none, is an error to one of the two only.
        let all = |wanted: &dyn Fn(char) -> bool| "imsU".chars().filter(|flag| wanted(*flag)).collect::<String>();
        let on = all(&|flag| on.contains(flag) && !off.contains(flag));
        let off = all(&|flag| off.contains(flag));
        let dash = if off.is_empty() { "" } else { "-" };
        if opens {
            return self.enter(&format!("(?{on}{dash}{off}:"), false);
        }
        if !(on.is_empty() && off.is_empty()) {
            self.held.extend(["(?", on.as_str(), dash, off.as_str(), ")"]);
        }
        Ok(if before == Before::Nothing { Before::Nothing } else { Before::Atom })
    }

    fn close(&mut self) -> Result<Before, InvalidGoPattern> {
        let outside = self.open.pop().ok_or_else(|| invalid("unexpected )", self.cursor.pattern))?;
        let inside = std::mem::replace(&mut self.most, outside);
        self.copy();
        Ok(self.atom(inside))
    }

    fn escape(&mut self, before: Before) -> Result<Before, InvalidGoPattern> {
        let start = self.cursor.at;
        if self.cursor.eat(r"\Q") {
            let quoted = self.cursor.rest();
            let (text, end) = quoted.split_once(r"\E").map_or((quoted, 0), |(text, _)| (text, 2));
            text.chars().for_each(|character| literal(character, &mut self.out));
            self.cursor.at += text.len() + end;
            return Ok(match before {
                Before::Nothing if text.is_empty() => Before::Nothing,
                _ if text.is_empty() => Before::Atom,
                _ => self.atom(1),
            });
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
        Ok(self.atom(1))
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
        let name = match self.cursor.next() {
            Some('{') => {
                let rest = self.cursor.rest();
                let Some(length) = rest.find('}') else {
                    return Err(invalid("invalid character class range", self.cursor.since(start).0));
                };
                self.cursor.at += length + 1;
                rest.get(..length).unwrap_or_default().to_owned()
            }
            Some(letter) => letter.to_string(),
            None => String::new(),
        };
        let negated = name.starts_with('^');
        let name = name.trim_start_matches('^');
        let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b));
        if !is_word || Regex::new(&format!(r"\p{{{name}}}")).is_err() {
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
        let first = self.cursor.next()?;
        if first != '{' {
            let second = self.cursor.next()?;
            return char::from_u32(first.to_digit(16)? * 16 + second.to_digit(16)?);
        }
        let mut value = None;
        loop {
            match self.cursor.next()? {
                '}' => return value.and_then(char::from_u32),
                digit => {
                    let next = value.unwrap_or(0) * 16 + digit.to_digit(16)?;
                    value = Some(next).filter(|value| *value <= u32::from(char::MAX));
                    value?;
                }
            }
        }
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

/// A repetition: how long it is, and for `{n,m}` the least and the most (none: any number).
struct Operator {
    length: usize,
    counts: Option<(u64, Option<u64>)>,
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning; any other brace stands for itself, as does one with leading zeros.
fn counted(text: &str) -> Option<Operator> {
    let (counts, _) = text.strip_prefix('{')?.split_once('}')?;
    let is_number = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
    };
    // What does not fit is beyond every limit.
    let number = |text: &str| is_number(text).then(|| text.parse().unwrap_or(u64::MAX));
    let counts = match counts.split_once(',') {
        None => number(counts).map(|count| (count, Some(count)))?,
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some(Operator { length: text.find('}')? + 1, counts: Some(counts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `testdata/patterns.tsv` says what its rows are.
    const TABLE: &str = include_str!("../../testdata/patterns.tsv");

    fn text(word: &str) -> String {
        if word == "\"\"" {
            return String::new();
        }
        let escapes =
            [("\\n", "\n"), ("\\t", "\t"), ("\\a", "\u{7}"), ("\\f", "\u{c}"), ("\\v", "\u{b}"), ("\\\\", "\\")];
        escapes.iter().fold(word.to_owned(), |word, (escape, text)| word.replace(escape, text))
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let mut rows = 0;
        for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
            let fields: Vec<&str> = line.split('\t').collect();
            let (pattern, parsed) = (fields[0], GoPattern::parse(fields[0]));
            if fields[1] == "!" {
                let error = parsed.err().map(|error| error.to_string());
                assert_eq!(error, Some(format!("error parsing regexp: {}", fields[2])), "{pattern}");
            } else {
                let compiled = parsed.unwrap_or_else(|error| panic!("{pattern}: {error}"));
                for (texts, expected) in [(fields.get(1), true), (fields.get(2), false)] {
                    for word in texts.into_iter().flat_map(|texts| texts.split(' ')) {
                        assert_eq!(compiled.is_match(&text(word)), expected, "{pattern} and {word}");
                    }
                }
            }
            rows += 1;
        }
        assert!(rows > 150, "only {rows} rows");
    }

    #[test]
    fn what_is_large_is_refused_or_works() {
        for pattern in [r"a{1000}", r"(a{10}){100}", r"\pL{500}", &"(".repeat(900), &"[".repeat(10_000)] {
            if let Err(error) = GoPattern::parse(pattern) {
                assert!(error.to_string().len() < 400, "{error}");
            }
        }
        assert!(GoPattern::parse(&format!("{}a{}", "(".repeat(900), ")".repeat(900))).is_ok());
        let error = GoPattern::parse(&format!("{}a{}", "(".repeat(1001), ")".repeat(1001))).err();
        assert!(error.is_some_and(|error| error.to_string().contains("expression nests too deeply")));
    }

    #[test]
    fn a_version_is_a_group_or_the_match() -> Result<(), InvalidGoPattern> {
        let cases = [
            (r"^release-(?P<version>[0-9.]+)-(.*)$", "release-1.2-x", Some("1.2")),
            (r"^(release|rel)-(?P<version>[0-9.]+)$", "rel-1.2", Some("1.2")),
            (r"^release-([0-9.]+)$", "release-1.2", Some("1.2")),
            (r"[0-9.]+", "release-1.2-x", Some("1.2")),
            (r"^(?:a|b)-[0-9]+", "a-7", Some("a-7")),
            (r"^x(?P<version>[0-9]+)?", "x", None),
            (r"^v([0-9]+)", "w1", None),
            (r"(?i)(?<version>RC[0-9]+)", "1-rc2", Some("rc2")),
        ];
        for (pattern, tag, expected) in cases {
            assert_eq!(GoPattern::parse(pattern)?.version(tag), expected, "{pattern}");
        }
        Ok(())
    }
}
