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
        let note = self.hint.as_ref().map(|hint| format!("hint: {hint}"));
        let place = format!("{}:{}:{}", self.name, self.line, self.column);
        pointed_at(&place, &self.message, (self.line, self.column), &self.snippet, note.as_deref())
    }
}

/// A message, the line with a caret below the column, and a note.
pub(crate) fn pointed_at(
    place: &str,
    message: &str,
    (line, column): (usize, usize),
    snippet: &str,
    note: Option<&str>,
) -> String {
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    // A tab stays a tab, or the caret would be off.
    let indent: String =
        snippet.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let note = note.map(|note| format!("{margin} = {note}\n")).unwrap_or_default();
    let snippet = snippet.trim_end();
    format!("{place}: {message}\n{margin} |\n{number} | {snippet}\n{margin} | {indent}^\n{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(snippet: &str, column: usize, hint: Option<&str>) -> ParseError {
        let hint = hint.map(str::to_owned);
        let message = "unknown flag: --form".to_owned();
        ParseError { name: "Dockerfile".to_owned(), line: 12, column, message, hint, snippet: snippet.to_owned() }
    }

    #[test]
    fn an_error_says_where_and_what_may_have_been_meant() {
        let error = error("COPY --form=a b c", 6, Some("did you mean --from?"));
        assert_eq!(error.to_string(), "Dockerfile:12: unknown flag: --form (did you mean --from?)");
        let expected = "\
            Dockerfile:12:6: unknown flag: --form\n\
            \x20  |\n\
            12 | COPY --form=a b c\n\
            \x20  |      ^\n\
            \x20  = hint: did you mean --from?\n";
        assert_eq!(error.render(), expected);
    }

    #[test]
    fn the_caret_stands_below_its_character() {
        assert!(error("\tCOPY é --x", 9, None).render().ends_with("   | \t       ^\n"));
        assert!(error("", 1, None).render().ends_with("12 | \n   | ^\n"));
    }
}
