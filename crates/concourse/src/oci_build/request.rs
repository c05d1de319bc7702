//! What is built: the parameters with the files that they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skycap_build::Request;
use skycap_build::ignore::Ignore;
use skycap_image::{Compression, SecretBytes};

use super::at_hand::AtHand;
use super::params::{Params, SecretSource};
use super::{contexts, ssh, values};
use crate::failure::chain;
use crate::inputs::Inputs;
use crate::{Failure, Workshop};

/// What a Dockerfile is called if nothing is said.
const DOCKERFILE: &str = "Dockerfile";

/// Reads every file that the parameters name.
pub(super) fn read(params: &Params, inputs: &Inputs, workshop: &Workshop<'_>) -> Result<Request, Failure> {
    let files = Files(inputs);
    let context = files.context(&params.context)?;
    let dockerfile = files.dockerfile(params.dockerfile.clone().unwrap_or_else(|| context.join(DOCKERFILE)))?;
    let text = inputs.read("DOCKERFILE", &dockerfile)?;
    let ignore = files.ignore(&context, &dockerfile)?;
    let at_hand = AtHand::open(&params.image_args, inputs)?;
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
        contexts: contexts::read(&params.build_contexts, inputs)?.into_iter().chain(at_hand.contexts).collect(),
        secrets: files.secrets(params)?,
        ssh: ssh::read(params, inputs)?,
        add_hosts: values::hosts(&params.add_hosts)?,
        attest: params.attest.clone(),
        compression: params.compression.unwrap_or(Compression::Gzip),
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

    /// What is called `dockerfile` counts where there is no `Dockerfile`, as in `BuildKit`.
    fn dockerfile(&self, path: PathBuf) -> Result<PathBuf, Failure> {
        if path.file_name().is_none_or(|name| name != DOCKERFILE)
            || self.0.find_if_there("DOCKERFILE", &path)?.is_some()
        {
            return Ok(path);
        }
        let lower = path.with_file_name(DOCKERFILE.to_lowercase());
        Ok(if self.0.find_if_there("DOCKERFILE", &lower)?.is_some() { lower } else { path })
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

    fn secrets(&self, params: &Params) -> Result<BTreeMap<String, SecretBytes>, Failure> {
        let secret = |id: &String, source: &SecretSource| match source {
            SecretSource::Text(text) => Ok(SecretBytes::from(text.clone())),
            SecretSource::File(path) => {
                let bytes = self.0.read(&format!("BUILDKIT_SECRET_{id}"), path);
                bytes.map(SecretBytes::new).map_err(|failure| failure.during(format_args!("BUILDKIT_SECRET_{id}")))
            }
        };
        params.secrets.iter().map(|(id, source)| Ok((id.clone(), secret(id, source)?))).collect()
    }
}

/// Later ones win.
fn pairs(what: &str, texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    texts.iter().map(|text| values::pair(what, text)).collect()
}
