//! `source:path.field."quoted field"` (`vars.ParseReference`).

use std::fmt;

use super::VarError;

/// What a var refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// The var source; `.` stands for the build's own vars.
    pub source: Option<String>,
    /// The var's name.
    pub path: String,
    /// Fields to walk into.
    pub fields: Vec<String>,
    written: String,
}

impl Reference {
    /// Reads what stands between `((` and `))`.
    pub fn parse(written: &str) -> Result<Self, VarError> {
        let invalid = |why| VarError::Invalid { name: written.to_owned(), why };
        let (source, rest) = match split_outside_quotes(written, ':') {
            Some((source, _)) if source.contains('"') => return Err(invalid("source must not be quoted")),
            Some((source, rest)) => (Some(source.to_owned()), rest),
            None => (None, written),
        };
        let mut segments = Vec::new();
        let mut rest = Some(rest);
        while let Some(text) = rest {
            let (segment, after) = match split_outside_quotes(text, '.') {
                Some((segment, after)) => (segment, Some(after)),
                None => (text, None),
            };
            let segment = segment.replace('"', "");
            if segment.is_empty() {
                return Err(invalid("empty field"));
            }
            segments.push(segment);
            rest = after;
        }
        let mut segments = segments.into_iter();
        let path = segments.next().ok_or_else(|| invalid("empty field"))?;
        Ok(Self { source, path, fields: segments.collect(), written: written.to_owned() })
    }

    /// The same name in a source of its own.
    #[must_use]
    pub fn without_source(&self) -> Self {
        Self { source: None, ..self.clone() }
    }

    /// Whether it is one of the build's own vars.
    pub fn is_local(&self) -> bool {
        self.source.as_deref() == Some(".")
    }
}

fn split_outside_quotes(text: &str, separator: char) -> Option<(&str, &str)> {
    let mut quoted = false;
    let at = text.char_indices().find_map(|(index, c)| {
        quoted ^= c == '"';
        (c == separator && !quoted).then_some(index)
    })?;
    Some((text.get(..at)?, text.get(at + separator.len_utf8()..)?))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_a_source_a_path_and_fields() {
        for (written, source, path, fields) in [
            ("a", None, "a", vec![]),
            ("a.b.c", None, "a", vec!["b", "c"]),
            (".:a", Some("."), "a", vec![]),
            (".:\"local.var\"", Some("."), "local.var", vec![]),
            ("src:\"my.secret\".\"field:name\"", Some("src"), "my.secret", vec!["field:name"]),
            ("vault:team/x", Some("vault"), "team/x", vec![]),
            ("\"a.b\"", None, "a.b", vec![]),
        ] {
            let reference = Reference::parse(written).unwrap();
            assert_eq!(reference.source.as_deref(), source, "{written}");
            assert_eq!(reference.path, path, "{written}");
            assert_eq!(reference.fields, fields, "{written}");
        }
    }

    #[test]
    fn broken_references_are_named() {
        for (written, expected) in [
            ("a.", "invalid var 'a.': empty field"),
            (".a", "invalid var '.a': empty field"),
            ("s:", "invalid var 's:': empty field"),
            ("\"s\":a", "invalid var '\"s\":a': source must not be quoted"),
        ] {
            assert_eq!(Reference::parse(written).unwrap_err().to_string(), expected);
        }
    }
}
