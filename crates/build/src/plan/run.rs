//! `RUN`.

use super::instruction::{clean, with_shell};
use super::scope::Variables;
use super::stage::Numbering;
use super::{Planner, Stage, text};
use crate::dockerfile::{self, Command, ExpandError, Expander, MountFlag, MountKind, Network, Script, Security};
use crate::error::Fault;
use crate::graph::{ContextId, From, Operation, Run, RunMount};
use crate::request::Entitlement;

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
        let security = self.security(run)?;
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
        let mut mounts: Vec<RunMount> = Vec::new();
        for flag in &run.mounts {
            let agents = mounts.iter().filter(|mount| mount.mount.kind == MountKind::Ssh).count();
            mounts.push(self.mount(number, stage, &flag.value, line, agents)?);
        }
        self.hold(stage.variables.size())?;
        let by = text::run(&args, &declared(stage));
        let working_dir = &stage.config.config.working_dir;
        let operation = Operation::Run(Run {
            parent: stage.head,
            args,
            script,
            env: environment(stage, &mounts),
            hidden_env: self.proxies(),
            cwd: if working_dir.is_empty() { "/".to_owned() } else { working_dir.clone() },
            user: stage.config.config.user.clone(),
            mounts,
            network: self.network(run),
            security,
            hostname: self.request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty()).cloned(),
            add_hosts: self.request.add_hosts.clone(),
        });
        let label = numbering.label(source);
        self.layer(stage, operation, line, label, by);
        Ok(())
    }

    /// What the program may do. More than usual is for those who run the build to give, not for a Dockerfile to take.
    fn security(&self, run: &dockerfile::Run) -> Result<Security, Fault> {
        let security = run.security.as_ref().map_or(Security::Sandbox, |security| security.value.clone());
        if security == Security::Insecure && !self.request.allow.contains(&Entitlement::SecurityInsecure) {
            let what = "security.insecure is not allowed: RUN --security=insecure asks for all rights of the builder";
            return Err(Fault::new(what)
                .with_hint("give them with --allow security.insecure, or in a Concourse task with privileged: true"));
        }
        Ok(security)
    }

    /// The network that the program asks for, or that all have.
    fn network(&self, run: &dockerfile::Run) -> Network {
        let asked = run.network.as_ref().map(|network| network.value.clone());
        asked.filter(|asked| *asked != Network::Default).unwrap_or_else(|| self.request.network.clone())
    }

    /// `agents` is how many mounts of agents' sockets come before this one.
    fn mount(
        &mut self,
        number: usize,
        stage: &mut Stage,
        flag: &MountFlag,
        line: usize,
        agents: usize,
    ) -> Result<RunMount, Fault> {
        let lookup = |name: &str| stage.variables.get(name).map(str::to_owned);
        let expander = Expander::new(self.dockerfile.directives.escape, &lookup);
        let mut expand =
            |text: &str| -> Result<String, ExpandError> { Ok(self.look_up_all(stage, &expander, text)?.word) };
        let mut mount = flag.resolve(&mut expand)?;
        let target = match (&mount.target, mount.kind) {
            (Some(target), _) => clean(&stage.config.config.working_dir, target),
            (None, MountKind::Secret) => match (&mount.id, &mount.env) {
                (Some(id), None) => secret_target(id)?,
                (_, Some(_)) => String::new(),
                (None, None) => return Err(Fault::new("RUN --mount=type=secret needs an id, a target or env")),
            },
            (None, MountKind::Ssh) => format!("/run/buildkit/ssh_agent.{agents}"),
            (None, _) => return Err(Fault::new("RUN --mount needs a target")),
        };
        if target == "/" {
            return Err(Fault::new("invalid mount target \"/\""));
        }
        let from = match (&mount.from, mount.kind) {
            (Some(name), MountKind::Bind | MountKind::Cache) => self.source(name, number, stage, line)?,
            _ => From::Context(ContextId::MAIN),
        };
        match mount.kind {
            MountKind::Ssh if mount.source.is_some() => return Err(Fault::new("ssh does not support source")),
            MountKind::Ssh => mount.id = mount.id.or_else(|| Some("default".to_owned())),
            MountKind::Cache if mount.id.is_none() => {
                // As it is written: the same relative path is the same cache in every directory.
                let written = mount.target.as_deref().unwrap_or_default();
                let cleaned = clean("", written);
                let is_absolute = written.starts_with('/');
                mount.id = Some(if is_absolute { cleaned } else { cleaned.trim_start_matches('/').to_owned() });
            }
            _ => {}
        }
        Ok(RunMount { mount, target, from })
    }
}

/// The variables, and where the first agent is unless they say so themselves.
fn environment(stage: &Stage, mounts: &[RunMount]) -> Vec<(String, String)> {
    const NAME: &str = "SSH_AUTH_SOCK";
    let agent = mounts.iter().find(|mount| mount.mount.kind == MountKind::Ssh);
    let agent =
        agent.filter(|_| stage.variables.get(NAME).is_none()).map(|mount| (NAME.to_owned(), mount.target.clone()));
    stage.variables.to_vec().into_iter().chain(agent).collect()
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
