//! Rules that need only the text of the whole file. Each is a function from the file to its remarks.

use std::collections::BTreeSet;

use super::{Remark, Rule};
use crate::dockerfile::{Dockerfile, From, Instruction, Span, Spanned, key_value};

/// Every rule of this kind.
pub(super) const RULES: [fn(&Dockerfile) -> Vec<Remark>; 8] = [
    stage_name_casing,
    from_as_casing,
    no_empty_continuation,
    consistent_instruction_casing,
    duplicate_stage_name,
    reserved_stage_name,
    maintainer_deprecated,
    invalid_definition_description,
];

/// The names that a stage cannot be reached by.
const RESERVED: [&str; 2] = ["context", "scratch"];

fn stage_name_casing(file: &Dockerfile) -> Vec<Remark> {
    let wrong = named(file).filter(|(_, _, name)| *name != name.to_lowercase());
    wrong
        .map(|(from, _, name)| {
            let message = format!("Stage name '{name}' should be lowercase");
            Remark::new(Rule::StageNameCasing, from.span, message).about(name)
        })
        .collect()
}

fn from_as_casing(file: &Dockerfile) -> Vec<Remark> {
    let wrong = named(file).filter(|(from, word, _)| {
        // A `From` is another rule's affair.
        let from = keyword(&from.text);
        (is_lower(from) && !is_lower(word)) || (is_upper(from) && !is_upper(word))
    });
    wrong
        .map(|(from, word, _)| {
            let message = format!("'{word}' and '{}' keywords' casing do not match", keyword(&from.text));
            Remark::new(Rule::FromAsCasing, from.span, message).about(format!(" {word} "))
        })
        .collect()
}

/// The line is the one where the instruction ends, as in BuildKit.
fn no_empty_continuation(file: &Dockerfile) -> Vec<Remark> {
    let remark = |&(_, last): &(usize, usize)| {
        let span = Span { line: last, column: 1, end_line: last };
        Remark::new(Rule::NoEmptyContinuation, span, "Empty continuation line")
    };
    file.notes.empty_continuations.iter().map(remark).collect()
}

fn consistent_instruction_casing(file: &Dockerfile) -> Vec<Remark> {
    let mut keywords: Vec<(&str, Span)> = Vec::new();
    for stage in &file.stages {
        keywords.push((keyword(&stage.from.text), stage.from.span));
        keywords.extend(stage.instructions.iter().map(|instruction| (keyword(&instruction.text), instruction.span)));
    }
    let lower = keywords.iter().filter(|(keyword, _)| is_lower(keyword)).count();
    let upper = keywords.iter().filter(|(keyword, _)| is_upper(keyword)).count();
    let (right, casing): (fn(&str) -> bool, _) =
        if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
    let wrong = keywords.into_iter().filter(|(keyword, _)| !right(keyword));
    wrong
        .map(|(keyword, span)| {
            let message = format!("Command '{keyword}' should match the case of the command majority ({casing})");
            Remark::new(Rule::ConsistentInstructionCasing, span, message)
        })
        .collect()
}

fn duplicate_stage_name(file: &Dockerfile) -> Vec<Remark> {
    let mut seen = BTreeSet::new();
    let again = named(file).filter(|(from, ..)| !seen.insert(&from.value.name));
    again
        .map(|(from, _, name)| {
            let stage = from.value.name.as_deref().unwrap_or_default();
            let message = format!("Duplicate stage name {stage:?}, stage names should be unique");
            Remark::new(Rule::DuplicateStageName, from.span, message).about(name)
        })
        .collect()
}

fn reserved_stage_name(file: &Dockerfile) -> Vec<Remark> {
    let reserved = named(file).filter(|(from, ..)| from.value.name.as_deref().is_some_and(|n| RESERVED.contains(&n)));
    reserved
        .map(|(from, _, name)| {
            let stage = from.value.name.as_deref().unwrap_or_default();
            let message = format!("Stage name should not use the same name as reserved stage {stage:?}");
            Remark::new(Rule::ReservedStageName, from.span, message).about(name)
        })
        .collect()
}

fn maintainer_deprecated(file: &Dockerfile) -> Vec<Remark> {
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let maintainers = instructions.filter(|instruction| matches!(instruction.value, Instruction::Maintainer(_)));
    let message = "Maintainer instruction is deprecated in favor of using label";
    maintainers.map(|instruction| Remark::new(Rule::MaintainerDeprecated, instruction.span, message)).collect()
}

fn invalid_definition_description(file: &Dockerfile) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for args in &file.global_args {
        remarks.extend(description(file, "ARG", args.span, args.value.iter().map(|arg| arg.name.as_str())));
    }
    for stage in &file.stages {
        remarks.extend(description(file, "FROM", stage.from.span, stage.from.value.name.as_deref()));
        for instruction in &stage.instructions {
            if let Instruction::Arg(args) = &instruction.value {
                remarks.extend(description(file, "ARG", instruction.span, args.iter().map(|arg| arg.name.as_str())));
            }
        }
    }
    remarks
}

/// What the last comment above a definition should begin with.
fn description<'n>(
    file: &Dockerfile,
    instruction: &str,
    span: Span,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<Remark> {
    let names: Vec<&str> = names.into_iter().collect();
    let comments = file.notes.comments.get(&span.line)?;
    let is_option = |comment: &str| key_value(comment).is_some_and(|(key, _)| key.eq_ignore_ascii_case("check"));
    let last = comments.iter().rev().find(|comment| !is_option(comment))?;
    let word = last.split(' ').next().unwrap_or_default();
    let example = match names.as_slice() {
        [] => return None,
        names if names.contains(&word) => return None,
        [name] => *name,
        _ => "<arg_key>",
    };
    let message = format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    Some(Remark::new(Rule::InvalidDefinitionDescription, span, message))
}

/// The named stages, with `AS` and the name as they are written.
fn named(file: &Dockerfile) -> impl Iterator<Item = (&Spanned<From>, &str, &str)> {
    file.stages.iter().filter(|stage| stage.from.value.name.is_some()).filter_map(|stage| {
        let mut words = stage.from.text.split_whitespace().rev();
        let name = words.next()?;
        Some((&stage.from, words.next()?, name))
    })
}

/// An instruction's keyword as it is written.
fn keyword(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn is_lower(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_upper(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_lowercase())
}
