//! Versions in the two dialects that users of the resources have been writing: `Masterminds/semver` (registry-image) and
//! Ruby's `semantic` and `Gem::Version` (registry-tag). Pure functions; no crate has these grammars.

mod constraint;
mod gem;
mod matcher;
mod semver;

pub(crate) use constraint::Constraint;
pub(crate) use gem::GemVersion;
pub(crate) use matcher::Matcher;
pub(crate) use semver::{Version, compare_digits};
