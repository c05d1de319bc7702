//! `--chmod`: octal, or symbolic as `chmod(1)` has it, without a umask.
//!
//! Where systems differ, it is as in BuildKit's library (`tonistiigi/dchapes-mode`), which comes from BSD: `=` clears the
//! set-id bits of a directory too, the sticky bit is nobody's in particular (`u+t` sets it, `o+t` does not, `=` leaves it),
//! several permissions to copy are copied one after the other, and `X` looks at the mode that the file had at first.

/// What to do to a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chmod {
    text: String,
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Clause {
    Set(u32),
    Change { who: u32, action: char, what: What },
}

/// The bits of one class of users: `rwx` as 0o7, and the letters that depend on the file or the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bits { rwx: u32, execute_if_any: bool, set_id: bool, sticky: bool },
    CopyOf(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const EVERYBODY: u32 = USER | GROUP | OTHERS;
const STICKY: u32 = 0o1000;

impl Chmod {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
        let clauses = if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| invalid())?;
            if mode > 0o7777 {
                return Err(invalid());
            }
            vec![Clause::Set(mode)]
        } else {
            let mut clauses = Vec::new();
            for part in text.split(',') {
                symbolic(part, &mut clauses).ok_or_else(|| format!("invalid chmod parameter: '{text}'"))?;
            }
            clauses
        };
        Ok(Self { text: text.to_owned(), clauses })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The mode that a file of mode `old` gets.
    pub fn apply(&self, old: u32, is_directory: bool) -> u32 {
        let old = old & 0o7777;
        let can_execute = is_directory || old & 0o111 != 0;
        self.clauses.iter().fold(old, |mode, clause| match clause {
            Clause::Set(mode) => *mode,
            Clause::Change { who, action, what } => {
                let bits = what.bits(mode, can_execute, *who);
                match (action, what) {
                    ('+', _) => mode | bits,
                    ('-', _) => mode & !bits,
                    // What is copied are permissions and nothing else.
                    (_, What::CopyOf(_)) => (mode & !(who & 0o777)) | bits,
                    (_, What::Bits { .. }) => (mode & !who) | bits,
                }
            }
        })
    }
}

impl What {
    fn bits(self, mode: u32, can_execute: bool, who: u32) -> u32 {
        match self {
            Self::CopyOf(class) => {
                let shift = match class {
                    USER => 6,
                    GROUP => 3,
                    _ => 0,
                };
                spread(mode >> shift & 0o7) & who
            }
            Self::Bits { rwx, execute_if_any, set_id, sticky } => {
                let rwx = if execute_if_any && can_execute { rwx | 1 } else { rwx };
                let set_id = if set_id { 0o6000 & who } else { 0 };
                let sticky = if sticky && who != OTHERS { STICKY } else { 0 };
                (spread(rwx) & who) | set_id | sticky
            }
        }
    }
}

/// The same three bits for user, group and others.
fn spread(rwx: u32) -> u32 {
    rwx << 6 | rwx << 3 | rwx
}

/// `u+x`, `go=rX`, `a-w+r`, `g=u`.
fn symbolic(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let actions = part.find(['+', '-', '='])?;
    let (who, mut rest) = part.split_at(actions);
    let mut mask = 0;
    for character in who.chars() {
        mask |= match character {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => EVERYBODY,
            _ => return None,
        };
    }
    let who = if who.is_empty() { EVERYBODY } else { mask };
    while let Some(action) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        clauses.extend(parts(&rest[1..end])?.into_iter().map(|what| Clause::Change { who, action, what }));
        rest = &rest[end..];
    }
    Some(())
}

/// Letters, and classes whose permissions are copied, in their order.
fn parts(letters: &str) -> Option<Vec<What>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, letter) in letters.char_indices() {
        let class = match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            _ => continue,
        };
        if begin < at {
            parts.push(bits(&letters[begin..at])?);
        }
        parts.push(What::CopyOf(class));
        begin = at + 1;
    }
    if begin < letters.len() || parts.is_empty() {
        parts.push(bits(&letters[begin..])?);
    }
    Some(parts)
}

fn bits(letters: &str) -> Option<What> {
    let (mut rwx, mut execute_if_any, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters.chars() {
        match letter {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => execute_if_any = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Bits { rwx, execute_if_any, set_id, sticky })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, old, directory, new) in [
            ("755", 0o644, false, 0o755),
            ("07777", 0, false, 0o7777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a=r", 0o777, false, 0o444),
            ("go-rwx", 0o755, false, 0o700),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o644, true, 0o755),
            ("g=u", 0o740, false, 0o770),
            ("u+s,o+t", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
            ("u+t", 0o755, true, 0o1755),
            ("a=rx", 0o1777, true, 0o1555),
            ("-t", 0o1777, true, 0o777),
            ("+s", 0o755, false, 0o6755),
            ("o+s", 0o755, false, 0o755),
            ("g-s", 0o6755, false, 0o4755),
            ("u=rw,go=r", 0o777, false, 0o644),
            ("u-w+x", 0o644, false, 0o544),
            ("g=rx", 0o2777, true, 0o757),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u+rwX,go-w", 0o666, false, 0o644),
            ("u+x,go+X", 0o644, false, 0o744),
            ("a-x,+X", 0o755, false, 0o755),
            ("a-X", 0o755, false, 0o644),
            ("go=", 0o777, false, 0o700),
            ("u=", 0o4777, false, 0o077),
            ("=", 0o1777, true, 0o1000),
            ("go=u-w", 0o755, false, 0o755),
            ("u+", 0o644, false, 0o644),
            ("g=ux", 0o640, false, 0o610),
            ("o=g", 0o2750, false, 0o2755),
            ("g=rx", 0o2777, false, 0o757),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(old, directory), new, "{text} {old:o}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "8", "99999", "u", "u+q", "z+x", "0x1", "+x,"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
