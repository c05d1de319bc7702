//! Rules that need only the text of one stage, and are asked for stages that count.

use super::{Remark, Rule};
use crate::dockerfile::{Instruction, Span, Stage};

/// Every rule of this kind.
pub(super) const RULES: [fn(&Stage) -> Vec<Remark>; 2] = [multiple_instructions_disallowed, legacy_key_value_format];

/// The place is that of the instruction that does not count.
fn multiple_instructions_disallowed(stage: &Stage) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let mut before: Option<Span> = None;
        for instruction in stage.instructions.iter().filter(|instruction| instruction.value.name() == name) {
            let written = instruction.text.split_whitespace().next().unwrap_or(name);
            let why = "should not be used in the same stage because only the last one will be used";
            let message = format!("Multiple {written} instructions {why}");
            remarks.extend(before.map(|span| Remark::new(Rule::MultipleInstructionsDisallowed, span, message)));
            before = Some(instruction.span);
        }
    }
    remarks
}

fn legacy_key_value_format(stage: &Stage) -> Vec<Remark> {
    let legacy = stage.instructions.iter().filter(
        |instruction| matches!(&instruction.value, Instruction::Env(pairs) | Instruction::Label(pairs) if pairs.legacy),
    );
    legacy
        .map(|instruction| {
            let name = instruction.text.split_whitespace().next().unwrap_or_default();
            let message = format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
            Remark::new(Rule::LegacyKeyValueFormat, instruction.span, message)
        })
        .collect()
}
