//! One stage: where it begins, and its instructions in order.

use std::collections::BTreeSet;
use std::rc::Rc;

use skycap_image::{History, Image, ImageConfig, Platform, suggest};

use super::scope::Variables;
use super::{Entry, Planner, Stage, Step};
use crate::dockerfile::{Instruction, Spanned, expand, parse_trigger};
use crate::error::{BuildError, Fault};
use crate::graph::{Base, Node, NodeId, Operation};
use crate::named::{self, NamedContext};
use crate::platform;

/// What BuildKit sets if the base does not.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage begins with.
pub(super) enum Beginning<'a> {
    /// What a context of that name is.
    Given(&'a str, &'a NamedContext),
    /// An earlier stage.
    Stage(usize),
    /// `scratch`
    Nothing,
    /// An image of a registry.
    Registry,
}

/// Numbers the steps of a stage that make layers, as BuildKit does.
pub(super) struct Numbering {
    prefix: String,
    total: usize,
    next: usize,
}

impl Numbering {
    /// The label of the next step.
    pub fn label(&mut self, text: &str) -> String {
        let label = format!("[{}{}/{}] {text}", self.prefix, self.next, self.total);
        self.next += 1;
        label
    }
}

impl Planner<'_> {
    /// A stage with all its instructions; planned once.
    pub(super) fn stage(&mut self, number: usize) -> Result<Rc<Stage>, BuildError> {
        if let Some(stage) = self.stages.get(&number) {
            return Ok(Rc::clone(stage));
        }
        let from = self.dockerfile.stages[number].from.span;
        let (line, file) = (from.line, self.file().to_owned());
        let outer = self.lint.enter(from);
        self.lint.stage(&self.dockerfile.stages[number]);
        if let Some((key, context)) = self.replacement(number) {
            let platform = self.platform.clone();
            let stage = self.on_context(number, &key, &context, platform).map_err(|fault| fault.at(&file, line))?;
            self.lint.enter(outer);
            let stage = Rc::new(stage);
            self.stages.insert(number, Rc::clone(&stage));
            return Ok(stage);
        }
        let (mut stage, triggers) = self.begin(number).map_err(|fault| fault.at(&file, line))?;
        let instructions = self.dockerfile.stages[number].instructions.iter().cloned();
        let all: Vec<(Spanned<Instruction>, bool)> =
            triggers.into_iter().map(|i| (i, true)).chain(instructions.map(|i| (i, false))).collect();
        let mut numbering = self.numbering(number, &stage, &all);
        if !stage.steps.is_empty() {
            // The base of a stage is a step of its own where it is an image.
            let text = stage.steps[0].label.clone();
            stage.steps[0].label = numbering.label(&text);
        }
        for (instruction, is_trigger) in all {
            let span = if is_trigger { from } else { instruction.span };
            self.lint.enter(span);
            let line = span.line;
            self.instruction(number, &mut stage, &instruction, line, &mut numbering)
                .and_then(|()| self.hold(stage.entries.last().map_or(0, |entry| entry.created_by.len())))
                .map_err(|fault| fault.at(&file, line))?;
        }
        self.lint.enter(outer);
        let stage = Rc::new(stage);
        self.stages.insert(number, Rc::clone(&stage));
        Ok(stage)
    }

    /// What FROM gives, and what the base wants to be done first.
    fn begin(&mut self, number: usize) -> Result<(Stage, Vec<Spanned<Instruction>>), Fault> {
        let (name, platform, beginning) = self.beginning(number)?;
        let mut stage = match beginning {
            Beginning::Given(key, context) => {
                let (key, context) = (key.to_owned(), context.clone());
                self.on_context(number, &key, &context, platform)?
            }
            Beginning::Stage(base) => self.on_stage(base)?,
            Beginning::Nothing => self.on_nothing(number, platform),
            Beginning::Registry => {
                let image = self.images.image(&name, &platform);
                let image = image.map_err(|fault| self.with_near_stage(fault, &name, number))?;
                self.lint_platform(&name, &platform, &image);
                self.on_image(number, &name, platform, &image, true)
            }
        };
        let triggers = std::mem::take(&mut stage.config.config.on_build);
        let parsed = triggers.iter().map(|trigger| {
            parse_trigger(trigger, self.file()).map_err(|error| {
                Fault::new(format!("the base's ONBUILD trigger \"{trigger}\" does not parse: {}", error.message))
            })
        });
        let triggers = parsed.collect::<Result<_, _>>()?;
        Ok((stage, triggers))
    }

    /// What FROM names, for what, and what kind of thing that is.
    pub(super) fn beginning(&self, number: usize) -> Result<(String, Platform, Beginning<'_>), Fault> {
        let from = &self.dockerfile.stages[number].from.value;
        let name = self.expand_global(&from.image)?;
        if name.is_empty() {
            return Err(Fault::new(format!("base name ({}) should not be blank", from.image)));
        }
        let mut platform = self.platform.clone();
        if let Some(written) = &from.platform {
            let text = self.expand_global(&written.value)?;
            platform = self.platform_of(&written.value, &text)?;
        }
        let earlier = self.dockerfile.stages[..number].iter().rposition(|s| s.from.value.name.as_ref() == Some(&name));
        let beginning = match (named::find(&self.request.contexts, &name, &platform), earlier) {
            (Some((key, context)), _) => Beginning::Given(key, context),
            (None, Some(base)) => Beginning::Stage(base),
            (None, None) if name == "scratch" => Beginning::Nothing,
            (None, None) => Beginning::Registry,
        };
        Ok((name, platform, beginning))
    }

    /// The platform that an expanded `--platform` names.
    fn platform_of(&self, written: &str, expanded: &str) -> Result<Platform, Fault> {
        let (fault, usual) = match (expanded, platform::parse(expanded)) {
            ("", _) => (Fault::new(format!("empty platform value from expression {written}")), None),
            (_, Ok(platform)) => return Ok(platform),
            (_, Err(error)) => {
                (Fault::new(format!("failed to parse platform {written}: {error}")), Some(error.hint().to_owned()))
            }
        };
        let name = written.trim_start_matches(['$', '{']).trim_end_matches('}');
        let near = suggest::nearest(name, self.globals.names()).map(|near| format!("did you mean {near}?"));
        Err(match near.or(usual) {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        })
    }

    fn expand_global(&self, text: &str) -> Result<String, Fault> {
        let lookup = |name: &str| self.globals.get(name).map(str::to_owned);
        Ok(expand(text, self.dockerfile.directives.escape, &lookup)?)
    }

    fn on_stage(&mut self, base: usize) -> Result<Stage, Fault> {
        let base_stage = self.stage(base).map_err(Fault::planned)?;
        self.hold(base_stage.size())?;
        let mut stage = (*base_stage).clone();
        stage.steps = Vec::new();
        stage.cmd_is_set = false;
        stage.needs = BTreeSet::from([base]);
        Ok(stage)
    }

    fn on_nothing(&mut self, number: usize, platform: Platform) -> Stage {
        let head = self.base(number, "scratch", &platform, Base::default());
        let mut config = ImageConfig::default();
        "/".clone_into(&mut config.config.working_dir);
        self.fresh(head, platform, config)
    }

    pub(super) fn on_image(
        &mut self,
        number: usize,
        name: &str,
        platform: Platform,
        image: &Image,
        is_remote: bool,
    ) -> Stage {
        let base = self.base_of(name, &platform, image, is_remote);
        let head = self.base(number, name, &platform, base);
        let mut stage = self.fresh(head, platform, image.config().clone());
        stage.base_history = aligned_history(image.config());
        let line = self.dockerfile.stages[number].from.span.line;
        stage.steps.push(Step { label: format!("FROM {name}"), line, node: Some(head) });
        stage
    }

    fn base(&mut self, number: usize, name: &str, platform: &Platform, base: Base) -> NodeId {
        let line = self.dockerfile.stages[number].from.span.line;
        let label = format!("FROM {name}");
        self.graph.add(Node { operation: Operation::Base(base), line, label, platform: platform.clone() })
    }

    /// A stage on a base of which only the configuration is known.
    pub(super) fn fresh(&self, head: NodeId, platform: Platform, mut config: ImageConfig) -> Stage {
        let mut env = config.config.env.take().unwrap_or_default();
        if !env.iter().any(|line| line.starts_with("PATH=")) {
            env.push(format!("PATH={PATH}"));
        }
        let variables: Variables = env.iter().map(|line| line.split_once('=').unwrap_or((line, ""))).collect();
        config.config.env = Some(env);
        // What BuildKit has no name for is the base's own affair: how its container was called, or the cache in it.
        config.extra.clear();
        config.config.extra.clear();
        config.config.stop_timeout = None;
        config.created = None;
        config.history = Vec::new();
        config.rootfs.diff_ids = Vec::new();
        // Without a platform that somebody asked for, an image is what its base is.
        if !self.request.platforms.is_empty() || config.os.is_empty() || config.architecture.is_empty() {
            let asked = platform.normalized();
            if config.os != asked.os || config.architecture != asked.architecture || asked.variant.is_some() {
                config.variant = asked.variant;
            }
            config.os = asked.os;
            config.architecture = asked.architecture;
        }
        Stage {
            head,
            platform,
            config,
            base_history: Vec::new(),
            entries: Vec::<Entry>::new(),
            steps: Vec::new(),
            variables,
            build_args: Vec::new(),
            cmd_is_set: false,
            workdir_is_set: false,
            needs: BTreeSet::new(),
        }
    }

    fn numbering(&self, number: usize, stage: &Stage, all: &[(Spanned<Instruction>, bool)]) -> Numbering {
        let makes_layer = |instruction: &Instruction| {
            matches!(
                instruction,
                Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
            )
        };
        let total = stage.steps.len() + all.iter().filter(|(instruction, _)| makes_layer(&instruction.value)).count();
        let name = match (&self.dockerfile.stages[number].from.value.name, self.dockerfile.stages.len()) {
            (_, 1) => String::new(),
            (Some(name), _) => format!("{name} "),
            (None, _) => format!("stage-{number} "),
        };
        let platform = if self.request.platforms.len() > 1 { format!("{} ", stage.platform) } else { String::new() };
        Numbering { prefix: platform + &name, total, next: 1 }
    }
}

