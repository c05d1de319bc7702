//! The lines of a Dockerfile around an instruction.

use std::fmt::Write as _;

use skycap_build::dockerfile;
use skycap_build::remote::without_users;

/// So many lines are shown before and after.
const AROUND: usize = 2;
const RULE: &str = "--------------------";

/// The lines around an instruction that begins at `line`, counted from 1, with carets below its first word. `None` if there
/// is no such line.
pub fn excerpt(text: &[u8], name: &str, line: usize) -> Option<String> {
    let all = String::from_utf8_lossy(text);
    let lines: Vec<&str> = all.lines().collect();
    let first = lines.get(line.checked_sub(1)?)?;
    let end = end_of(text, name, line).clamp(line, lines.len());
    let shown = line.saturating_sub(AROUND).max(1)..=(end + AROUND).min(lines.len());
    let mut excerpt = format!("{name}:{line}\n{RULE}\n");
    for number in shown {
        let Some(content) = lines.get(number - 1) else { continue };
        let mark = if (line..=end).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(excerpt, "{}", format!("{number:>4} | {mark} {}", harmless(content)).trim_end());
        if number == line {
            let indent = first.chars().take_while(|c| c.is_whitespace()).count();
            let word = first.trim_start().chars().take_while(|c| !c.is_whitespace()).count();
            let _ = writeln!(excerpt, "     |     {}{}", " ".repeat(indent), "^".repeat(word.max(1)));
        }
    }
    excerpt.push_str(RULE);
    Some(excerpt)
}

/// The last line of the instruction that begins there.
fn end_of(text: &[u8], name: &str, line: usize) -> usize {
    let Ok(parsed) = dockerfile::parse(text, name) else { return line };
    let spans = parsed.stages.iter().flat_map(|stage| {
        std::iter::once(stage.from.span).chain(stage.instructions.iter().map(|instruction| instruction.span))
    });
    spans.into_iter().find(|span| span.line == line).map_or(line, |span| span.end_line)
}

/// Tabs take one column, nothing moves the cursor, and no address has a password.
fn harmless(line: &str) -> String {
    without_users(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_shown_with_its_neighbours() {
        let text = b"FROM scratch\nENV A=1\n  RUN make \\\n    all\nCMD x\nUSER y\nLABEL z=1\n";
        let expected = "\
Dockerfile:3
--------------------
   1 |     FROM scratch
   2 |     ENV A=1
   3 | >>>   RUN make \\
     |       ^^^
   4 | >>>     all
   5 |     CMD x
   6 |     USER y
--------------------";
        assert_eq!(excerpt(text, "Dockerfile", 3).as_deref(), Some(expected));
        let fetched = excerpt(b"ADD https://me:hunter2@host/x /\n", "Dockerfile", 1).unwrap();
        assert!(fetched.contains("ADD https://host/x /") && !fetched.contains("hunter2"));
        assert_eq!(excerpt(text, "Dockerfile", 0), None);
        assert_eq!(excerpt(text, "Dockerfile", 99), None);
    }
}
