//! The skycap binary.
fn main() {}
