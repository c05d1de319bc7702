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
    /// What kind of trouble a registry made.
    kind: Option<Kind>,
}

impl Failure {
    /// A failure without a hint and with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit_code: 1, kind: None }
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

    /// A failure with the error's causes, and with the hint that a registry's error deserves.
    pub(crate) fn caused_by(error: &(dyn Error + 'static)) -> Self {
        let kind = kind_of(error);
        let failure = Self { kind, ..Self::new(chain(error)) };
        match kind {
            Some(Kind::Denied) => {
                failure.with_hint("check username and password, and that they may use this repository")
            }
            Some(Kind::RateLimited) => {
                failure.with_hint("log in with username and password, use registry_mirror, or check less often")
            }
            Some(Kind::NotFound | Kind::Transient | Kind::Corrupt | Kind::Other) | None => failure,
        }
    }

    /// What kind of trouble a registry made, if one did.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
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
        Self::caused_by(&error)
    }
}

/// The kind of the innermost error of a place of images; such errors travel inside I/O errors as well.
fn kind_of(error: &(dyn Error + 'static)) -> Option<Kind> {
    let mut kind = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref::<SourceError>().or_else(|| inside?.downcast_ref());
        kind = found.map(|found| found.kind).or(kind);
        next = error.source();
    }
    kind
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
    fn a_registrys_complaint_is_known_wherever_it_travels() {
        let limited = || SourceError::new(Kind::RateLimited, "429");
        assert_eq!(Failure::from(limited()).kind(), Some(Kind::RateLimited));
        let inside = std::io::Error::from(limited());
        assert_eq!(Failure::caused_by(&inside).kind(), Some(Kind::RateLimited));
        let outside = SourceError::caused(Kind::Other, "layer", std::io::Error::from(limited()));
        assert_eq!(Failure::from(outside).kind(), Some(Kind::RateLimited));
        assert_eq!(Failure::new("x").kind(), None);
    }

    #[test]
    fn a_hint_stands_on_its_own_line() {
        let failure = Failure::new("no tag specified").during("put").with_hint("set source.tag");
        assert_eq!(failure.to_string(), "put: no tag specified\nhint: set source.tag");
    }
}
