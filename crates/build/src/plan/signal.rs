//! `STOPSIGNAL`.

/// The names that moby's `signal` package knows on Linux, without `SIG`.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether the text is a signal: a number, or a name with or without `SIG`.
pub(super) fn is_valid(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if NAMES.contains(&name) {
        return true;
    }
    let offset = |base: &str| name.strip_prefix(base).and_then(|rest| rest.parse::<u8>().ok());
    offset("RTMIN+").is_some_and(|n| n <= 15) || offset("RTMAX-").is_some_and(|n| n <= 14)
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn only_signals_pass() {
        for (text, valid) in [
            ("9", true),
            ("SIGTERM", true),
            ("term", true),
            ("RTMIN+3", true),
            ("0", false),
            ("SIGNAL", false),
            ("", false),
        ] {
            assert_eq!(is_valid(text), valid, "{text}");
        }
    }
}
