//! A logical line taken apart: the keyword, the flags, the rest. What the rest means is the instruction's affair
//! ([`mod@super::parse`]).

use super::error::ParseError;
use super::flags::{self, Flags, Takes, Written};
use super::instruction::{Command, Document, Heredoc};
use super::lex::{Logical, Source};
use super::span::Spanned;
use super::words::{self, Json};
use skycap_image::suggest;

use super::heredoc;

/// A logical line taken apart.
pub(super) struct Statement<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) line: &'a Logical,
    /// The Dockerfile's escape character.
    pub(super) escape: char,
    /// Where the keyword begins in the line.
    pub(super) at: usize,
    /// As it was written.
    pub(super) keyword: &'a str,
    flags: Vec<Written>,
    /// Where the arguments begin in the line.
    pub(super) rest_at: usize,
    /// The arguments, outer blanks gone.
    pub(super) rest: &'a str,
    /// The bodies that follow the line.
    pub(super) heredocs: &'a [Heredoc],
}

/// The instructions of the language.
pub(super) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl<'a> Statement<'a> {
    /// Takes `line` apart from byte `at` on.
    pub(super) fn new(
        source: &'a Source<'a>,
        line: &'a Logical,
        escape: char,
        at: usize,
        heredocs: &'a [Heredoc],
    ) -> Self {
        let text = line.text.get(at..).unwrap_or_default();
        let at = at + text.len() - text.trim_start().len();
        let (keyword, arguments) = words::first(text.trim());
        let (flags, rest_at) = flags::split(line, at + arguments);
        let rest = line.text.get(rest_at..).unwrap_or_default().trim_end();
        Self { source, line, escape, at, keyword, flags, rest_at, rest, heredocs }
    }

    /// The keyword in upper case, if the language has it.
    pub(super) fn name(&self) -> Option<&'static str> {
        KEYWORDS.into_iter().find(|name| self.keyword.eq_ignore_ascii_case(name))
    }

    /// The statement behind `ONBUILD`.
    pub(super) fn trigger(&self) -> Self {
        Self::new(self.source, self.line, self.escape, self.rest_at, self.heredocs)
    }

    /// The heredocs that this line opens; their content is to be read.
    pub(super) fn opens(&self) -> Result<Vec<Heredoc>, ParseError> {
        let inner = if self.name() == Some("ONBUILD") { &self.trigger() } else { self };
        let takes_heredocs = matches!(inner.name(), Some("ADD" | "COPY" | "RUN"));
        if !takes_heredocs || matches!(words::json(inner.rest), Json::Strings(_)) {
            return Ok(Vec::new());
        }
        heredoc::opened_by(&self.line.text).map_err(|error| self.error(error.to_string()))
    }

    pub(super) fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Flags, ParseError> {
        flags::check(&self.flags, known, self.source, self.line)
    }

    /// For an instruction without flags.
    pub(super) fn no_flags(&self) -> Result<(), ParseError> {
        self.flags(&[]).map(drop)
    }

    /// The rest, which must not be empty.
    pub(super) fn one_argument(&self) -> Result<String, ParseError> {
        match self.rest {
            "" => Err(self.error(format!("{} requires exactly one argument", self.shown_name()))),
            rest => Ok(rest.to_owned()),
        }
    }

    pub(super) fn at_least_one(&self) -> ParseError {
        self.error(format!("{} requires at least one argument", self.shown_name()))
    }

    /// A command line: JSON, or a string for the shell.
    pub(super) fn command(&self, text: &str) -> Result<Command, ParseError> {
        match self.json(text)? {
            Some(words) => Ok(Command::Exec(words)),
            None => Ok(Command::Shell(text.to_owned())),
        }
    }

    /// The arguments as words: JSON, or between blanks.
    pub(super) fn list(&self) -> Result<Vec<String>, ParseError> {
        Ok(self.json(self.rest)?.unwrap_or_else(|| words::blank_separated(self.rest)))
    }

    pub(super) fn json(&self, text: &str) -> Result<Option<Vec<String>>, ParseError> {
        match words::json(text) {
            Json::Strings(words) => Ok(Some(words)),
            Json::Not => Ok(None),
            Json::OtherArray => {
                let message = "when using JSON array syntax, arrays must be comprised of strings only";
                Err(self.error_at(self.rest_at, message))
            }
        }
    }

    /// The sources of `COPY` and `ADD`: paths and documents; and the destination.
    pub(super) fn sources(&self) -> Result<(Vec<String>, Vec<Document>, String), ParseError> {
        let name = self.shown_name();
        let mut words = self.list()?;
        let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
            let what =
                "requires at least two arguments, but only one was provided. Destination could not be determined";
            self.error(format!("{name} {what}"))
        })?;
        // A word that is no sound heredoc is a path.
        let opened = |word: &str| heredoc::word(word).ok().flatten();
        if opened(&destination).is_some() {
            return Err(self.error_at(self.rest_at, format!("{name} cannot accept a heredoc as a destination")));
        }
        let (mut paths, mut documents) = (Vec::new(), Vec::new());
        for word in words {
            match opened(&word) {
                Some(opened) => documents.push(self.document(&opened)),
                None => paths.push(word),
            }
        }
        Ok((paths, documents, destination))
    }

    /// Of two heredocs with one name the last one counts, for both.
    fn document(&self, opened: &Heredoc) -> Document {
        let body = self.heredocs.iter().rev().find(|heredoc| heredoc.name == opened.name);
        let content = body.map(|body| Heredoc { content: body.content.clone(), ..opened.clone() }.text());
        Document { name: opened.name.clone(), content: content.unwrap_or_default(), expands: opened.expands }
    }

    pub(super) fn spanned<T>(&self, value: T) -> Spanned<T> {
        let text = self.line.text.get(self.at..).unwrap_or_default().trim_end().to_owned();
        Spanned { value, span: self.line.span(self.at), text }
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.at, message)
    }

    pub(super) fn error_at(&self, at: usize, message: impl Into<String>) -> ParseError {
        self.line.error(self.source, at, message)
    }

    /// An error about a flag.
    pub(super) fn error_in<T>(&self, flag: &Spanned<T>, message: impl Into<String>) -> ParseError {
        self.source.error(flag.span.line, flag.span.column, message)
    }

    pub(super) fn unknown(&self) -> ParseError {
        let mut error = self.error(format!("unknown instruction: {}", self.keyword));
        let upper = self.keyword.to_uppercase();
        let near = suggest::nearest(&upper, KEYWORDS);
        let near = near.map(|name| if self.keyword == upper { name.to_owned() } else { name.to_lowercase() });
        error.hint = near.map(|name| format!("did you mean {name}?"));
        error
    }

    /// The keyword in upper case.
    pub(super) fn shown_name(&self) -> &'static str {
        self.name().unwrap_or_default()
    }
}
