//! What an SBOM is to list besides the image: stages and the context, where the Dockerfile says so.

use super::Planner;
use crate::attest::means_stage;
use crate::dockerfile::Instruction;
use crate::graph::NodeId;

/// Says for which stages the packages of the stage itself are listed.
const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
/// Says for which stages those of the build context are.
const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// What an SBOM is to list besides the image.
#[derive(Default)]
pub(crate) struct Scan {
    /// Stages that are needed for the target, with their file systems.
    pub stages: Vec<(String, NodeId)>,
    /// Whether the build context is scanned.
    pub context: bool,
}

impl Planner<'_> {
    /// What is to be scanned for a target whose stages are planned.
    pub(super) fn scan(&self, target: usize) -> Scan {
        let mut scan = Scan::default();
        for number in self.needed(target) {
            let name = self.dockerfile.stages[number].from.value.name.clone();
            let name = name.unwrap_or_else(|| format!("stage-{number}"));
            scan.context |= self.is_asked(CONTEXT, number, &name);
            let stage = self.stages.get(&number).filter(|_| number != target && self.is_asked(STAGE, number, &name));
            scan.stages.extend(stage.map(|stage| (name, stage.head)));
        }
        scan
    }

    /// Whether a stage's own ARG asks for something, or if it has none, one before the first FROM.
    fn is_asked(&self, argument: &str, number: usize, name: &str) -> bool {
        let declares = |instruction: &Instruction| match instruction {
            Instruction::Arg(args) => args.iter().any(|arg| arg.name == argument),
            _ => false,
        };
        let stage = &self.dockerfile.stages[number];
        let value = if stage.instructions.iter().any(|instruction| declares(&instruction.value)) {
            let declared = self.stages.get(&number).map(|stage| stage.build_args.iter().rev());
            declared.and_then(|mut declared| declared.find(|(known, _)| known == argument)?.1.clone())
        } else {
            self.globals.get(argument).map(str::to_owned)
        };
        value.is_some_and(|value| means_stage(&value, name))
    }
}
