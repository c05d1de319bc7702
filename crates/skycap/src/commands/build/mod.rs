//! `skycap build`: a Dockerfile, for people.

mod annotations;
mod caches;
mod call;
mod excerpt;
mod flags;
mod keys;
mod metadata;
mod output;
mod refused;
mod source;
mod stdin;
mod tree;
mod write;

use std::process::ExitCode;
use std::time::Instant;

use skycap_build::attest::{self, Attest, InvalidAttest, Provenance, Sbom};
use skycap_build::{BuildError, Built, Outcome, Request, World, build};
use skycap_concourse::Fetcher;
use skycap_image::{Artifact, Compression, Reference, Repack, repack};
use skycap_registry::{Client, Registries};
use skycap_store::Temporary;

use super::{Context, threads};
use crate::args::Build;
use crate::failure::{Failure, chain};

use self::annotations::Annotation;
use self::call::{Call, Method};
use self::output::{Output, Packing};
use self::source::Source;

/// Builds, then writes and pushes what was asked for.
pub fn run(arguments: &Build, context: &Context) -> Result<ExitCode, Failure> {
    let result = checked(arguments, context);
    context.display.close(result.is_ok());
    result
}

/// Everything that can be wrong with the command line is found before anything is read or fetched.
fn checked(arguments: &Build, context: &Context) -> Result<ExitCode, Failure> {
    refused::check(arguments, context.world.terminal)?;
    let call = Call::parse(&arguments.reporting)?;
    let tags = arguments.image.tag.iter().map(|tag| tag_name(tag)).collect::<Result<Vec<_>, _>>()?;
    let outputs = output::all(arguments, &tags)?;
    let packing = output::agreed(&outputs)?;
    let plan =
        Plan { arguments, context, call, tags, annotations: annotations(arguments, &outputs)?, outputs, packing };
    plan.run()
}

/// A name that can be given to an image: no digest.
fn tag_name(text: &str) -> Result<Reference, Failure> {
    let reference: Reference = flags::argument("-t", text)?;
    if reference.digest.is_some() {
        return Err(Failure::usage(format!("-t {text}: a digest is not given but results")).with_hint("-t NAME:TAG"));
    }
    Ok(reference)
}

fn annotations(arguments: &Build, outputs: &[Output]) -> Result<Vec<Annotation>, Failure> {
    let mut all = Vec::new();
    for text in &arguments.image.annotation {
        all.extend(annotations::parse(text)?);
    }
    if let Some(output) = outputs.iter().find(|output| output.is_image()) {
        all.extend(output.annotations.iter().cloned());
    }
    Ok(all)
}

/// A command line that makes sense.
struct Plan<'a> {
    arguments: &'a Build,
    context: &'a Context,
    call: Call,
    tags: Vec<Reference>,
    outputs: Vec<Output>,
    packing: Packing,
    annotations: Vec<Annotation>,
}

