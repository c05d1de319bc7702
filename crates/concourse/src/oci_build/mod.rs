//! The task that builds images: parameters in, images in output directories out.
//!
//! [`Params`] say what was asked for; [`run`] reads the files that they name, has the images built and exports those whose
//! output directory is there. Everything that can be wrong with the parameters is found before anything is built.

mod images;
mod output;
mod params;
mod values;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_build::ignore::Ignore;
use skycap_build::{BuildError, Request, World, build};
use skycap_image::{Event, Image, Secret};
use skycap_registry::Keychain;
use skycap_sandbox::Cancel;

pub use self::params::{Params, SecretSource};

use self::images::{AtHand, Images};
use self::output::Form;
use crate::failure::chain;
use crate::files::io_failure;
use crate::inputs::{Inputs, Reader};
use crate::progress::Talkative;
use crate::{Failure, Fetcher, Host, Workshop};

/// The output of the target that is built last.
const IMAGE: &str = "image";

/// What was exported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// The names of the output directories that were filled, in order.
    pub outputs: Vec<String>,
}

/// Builds in `working_directory`, where the inputs and the outputs that the task declares are directories.
///
/// The last target goes to `image`, additional ones to directories of their names; those that are not there are built all
/// the same and exported nowhere. An output that has a `digest` is whole; a failed build leaves the outputs as they were.
pub fn run(
    params: &Params,
    working_directory: &Path,
    host: &Host,
    workshop: &Workshop<'_>,
) -> Result<Outcome, Failure> {
    run_cancellable(params, working_directory, host, workshop, &Cancel::new())
}

/// Like [`run`], but ends the build, with everything that it runs, soon after it is cancelled.
pub fn run_cancellable(
    params: &Params,
    working_directory: &Path,
    host: &Host,
    workshop: &Workshop<'_>,
    cancel: &Cancel,
) -> Result<Outcome, Failure> {
    let host = &if params.debug { host.clone().with_progress(Talkative::around(&host.progress)) } else { host.clone() };
    let inputs = Inputs::new(Reader::Task, working_directory, host.confinement())?;
    let files = Files(&inputs);
    let keychain = match &params.docker_config {
        Some(directory) => files.keychain(directory)?,
        None => host.keychain.clone(),
    };
    let images = Images::new(host.client.clone(), keychain, &params.registry_mirrors, Arc::clone(&host.progress))?;
    let request = Request { cancel: cancel.clone(), ..request(params, &files, workshop)? };
    for target in &request.targets {
        let note = target.as_ref().map_or_else(|| "building image".to_owned(), |t| format!("building target '{t}'"));
        host.progress.event(Event::Note(&note));
    }

    let world = World {
        resolver: &images,
        remote: &Fetcher::new(host),
        store: workshop.store,
        sandbox: workshop.sandbox,
        progress: &*host.progress,
    };
    let built = build(&request, &world);
    let built = built.map_err(|error| failed(&error))?;
    let per_target = built.len().checked_div(request.targets.len()).unwrap_or_default().max(1);
    let built: Vec<Image> = built.into_iter().map(|built| built.image).collect();
    let form = match (params.output_oci, params.unpack_rootfs) {
        (true, _) => Form::Oci,
        (false, true) => Form::DockerWithFiles,
        (false, false) => Form::Docker,
    };
    let mut outcome = Outcome::default();
    for (images, name) in built.chunks(per_target).zip(output_names(&request.targets)) {
        let directory = inputs.find_if_there("the output", Path::new(&name))?;
        if let Some(directory) = directory.filter(|directory| directory.is_dir()) {
            output::export(images, &directory, form, host)?;
            outcome.outputs.push(name);
        } else if name == IMAGE {
            let warning = "nothing was exported: there is no output named `image`";
            host.progress.event(Event::Warning(warning));
        }
    }
    if let Some(path) = &params.response_path {
        let mut file = inputs.create("response_path", path).map_err(|failure| failure.during("write response"))?;
        let written = file.write_all(b"{\"outputs\":[\"image\",\"cache\"]}\n");
        written.map_err(|error| io_failure("write", path, &error).during("write response"))?;
    }
    Ok(outcome)
}

/// Where targets go; the last one is the image.
fn output_names(targets: &[Option<String>]) -> impl Iterator<Item = String> {
    let last = targets.len().saturating_sub(1);
    let name = move |(position, target): (usize, &Option<String>)| match target {
        Some(target) if position < last => target.clone(),
        _ => IMAGE.to_owned(),
    };
    targets.iter().enumerate().map(name)
}

