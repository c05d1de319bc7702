//! Which test shows what must hold when things go wrong: `docs/reference/reliability.md`, from `rows.txt` and from what the
//! tests say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: &str = include_str!("rows.txt");
/// Every one of these is there.
const CRASHES: std::ops::RangeInclusive<usize> = 1..=25;
const MISTAKES: std::ops::RangeInclusive<usize> = 39..=49;

/// A line of `rows.txt`: `id | what must hold`, or `id | what must hold | file: test; …` for tests that do not name the row
/// themselves. Lines with `#` are headings.
struct Row<'t> {
    id: &'t str,
    text: &'t str,
    tests: BTreeSet<(String, String)>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> Vec<Row<'static>> {
    let lines = ROWS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &'static str| {
        let mut parts = line.split(" | ");
        let (id, text) = (parts.next().unwrap(), parts.next().unwrap_or_else(|| panic!("{line}")));
        let tests = parts.next().into_iter().flat_map(|tests| tests.split("; ")).map(|test| {
            let (file, name) = test.split_once(": ").unwrap_or_else(|| panic!("{line}: expected FILE: TEST"));
            (file.to_owned(), name.to_owned())
        });
        Row { id, text, tests: tests.collect() }
    };
    lines.map(row).collect()
}

/// The rows that tests name in their comments: by row, file and function.
fn claimed() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut claims: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    let mut left = vec![workspace().join("crates")];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(workspace()).unwrap().display().to_string();
                for (row, test) in claims_of(&fs::read_to_string(&path).unwrap()) {
                    claims.entry(row).or_default().insert((file.clone(), test));
                }
            }
        }
    }
    claims
}

fn claims_of(source: &str) -> Vec<(String, String)> {
    let (mut claims, mut rows) = (Vec::new(), BTreeSet::new());
    for line in source.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("/// ") {
            rows.extend(
                comment.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_row(word)).map(str::to_owned),
            );
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or_default();
            claims.extend(std::mem::take(&mut rows).into_iter().map(|row| (row, name.to_owned())));
        } else if !line.starts_with('#') {
            rows.clear();
        }
    }
    claims
}

fn is_row(word: &str) -> bool {
    matches!(word.as_bytes(), [b'K' | b'M', a, b] if a.is_ascii_digit() && b.is_ascii_digit())
}

fn page(rows: &[Row<'_>]) -> String {
    let mut text = "# What can go wrong, row by row\n\n\
        What must hold when a program is killed, a disk is full or fails, a cache is damaged, or an image means ill, and the tests\n\
        that show it. Loops over calls run a sample by default; with `SKYCAP_TEST_FULL=1` they run in full. This page is written by\n\
        `every_row_of_what_can_go_wrong_has_a_test`.\n"
        .to_owned();
    let mut rows = rows.iter();
    for line in ROWS.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            let _ = write!(text, "\n## {heading}\n\n| row | what must hold | tests |\n|---|---|---|\n");
        } else if !line.is_empty() {
            let row = rows.next().unwrap();
            let tests: Vec<_> = row.tests.iter().map(|(file, test)| format!("`{test}` ({file})")).collect();
            let _ = writeln!(text, "| {} | {} | {} |", row.id, row.text, tests.join(", "));
        }
    }
    text
}

#[test]
fn every_row_of_what_can_go_wrong_has_a_test() {
    let mut rows = rows();
    let mut claims = claimed();
    let mut wrong = Vec::new();
    for row in &mut rows {
        for (file, test) in &row.tests {
            let source = fs::read_to_string(workspace().join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {test}(")) {
                wrong.push(format!("{}: there is no test {test} in {file}", row.id));
            }
        }
        row.tests.extend(claims.remove(row.id).unwrap_or_default());
        if row.tests.is_empty() {
            wrong.push(format!("{}: no test shows this row", row.id));
        }
    }
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len(), "a row is there twice");
    let wanted = CRASHES.map(|number| format!("K{number:02}")).chain(MISTAKES.map(|number| format!("M{number}")));
    wrong.extend(wanted.filter(|id| !ids.contains(&**id)).map(|id| format!("{id} is missing")));
    let page = page(&rows);
    let path = workspace().join("docs/reference/reliability.md");
    if fs::read_to_string(&path).unwrap_or_default() != page {
        if std::env::var_os("SKYCAP_UPDATE_EXPECTED").is_some() {
            fs::write(&path, page).unwrap();
        } else {
            wrong.push(format!("{} is not what the tests say; SKYCAP_UPDATE_EXPECTED=1 writes it", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_are_read_from_comments_of_tests() {
    let source = "/// K01, K02: text\n/// and M49.\n#[test]\nfn one() {}\n\n/// K03\nstruct S;\nfn two() {}\n/// SHA K1\nfn three() {}\n";
    let claim = |row: &str| (row.to_owned(), "one".to_owned());
    assert_eq!(claims_of(source), [claim("K01"), claim("K02"), claim("M49")]);
}
