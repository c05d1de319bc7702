//! Lines at the bottom of a terminal that are drawn anew in place. What comes out are the bytes to write.
//!
//! Every line ends with a line feed and is narrower than the terminal, so that it takes one row. A terminal that was made
//! narrower meanwhile has wrapped what it shows, and the way back up is as much longer.

use std::fmt::Write as _;

/// What is drawn at the bottom at the moment.
#[derive(Default, Debug)]
pub struct Screen {
    /// How long each drawn line is.
    drawn: Vec<usize>,
}

impl Screen {
    /// Whether there is anything to take away.
    pub fn is_clear(&self) -> bool {
        self.drawn.is_empty()
    }

    /// Takes away what is drawn.
    pub fn clear(&mut self, width: usize) -> String {
        let rows: usize = self.drawn.drain(..).map(|length| length.div_ceil(width.max(1)).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r\x1b[J") }
    }

    /// Draws lines in place of those before.
    pub fn draw(&mut self, lines: &[String], width: usize) -> String {
        let mut bytes = self.clear(width);
        for line in lines {
            let _ = write!(bytes, "{line}\r\n");
            self.drawn.push(columns(line));
        }
        bytes
    }
}

/// How many columns a line takes: colours take none.
fn columns(line: &str) -> usize {
    let mut rest = line;
    let mut columns = 0;
    while let Some((before, after)) = rest.split_once('\x1b') {
        columns += before.chars().count();
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    columns + rest.chars().count()
}

/// Where the terminal does not tell.
const USUAL: (u16, u16) = (80, 24);

/// Columns and rows of the terminal that stderr is, asked each time: windows change.
pub fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let (columns, rows) = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    let or = |value: u16, usual: u16| usize::from(if value == 0 { usual } else { value });
    (or(columns, USUAL.0), or(rows, USUAL.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_taken_away_first() {
        let mut screen = Screen::default();
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(screen.draw(&lines(&["ab", "cd"]), 80), "ab\r\ncd\r\n");
        assert_eq!(screen.draw(&lines(&["x"]), 80), "\x1b[2A\r\x1b[Jx\r\n");
        assert_eq!(screen.clear(80), "\x1b[1A\r\x1b[J");
        assert!(screen.is_clear());
        assert_eq!(screen.clear(80), "");
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(columns("\x1b[1;31mab\x1b[0m c"), 4);
        assert_eq!(columns("ab"), 2);
    }

    #[test]
    fn a_terminal_that_became_narrower_has_more_rows() {
        let mut screen = Screen::default();
        screen.draw(&["x".repeat(79), "y".repeat(30), String::new()], 80);
        assert_eq!(screen.clear(40), "\x1b[4A\r\x1b[J");
    }
}
