//! What works in a Dockerfile and still should not be written: the 22 rules of BuildKit's linter.
//!
//! * `file` and `stage` hold rules that need only the text, `from` those of `FROM` lines: functions from what they look at
//!   to their remarks, in a table.
//! * The others need what only the plan knows; the planner asks `words`, and reports to the `linter`.
//! * The `linter` drops what `# check=` silences and keeps each finding once.

mod file;
mod finding;
mod from;
mod linter;
mod remark;
mod rule;
mod stage;
pub(crate) mod words;

pub use finding::Finding;
pub(crate) use from::FromLine;
pub(crate) use linter::Linter;
pub(crate) use remark::Remark;
pub use rule::Rule;
