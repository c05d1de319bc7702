//! Lines for people and for programs. The standard library's macros panic where nobody listens any more.

/// A line on stderr. That it cannot be said is no second failure.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// A line on stdout. A result that cannot be given is a failure: the process ends with 1.
macro_rules! show {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        if let Err(error) = writeln!(std::io::stdout(), $($text)*) {
            say!("error: cannot write to stdout: {error}");
            std::process::exit(1);
        }
    }};
}
