//! What the pages of the documentation say in their tables.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A page of the documentation.
pub fn page(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

/// The cells of every row of every table below a heading.
pub fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---"));
    rows.map(|line| line.trim_matches('|').replace("\\|", "¦").split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands in backticks.
pub fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a case, a folder of cases or a file of the repository has that name.
pub fn exists(name: &str, cases: &[String]) -> bool {
    match name.strip_suffix('/') {
        Some(_) => cases.iter().any(|case| case.starts_with(name)),
        None if name.starts_with("crates/") => repository().join(name).is_file(),
        None => cases.iter().any(|case| case == name),
    }
}
