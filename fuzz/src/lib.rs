//! What is fuzzed, and what must hold for any input.
//!
//! Every target is a function of bytes that panics where something is wrong. libFuzzer calls it from `fuzz_targets/`
//! (`cargo xtask fuzz`, or `cargo fuzz run --features libfuzzer TARGET`); `tests/replay.rs` calls it with the seeds in
//! `corpus/` and with random changes of them, so that a machine without a C++ compiler proves something as well.
//!
//! No panic, no hang and bounded memory are asked of all of them; the rest stands beside each target.

mod dockerfile;
mod documents;
mod expand;
mod headers;
mod ignore;
mod layer;
mod names;
mod streams;
mod tar;

pub use dockerfile::dockerfile;
pub use documents::documents;
pub use expand::expand_words;
pub use headers::headers;
pub use ignore::ignore;
pub use layer::layer;
pub use names::names;
pub use streams::streams;
pub use tar::tar;

/// A target: panics if something is wrong.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("tar", tar),
    ("layer", layer),
    ("names", names),
    ("headers", headers),
    ("documents", documents),
    ("streams", streams),
    ("dockerfile", dockerfile),
    ("expand", expand_words),
    ("ignore", ignore),
];
