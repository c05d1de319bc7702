//! Lines: directives, comments, continuations, heredoc bodies.
//!
//! A logical line is what continuation lines join to. It remembers where its pieces stood, so that an error in the middle
//! of a long `RUN` points at the right line.

use super::directive::{self, Checks, Refused};
use super::error::ParseError;
use super::instruction::{Directives, Heredoc, Notes};
use super::span::{Span, Spanned};

/// BuildKit's limit for a line, without its end.
const LONGEST_LINE: usize = 65535;

/// The bytes of a Dockerfile, line by line.
pub(super) struct Source<'a> {
    name: &'a str,
    /// Each with its end.
    lines: Vec<&'a [u8]>,
}

/// A line as instructions see it: continuation lines are joined, comments are gone.
pub(super) struct Logical {
    /// Leading blanks are gone.
    pub(super) text: String,
    /// For each piece: where it begins in `text`, its line and the column there.
    pieces: Vec<(usize, usize, usize)>,
    /// The last line.
    pub(super) end_line: usize,
}

/// Reads logical lines.
pub(super) struct Reader<'a> {
    source: &'a Source<'a>,
    /// How many lines have been taken.
    taken: usize,
    directives: Directives,
    /// Whether a directive may still come.
    at_top: bool,
    /// Whether the file began with `#!`: such a file has no `escape`.
    after_shebang: bool,
    /// The comments right above the line that comes next.
    comments: Vec<String>,
    notes: Notes,
}

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8], name: &'a str) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Self { name, lines: bytes.split_inclusive(|b| *b == b'\n').collect() }
    }

    pub(super) fn error(&self, line: usize, column: usize, message: impl Into<String>) -> ParseError {
        let snippet = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        ParseError {
            name: self.name.to_owned(),
            line,
            column,
            message: message.into(),
            hint: None,
            snippet: String::from_utf8_lossy(trim_newline(snippet)).into_owned(),
        }
    }

    pub(super) fn refuse(&self, line: usize, column: usize, refused: Refused) -> ParseError {
        ParseError { hint: Some(refused.hint.to_owned()), ..self.error(line, column, refused.what) }
    }

    /// The frontend that a file of another language asks for: `// syntax=…` or a JSON object with that key, also below a
    /// line `#!…`. With the line where it does.
    pub(super) fn foreign_syntax(&self) -> Option<(usize, String)> {
        let has_shebang = self.lines.first().is_some_and(|line| line.starts_with(b"#!"));
        let lines = self.lines.iter().enumerate().skip(usize::from(has_shebang));
        for (at, line) in lines.clone() {
            let text = std::str::from_utf8(trim_newline(line)).ok();
            let Some((key, value)) = text.and_then(|t| key_value(t.strip_prefix("//")?.trim_start())) else { break };
            match key.to_ascii_lowercase().as_str() {
                "syntax" => return Some((at + 1, value.to_owned())),
                "escape" | "check" => {}
                _ => break,
            }
        }
        let bytes: Vec<u8> = lines.flat_map(|(_, line)| line.iter().copied()).collect();
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes).ok()?;
        let line = self.lines.iter().position(|line| line.windows(8).any(|part| part == b"\"syntax\"")).unwrap_or(0);
        object.get("syntax")?.as_str().map(|syntax| (line + 1, syntax.to_owned()))
    }

    /// An error about the whole file.
    pub(super) fn error_at_end(&self, message: &str) -> ParseError {
        self.error(self.lines.len().max(1), 1, message)
    }
}

impl Logical {
    /// The line and column of a byte of `text`.
    fn position(&self, at: usize) -> (usize, usize) {
        let piece = self.pieces.iter().rev().find(|(start, _, _)| *start <= at).or(self.pieces.first());
        let (start, line, column) = piece.copied().unwrap_or((0, self.end_line, 1));
        let before = self.text.get(start..at).unwrap_or_default();
        (line, column + before.chars().count())
    }