/// The history of a base, with as many lines for layers as it has layers (images exist where the two differ).
fn aligned_history(config: &ImageConfig) -> Vec<History> {
    let mut history = config.history.clone();
    let layers = config.rootfs.diff_ids.len();
    let mut told = history.iter().filter(|line| !line.empty_layer).count();
    for line in &mut history {
        if told > layers && !line.empty_layer {
            line.empty_layer = true;
            told -= 1;
        }
    }
    let comment = Some("buildkit.exporter.image.v0".to_owned());
    let missing = History { created: config.created.clone(), comment, ..History::default() };
    history.extend(std::iter::repeat_n(missing, layers - told));
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_image::Digest;

    #[test]
    fn history_and_layers_are_brought_in_line() {
        let layer = |empty_layer| History { empty_layer, ..History::default() };
        for (told, layers, expected) in [
            (vec![layer(false), layer(true)], 1, vec![false, true]),
            (vec![layer(false), layer(false)], 1, vec![true, false]),
            (vec![layer(true)], 2, vec![true, false, false]),
        ] {
            let mut config = ImageConfig { history: told, ..ImageConfig::default() };
            config.rootfs.diff_ids = vec![Digest::sha256(b""); layers];
            let empty: Vec<bool> = aligned_history(&config).iter().map(|line| line.empty_layer).collect();
            assert_eq!(empty, expected);
        }
    }
}
