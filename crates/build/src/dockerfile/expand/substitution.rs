//! What stands in `${…}`: a name, and what becomes of its value.

use super::Lexer;
use crate::dockerfile::pattern::{Pattern, Steps};

impl Lexer<'_> {
    pub(super) fn keeps_unset(&self) -> bool {
        self.expander.rules.keep_unset
    }

    /// What follows `${`, over the closing brace.
    pub(super) fn braced(&mut self) -> Result<String, String> {
        let name = self.name();
        let Some(operator) = self.next() else { return Err("syntax error: missing '}'".to_owned()) };
        match operator {
            '}' => {
                let value = self.get(&name);
                Ok(value.unwrap_or_else(|| if self.keeps_unset() { format!("${{{name}}}") } else { String::new() }))
            }
            '/' => self.replacement(&name),
            '-' | '+' | '?' | '#' | '%' => self.modified(&name, operator, false),
            ':' => match self.next() {
                Some(operator) => self.modified(&name, operator, true),
                None => Err("syntax error: missing '}'".to_owned()),
            },
            c => Err(format!("unsupported modifier ({c}) in substitution")),
        }
    }

    fn modified(&mut self, name: &str, operator: char, colon: bool) -> Result<String, String> {
        let trims = matches!(operator, '#' | '%');
        if colon && trims {
            return Err(format!("unsupported modifier (:{operator}) in substitution"));
        }
        let word = self.part('}', trims, "syntax error: missing '}'")?;
        let colons = if colon { ":" } else { "" };
        let value = self.get(name);
        if value.is_none() && self.keeps_unset() {
            return Ok(format!("${{{name}{colons}{operator}{word}}}"));
        }
        let usable = value.as_deref().filter(|value| !(colon && value.is_empty()));
        match operator {
            '-' => Ok(usable.map_or(word, str::to_owned)),
            '+' => Ok(usable.map_or_else(String::new, |_| word.clone())),
            '?' => match usable {
                Some(value) => Ok(value.to_owned()),
                None if !word.is_empty() => Err(format!("{name}: {word}")),
                None if value.is_none() => Err(format!("{name}: is not allowed to be unset")),
                None => Err(format!("{name}: is not allowed to be empty")),
            },
            '#' | '%' => trimmed(&word, operator, &value.unwrap_or_default(), &mut self.steps),
            _ => Err(format!("unsupported modifier ({colons}{operator}) in substitution")),
        }
    }

    fn replacement(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', true, "syntax error: missing '}'")?;
        let Some(value) = self.get(name) else {
            return Ok(if self.keeps_unset() { format!("${{{name}/{pattern}/{replacement}}}") } else { String::new() });
        };
        let pattern = read_pattern(&pattern, true)?;
        let steps = &mut self.steps;
        if all {
            pattern.replace_all(&value, &replacement, steps)
        } else {
            pattern.replace_first(&value, &replacement, steps)
        }
    }

    /// A name: letters, digits and `_`; or digits only; or one character that the shell keeps for itself.
    pub(super) fn name(&mut self) -> String {
        let digits = self.peek().is_some_and(|c| c.is_ascii_digit());
        if !digits && let Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) = self.peek() {
            self.next();
            return c.to_string();
        }
        let mut name = String::new();
        while let Some(c) =
            self.peek().filter(|c| if digits { c.is_ascii_digit() } else { c.is_alphanumeric() || *c == '_' })
        {
            self.next();
            name.push(c);
        }
        name
    }
}

fn trimmed(word: &str, operator: char, value: &str, steps: &mut Steps) -> Result<String, String> {
    let (pattern, longest) = word.strip_prefix(operator).map_or((word, false), |pattern| (pattern, true));
    let pattern = read_pattern(pattern, longest)?;
    if operator == '#' { pattern.trim_start(value, steps) } else { pattern.trim_end(value, steps) }
}

fn read_pattern(text: &str, greedy: bool) -> Result<Pattern, String> {
    Pattern::parse(text, greedy).map_err(|error| format!("invalid pattern ({text}) in substitution: {error}"))
}
