//! `docs/reference/isolation.md`: every probe has its row, and every test that is named exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_probe_has_a_row_and_every_named_test_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(workspace.join("docs/reference/isolation.md")).unwrap();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for line in page.lines().filter(|line| line.starts_with("| S")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, happens @ .., tests] = &cells[..] else { panic!("{line}") };
        if happens.len() != 4 || happens.iter().any(|cell| cell.is_empty()) {
            wrong.push(format!("{id}: what happens on a, on b and c, on c', and in a takeover?"));
        }
        if !seen.insert((*id).to_owned()) {
            wrong.push(format!("{id} is there twice"));
        }
        let mut named = 0;
        for part in tests.split("; ") {
            let Some((names, file)) =
                part.rsplit_once(" (").and_then(|(names, file)| Some((names, file.strip_suffix(')')?)))
            else {
                wrong.push(format!("{id}: {part}: in which file?"));
                continue;
            };
            let text = fs::read_to_string(workspace.join(file)).unwrap_or_default();
            for name in names.split(", ").map(|name| name.trim_matches('`')) {
                named += 1;
                // A test is a function, or the folder of a case.
                if !text.contains(&format!("fn {name}(")) && !workspace.join(file).join(name).is_dir() {
                    wrong.push(format!("{id}: there is no {name} in {file}"));
                }
            }
        }
        if named == 0 {
            wrong.push(format!("{id}: no test shows it"));
        }
    }
    let all: BTreeSet<String> = (1..=35).map(|number| format!("S{number:02}")).collect();
    wrong.extend(all.symmetric_difference(&seen).map(|id| format!("{id}: a row is missing, or one too many")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
