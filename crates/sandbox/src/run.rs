//! The caller's side of a run.

/// What a command reads from its standard input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stdin {
    /// Nothing: the end at once.
    Empty,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

/// Where the output of a command goes, as it comes.
pub trait Output {
    /// Bytes of standard output; of everything when there is a terminal.
    fn stdout(&mut self, bytes: &[u8]);
    /// Bytes of standard error.
    fn stderr(&mut self, bytes: &[u8]);
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}
