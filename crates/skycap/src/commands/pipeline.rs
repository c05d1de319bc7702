//! `skycap run`, `watch`, `validate` and `plan`: pipelines on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use skycap_image::Digest;
use skycap_pipeline::config::StepConfig;
use skycap_pipeline::{Config, Options, PutReport, Puts, Ran, Report, Runner, Vars};
use skycap_registry::Settings;
use skycap_store::Store;

use super::{Context, pairs, threads};
use crate::args::{Plan, Run, RunnerArgs, Validate, VarArgs, Watch};
use crate::failure::Failure;
use crate::report::{Steps, Style};

/// A pipeline with everything that running it takes.
pub struct Pipeline<'a> {
    pub config: Config,
    pub options: Options,
    /// Who answers for which host.
    pub hosts: BTreeMap<String, String>,
    pub store: Store,
    pub context: &'a Context,
}

impl Pipeline<'_> {
    fn runner(self) -> Result<Runner, Failure> {
        let context = self.context;
        let settings = Settings { hosts: self.hosts, ..context.settings()? };
        let host = context.host_with(settings)?;
        let options = Options { threads: threads(), kill: context.kill.clone(), ..self.options };
        let events = Arc::new(Steps::new(context.world.terminal.colour, context.debug));
        Ok(Runner::new(self.config, host, self.store, context.shared_sandbox()?, options, events)?)
    }

    /// Runs a job, or the only one, and says what came out. The exit code is that of `fly watch`.
    pub fn run(self, job: Option<&str>, if_changed: bool) -> Result<ExitCode, Failure> {
        let job = job.map_or_else(|| only_job(&self.config), |job| Ok(job.to_owned()))?;
        let context = self.context;
        let runner = self.runner()?;
        let ran =
            if if_changed { runner.run_if_changed(&job, &context.cancel) } else { runner.run(&job, &context.cancel) };
        Ok(summary(&job, &ran?, Style::new(context.world.terminal.colour)))
    }
}

/// `skycap run`.
pub fn run(arguments: &Run, context: &Context) -> Result<ExitCode, Failure> {
    let mut pipeline = open(&arguments.pipeline, &arguments.runner, context)?;
    let inputs = pairs(&arguments.inputs, "--input")?;
    check_inputs(&inputs, &pipeline.config)?;
    pipeline.options.inputs = inputs.into_iter().map(|(name, directory)| (name, directory.into())).collect();
    pipeline.options.puts = if arguments.skip_put { Puts::Skip } else { Puts::Allow };
    pipeline.run(arguments.job.as_deref(), arguments.if_changed)
}

/// An input that replaces nothing would let the job run on what it was meant to be kept from.
fn check_inputs(inputs: &BTreeMap<String, String>, config: &Config) -> Result<(), Failure> {
    let mut gets = BTreeSet::new();
    for job in &config.jobs {
        job.step().visit(&mut |step| {
            if let StepConfig::Get(get) = step {
                gets.insert(get.name.clone());
            }
        });
    }
    for (name, directory) in inputs {
        if !gets.contains(name) {
            let known: Vec<&str> = gets.iter().map(String::as_str).collect();
            return Err(Failure::usage(format!("-i {name}={directory}: no get is called {name}"))
                .with_hint(format!("gets are {}", known.join(", "))));
        }
        if !Path::new(directory).is_dir() {
            return Err(Failure::usage(format!("-i {name}={directory}: this is not a directory")));
        }
    }
    Ok(())
}

/// `skycap watch`.
pub fn watch(arguments: &Watch, context: &Context) -> Result<(), Failure> {
    let mut pipeline = open(&arguments.pipeline, &arguments.runner, context)?;
    pipeline.options.puts = Puts::Allow;
    let style = Style::new(context.world.terminal.colour);
    Ok(pipeline.runner()?.watch(&context.cancel, &mut |report| print_report(report, style))?)
}

/// `skycap validate`, in the words of `fly validate-pipeline`.
pub fn validate(arguments: &Validate) -> Result<(), Failure> {
    let config = load(&arguments.pipeline, &vars(&arguments.vars)?)?;
    let found = config.validate();
    for warning in &found.warnings {
        say!("warning: {}:{}: {}", arguments.pipeline.display(), warning.at, warning.message);
    }
    for (key, at) in &config.unknown {
        say!("warning: {}:{at}: unknown top-level key {key:?} is ignored", arguments.pipeline.display());
    }
    let odd = !found.warnings.is_empty() || !config.unknown.is_empty();
    if !found.is_sound() || (arguments.strict && odd) {
        return Err(Failure::new(format!("configuration invalid\n{found}")));
    }
    show!("looks good");
    Ok(())
}

/// `skycap plan`.
pub fn plan(arguments: &Plan) -> Result<(), Failure> {
    let config = load(&arguments.pipeline, &vars(&arguments.vars)?)?;
    let job = arguments.job.clone().map_or_else(|| only_job(&config), Ok)?;
    show!("{}", skycap_pipeline::plan(&config, &job)?);
    Ok(())
}

