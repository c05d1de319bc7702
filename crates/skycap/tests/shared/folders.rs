//! Cases that are folders: found, run several at once, and told where they differ.

use std::path::Path;
use std::sync::Mutex;

/// Every folder below `root` that holds one of these files, by its path. Nothing is looked for inside one.
pub fn found(root: &Path, marks: &[&str]) -> Vec<String> {
    let (mut left, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(directory) = left.pop() {
        if marks.iter().any(|name| directory.join(name).exists()) {
            found.push(directory.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            continue;
        }
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Runs every case, or those whose name holds `SKYCAP_CASE`; `run` says where one differs. There must be `least` cases.
pub fn run_all(cases: Vec<String>, at_once_per_core: usize, least: usize, run: impl Fn(&str) -> Vec<String> + Sync) {
    // What files are made with must not depend on who runs this.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let wanted = std::env::var("SKYCAP_CASE").unwrap_or_default();
    let cases: Vec<String> = cases.into_iter().filter(|name| name.contains(&wanted)).collect();
    let (left, failures) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let next = || left.lock().unwrap().next();
    let run = std::panic::AssertUnwindSafe(run);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8) * at_once_per_core {
            scope.spawn(|| {
                while let Some(name) = next() {
                    let ended = std::panic::catch_unwind(|| run(name));
                    let differences = ended.unwrap_or_else(|_| vec!["the test itself failed".to_owned()]);
                    if !differences.is_empty() {
                        failures.lock().unwrap().push(format!("== {name}\n{}", differences.join("\n")));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n\n"));
    assert!(!wanted.is_empty() || cases.len() >= least, "only {} cases were found", cases.len());
}

/// Requests as a case's file lists them: sorted where it says that their order does not count.
pub fn requests_like(requests: &[String], expected: &str) -> String {
    let mut lines = requests.to_vec();
    if expected.starts_with("in any order") {
        lines.sort();
        lines.insert(0, "in any order".to_owned());
    }
    lines.join("\n")
}
