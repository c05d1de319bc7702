//! Long chains of stages. A stage is planned from within the plan of the first one that refers to it, which for a thousand
//! stages in a row would be a thousand calls within each other. So a chain that is too long for that begins at its bottom.

use super::Planner;
use super::foresee::sources;
use super::stage::Beginning;
use crate::dockerfile::{Instruction, parse_trigger};

/// So many stages are planned from within each other.
const LONGEST: usize = 32;

impl Planner<'_> {
    /// What to plan for a target, and in which order: the target, which asks for the rest itself; or where a chain of stages
    /// is too long for that, all that it is made from, lowest first.
    pub(super) fn in_order(&self, target: usize) -> Vec<usize> {
        let mut below = vec![None; target + 1];
        let mut open = vec![target];
        while let Some(number) = open.pop() {
            if below[number].is_none() {
                let found = self.below(number);
                open.extend(&found);
                below[number] = Some(found);
            }
        }
        let needed: Vec<usize> = (0..=target).filter(|number| below[*number].is_some()).collect();
        let mut heights = vec![0; target + 1];
        for &number in &needed {
            heights[number] = below[number].iter().flatten().map(|lower| heights[*lower] + 1).max().unwrap_or(0);
        }
        if heights[target] > LONGEST { needed } else { vec![target] }
    }

    /// The stages that a stage refers to: all of them are earlier ones. What is wrong is left for the plan to say.
    fn below(&self, number: usize) -> Vec<usize> {
        if self.replacement(number).is_some() {
            return Vec::new();
        }
        let stages = &self.dockerfile.stages;
        let base = match self.beginning(number) {
            Ok((_, _, Beginning::Stage(base))) => Some(base),
            _ => None,
        };
        let of_base = base.and_then(|base| stages.get(base)).into_iter().flat_map(|base| &base.instructions);
        let triggers = of_base.filter_map(|instruction| match &instruction.value {
            Instruction::Onbuild(text) => parse_trigger(text, self.file()).ok(),
            _ => None,
        });
        let triggers: Vec<_> = triggers.collect();
        let own = stages.get(number).into_iter().flat_map(|stage| &stage.instructions);
        let names = triggers.iter().chain(own).flat_map(|instruction| sources(&instruction.value));
        base.into_iter().chain(names.filter_map(|name| self.find_stage(name, number).ok()?)).collect()
    }
}
