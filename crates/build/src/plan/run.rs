//! `RUN`.

use super::instruction::{clean, with_shell};
use super::scope::Variables;
use super::stage::Numbering;
use super::{Planner, Stage, text};
use crate::dockerfile::{self, Command, ExpandError, Expander, MountFlag, MountKind, Script, Security};
use crate::error::Fault;
use crate::graph::{From, Operation, Run, RunMount};

impl Planner<'_> {
    /// `RUN`
    pub(super) fn run(
        &mut self,
        number: usize,
        stage: &mut Stage,
        run: &dockerfile::Run,
        line: usize,
        source: &str,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        if run.security.as_ref().is_some_and(|security| security.value == Security::Insecure) {
            return Err(Fault::new("RUN --security=insecure is not allowed: no RUN gets more rights than another"));
        }
        let (args, script) = match run.script() {
            Script::Shell(line) => (with_shell(stage, &Command::Shell(line)), None),
            Script::Exec(words) => (words, None),
            Script::File { name, content } => {
                let path = format!("/dev/pipes/{name}");
                (with_shell(stage, &Command::Shell(path.clone())), Some((path, content)))
            }
        };
        if args.is_empty() {
            return Err(Fault::new("RUN has nothing to run"));
        }
        let mut mounts = Vec::new();
        for flag in &run.mounts {
            mounts.push(self.mount(number, stage, &flag.value, line)?);
        }
        self.hold(stage.variables.size())?;
        let by = text::run(&args, &declared(stage));
        let working_dir = &stage.config.config.working_dir;
        let operation = Operation::Run(Run {
            parent: stage.head,
            args,
            script,
            env: stage.variables.to_vec(),
            hidden_env: self.proxies(),
            cwd: if working_dir.is_empty() { "/".to_owned() } else { working_dir.clone() },
            user: stage.config.config.user.clone(),
            mounts,
            network: run.network.as_ref().map_or(dockerfile::Network::Default, |network| network.value.clone()),
            add_hosts: self.request.add_hosts.clone(),
        });
        let label = numbering.label(source);
        self.layer(stage, operation, line, label, by);
        Ok(())
    }

    fn mount(&mut self, number: usize, stage: &mut Stage, flag: &MountFlag, line: usize) -> Result<RunMount, Fault> {
        let lookup = |name: &str| stage.variables.get(name).map(str::to_owned);
        let expander = Expander::new(self.dockerfile.directives.escape, &lookup);
        let mut expand = |text: &str| -> Result<String, ExpandError> { Ok(expander.run(text)?.word) };
        let mount = flag.resolve(&mut expand)?;
        let target = match (&mount.target, mount.kind) {
            (Some(target), _) => clean(&stage.config.config.working_dir, target),
            (None, MountKind::Secret) => match (&mount.id, &mount.env) {
                (Some(id), None) => secret_target(id)?,
                (_, Some(_)) => String::new(),
                (None, None) => return Err(Fault::new("RUN --mount=type=secret needs an id, a target or env")),
            },
            (None, MountKind::Ssh) => String::new(),
            (None, _) => return Err(Fault::new("RUN --mount needs a target")),
        };
        if target == "/" {
            return Err(Fault::new("invalid mount target \"/\""));
        }
        let from = match (&mount.from, mount.kind) {
            (Some(name), MountKind::Bind | MountKind::Cache) => self.source(name, number, stage, line)?,
            _ => From::Context,
        };
        match mount.kind {
            MountKind::Ssh => {
                Err(Fault::new("RUN --mount=type=ssh is not supported yet: no agent can be handed to the build"))
            }
            MountKind::Cache if mount.from.is_some() || mount.source.is_some() => Err(Fault::new(
                "RUN --mount=type=cache with from or source (a seed for the cache) is not supported yet",
            )),
            _ => Ok(RunMount { mount, target, from }),
        }
    }
}

/// Where a secret is unless something is said: a file that is called like the last part of its id.
fn secret_target(id: &str) -> Result<String, Fault> {
    match id.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => {
            let what = format!("the secret id {id:?} does not end in a file's name");
            Err(Fault::new(what).with_hint("say where it is to be: target=/run/secrets/NAME"))
        }
        Some(name) => Ok(format!("/run/secrets/{name}")),
    }
}

/// Declared arguments and what they are worth now, each once.
fn declared(stage: &Stage) -> Vec<(String, String)> {
    let value = |name: &str, declared: &Option<String>| {
        stage.variables.get(name).map(str::to_owned).or_else(|| declared.clone()).unwrap_or_default()
    };
    let pairs = stage.build_args.iter().map(|(name, declared)| (name.clone(), value(name, declared)));
    pairs.collect::<Variables>().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_called_like_the_last_part_of_its_id() {
        for (id, target) in [
            ("token", Some("/run/secrets/token")),
            ("team/app/token", Some("/run/secrets/token")),
            ("../../etc/passwd", Some("/run/secrets/passwd")),
            ("a/", Some("/run/secrets/a")),
            ("..", None),
            ("a/.", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(secret_target(id).ok().as_deref(), target, "{id}");
        }
    }
}