fn failed(error: &BuildError) -> Failure {
    let failure = Failure::caused_by(error);
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn request(params: &Params, files: &Files<'_>, workshop: &Workshop<'_>) -> Result<Request, Failure> {
    let context = files.context(&params.context)?;
    let dockerfile = params.dockerfile.clone().unwrap_or_else(|| context.join("Dockerfile"));
    let text = files.0.read("DOCKERFILE", &dockerfile)?;
    let ignore = files.ignore(&context, &dockerfile)?;
    let at_hand = AtHand::open(&params.image_args, files.0)?;
    let mut build_args = files.build_args(params)?;
    build_args.extend(at_hand.arguments);
    if let Some(epoch) = params.source_date_epoch {
        build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert_with(|| epoch.to_string());
    }
    Ok(Request {
        ignore,
        dockerfile_name: dockerfile.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        targets: files.targets(params)?,
        source_date_epoch: params.source_date_epoch,
        build_args,
        labels: files.labels(params)?,
        platforms: values::platforms(&params.image_platform)?,
        contexts: at_hand.contexts,
        secrets: files.secrets(params)?,
        add_hosts: values::hosts(&params.add_hosts)?,
        docker_media_types: !params.output_oci,
        scratch: workshop.scratch.map(Path::to_owned),
        threads: workshop.threads,
        ..Request::new(context, text)
    })
}

/// The files that parameters name.
struct Files<'f>(&'f Inputs);

impl Files<'_> {
    fn text(&self, setting: &str, path: &Path, context: &str) -> Result<String, Failure> {
        self.0.text(setting, path).map_err(|failure| failure.during(format_args!("config: {context}")))
    }

    fn context(&self, path: &Path) -> Result<PathBuf, Failure> {
        let found = self.0.find_if_there("CONTEXT", path)?.filter(|context| context.is_dir());
        found.ok_or_else(|| {
            let path = self.0.directory().join(path);
            Failure::new(format!("the build context {} is no directory", path.display()))
                .with_hint("CONTEXT is relative to the task's working directory; is the input there?")
        })
    }

    /// `<dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
    fn ignore(&self, context: &Path, dockerfile: &Path) -> Result<Ignore, Failure> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), context.join(".dockerignore")] {
            if let Some(bytes) = self.0.read_if_there(".dockerignore", &path)? {
                let parsed = Ignore::parse(&bytes);
                return parsed.map_err(|error| Failure::new(chain(&error)).during(path.display()));
            }
        }
        Ok(Ignore::default())
    }

    fn keychain(&self, directory: &Path) -> Result<Keychain, Failure> {
        let path = directory.join("config.json");
        let Some(bytes) = self.0.read_if_there("DOCKER_CONFIG", &path)? else { return Ok(Keychain::default()) };
        let keychain = Keychain::from_docker_config(&bytes);
        keychain.map_err(|error| Failure::from(error).during(self.0.directory().join(path).display()))
    }

    /// Additional targets first; `None` is the last stage.
    fn targets(&self, params: &Params) -> Result<Vec<Option<String>>, Failure> {
        let mut targets: Vec<Option<String>> =
            params.additional_targets.iter().filter(|target| !target.is_empty()).cloned().map(Some).collect();
        if let Some(target) = targets.iter().flatten().find(|target| target.contains('/') || *target == "..") {
            return Err(Failure::new(format!("ADDITIONAL_TARGETS: {target:?} is no name of a stage")));
        }
        let last = match &params.target_file {
            Some(path) => self.text("TARGET_FILE", path, "read target file")?.trim().to_owned(),
            None => params.target.clone(),
        };
        targets.push(Some(last).filter(|target| !target.is_empty()));
        Ok(targets)
    }

    fn build_args(&self, params: &Params) -> Result<BTreeMap<String, String>, Failure> {
        let mut arguments = pairs("build argument", &params.build_args)?;
        if let Some(path) = &params.build_args_file {
            let is_yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
            if is_yaml {
                let context = "read build args yaml file";
                let map = values::yaml_map(&self.text("BUILD_ARGS_FILE", path, context)?);
                arguments.extend(map.map_err(|error| Failure::new(format!("config: {context}: {error}")))?);
            } else {
                let text = self.text("BUILD_ARGS_FILE", path, "read build args file")?;
                arguments.extend(pairs("build argument", &values::lines(&text))?);
            }
        }
        Ok(arguments)
    }

    fn labels(&self, params: &Params) -> Result<BTreeMap<String, String>, Failure> {
        let mut labels = pairs("label", &params.labels)?;
        if let Some(path) = &params.labels_file {
            labels.extend(pairs("label", &values::lines(&self.text("LABELS_FILE", path, "read labels file")?))?);
        }
        Ok(labels)
    }

    fn secrets(&self, params: &Params) -> Result<BTreeMap<String, Secret>, Failure> {
        let secret = |id: &String, source: &SecretSource| match source {
            SecretSource::Text(text) => Ok(text.clone()),
            SecretSource::File(path) => {
                let text = self.0.text(&format!("BUILDKIT_SECRET_{id}"), path);
                text.map(Secret::new).map_err(|failure| failure.during(format_args!("secret {id:?}")))
            }
        };
        params.secrets.iter().map(|(id, source)| Ok((id.clone(), secret(id, source)?))).collect()
    }
}

/// Later ones win.
fn pairs(what: &str, texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    texts.iter().map(|text| values::pair(what, text)).collect()
}
