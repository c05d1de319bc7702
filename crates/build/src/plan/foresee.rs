//! Which images a target will need, as far as that shows before any of them is there: so that they can be looked up
//! together. What is wrong on the way is left for the plan to say.

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::Platform;

use super::Planner;
use super::stage::Beginning;
use crate::dockerfile::Instruction;
use crate::named::{self, NamedContext};

/// An image of a registry, and what it is wanted for.
pub(crate) type Wanted = (String, Platform);

/// What has been seen on the way.
#[derive(Default)]
struct Foreseen {
    /// What the stages are for.
    stages: BTreeMap<usize, Platform>,
    images: BTreeSet<Wanted>,
}

impl Planner<'_> {
    /// The images that the plan of this target will ask for. Those that only a trigger of a base names are not among them.
    pub fn foresee(&self, target: Option<&str>) -> BTreeSet<Wanted> {
        let mut foreseen = Foreseen::default();
        if let Ok(number) = self.find_target(target) {
            for stage in self.in_order(number) {
                self.look_at(stage, &mut foreseen);
            }
        }
        foreseen.images
    }

    /// Notes what a stage needs and says what it is for.
    fn look_at(&self, number: usize, foreseen: &mut Foreseen) -> Option<Platform> {
        if let Some(platform) = foreseen.stages.get(&number) {
            return Some(platform.clone());
        }
        let (name, platform, beginning) = self.beginning(number).ok()?;
        let platform = match beginning {
            Beginning::Given(_, context) => {
                if let NamedContext::Reference(reference) = context {
                    foreseen.images.insert((reference.to_string(), platform.clone()));
                }
                platform
            }
            Beginning::Nothing => platform,
            Beginning::Stage(base) => self.look_at(base, foreseen)?,
            Beginning::Registry => {
                foreseen.images.insert((name, platform.clone()));
                platform
            }
        };
        foreseen.stages.insert(number, platform.clone());
        for instruction in &self.dockerfile.stages[number].instructions {
            for name in sources(&instruction.value) {
                if name == "scratch" || named::find(&self.request.contexts, name, &platform).is_some() {
                    continue;
                }
                match self.find_stage(name, number).ok()? {
                    Some(stage) => drop(self.look_at(stage, foreseen)),
                    None => drop(foreseen.images.insert((name.to_owned(), platform.clone()))),
                }
            }
        }
        Some(platform)
    }
}

/// The stages and images that an instruction reads.
pub(super) fn sources(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|from| from.value.as_str()).collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| mount.value.from()).collect(),
        _ => Vec::new(),
    }
}
