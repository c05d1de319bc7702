//! `--chmod`: octal, or symbolic as `chmod(1)` has it (without a umask).

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
const OTHERS: u32 = 0o1007;

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
        self.clauses.iter().fold(old & 0o7777, |mode, clause| match clause {
            Clause::Set(mode) => *mode,
            Clause::Change { who, action, what } => {
                let bits = what.bits(mode, is_directory, *who);
                match action {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    // Setting a directory's bits leaves its set-id bits alone unless they are named, as GNU chmod does.
                    _ => {
                        let kept = if is_directory { 0o6000 & !bits } else { 0 };
                        (mode & !(who & !kept)) | bits
                    }
                }
            }
        })
    }
}

impl What {
    fn bits(self, mode: u32, is_directory: bool, who: u32) -> u32 {
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
                let execute = execute_if_any && (is_directory || mode & 0o111 != 0);
                let rwx = if execute { rwx | 1 } else { rwx };
                let set_id = if set_id { 0o6000 & who } else { 0 };
                let sticky = if sticky { 0o1000 } else { 0 };
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
            'a' => 0o7777,
            _ => return None,
        };
    }
    let who = if who.is_empty() { 0o7777 } else { mask };
    while let Some(action) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        clauses.push(Clause::Change { who, action, what: what(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn what(letters: &str) -> Option<What> {
    match letters {
        "u" => return Some(What::CopyOf(USER)),
        "g" => return Some(What::CopyOf(GROUP)),
        "o" => return Some(What::CopyOf(OTHERS)),
        _ => {}
    }
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
            ("u+s,o+t", 0o755, false, 0o5755),
            ("u=rw,go=r", 0o777, false, 0o644),
            ("u-w+x", 0o644, false, 0o544),
            ("g=rx", 0o2777, true, 0o2757),
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
