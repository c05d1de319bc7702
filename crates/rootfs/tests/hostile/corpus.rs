//! Every case, in every format, as everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::case::{Case, Format, all};
use crate::identity::{Identity, is_again, is_full, run_again, variable};
use crate::judge::{LIMIT, judge, limited};

/// The cases, for threads that outlive a test.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(all)
}

/// How many cases also run compressed when not everything is asked for.
const SAMPLED: usize = 40;

/// What the specification asks for, by class.
const LEAST: [(char, usize); 9] =
    [('A', 42), ('B', 41), ('C', 25), ('D', 34), ('E', 13), ('F', 32), ('H', 53), ('I', 3), ('J', 10)];

#[test]
fn every_class_is_as_long_as_it_must_be() {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for case in cases() {
        *counts.entry(case.class).or_default() += 1;
        assert!(names.insert(&case.name), "two cases have the name {}", case.name);
    }
    eprintln!("hostile: {} cases: {counts:?}", cases().len());
    for (class, least) in LEAST {
        assert!(counts.get(&class).is_some_and(|&count| count >= least), "class {class} has {:?}", counts.get(&class));
    }
}

#[test]
fn rows_of_the_catalogue_have_cases() {
    let from: Vec<&str> = cases().iter().map(|case| case.from.as_str()).collect();
    let from = from.join(" ");
    for row in [
        "M01", "M02", "M03", "M05", "M06", "M07", "M08", "M09", "M10", "M14", "M15", "M16", "M17", "M18", "M19", "M20",
        "M21", "M22", "M26",
    ] {
        assert!(from.contains(row), "no case is from {row}");
    }
}

#[test]
fn every_case() {
    let identity = Identity::current();
    let wanted = variable("SKYCAP_HOSTILE_CASE").and_then(|name| name.into_string().ok());
    let own: Vec<&Case> = cases().iter().filter(|case| case.is_for(identity)).collect();
    let own: Vec<&Case> =
        own.into_iter().filter(|case| wanted.as_ref().is_none_or(|name| case.name.contains(name))).collect();
    let step = if is_full() { 1 } else { own.len().div_ceil(SAMPLED).max(1) };
    let (mut runs, mut accepted, mut failures) = (0, 0, Vec::new());
    for (number, &case) in own.iter().enumerate() {
        for format in [Format::Plain, Format::Gzip, Format::Zstd] {
            if format != Format::Plain && number % step != 0 {
                continue;
            }
            runs += 1;
            match limited(LIMIT, move || judge(case, format)) {
                Ok(was_accepted) => accepted += usize::from(was_accepted),
                Err(what) => failures.push(format!("{} {} ({format:?}): {what}", case.class, case.name)),
            }
        }
    }
    eprintln!(
        "hostile: as {}: {} cases, {runs} runs: {accepted} accepted inside the root, {} refused, {} wrong{}",
        identity.name(),
        own.len(),
        runs - accepted - failures.len(),
        failures.len(),
        if is_full() { "" } else { " (sampled: gzip and zstd)" },
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let peak = peak_memory();
    // In one process with the bombs of a full run, theirs counts, too.
    assert!(peak < 256 << 20 || is_full() && !is_again(), "{peak} bytes of memory");
}

/// The most memory this process ever had.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn every_case_as_an_ordinary_user() {
    run_again("corpus::every_case", Identity::User);
}

#[test]
fn every_case_in_a_user_namespace_with_a_range_of_ids() {
    run_again("corpus::every_case", Identity::Namespace);
}

#[test]
fn every_case_in_a_user_namespace_with_one_id() {
    run_again("corpus::every_case", Identity::Single);
}
