//! What each instruction does to a stage.

use std::fmt::Write as _;

use serde_json::json;

use super::stage::Numbering;
use super::{Entry, Planner, Stage, Step, ports, scope, signal, text};
use crate::dockerfile::{Arg, Command, ExpandError, Expanded, Expander, Healthcheck, Instruction, Pairs, Spanned};
use crate::error::Fault;
use crate::graph::{Node, Operation, Workdir};
use crate::lint::{Rule, words};

impl Planner<'_> {
    /// Applies an instruction. `number` is the stage's place, `line` what errors and progress say.
    pub(super) fn instruction(
        &mut self,
        number: usize,
        stage: &mut Stage,
        instruction: &Spanned<Instruction>,
        line: usize,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        let created_by = match &instruction.value {
            Instruction::Arg(args) => self.arg(stage, args)?,
            Instruction::Env(pairs) => self.env(stage, pairs)?,
            Instruction::Label(pairs) => self.label(stage, pairs)?,
            Instruction::Cmd(command) => {
                self.lint_command(stage, command, &instruction.text);
                cmd(stage, command)
            }
            Instruction::Entrypoint(command) => {
                self.lint_command(stage, command, &instruction.text);
                entrypoint(stage, command)
            }
            Instruction::Expose(words) => self.expose(stage, words)?,
            Instruction::Volume(words) => self.volume(stage, words)?,
            Instruction::Healthcheck(check) => healthcheck(stage, check),
            Instruction::Shell(words) => {
                stage.config.config.shell = Some(words.clone());
                format!("SHELL {}", text::plain_list(words))
            }
            Instruction::StopSignal(word) => {
                let word = self.expand(stage, word)?;
                if !signal::is_valid(&word) {
                    return Err(Fault::new(format!("invalid signal: {word}")));
                }
                stage.config.config.stop_signal = Some(word.clone());
                format!("STOPSIGNAL {word}")
            }
            Instruction::User(word) => {
                stage.config.config.user = self.expand(stage, word)?;
                format!("USER {}", stage.config.config.user)
            }
            Instruction::Maintainer(author) => {
                stage.config.author = Some(author.clone());
                format!("MAINTAINER {author}")
            }
            Instruction::Onbuild(trigger) => {
                stage.config.config.on_build.push(trigger.clone());
                stage.steps.push(Step { label: instruction.text.clone(), line, node: None });
                return Ok(());
            }
            Instruction::Workdir(path) => return self.workdir(stage, path, line, &instruction.text, numbering),
            Instruction::Run(run) => return self.run(number, stage, run, line, &instruction.text, numbering),
            Instruction::Copy(copy) => return self.copy(number, stage, copy, line, &instruction.text, numbering),
            Instruction::Add(add) => return self.add(stage, add, line, &instruction.text, numbering),
        };
        stage.entries.push(Entry { created_by, node: None });
        stage.steps.push(Step { label: instruction.text.clone(), line, node: None });
        Ok(())
    }

    /// Makes a node the stage's file system and records it as a step.
    pub(super) fn layer(&mut self, stage: &mut Stage, operation: Operation, line: usize, label: String, by: String) {
        let node = Node { operation, line, label: label.clone(), platform: stage.platform.clone() };
        let node = self.graph.add(node);
        stage.head = node;
        stage.entries.push(Entry { created_by: by, node: Some(node) });
        stage.steps.push(Step { label, line, node: Some(node) });
    }

    /// Expands a text to one word.
    pub(super) fn expand(&self, stage: &Stage, text: &str) -> Result<String, Fault> {
        Ok(self.expanded(stage, text)?.word)
    }

    /// Expands a text to several words.
    pub(super) fn expand_words(&self, stage: &Stage, text: &str) -> Result<Vec<String>, Fault> {
        Ok(self.expanded(stage, text)?.words)
    }

    fn expanded(&self, stage: &Stage, text: &str) -> Result<Expanded, Fault> {
        let lookup = |name: &str| stage.variables.get(name).map(str::to_owned);
        let expander = Expander::new(self.dockerfile.directives.escape, &lookup);
        Ok(self.look_up_all(stage, &expander, text)?)
    }

    /// Expands a text and reports variables that nothing set and no ARG declared.
    pub(super) fn look_up_all(
        &self,
        stage: &Stage,
        expander: &Expander<'_>,
        text: &str,
    ) -> Result<Expanded, ExpandError> {
        let expanded = expander.run(text)?;
        for name in &expanded.unmatched {
            if !scope::means_something(name) && !stage.build_args.iter().any(|(declared, _)| declared == name) {
                let message = words::undefined(name, stage.variables.names());
                self.lint.here(Rule::UndefinedVar, message, &format!("${name}"));
            }
        }
        Ok(expanded)
    }

    fn lint_command(&self, stage: &Stage, command: &Command, text: &str) {
        let has_shell = stage.config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        if matches!(command, Command::Shell(_)) && !has_shell {
            let name = text.split_whitespace().next().unwrap_or_default();
            let why = "to prevent unintended behavior related to OS signals";
            let message = format!("JSON arguments recommended for {name} {why}");
            self.lint.here(Rule::JSONArgsRecommended, message, "");
        }
    }

    fn lint_secret(&self, instruction: &str, name: &str) {
        if let Some(message) = words::secret(instruction, name) {
            self.lint.here(Rule::SecretsUsedInArgOrEnv, message, name);
        }
    }

    fn arg(&mut self, stage: &mut Stage, args: &[Arg]) -> Result<String, Fault> {
        let mut told = Vec::new();
        for arg in args {
            let name = self.expand(stage, &arg.name)?;
            self.lint_secret("ARG", &name);
            let value = match (self.request.build_args.get(&name), &arg.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(self.expand(stage, default)?),
                (None, None) => self.globals.get(&name).map(str::to_owned),
            };
            told.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            if let Some(value) = value.as_ref().filter(|_| !scope::means_something(&name)) {
                stage.variables.set(&name, value)?;
            }
            stage.build_args.push((name.clone(), value));
            self.used_args.insert(name);
        }
        Ok(format!("ARG {}", told.join(" ")))
    }

    /// Every value sees the variables as they were before the instruction.
    fn pairs(&self, stage: &Stage, pairs: &Pairs) -> Result<Vec<(String, String)>, Fault> {
        pairs.pairs.iter().map(|(key, value)| Ok((self.expand(stage, key)?, self.expand(stage, value)?))).collect()
    }

    fn env(&self, stage: &mut Stage, pairs: &Pairs) -> Result<String, Fault> {
        let mut told = "ENV".to_owned();
        for (name, value) in self.pairs(stage, pairs)? {
            if name.is_empty() {
                return Err(Fault::new("ENV names can not be blank"));
            }
            self.lint_secret("ENV", &name);
            let _ = write!(told, " {name}={value}");
            stage.variables.set(&name, &value)?;
            let env = stage.config.config.env.get_or_insert_default();
            let setting = format!("{name}={value}");
            match env.iter_mut().find(|line| line.split('=').next() == Some(&*name)) {
                Some(line) => *line = setting,
                None => env.push(setting),
            }
        }
        Ok(told)
    }

    fn label(&self, stage: &mut Stage, pairs: &Pairs) -> Result<String, Fault> {
        let mut told = "LABEL".to_owned();
        for (name, value) in self.pairs(stage, pairs)? {
            if name.is_empty() {
                return Err(Fault::new("LABEL names can not be blank"));
            }
            let _ = write!(told, " {name}={value}");
            stage.config.config.labels.insert(name, value);
        }
        Ok(told)
    }

    fn expose(&self, stage: &mut Stage, words: &[String]) -> Result<String, Fault> {
        let mut expanded = Vec::new();
        for word in words {
            expanded.extend(self.expand_words(stage, word)?);
        }
        for port in &expanded {
            let casing = words::protocol_casing(port).map(|message| (Rule::ExposeProtoCasing, message));
            let mapping = words::host_port(port).map(|message| (Rule::ExposeInvalidFormat, message));
            for (rule, message) in casing.into_iter().chain(mapping) {
                self.lint.here(rule, message, port);
            }
        }
        let ports = ports::parse(&expanded)?;
        stage.config.config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), json!({}))));
        Ok(format!("EXPOSE {}", text::plain_list(&ports)))
    }

    fn volume(&self, stage: &mut Stage, words: &[String]) -> Result<String, Fault> {
        let mut volumes = Vec::new();
        for word in words {
            volumes.push(self.expand(stage, word)?);
        }
        if volumes.is_empty() || volumes.iter().any(String::is_empty) {
            return Err(Fault::new("VOLUME specified can not be an empty string"));
        }
        stage.config.config.volumes.extend(volumes.iter().map(|path| (path.clone(), json!({}))));
        Ok(format!("VOLUME {}", text::plain_list(&volumes)))
    }

    fn workdir(
        &mut self,
        stage: &mut Stage,
        path: &str,
        line: usize,
        text: &str,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        let path = self.expand(stage, path)?;
        if !stage.workdir_is_set && !path.starts_with('/') {
            let message = format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            self.lint.here(Rule::WorkdirRelativePath, message, &path);
        }
        stage.workdir_is_set = true;
        let path = clean(&stage.config.config.working_dir, &path);
        stage.config.config.working_dir.clone_from(&path);
        let (label, by) = (numbering.label(text), format!("WORKDIR {path}"));
        if path == "/" {
            stage.entries.push(Entry { created_by: by, node: None });
            stage.steps.push(Step { label, line, node: None });
            return Ok(());
        }
        let user = stage.config.config.user.clone();
        let operation = Operation::Workdir(Workdir { parent: stage.head, path, user });
        self.layer(stage, operation, line, label, by);
        Ok(())
    }

    /// What proxies the build was given; RUN gets them without being another RUN.
    pub(super) fn proxies(&self) -> Vec<(String, String)> {
        scope::proxies(self.request)
    }
}

