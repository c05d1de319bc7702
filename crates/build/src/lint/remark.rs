//! What a rule says, before it is known whether anybody wants to hear it.

use super::Rule;
use crate::dockerfile::Span;

/// What a rule says about an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Which rule.
    pub rule: Rule,
    /// The instruction.
    pub span: Span,
    /// The text in the instruction's first line that a caret should point at.
    pub word: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Remark {
    /// A remark about the whole instruction.
    pub fn new(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self { rule, span, word: None, message: message.into() }
    }

    /// The same about a word.
    #[must_use]
    pub fn about(self, word: impl Into<String>) -> Self {
        Self { word: Some(word.into()), ..self }
    }
}
