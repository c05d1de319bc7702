//! The same Dockerfile gives the same image, whatever a machine permits: every rung of the sandbox builds the Dockerfiles of
//! `tests/dockerfiles`, and the images' digests are compared.
//!
//! Why those, and not the folders of `crates/build/testdata/build`: most of these have no RUN, so that they never stand on a
//! rung at all; here all but a few have several, with users, owners, mounts, deletions, and tools that behave like the real
//! ones. They are built by the binary, which is copied to where it has to work and finds nothing else of ours there. Bases
//! are made once and handed in as layouts, since a container has a network of its own.
//!
//! Cases of this test's own, in `cases`, have what these do not: modes and owners that a rung may get wrong.
//!
//! A [`ground`](grounds::GROUNDS) is a place to stand on, with its own copy of the contexts and an empty store. It must take
//! the rung that is said there by itself. The first one is what others are compared with.
//!
//! What a rung cannot have the same is in `differences`: lines `GROUND CASE WHAT: REASON`, where WHAT is a path, `config` or
//! `build`. One that is not needed is an error. A sample is built by default, everything with `SKYCAP_TEST_FULL`; `SKYCAP_CASE`
//! and `SKYCAP_GROUND` are parts of the names of what is wanted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

#[path = "../dockerfiles/bases.rs"]
#[allow(dead_code, reason = "shared with a test that builds from registries")]
mod bases;
#[path = "../dockerfiles/case.rs"]
#[allow(dead_code, reason = "shared with a test that compares with buildah")]
mod case;
mod differences;
mod distributions;
mod grounds;
mod images;
#[path = "../shared/workers.rs"]
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use bases::Bases;
use case::Case;
use differences::Differences;
use grounds::{GROUNDS, Ground, Site};
use skycap_image::Image;

const TEST: &str = "every_rung_builds_the_same_images";

/// By default every so manieth case is built, those that differ somewhere, and this test's own.
const SAMPLE: usize = 20;

/// What became of the cases on one ground.
struct Stand {
    images: BTreeMap<String, Result<Image, String>>,
    /// How many had nothing to run.
    assembled: usize,
}

#[test]
fn every_rung_builds_the_same_images() {
    if let Some(why) = grounds::missing() {
        skycap_testkit::skipped!("{TEST}: {why}");
        return;
    }
    let Some(bases) = Bases::make(TEST) else { return };
    let mut differences = Differences::read();
    let own = Case::below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/everywhere/cases"));
    let count = own.len();
    let all: Vec<Case> = own.into_iter().chain(Case::all()).collect();
    let total = all.len();
    let wanted = std::env::var("SKYCAP_CASE").unwrap_or_default();
    let everything = skycap_testkit::wants_everything() || !wanted.is_empty();
    let is_sampled = |number: usize, case: &Case| {
        everything || number < count || number.is_multiple_of(SAMPLE) || differences.names(&case.name)
    };
    let cases: Vec<Case> =
        all.into_iter().enumerate().filter(|(number, case)| is_sampled(*number, case)).map(|(_, case)| case).collect();
    let cases: Vec<Case> = cases.into_iter().filter(|case| case.name.contains(&wanted)).collect();
    let site = Site::make(|below| grounds::layouts(&bases, below));
    let stands = stands(TEST, &site, &cases);
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    eprintln!(
        "{TEST}: {} of {total} Dockerfiles: {}",
        cases.len(),
        if everything { "all".to_owned() } else { names.join(", ") }
    );
    let wrong = judge(&stands, &cases, &mut differences);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What became of the cases on every ground, two grounds at a time.
fn stands(test: &str, site: &Site, cases: &[Case]) -> BTreeMap<&'static str, Stand> {
    let wanted = std::env::var("SKYCAP_GROUND").unwrap_or_default();
    let is_wanted = |ground: &&Ground| ground.name == GROUNDS[0].name || ground.name.contains(&wanted);
    let queue: Mutex<VecDeque<&Ground>> = Mutex::new(GROUNDS.iter().filter(is_wanted).collect());
    let stands = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(ground) = { queue.lock().unwrap().pop_front() } {
                    let begun = Instant::now();
                    let stand = stand(ground, site, cases);
                    let (built, assembled) =
                        (stand.images.values().filter(|image| image.is_ok()).count(), stand.assembled);
                    let seconds = begun.elapsed().as_secs();
                    eprintln!(
                        "{test}: {}: {built} built, {assembled} of them without a sandbox, {seconds} s",
                        ground.name
                    );
                    stands.lock().unwrap().insert(ground.name, stand);
                }
            });
        }
    });
    stands.into_inner().unwrap()
}

/// What differs from the first ground and is not listed, and what is listed and does not differ.
fn judge(stands: &BTreeMap<&str, Stand>, cases: &[Case], differences: &mut Differences) -> Vec<String> {
    let first = &stands[GROUNDS[0].name].images;
    let mut wrong = Vec::new();
    for (ground, stand) in stands {
        for case in cases {
            let (one, other) = (&first[&case.name], &stand.images[&case.name]);
            wrong.extend(differences.judge(ground, &case.name, &images::compare(one, other)));
        }
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let grounds: Vec<&str> = stands.keys().copied().collect();
    wrong.extend(differences.not_needed(&grounds, &names));
    wrong
}

/// Builds the cases on one ground, one after the other.
fn stand(ground: &Ground, site: &Site, cases: &[Case]) -> Stand {
    let place = site.place(ground, cases);
    let output = skycap_testkit::process::run(&mut place.command.lock().unwrap());
    assert!(output.status.success(), "{}: {}", ground.name, String::from_utf8_lossy(&output.stderr));
    let mut stand = Stand { images: BTreeMap::new(), assembled: 0 };
    let mut rungs = 0;
    for case in cases {
        let read =
            |kind: &str| std::fs::read(place.directory.join(format!("out/{}.{kind}", case.name))).unwrap_or_default();
        let log = read("log");
        skycap_testkit::secrets::assert_not_shown_in(&case.name, &log);
        let log = String::from_utf8_lossy(&log).into_owned();
        let layout = place.directory.join("out").join(&case.name);
        let image = if read("built").is_empty() { Err(log.clone()) } else { Ok(images::read(&layout)) };
        let rung = log.lines().find_map(|line| line.split_once("sandbox: "));
        match rung {
            None => stand.assembled += 1,
            Some((_, said)) => {
                assert!(said.starts_with(ground.rung), "{}: {}: it stands on {said}", ground.name, case.name);
                rungs += 1;
            }
        }
        let is_right = rung.is_none() || has_run(case, &place.directory);
        assert!(is_right, "{}: {} has no RUN, and asked for a sandbox:\n{log}", ground.name, case.name);
        stand.images.insert(case.name.clone(), image);
    }
    place.clear();
    assert!(rungs > 0, "{}: nothing was run", ground.name);
    stand
}

/// Whether a Dockerfile, or a base's ONBUILD, has something to run.
fn has_run(case: &Case, directory: &Path) -> bool {
    let context = directory.join("cases").join(&case.name).join("context");
    let text = std::fs::read_to_string(case.dockerfile(&context)).unwrap().to_lowercase();
    text.contains("-onbuild")
        || text.lines().any(|line| line.trim_start().trim_start_matches("onbuild ").starts_with("run"))
}
