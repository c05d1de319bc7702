//! What programs print, made fit for a line of a table.

/// A line without what moves the cursor or colours: escape sequences go, after a carriage return the line begins anew, a
/// tab reaches the next multiple of eight, anything else that is no letter becomes nothing.
pub fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut plain = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => skip_sequence(&mut letters),
            '\t' => {
                let column = width(&plain);
                plain.push_str(&" ".repeat(8 - column % 8));
            }
            letter if letter.is_control() => {}
            letter => plain.push(letter),
        }
    }
    plain
}

fn skip_sequence(letters: &mut std::str::Chars<'_>) {
    match letters.next() {
        Some('[') => {
            letters.find(|c| ('\x40'..='\x7e').contains(c));
        }
        Some(']') => {
            letters.find(|c| matches!(c, '\x07' | '\x1b'));
        }
        _ => {}
    }
}

/// How many columns a text takes: East Asian letters and pictures take two.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The beginning of a text that fits; with an ellipsis if it is not all.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut short: String = text
        .chars()
        .take_while(|letter| {
            let fits = columns(*letter) <= left;
            left = left.saturating_sub(columns(*letter));
            fits
        })
        .collect();
    if room > 0 {
        short.push('…');
    }
    short
}

fn columns(letter: char) -> usize {
    match u32::from(letter) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_made_harmless() {
        for (line, expected) in [
            ("a\tb", "a       b"),
            ("\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"),
            ("10%\r100%\r", "100%"),
            ("a\x08\x07b", "ab"),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_is_cut_fits() {
        assert_eq!(cut("RUN make all", 20), "RUN make all");
        assert_eq!(cut("RUN make all", 8), "RUN mak…");
        assert_eq!(cut("日本語", 4), "日…");
        for room in 0..12 {
            assert!(width(&cut("日本語 RUN make", room)) <= room);
        }
    }
}
