//! Heredocs: `<<WORD` in a line, and the lines up to `WORD` below it.
//!
//! A quoted word turns expansion off, `<<-` strips leading tabs. Only `ADD`, `COPY` and `RUN` take them, and `ONBUILD` of
//! these, none of them in JSON form.

use super::expand::{ExpandError, Expander};
use super::instruction::Heredoc;

/// The heredocs that a line opens, in its order; their content is empty.
pub(super) fn opened_by(line: &str) -> Result<Vec<Heredoc>, ExpandError> {
    // A line that does not split (a quote may end in the shell's next line) opens none.
    let words = Expander::splitting().run(line).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|text| word(text).transpose()).collect()
}

/// The heredoc that one word opens, if it is `[N]<<[-]WORD`; its content is empty.
pub(super) fn word(text: &str) -> Result<Option<Heredoc>, ExpandError> {
    let Some((descriptor, rest)) = text.split_once("<<") else { return Ok(None) };
    let (strips_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
    if !descriptor.bytes().all(|b| b.is_ascii_digit()) || rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = Expander::reading_heredoc(false).run(rest)?.words;
    let [name] = plain.as_slice() else { return Ok(None) };
    let raw = Expander::reading_heredoc(true).run(rest)?.words;
    // Quotes that are gone from the plain word were quotes; the others were escaped.
    let quotes =
        |words: &[String]| words.iter().flat_map(|word| word.chars()).filter(|c| matches!(c, '\'' | '"')).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        descriptor: descriptor.parse().unwrap_or(0),
        expands: quotes(&plain) == quotes(&raw),
        strips_tabs,
        content: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, u32, bool, bool)> {
        word(text).unwrap().map(|h| (h.name, h.descriptor, h.expands, h.strips_tabs))
    }

    #[test]
    fn a_word_may_open_a_heredoc() {
        for (text, name, descriptor, expands, strips_tabs) in [
            ("<<EOF", "EOF", 0, true, false),
            ("<<-EOF", "EOF", 0, true, true),
            ("3<<EOF", "EOF", 3, true, false),
            ("<<'EOF'", "EOF", 0, false, false),
            ("<<\"EOF\"", "EOF", 0, false, false),
            ("<<E'O'F", "EOF", 0, false, false),
            ("<<\\'EOF", "'EOF", 0, true, false),
            ("<<'one two'", "one two", 0, false, false),
            ("<<- EOF", "EOF", 0, true, true),
            ("<<$EOF", "$EOF", 0, true, false),
            ("<<a.txt", "a.txt", 0, true, false),
        ] {
            assert_eq!(read(text), Some((name.to_owned(), descriptor, expands, strips_tabs)), "{text}");
        }
        for text in ["<<", "<<-", "<<<EOF", "<EOF", "a<<EOF", "<<a<b", "<<one two", "x", "<<''"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(word("<<'EOF").is_err());
    }

    #[test]
    fn a_line_opens_them_in_order() {
        let names = |line: &str| -> Vec<String> { opened_by(line).unwrap().into_iter().map(|h| h.name).collect() };
        assert_eq!(names("COPY <<a.txt <<'b c' /d/"), ["a.txt", "b c"]);
        assert_eq!(names("RUN cat <<A >x && 3<<B cat"), ["A", "B"]);
        assert!(names("RUN echo '<<EOF'").is_empty());
        assert!(names("RUN echo \"<<EOF").is_empty());
        assert!(names("RUN cat <<<EOF").is_empty());
    }
}