/// `path` below `directory` unless it is absolute; without `.`, `..` and doubled slashes, absolute.
pub(super) fn clean(directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A command as the configuration keeps it: the shell form gets its shell.
pub(super) fn with_shell(stage: &Stage, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) => {
            let shell = stage.config.config.shell.clone().filter(|shell| !shell.is_empty());
            let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            words.push(line.clone());
            words
        }
    }
}

fn cmd(stage: &mut Stage, command: &Command) -> String {
    let words = with_shell(stage, command);
    let told = format!("CMD {}", text::quoted_list(&words));
    stage.config.config.cmd = Some(words).filter(|words| !words.is_empty());
    stage.config.config.args_escaped = Some(true);
    stage.cmd_is_set = true;
    told
}

/// A new entrypoint means that an inherited CMD no longer fits.
fn entrypoint(stage: &mut Stage, command: &Command) -> String {
    let words = with_shell(stage, command);
    let told = format!("ENTRYPOINT {}", text::quoted_list(&words));
    stage.config.config.entrypoint = Some(words).filter(|words| !words.is_empty());
    if !stage.cmd_is_set {
        stage.config.config.cmd = None;
    }
    told
}

fn healthcheck(stage: &mut Stage, check: &Healthcheck) -> String {
    let config = match check {
        Healthcheck::None => {
            skycap_image::Healthcheck { test: vec!["NONE".to_owned()], ..skycap_image::Healthcheck::default() }
        }
        Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
                Command::Exec(words) => [vec!["CMD".to_owned()], words.clone()].concat(),
            };
            let set = |value: i64| (value != 0).then_some(value);
            skycap_image::Healthcheck {
                test,
                interval: set(*interval),
                timeout: set(*timeout),
                start_period: set(*start_period),
                start_interval: set(*start_interval),
                retries: set(i64::from(*retries)),
            }
        }
    };
    let told = format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        text::plain_list(&config.test),
        text::duration(config.interval.unwrap_or_default()),
        text::duration(config.timeout.unwrap_or_default()),
        text::duration(config.start_period.unwrap_or_default()),
        text::duration(config.start_interval.unwrap_or_default()),
        config.retries.unwrap_or_default(),
    );
    stage.config.config.healthcheck = Some(config);
    told
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_joined_and_cannot_climb_above_the_root() {
        for (directory, path, expected) in [
            ("/a", "b", "/a/b"),
            ("/a", "/b", "/b"),
            ("/a", "../../b/./c//", "/b/c"),
            ("", "a", "/a"),
            ("/", "", "/"),
            ("/a", ".", "/a"),
        ] {
            assert_eq!(clean(directory, path), expected);
        }
    }
}
