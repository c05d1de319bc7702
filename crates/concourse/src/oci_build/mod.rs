//! The task that builds images: parameters in, images in output directories out.
//!
//! [`Params`] say what was asked for; [`run`] reads the files that they name, has the images built and exports those whose
//! output directory is there. Everything that can be wrong with the parameters is found before anything is built.

mod at_hand;
mod cache;
mod contexts;
mod extra_config;
mod output;
mod params;
mod registries;
mod request;
mod ssh;
mod values;

use std::io::Write as _;
use std::path::Path;

use skycap_build::{BuildError, Built, Request, World, attest, build};
use skycap_image::{Artifact, Event, Kind};
use skycap_sandbox::Cancel;

pub use self::params::{Login, Params, SecretSource};

use self::output::Form;
use self::registries::{Registries, connected};
use crate::files::io_failure;
use crate::inputs::{Inputs, Reader};
use crate::progress::Talkative;
use crate::{Failure, Fetcher, Host, Workshop};

/// The output of the target that is built last.
const IMAGE: &str = "image";
const DENIED: &str = "a private base needs credentials: DOCKER_CONFIG names a directory with config.json; LOGIN=PASS and \
                      LOGIN=ECR log in";
const UNKNOWN_ISSUER: &str = "name the authority's certificate in REGISTRY_CA_CERTS";

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
    let host = if params.debug { host.clone().with_progress(Talkative::around(&host.progress)) } else { host.clone() };
    let inputs = Inputs::new(Reader::Task, working_directory, host.confinement())?;
    let host = &connected(params, &inputs, &host)?;
    let request = request::read(params, &inputs, workshop)?;
    let registries = Registries::open(params, &inputs, host)?;
    let request = Request {
        cache_from: cache::sources(&params.cache_from, &registries, &inputs)?,
        cache_to: cache::targets(&params.cache_to, &registries, &inputs)?,
        cancel: cancel.clone(),
        ..request
    };
    for target in &request.targets {
        let note = target.as_ref().map_or_else(|| "building image".to_owned(), |t| format!("building target '{t}'"));
        host.progress.event(Event::Note(&note));
    }

    let world = World {
        resolver: &registries,
        remote: &Fetcher::new(host),
        store: workshop.store,
        sandbox: workshop.sandbox,
        progress: &*host.progress,
    };
    let built = build(&request, &world).map_err(|error| failed(&error))?;
    let per_target = built.len().checked_div(request.targets.len()).unwrap_or_default().max(1);
    let artifact = |built: &[Built]| attest::artifact(&request, workshop.store, &built.iter().collect::<Vec<_>>(), &[]);
    let artifacts = built.chunks(per_target).map(artifact).collect::<Result<Vec<_>, _>>();
    let artifacts = artifacts.map_err(|error| failed(&error))?;
    let outcome = export(&artifacts, &request.targets, params, &inputs, host)?;
    respond(params, &inputs)?;
    Ok(outcome)
}

/// Fills the outputs that are there.
fn export(
    built: &[Artifact],
    targets: &[Option<String>],
    params: &Params,
    inputs: &Inputs,
    host: &Host,
) -> Result<Outcome, Failure> {
    let form = match (params.output_oci, params.unpack_rootfs) {
        (true, _) => Form::Oci,
        (false, true) => Form::DockerWithFiles,
        (false, false) => Form::Docker,
    };
    let mut outcome = Outcome::default();
    for (artifact, name) in built.iter().zip(output_names(targets)) {
        let directory = inputs.find_if_there("the output", Path::new(&name))?;
        if let Some(directory) = directory.filter(|directory| directory.is_dir()) {
            output::export(artifact, &directory, form, host)?;
            outcome.outputs.push(name);
        } else if name == IMAGE {
            let warning = "nothing was exported: there is no output named `image`";
            host.progress.event(Event::Warning(warning));
        }
    }
    Ok(outcome)
}

/// Says which outputs there are, in the words of the original.
fn respond(params: &Params, inputs: &Inputs) -> Result<(), Failure> {
    let Some(path) = &params.response_path else { return Ok(()) };
    let mut file = inputs.create("response_path", path).map_err(|failure| failure.during("write response"))?;
    let written = file.write_all(b"{\"outputs\":[\"image\",\"cache\"]}\n");
    written.map_err(|error| io_failure("write", path, &error).during("write response"))
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
    let hint = match (error.hint(), failure.kind()) {
        (Some(hint), _) => hint,
        (None, Some(Kind::Denied)) => DENIED,
        (None, _) if failure.message.contains("UnknownIssuer") => UNKNOWN_ISSUER,
        (None, _) => return failure,
    };
    failure.with_hint(hint)
}
