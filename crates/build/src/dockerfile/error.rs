//! What is wrong with a Dockerfile, and where.

/// A Dockerfile that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}:{line}: {message}{}", hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct ParseError {
    /// The Dockerfile's name.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// What the author may have meant.
    pub hint: Option<String>,
    /// The text of that line.
    pub snippet: String,
}

impl ParseError {
    /// For a terminal: the message, the line with a caret below the place, and the hint.
    pub fn render(&self) -> String {
        let Self { name, line, column, message, snippet, hint } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // A tab stays a tab, or the caret would be off.
        let indent: String =
            snippet.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let mut text = format!(
            "{name}:{line}:{column}: {message}\n{margin} |\n{number} | {}\n{margin} | {indent}^\n",
            snippet.trim_end()
        );
        if let Some(hint) = hint {
            text += &format!("{margin} = hint: {hint}\n");
        }
        text
    }
}
