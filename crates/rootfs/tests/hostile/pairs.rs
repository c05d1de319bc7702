//! Every layer of links under every layer of whiteouts: whatever comes of it, all ways agree and nothing outside changes.

use skycap_image::Layer;

use crate::case::{Case, Format, layer};
use crate::corpus::cases;
use crate::identity::{Identity, is_again, is_full, run_again};
use crate::judge::{LIMIT, agree, limited, unpacked};
use crate::room::Room;

/// One pair of so many when not everything is asked for; fewer for whoever comes second.
const STEP: (usize, usize) = (7, 23);

fn pair(lower: &Case, upper: &Case) -> Result<bool, String> {
    let room = Room::new();
    let mut layers: Vec<Layer> = lower.layers(Format::Plain);
    let top = upper.tars().pop().unwrap();
    layers.push(layer(&top, Format::Plain));
    let (accepted, _) = unpacked(&layers, &room, lower.limits)?;
    agree(&layers, &room, &accepted, lower.limits, None)?;
    Ok(accepted.is_ok())
}

#[test]
fn links_below_whiteouts_stay_inside() {
    let lowers: Vec<&Case> = cases().iter().filter(|case| matches!(case.class, 'B' | 'C')).collect();
    let uppers: Vec<&Case> = cases().iter().filter(|case| case.class == 'D').collect();
    let step = match (is_full(), is_again()) {
        (true, _) => 1,
        (_, false) => STEP.0,
        (_, true) => STEP.1,
    };
    let pairs = lowers.iter().flat_map(|&lower| uppers.iter().map(move |&upper| (lower, upper)));
    let (mut runs, mut accepted, mut failures) = (0, 0, Vec::new());
    for (lower, upper) in pairs.step_by(step) {
        runs += 1;
        match limited(LIMIT, move || pair(lower, upper)) {
            Ok(was_accepted) => accepted += usize::from(was_accepted),
            Err(what) => failures.push(format!("{} under {}: {what}", lower.name, upper.name)),
        }
    }
    eprintln!(
        "hostile: as {}: {} x {} pairs, {runs} runs: {accepted} accepted inside the root, {} wrong{}",
        Identity::current().name(),
        lowers.len(),
        uppers.len(),
        failures.len(),
        if is_full() { "" } else { " (sampled)" },
    );
    assert!(lowers.len() >= 66 && uppers.len() >= 34);
    assert!(failures.is_empty(), "{} of {runs}:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn links_below_whiteouts_stay_inside_for_an_ordinary_user() {
    run_again("pairs::links_below_whiteouts_stay_inside", Identity::User);
}

#[test]
fn links_below_whiteouts_stay_inside_in_a_user_namespace() {
    run_again("pairs::links_below_whiteouts_stay_inside", Identity::Namespace);
}