    /// The place of a part of `text`.
    pub(super) fn span_of(&self, at: usize, end: usize) -> Span {
        let (line, column) = self.position(at);
        Span { line, column, end_line: self.position(end.saturating_sub(1)).0 }
    }

    /// The place of what begins at a byte of `text` and reaches to the end of the line and its heredocs.
    pub(super) fn span(&self, at: usize) -> Span {
        let (line, column) = self.position(at);
        Span { line, column, end_line: self.end_line }
    }

    pub(super) fn error(&self, source: &Source<'_>, at: usize, message: impl Into<String>) -> ParseError {
        let (line, column) = self.position(at);
        source.error(line, column, message)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        let directives = Directives { escape: '\\', syntax: None, check: None };
        let (comments, notes) = (Vec::new(), Notes::default());
        Self { source, taken: 0, directives, at_top: true, after_shebang: false, comments, notes }
    }

    pub(super) fn escape(&self) -> char {
        self.directives.escape
    }

    /// What was read besides instructions.
    pub(super) fn finish(self) -> (Directives, Notes) {
        let text = |line: &&[u8]| String::from_utf8_lossy(trim_newline(line)).into_owned();
        (self.directives, Notes { lines: self.source.lines.iter().map(text).collect(), ..self.notes })
    }

    /// The next logical line that holds anything.
    pub(super) fn next(&mut self) -> Result<Option<Logical>, ParseError> {
        while let Some(bytes) = self.take()? {
            let Some(line) = self.text_of(bytes)? else { continue };
            let token = line.trim_start();
            let column = 1 + line.chars().count() - token.chars().count();
            self.look_for_directive(token, column)?;
            if let Some(comment) = token.strip_prefix('#') {
                self.note_comment(comment.trim());
                continue;
            }
            let (text, mut ended) = self.cut_continuation(token);
            if ended && text.is_empty() {
                self.comments.clear();
                continue;
            }
            let start = self.taken;
            self.notes.comments.insert(start, std::mem::take(&mut self.comments));
            let mut logical = Logical { text: text.to_owned(), pieces: vec![(0, start, column)], end_line: start };
            let mut has_empty_line = false;
            while !ended && let Some(bytes) = self.take()? {
                logical.end_line = self.taken;
                let Some(line) = self.text_of(bytes)? else { continue };
                let token = line.trim_start();
                has_empty_line |= token.is_empty();
                if token.is_empty() || token.starts_with('#') {
                    continue;
                }
                let (text, ends) = self.cut_continuation(line);
                logical.pieces.push((logical.text.len(), self.taken, 1));
                logical.text += text;
                ended = ends;
            }
            if has_empty_line {
                self.notes.empty_continuations.push((start, self.taken));
            }
            return Ok(Some(logical));
        }
        Ok(None)
    }

    /// Reads the body of a heredoc that `line` opens; the line then reaches to its end.
    pub(super) fn read_heredoc(&mut self, heredoc: &mut Heredoc, line: &mut Logical) -> Result<(), ParseError> {
        while let Some(bytes) = self.take()? {
            line.end_line = self.taken;
            let text = std::str::from_utf8(bytes).map_err(|_| self.not_utf8())?;
            let end = text.trim_end_matches(['\r', '\n']);
            let end = if heredoc.strips_tabs { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                return Ok(());
            }
            heredoc.content += text;
        }
        let mut error = line.error(self.source, 0, "unterminated heredoc");
        error.hint = Some(format!("a line that says {} must end it", heredoc.name));
        Err(error)
    }

    /// Remembers a comment, unless it is a directive. An empty one parts those before it from what follows.
    fn note_comment(&mut self, comment: &str) {
        match comment {
            "" => self.comments.clear(),
            _ if self.at_top => {}
            comment => self.comments.push(comment.to_owned()),
        }
    }

