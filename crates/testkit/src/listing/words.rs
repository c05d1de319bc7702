//! A listing's lines and words.

/// A line that is not empty: its number, from 1, and its words.
pub(super) struct Line {
    pub number: usize,
    pub words: Vec<Vec<u8>>,
}

/// Splits a listing.
pub(super) fn lines(listing: &str) -> Vec<Line> {
    let numbered = listing.lines().enumerate().map(|(index, text)| (index + 1, text));
    let lines = numbered.map(|(number, text)| Line { number, words: words(number, text) });
    lines.filter(|line| !line.words.is_empty()).collect()
}

impl Line {
    /// The first word.
    pub fn verb(&self) -> String {
        self.text(0)
    }

    /// A word as text; it must be there.
    pub fn text(&self, index: usize) -> String {
        String::from_utf8(self.bytes(index).to_vec()).unwrap_or_else(|_| self.wrong("expected UTF-8"))
    }

    /// A word; it must be there.
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.words.get(index).unwrap_or_else(|| self.wrong(&format!("expected {index} words behind the first")))
    }

    /// All words but the first.
    pub fn rest(&self) -> Vec<String> {
        (1..self.words.len()).map(|index| self.text(index)).collect()
    }

    /// All words but the first as `name=value`.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let split = |word: &String| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => self.wrong("expected name=value"),
        };
        self.rest().iter().map(split).collect()
    }

    /// Ends the test.
    pub fn wrong(&self, what: &str) -> ! {
        let words: Vec<_> = self.words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        panic!("listing, line {}: {what}: {}", self.number, words.join(" "))
    }
}

fn words(number: usize, text: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_none() => break,
            '"' => quoted(number, &mut characters, word.get_or_insert_default()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => push(word.get_or_insert_default(), c),
        }
    }
    words.extend(word);
    words
}

/// The rest of a quoted part, with its escapes undone.
fn quoted(number: usize, characters: &mut std::str::Chars<'_>, word: &mut Vec<u8>) {
    loop {
        match characters.next() {
            Some('"') => return,
            Some('\\') => match characters.next() {
                Some('n') => word.push(b'\n'),
                Some('t') => word.push(b'\t'),
                Some('0') => word.push(0),
                Some('x') => word.push(hex(number, characters)),
                Some(c @ ('"' | '\\')) => push(word, c),
                other => panic!("listing, line {number}: unknown escape {other:?}"),
            },
            Some(c) => push(word, c),
            None => panic!("listing, line {number}: a quote is not closed"),
        }
    }
}

fn hex(number: usize, characters: &mut std::str::Chars<'_>) -> u8 {
    let digits: String = characters.by_ref().take(2).collect();
    u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("listing, line {number}: \\x{digits} is no byte"))
}

fn push(word: &mut Vec<u8>, character: char) {
    word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}
