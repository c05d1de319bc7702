//! Variables and quotes in a word.

use std::collections::BTreeSet;

/// Expands words.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    escape: char,
    env: &'a dyn Fn(&str) -> Option<String>,
    keep_quotes: bool,
}

/// What a text became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// As one word.
    pub word: String,
    /// Split at blanks that are not quoted.
    pub words: Vec<String>,
    /// Variables that were asked for and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and are not set.
    pub unmatched: BTreeSet<String>,
}

/// Text that does not expand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {text:?}: {message}")]
pub struct ExpandError {
    /// The whole text.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

/// Expands `text` to one word.
pub fn expand(text: &str, escape: char, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    Expander::new(escape, env).run(text).map(|expanded| expanded.word)
}

/// Expands `text` to any number of words, split at blanks that are not quoted after variables have been put in.
pub fn expand_words(
    text: &str,
    escape: char,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    Expander::new(escape, env).run(text).map(|expanded| expanded.words)
}

impl<'a> Expander<'a> {
    /// With the Dockerfile's escape character and the variables.
    pub fn new(escape: char, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, env, keep_quotes: false }
    }

    /// Leaves quotes alone, for the content of a heredoc.
    #[must_use]
    pub fn keeping_quotes(self) -> Self {
        Self { keep_quotes: true, ..self }
    }

    /// Expands.
    pub fn run(&self, _text: &str) -> Result<Expanded, ExpandError> {
        let _ = (self.escape, self.env, self.keep_quotes);
        unimplemented!("expansion")
    }
}
