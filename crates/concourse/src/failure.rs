//! How a resource or the task says that it could not do what it was asked.

use std::error::Error;
use std::fmt;

use skycap_image::{Kind, SourceError};

/// One failure: what a user reads, what the user can do about it, and the exit code that Concourse sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What happened, the causes joined with `: `. Users match on some of these texts.
    pub message: String,
    /// What the user can do, where there is something.
    pub hint: Option<String>,
    /// What the process should exit with; never 0.
    pub exit_code: u8,
}

impl Failure {
    /// A failure without a hint and with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: 1 }
    }

    /// A copy with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A copy that says what was being done: `context: message`.
    #[must_use]
    pub fn during(self, context: impl fmt::Display) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }

    /// A setting that is known, but not built yet. It is never ignored.
    pub(crate) fn unsupported(setting: &str, why: &str) -> Self {
        Self::new(format!("{setting} is not supported yet: {why}")).with_hint(format!(
            "remove {setting}, or keep the original image for this step; docs/differences.md lists what is missing"
        ))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_deref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl Error for Failure {}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let failure = Self::new(chain(&error));
        match error.kind {
            Kind::Denied => failure.with_hint("check username and password, and that they may use this repository"),
            Kind::RateLimited => {
                failure.with_hint("log in with username and password, use registry_mirror, or check less often")
            }
            Kind::NotFound | Kind::Transient | Kind::Corrupt | Kind::Other => failure,
        }
    }
}

/// An error and its causes in one line. A cause that its parent's text already ends with is not said twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_and_not_repeated() {
        let cause = std::io::Error::other("connection reset");
        let error = SourceError::caused(Kind::Transient, "GET https://r/v2/", cause);
        assert_eq!(Failure::from(error).message, "GET https://r/v2/: connection reset");
        let cause = std::io::Error::other("connection reset");
        let error = SourceError::caused(Kind::Transient, "GET https://r/v2/: connection reset", cause);
        assert_eq!(Failure::from(error).message, "GET https://r/v2/: connection reset");
    }

    #[test]
    fn a_hint_stands_on_its_own_line() {
        let failure = Failure::new("no tag specified").during("put").with_hint("set source.tag");
        assert_eq!(failure.to_string(), "put: no tag specified\nhint: set source.tag");
    }
}
