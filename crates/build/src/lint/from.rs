//! Rules of `FROM` lines: they need to know what global arguments there are and what they are worth.

use std::collections::BTreeMap;

use skycap_image::{Reference, suggest};

use super::{Remark, Rule};
use crate::dockerfile::{Expanded, Expander, From, Spanned};
use crate::platform;

/// A `FROM` line and what it sees.
pub(crate) struct FromLine<'a> {
    pub from: &'a Spanned<From>,
    /// The file's escape character.
    pub escape: char,
    /// Global arguments that have a value.
    pub globals: &'a BTreeMap<String, String>,
    /// Global arguments that are declared.
    pub declared: &'a [&'a str],
    /// What the values are if the build gets no arguments; none if they do not expand.
    pub defaults: Option<&'a BTreeMap<String, String>>,
}

/// Every rule of this kind.
const RULES: [fn(&FromLine<'_>) -> Vec<Remark>; 4] = [
    undefined_arg_in_from,
    redundant_target_platform,
    from_platform_flag_const_disallowed,
    invalid_default_arg_in_from,
];

impl FromLine<'_> {
    /// What the rules say about the line.
    pub fn remarks(&self) -> Vec<Remark> {
        RULES.iter().flat_map(|rule| rule(self)).collect()
    }

    fn expand(&self, text: &str, values: &BTreeMap<String, String>) -> Option<Expanded> {
        Expander::new(self.escape, &|name| values.get(name).cloned()).run(text).ok()
    }

    fn remark(&self, rule: Rule, message: String) -> Remark {
        Remark::new(rule, self.from.span, message)
    }

    /// `--platform`, as written and expanded.
    fn platform(&self) -> Option<(&str, Expanded)> {
        let written = self.from.value.platform.as_ref()?.value.as_str();
        Some((written, self.expand(written, self.globals)?))
    }
}

fn undefined_arg_in_from(line: &FromLine<'_>) -> Vec<Remark> {
    let image = line.expand(&line.from.value.image, line.globals);
    let words = image.into_iter().chain(line.platform().map(|(_, platform)| platform));
    let unknown = words
        .flat_map(|word| word.unmatched)
        .filter(|name| !line.declared.contains(&name.as_str()) && !line.globals.contains_key(name));
    unknown
        .map(|name| {
            let known = line.declared.iter().copied().chain(line.globals.keys().map(String::as_str));
            let guess = suggest::nearest(&name, known).map(|known| format!(" (did you mean {known}?)"));
            let message = format!("FROM argument '{name}' is not declared{}", guess.unwrap_or_default());
            line.remark(Rule::UndefinedArgInFrom, message).about(name)
        })
        .collect()
}

fn redundant_target_platform(line: &FromLine<'_>) -> Vec<Remark> {
    let Some((written, platform)) = line.platform() else { return Vec::new() };
    let only = platform.unmatched.is_empty() && platform.matched.iter().eq(["TARGETPLATFORM"]);
    if !only || line.globals.get("TARGETPLATFORM") != Some(&platform.word) {
        return Vec::new();
    }
    let message =
        format!("Setting platform to predefined {written} in FROM is redundant as this is the default behavior");
    vec![line.remark(Rule::RedundantTargetPlatform, message).about("--platform")]
}

/// A stage that is called after its system or architecture may name it.
fn from_platform_flag_const_disallowed(line: &FromLine<'_>) -> Vec<Remark> {
    let Some((_, expanded)) = line.platform() else { return Vec::new() };
    if !expanded.matched.is_empty() || !expanded.unmatched.is_empty() {
        return Vec::new();
    }
    let Ok(platform) = platform::parse(&expanded.word) else {
        return Vec::new();
    };
    let name = line.from.value.name.as_deref().unwrap_or_default();
    if name.contains(&platform.os) || name.contains(&platform.architecture) {
        return Vec::new();
    }
    let message = format!("FROM --platform flag should not use constant value {:?}", expanded.word);
    vec![line.remark(Rule::FromPlatformFlagConstDisallowed, message).about("--platform")]
}

fn invalid_default_arg_in_from(line: &FromLine<'_>) -> Vec<Remark> {
    let image = &line.from.value.image;
    let Some(expanded) = line.defaults.and_then(|values| line.expand(image, values)) else { return Vec::new() };
    if expanded.word.parse::<Reference>().is_ok() {
        return Vec::new();
    }
    let message = format!("Default value for ARG {image} results in empty or invalid base image name");
    vec![line.remark(Rule::InvalidDefaultArgInFrom, message).about(image)]
}