impl Plan<'_> {
    fn run(&self) -> Result<ExitCode, Failure> {
        let started = Instant::now();
        let (arguments, context) = (self.arguments, self.context);
        let client = Client::new(context.settings()?, context.progress.clone())?.with_stop(context.stop.clone());
        let registries = Registries::new(client, context.keychain()?);
        let mut request = self.request(&registries)?;
        self.check_outputs(&request)?;
        let store = context.store()?;
        let remote = Fetcher::new(&context.host()?);
        let sandbox = context.sandbox()?;
        let world =
            World { resolver: &registries, remote: &remote, store: &store, sandbox, progress: &*context.progress };
        let source = Source::read(&arguments.context, arguments.inputs.file.as_deref(), &request, &world, context)?;
        request.fresh_lines = source.lines_of(&arguments.caching.no_cache_filter)?;
        let request = source.fill(request);
        if self.call.method != Method::Build {
            let is_clean = self.call.answer(&source, &request, &world)?;
            return Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let built = build(&request, &world).map_err(|error| failed(&error, &source))?;
        let built = self.annotated(built)?;
        let packed = Temporary::create(&context.world.scratch, "skycap-pack-")?;
        let artifact = self.artifact(&request, &store, &built, &packed)?;
        let tools = write::Tools { registries: &registries, store: &store, context, insecure: arguments.insecure };
        let product = write::Product { artifact: &artifact, built: &built, names: &self.tags };
        for output in &self.outputs {
            write::write(output, &product, &tools)?;
        }
        self.tell(&artifact, &built, started)
    }

    /// All but the source.
    fn request(&self, registries: &Registries) -> Result<Request, Failure> {
        let (inputs, steps, caching) = (&self.arguments.inputs, &self.arguments.steps, &self.arguments.caching);
        let variables = &self.context.world.variables;
        Ok(Request {
            targets: vec![inputs.target.clone()],
            build_args: flags::build_args(&inputs.args, variables)?,
            labels: self
                .arguments
                .image
                .label
                .iter()
                .map(|text| flags::pair("--label", text))
                .collect::<Result<_, _>>()?,
            platforms: flags::platforms(&inputs.platform)?,
            contexts: inputs.build_context.iter().map(|text| flags::build_context(text)).collect::<Result<_, _>>()?,
            secrets: inputs.secret.iter().map(|text| flags::secret(text, variables)).collect::<Result<_, _>>()?,
            ssh: flags::agents(&inputs.ssh, &self.arguments.context, variables)?,
            allow: flags::allow(&steps.allow)?,
            network: flags::network(steps.network.as_deref())?,
            add_hosts: steps.add_host.iter().map(|text| flags::add_host(text)).collect::<Result<_, _>>()?,
            docker_media_types: self.packing.oci == Some(false),
            compression: self.packing.compression.unwrap_or(Compression::Gzip),
            source_date_epoch: flags::source_date_epoch(variables)?,
            attest: self.attest()?,
            cache_from: caches::sources(&caching.cache_from, registries, self.arguments.insecure)?,
            cache_to: caches::targets(&caching.cache_to, registries, self.arguments.insecure)?,
            no_cache: caching.no_cache,
            scratch: Some(self.context.world.roomy.clone()),
            threads: threads(),
            cancel: self.context.cancel.clone(),
            ..Request::new("", "")
        })
    }

    fn attest(&self) -> Result<Attest, Failure> {
        let image = &self.arguments.image;
        let mut attest = Attest::default();
        let wrong = |flag: &str, text: &str, error: &InvalidAttest| {
            Failure::usage(format!("{flag} {text}: {error}")).with_hint(error.hint())
        };
        for text in &image.attest {
            attest.set(text).map_err(|error| wrong("--attest", text, &error))?;
        }
        if let Some(text) = &image.sbom {
            attest.sbom = Sbom::parse(text).map_err(|error| wrong("--sbom", text, &error))?;
        }
        if let Some(text) = &image.provenance {
            attest.provenance = Provenance::parse(text).map_err(|error| wrong("--provenance", text, &error))?;
        }
        Ok(attest)
    }

    /// What an output cannot hold.
    fn check_outputs(&self, request: &Request) -> Result<(), Failure> {
        let is_index = request.platforms.len() > 1 || !request.attest.is_empty();
        let is_docker = self.packing.oci == Some(false);
        if is_docker && !self.annotations.is_empty() {
            return Err(Failure::usage("oci-mediatypes=false: Docker's manifests have no annotations")
                .with_hint("leave out oci-mediatypes=false, or use --label"));
        }
        if annotations::need_index(&self.annotations) && !is_index {
            return Err(Failure::usage("--annotation: there is no index to hold it: the image is for one platform")
                .with_hint("several --platform values or an attestation make one; manifest: is the image's own"));
        }
        self.outputs.iter().try_for_each(|output| write::check(output, is_index, request.platforms.len() > 1))
    }

    fn annotated(&self, mut built: Vec<Built>) -> Result<Vec<Built>, Failure> {
        for built in &mut built {
            built.image = annotations::image(&built.image, &built.platform, &self.annotations)?;
        }
        Ok(built)
    }

    /// The one thing that is written, pushed and named.
    fn artifact(
        &self,
        request: &Request,
        store: &skycap_store::Store,
        built: &[Built],
        packed: &Temporary,
    ) -> Result<Artifact, Failure> {
        let all: Vec<&Built> = built.iter().collect();
        let artifact = attest::artifact(request, store, &all, &self.tags)?;
        let artifact = match artifact {
            Artifact::Index(index) => annotations::index(&index, &self.annotations)?,
            image @ Artifact::Image(_) => image,
        };
        if !self.packing.force {
            return Ok(artifact);
        }
        let compression = self.packing.compression.unwrap_or(Compression::Gzip);
        let wanted = Repack { compression, only_bare: false, threads: threads(), scratch: packed.path() };
        Ok(repack(&artifact, wanted, &*self.context.progress)?.unwrap_or(artifact))
    }

    /// What was done, on standard error; the digest, for whoever asked for the image, on standard output.
    fn tell(&self, artifact: &Artifact, built: &[Built], started: Instant) -> Result<ExitCode, Failure> {
        let (outputs, context) = (&self.arguments.outputs, self.context);
        if let Some(path) = &outputs.iidfile {
            metadata::write(path, &metadata::id(artifact).to_string())?;
        }
        if let Some(path) = &outputs.metadata_file {
            metadata::write(path, &format!("{:#}\n", metadata::document(artifact, &self.tags)))?;
        }
        context.display.close(true);
        if self.arguments.reporting.quiet {
            show!("{}", metadata::id(artifact));
            return Ok(ExitCode::SUCCESS);
        }
        let steps = || built.iter().flat_map(|built| &built.steps);
        let count = |outcome| steps().filter(|step| step.outcome == outcome).count();
        context.say(&format!(
            "{} {} done, {} cached",
            count(Outcome::Done),
            if count(Outcome::Done) == 1 { "step" } else { "steps" },
            count(Outcome::Cached) + count(Outcome::Skipped)
        ));
        context.summarise(started.elapsed(), None);
        if self.outputs.iter().all(|output| output.to == output::To::Kept) {
            context
                .say("the image is only in the cache: --push pushes it under the names of -t, -o writes it to a file");
        }
        let digest = artifact.descriptor().digest;
        if self.outputs.iter().any(Output::is_stdout) {
            context.say(&digest.to_string());
        } else {
            show!("{digest}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A failed build shows where.
fn failed(error: &BuildError, source: &Source) -> Failure {
    let hint = error.hint().map(str::to_owned);
    if let BuildError::Parse(error) = error {
        let shown = error.render();
        return Failure { hint, ..Failure::new(shown.trim_end().to_owned()) };
    }
    let shown = error.line().and_then(|line| excerpt::excerpt(&source.dockerfile, &source.name, line));
    let message = chain(error);
    let message = shown.map_or_else(|| message.clone(), |shown| format!("{message}\n{shown}"));
    Failure { hint, ..Failure::new(message) }
}