    fn take(&mut self) -> Result<Option<&'a [u8]>, ParseError> {
        let Some(line) = self.source.lines.get(self.taken).copied() else { return Ok(None) };
        self.taken += 1;
        if line.strip_suffix(b"\n").unwrap_or(line).len() > LONGEST_LINE {
            let message = format!("dockerfile line greater than max allowed size of {LONGEST_LINE}");
            let mut error = self.source.error(self.taken, 1, message);
            error.snippet = error.snippet.chars().take(80).collect();
            return Err(error);
        }
        Ok(Some(line))
    }

    /// The text of a line without its end. A comment may be in any encoding, and then is skipped.
    fn text_of(&self, line: &'a [u8]) -> Result<Option<&'a str>, ParseError> {
        let line = trim_newline(line);
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some(text)),
            Err(_) if line.trim_ascii_start().starts_with(b"#") => Ok(None),
            Err(_) => Err(self.not_utf8()),
        }
    }

    fn not_utf8(&self) -> ParseError {
        let mut error = self.source.error(self.taken, 1, "the line is not UTF-8");
        error.hint = Some("save the Dockerfile in the encoding UTF-8".to_owned());
        error
    }

    /// The line without a continuation character at its end, and whether the logical line ends here. An escape character
    /// behind another one does not continue.
    fn cut_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, false),
            _ => (line, true),
        }
    }

    fn look_for_directive(&mut self, token: &str, column: usize) -> Result<(), ParseError> {
        if !self.at_top {
            return Ok(());
        }
        if self.taken == 1 && token.starts_with("#!") && column == 1 {
            self.after_shebang = true;
            return Ok(());
        }
        let Some((key, value)) = commented(token) else {
            self.at_top = false;
            return Ok(());
        };
        let key = key.to_ascii_lowercase();
        let span = Span { line: self.taken, column, end_line: self.taken };
        let spanned = || Spanned { value: value.to_owned(), span, text: token.trim_end().to_owned() };
        // What is asked for is judged at once: a file in another language would not be read any further.
        let judged = |judgement: Result<(), Refused>| {
            judgement.map_err(|refused| self.source.refuse(self.taken, column, refused))
        };
        let repeated = match key.as_str() {
            "syntax" => {
                judged(directive::syntax(value))?;
                self.directives.syntax.replace(spanned()).is_some()
            }
            "check" => {
                judged(Checks::parse(value).map(drop))?;
                self.directives.check.replace(spanned()).is_some()
            }
            "escape" if self.after_shebang => {
                self.at_top = false;
                false
            }
            "escape" => return self.set_escape(value, column),
            _ => {
                self.at_top = false;
                false
            }
        };
        if repeated { Err(self.repeated(&key, column)) } else { Ok(()) }
    }

    fn set_escape(&mut self, value: &str, column: usize) -> Result<(), ParseError> {
        let earlier = self.source.lines.iter().take(self.taken - 1);
        let repeated = earlier
            .filter_map(|line| std::str::from_utf8(line).ok())
            .filter_map(|line| commented(line.trim()))
            .any(|(key, _)| key.eq_ignore_ascii_case("escape"));
        if repeated {
            return Err(self.repeated("escape", column));
        }
        self.directives.escape = match value {
            "\\" => '\\',
            "`" => '`',
            _ => {
                let message = format!("invalid escape token '{value}' does not match ` or \\");
                return Err(self.source.error(self.taken, column, message));
            }
        };
        Ok(())
    }

    fn repeated(&self, key: &str, column: usize) -> ParseError {
        self.source.error(self.taken, column, format!("only one {key} parser directive can be used"))
    }
}

fn trim_newline(line: &[u8]) -> &[u8] {
    let length = line.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
    line.get(..length).unwrap_or(line)
}

/// `# key = value`
fn commented(line: &str) -> Option<(&str, &str)> {
    key_value(line.strip_prefix('#')?.trim_start())
}

/// `key = value`
pub(crate) fn key_value(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let (key, value) = (key.trim_end(), value.trim());
    let sound = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (sound && !value.is_empty()).then_some((key, value))
}