fn open<'a>(path: &Path, arguments: &RunnerArgs, context: &'a Context) -> Result<Pipeline<'a>, Failure> {
    let config = load(path, &vars(&arguments.vars)?)?;
    let state = arguments.state.clone().map_or_else(|| state_directory(path, context), Ok)?;
    let name = path.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy().into_owned());
    let options = Options {
        secrets: secrets(&arguments.vars)?,
        native: !arguments.no_native,
        base_types: pairs(&arguments.base_type, "--base-type")?,
        ..Options::new(name, state)
    };
    Ok(Pipeline { config, options, hosts: context.hosts()?, store: context.store()?, context })
}

/// One directory a pipeline file: its name for people, its path's digest to tell namesakes apart.
fn state_directory(pipeline: &Path, context: &Context) -> Result<PathBuf, Failure> {
    let path = fs::canonicalize(pipeline)?;
    let digest = Digest::sha256(path.as_os_str().as_encoded_bytes()).hex();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(context.world.state.directory().join("pipelines").join(format!("{stem}-{}", &digest[..12])))
}

/// Reads a pipeline and says what Concourse would say of it.
fn load(path: &Path, vars: &Vars) -> Result<Config, Failure> {
    let text = read_file(path)?;
    read(&text, &path.display().to_string(), vars)
}

/// A pipeline that Concourse would accept; its errors are exit code 2, as for anything that is not a build's fault.
pub fn read(text: &[u8], name: &str, vars: &Vars) -> Result<Config, Failure> {
    let config = skycap_pipeline::load(text, name, vars).map_err(|error| Failure {
        hint: error.hint.clone(),
        code: 2,
        ..Failure::new(error.to_string())
    })?;
    let found = config.validate();
    if found.is_sound() { Ok(config) } else { Err(Failure::usage(format!("{name} is not a valid pipeline\n{found}"))) }
}

fn only_job(config: &Config) -> Result<String, Failure> {
    match &config.jobs[..] {
        [job] => Ok(job.name.clone()),
        jobs => {
            let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
            Err(Failure::usage("which job?").with_hint(format!("name one of {}", names.join(", "))))
        }
    }
}

/// Files first, so that `-v` and `-y` win over them.
fn vars(arguments: &VarArgs) -> Result<Vars, Failure> {
    let mut vars = Vars::default();
    for path in &arguments.var_files {
        add_file(&mut vars, path)?;
    }
    for (name, text) in pairs(&arguments.vars, "--var")? {
        vars.set_text(&name, &text)?;
    }
    for (name, yaml) in pairs(&arguments.yaml_vars, "--yaml-var")? {
        vars.set_yaml(&name, &yaml)?;
    }
    Ok(vars)
}

/// Numbers in a secrets file are what a credential manager would give, not what fly makes of a file of vars.
fn secrets(arguments: &VarArgs) -> Result<Vars, Failure> {
    let mut secrets = Vars::default();
    if let Some(path) = &arguments.secrets {
        secrets.add_secrets(&path.display().to_string(), &read_file(path)?)?;
    }
    Ok(secrets)
}

fn add_file(vars: &mut Vars, path: &Path) -> Result<(), Failure> {
    Ok(vars.add_file(&path.display().to_string(), &read_file(path)?)?)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error))
}

/// What came of a run, on stdout: which versions went in, what was pushed.
fn summary(job: &str, ran: &Ran, style: Style) -> ExitCode {
    match ran {
        Ran::Unchanged(build) => {
            show!("{job}: nothing changed since build {build}, nothing to do");
            ExitCode::SUCCESS
        }
        Ran::Build(report) => {
            print_report(report, style);
            ExitCode::from(report.outcome.exit_code())
        }
    }
}

fn print_report(report: &Report, style: Style) {
    show!("{} build {}: {}", style.strong(&report.job), report.name, report.outcome);
    for get in &report.gets {
        let version = get.version.as_ref().map_or_else(|| "a local directory".to_owned(), words);
        show!("  got    {} {version}", get.name);
    }
    for put in &report.puts {
        match &put.version {
            None => show!("  skipped the put {}", put.name),
            Some(version) => show!("  pushed {}", pushed(put, version)),
        }
    }
}

/// An image by its reference, anything else by the put's name and version.
fn pushed(put: &PutReport, version: &BTreeMap<String, String>) -> String {
    match (&put.repository, version.get("tag"), version.get("digest")) {
        (Some(repository), Some(tag), Some(digest)) => format!("{repository}:{tag}@{digest}"),
        _ => format!("{} {}", put.name, words(version)),
    }
}

fn words(version: &BTreeMap<String, String>) -> String {
    let fields: Vec<String> = version.iter().map(|(name, value)| format!("{name}={value}")).collect();
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_was_pushed_is_shown_by_its_reference() {
        let version = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let put = PutReport {
            name: "my-image".to_owned(),
            resource: "my-image".to_owned(),
            kind: "registry-image".to_owned(),
            repository: Some("registry.example/hello".to_owned()),
            version: None,
            metadata: Vec::new(),
        };
        let image = version(&[("tag", "latest"), ("digest", "sha256:1")]);
        assert_eq!(pushed(&put, &image), "registry.example/hello:latest@sha256:1");
        assert_eq!(pushed(&put, &version(&[("ref", "abc")])), "my-image ref=abc");
    }
}
