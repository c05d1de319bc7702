//! Collects what the rules say, and knows who wants to hear it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::{Finding, Remark, Rule, file, stage};
use crate::dockerfile::directive::Checks;
use crate::dockerfile::{Dockerfile, Span, Stage, key_value};
use crate::error::BuildError;

/// Collects the findings of one Dockerfile. One that is made several times, for several platforms, is kept once.
pub(crate) struct Linter<'a> {
    dockerfile: &'a Dockerfile,
    checks: Checks,
    /// The instruction that is being planned.
    at: Cell<Span>,
    found: RefCell<BTreeSet<Finding>>,
}

impl<'a> Linter<'a> {
    /// A linter with the file's own options, or with those that the build argument `BUILDKIT_DOCKERFILE_CHECK` says in
    /// their place. Both parse: what does not is an error before this.
    pub fn new(dockerfile: &'a Dockerfile, argument: Option<&str>) -> Self {
        let own = dockerfile.directives.check.as_ref().map(|check| check.value.as_str());
        let checks = argument.or(own).and_then(|value| Checks::parse(value).ok()).unwrap_or_default();
        let at = Cell::new(Span { line: 1, column: 1, end_line: 1 });
        let linter = Self { dockerfile, checks, at, found: RefCell::default() };
        for rule in &file::RULES {
            linter.report_all(rule(dockerfile));
        }
        linter
    }

    /// Looks at a stage that counts.
    pub fn stage(&self, stage: &Stage) {
        for rule in &stage::RULES {
            self.report_all(rule(stage));
        }
    }

    /// Says which instruction is being planned; returns the one before.
    pub fn enter(&self, span: Span) -> Span {
        self.at.replace(span)
    }

    /// Reports something about the instruction that is being planned.
    pub fn here(&self, rule: Rule, message: impl Into<String>, word: &str) {
        self.report(&Remark::new(rule, self.at.get(), message).about(word));
    }

    /// Reports several things.
    pub fn report_all(&self, remarks: impl IntoIterator<Item = Remark>) {
        remarks.into_iter().for_each(|remark| self.report(&remark));
    }

    fn report(&self, remark: &Remark) {
        if !self.is_wanted(remark.rule, remark.span) {
            return;
        }
        let Remark { rule, span, ref word, ref message } = *remark;
        let snippet = self.dockerfile.notes.lines.get(span.line.saturating_sub(1)).cloned().unwrap_or_default();
        let column = word.as_deref().and_then(|word| column_of(&snippet, word)).unwrap_or(span.column);
        let (message, file) = (message.clone(), self.dockerfile.name.clone());
        let (line, end_line) = (span.line, span.end_line);
        self.found.borrow_mut().insert(Finding { line, column, end_line, rule, message, file, snippet });
    }

    /// Whether neither the file nor a comment above the instruction silences a rule.
    fn is_wanted(&self, rule: Rule, span: Span) -> bool {
        let mut comments = self.dockerfile.notes.comments.get(&span.line).into_iter().flatten();
        let checks = comments.find_map(|comment| option(comment));
        let checks = self.checks.clone().with(checks.unwrap_or_default());
        if rule.is_experimental() { checks.experimental.hold(rule.name()) } else { !checks.skip.hold(rule.name()) }
    }

    /// What was found, by line.
    pub fn findings(&self) -> Vec<Finding> {
        self.found.borrow().iter().cloned().collect()
    }

    /// An error if there are findings and the file wants them to be one.
    pub fn verdict(&self) -> Result<(), BuildError> {
        let found = self.found.borrow();
        if !self.checks.error || found.is_empty() {
            return Ok(());
        }
        let rules: BTreeSet<&str> = found.iter().map(|finding| finding.rule.name()).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        Err(BuildError::Lint { rules: rules.join(", ") })
    }
}

/// What a comment `check=…` above an instruction says. One that does not parse is a comment like any other.
fn option(comment: &str) -> Option<Checks> {
    let (key, value) = key_value(comment)?;
    let value = value.split(' ').next().unwrap_or_default();
    Checks::parse(value).ok().filter(|_| key.eq_ignore_ascii_case("check"))
}

/// The column of the last place where a word stands, by itself if it does so anywhere. A variable may be in braces.
fn column_of(line: &str, word: &str) -> Option<usize> {
    let braced = word.strip_prefix('$').map(|name| format!("${{{name}"));
    let at = last(line, word).or_else(|| last(line, &braced?))?;
    // A word that is looked for between blanks begins behind the first.
    Some(1 + line.get(..at)?.chars().count() + usize::from(word.starts_with(' ')))
}

fn last(line: &str, word: &str) -> Option<usize> {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '/' | '.' | '-');
    let stands_alone = |at: &usize| {
        let (before, after) = (line.get(..*at).unwrap_or_default(), line.get(at + word.len()..).unwrap_or_default());
        !before.ends_with(joins) && !after.starts_with(joins)
    };
    let mut places = line.rmatch_indices(word).map(|(at, _)| at).filter(|_| !word.is_empty());
    places.clone().find(stands_alone).or_else(|| places.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_points_at_the_word_itself() {
        for (line, word, column) in [
            ("EXPOSE 8080:80 [::1]:8080:80/udp", "8080:80", Some(8)),
            ("COPY $foo $foobar /", "$foo", Some(6)),
            ("USER ${foo:-1}", "$foo", Some(6)),
            ("FROM as as as", " as ", Some(9)),
            ("ÜSER x", "x", Some(6)),
            ("USER x", "y", None),
            ("USER x", "", None),
        ] {
            assert_eq!(column_of(line, word), column, "{line} {word}");
        }
    }
}
