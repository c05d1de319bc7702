//! How the rest of an instruction falls into words. Quotes and dollars stay: they are read when the words expand.

/// What separates words where quotes mean nothing, and an instruction from its arguments.
const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// A JSON array, or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array that holds something else, which is an error.
    OtherArray,
    /// Anything else, which is read in the other form.
    Not,
}

/// Reads a JSON array.
pub(super) fn json(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::Not;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Json::Not };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    strings.collect::<Option<Vec<_>>>().map_or(Json::OtherArray, Json::Strings)
}

/// The first word, and where the rest begins.
pub(super) fn first(text: &str) -> (&str, usize) {
    let end = text.find(BLANKS).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, text.len() - rest.trim_start_matches(BLANKS).len())
}

/// Words between blanks; quotes mean nothing.
pub(super) fn blank_separated(text: &str) -> Vec<String> {
    text.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Words between blanks that are neither quoted nor escaped, each with where it begins. Quotes and escape characters stay
/// in the words.
pub(super) fn quoted(text: &str, escape: char) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut start = 0;
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if word.is_empty() && quote.is_none() {
            start = at;
        }
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push((start, std::mem::take(&mut word)));
                }
                continue;
            }
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes; an escape character at the end is dropped.
        if c == escape && quote != Some('\'') {
            let Some((_, escaped)) = chars.next() else { break };
            word.push(c);
            word.push(escaped);
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push((start, word));
    }
    words
}

/// Splits the old form `KEY value` of `ENV` and `LABEL`.
pub(super) fn legacy_pair(text: &str) -> Option<(String, String)> {
    let (key, rest) = first(text);
    (rest > key.len()).then(|| (key.to_owned(), text.get(rest..).unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        quoted(text, '\\').into_iter().map(|(_, word)| word).collect()
    }

    #[test]
    fn quotes_and_escapes_keep_a_word_together() {
        for (text, expected) in [
            ("a=b c=d", vec!["a=b", "c=d"]),
            ("a=\"b c\" d='e f'", vec!["a=\"b c\"", "d='e f'"]),
            ("a=b\\ c", vec!["a=b\\ c"]),
            ("a=\"b\\\" c\"", vec!["a=\"b\\\" c\""]),
            ("a='b\\' c", vec!["a='b\\'", "c"]),
            ("a=\"\"", vec!["a=\"\""]),
            ("a='b c", vec!["a='b c"]),
            ("a=b\\", vec!["a=b"]),
            ("한=국어 x", vec!["한=국어", "x"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        assert_eq!(quoted("a` b", '`'), [(0, "a` b".to_owned())]);
        assert_eq!(quoted("  a  'b c'", '\\'), [(2, "a".to_owned()), (5, "'b c'".to_owned())]);
    }

    #[test]
    fn only_a_whole_array_is_json() {
        let strings = |words: &[&str]| Json::Strings(words.iter().map(|word| (*word).to_owned()).collect());
        for (text, expected) in [
            ("[\"a\", \"b c\"]", strings(&["a", "b c"])),
            (" [ ] ", strings(&[])),
            ("[\"\\u00e9\"]", strings(&["é"])),
            ("[\"a\"] b", Json::Not),
            ("['a']", Json::Not),
            ("[\"a\",]", Json::Not),
            ("[1]", Json::OtherArray),
            ("[\"a\", null]", Json::OtherArray),
            ("[[\"a\"]]", Json::OtherArray),
            ("{}", Json::Not),
            ("[ -f x ]", Json::Not),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }
}
