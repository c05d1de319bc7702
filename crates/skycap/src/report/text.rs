//! Tables, and texts from elsewhere.

/// Rows as lines, each column as wide as its widest cell. What the cells hold is made harmless.
pub fn columns<C: AsRef<str>>(rows: impl IntoIterator<Item = Vec<C>>) -> String {
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| printable(cell.as_ref())).collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A text from elsewhere without what moves cursors, colours terminals or ends lines.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let rows = [vec!["a", "b", "c"], vec!["long", ""], vec!["x\x1b[2J", "y\nz"]];
        assert_eq!(columns(rows), "a           b     c\nlong\nx\\u{1b}[2J  y\\nz\n");
        assert_eq!(columns(Vec::<Vec<String>>::new()), "");
    }
}
