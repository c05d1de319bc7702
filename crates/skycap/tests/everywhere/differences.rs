//! What is known to differ, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The file's lines, and which of them were needed.
pub struct Differences {
    /// By ground and case.
    listed: BTreeMap<(String, String), BTreeSet<String>>,
    needed: BTreeSet<(String, String, String)>,
}

impl Differences {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/everywhere/differences");
        let text = fs::read_to_string(path).unwrap();
        let mut listed: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words = line.split_once(": ").filter(|(_, reason)| !reason.is_empty()).map(|(words, _)| words);
            let words = words.unwrap_or_else(|| panic!("{line}: why?"));
            let [ground, case, what] = words.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}: what differs?")
            };
            listed.entry((ground.to_owned(), case.to_owned())).or_default().insert(what.to_owned());
        }
        Self { listed, needed: BTreeSet::new() }
    }

    /// Whether a case differs on some ground.
    pub fn names(&self, case: &str) -> bool {
        self.listed.keys().any(|(_, name)| name == case)
    }

    /// What was found and is not listed.
    pub fn judge(&mut self, ground: &str, case: &str, found: &BTreeMap<String, String>) -> Vec<String> {
        let key = (ground.to_owned(), case.to_owned());
        let mut wrong = Vec::new();
        for (what, how) in found {
            if self.listed.get(&key).is_some_and(|listed| listed.contains(what)) {
                self.needed.insert((key.0.clone(), key.1.clone(), what.clone()));
            } else {
                wrong.push(format!("{ground} {case} {what}: {how}"));
            }
        }
        wrong
    }

    /// What is listed for these cases on these grounds and was not found.
    pub fn not_needed(&self, grounds: &[&str], cases: &[&str]) -> Vec<String> {
        let is_tried =
            |ground: &String, case: &String| grounds.contains(&ground.as_str()) && cases.contains(&case.as_str());
        let listed = self.listed.iter().filter(|((ground, case), _)| is_tried(ground, case));
        let each = listed.flat_map(|((ground, case), whats)| {
            whats.iter().map(move |what| (ground.clone(), case.clone(), what.clone()))
        });
        let unneeded = each.filter(|each| !self.needed.contains(each));
        unneeded
            .map(|(ground, case, what)| format!("{ground} {case} {what}: is listed as a difference and is none"))
            .collect()
    }
}
