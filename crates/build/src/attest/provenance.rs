//! Provenance in the form of SLSA, as BuildKit fills it (its `docs/attestations/slsa-definitions.md`).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use skycap_image::Platform;

use super::redact::Redact;
use super::{Material, Mode, Provenance, Version};
use crate::named::NamedContext;
use crate::request::{Built, Request};

/// How BuildKit says that a Dockerfile was built, in SLSA 0.2.
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
/// The same in SLSA 1.
const BUILD_TYPE_V1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// What histories of new layers say.
const COMMENT: &str = "buildkit.dockerfile.v0";

impl Version {
    /// What a statement calls it.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::V02 => "https://slsa.dev/provenance/v0.2",
            Self::V1 => "https://slsa.dev/provenance/v1",
        }
    }
}

/// How an image came to be.
pub(super) fn predicate(request: &Request, built: &Built, wanted: &Provenance) -> Value {
    let redact = Redact::new(request.secrets.values());
    let facts = Facts::gather(request, built, wanted, &redact);
    match wanted.version {
        Version::V02 => v02(&facts, wanted),
        Version::V1 => v1(&facts, wanted),
    }
}

/// What both forms tell.
struct Facts {
    entry_point: String,
    /// Where the context is from, if it was fetched.
    origin: Option<Material>,
    parameters: Value,
    /// Whether the parameters are all there.
    complete_parameters: bool,
    /// Whether everything that went into the build is among the materials.
    complete_materials: bool,
    hermetic: bool,
    builder_platform: String,
    materials: Vec<Value>,
    /// `max` only: the steps.
    steps: Option<Value>,
    /// `max` only: the Dockerfile, where steps stand in it, their layers.
    metadata: Map<String, Value>,
    started: Option<String>,
    finished: Option<String>,
}

impl Facts {
    fn gather(request: &Request, built: &Built, wanted: &Provenance, redact: &Redact<'_>) -> Self {
        let is_max = wanted.mode == Mode::Max;
        let args = arguments(request, built, redact);
        let is_private = |name: &str| name.starts_with("build-arg:") || name.starts_with("label:");
        let complete_parameters = is_max || !args.keys().any(|name| is_private(name));
        let args: BTreeMap<String, String> = args.into_iter().filter(|(name, _)| is_max || !is_private(name)).collect();
        let mut parameters = json!({"frontend": "dockerfile.v0", "args": args});
        if is_max {
            insert_ids(&mut parameters, "secrets", &built.recipe.secrets);
            insert_ids(&mut parameters, "ssh", &built.recipe.agents);
        }
        let locals = locals(request);
        // What is read from local directories is not among the materials.
        let complete_materials = locals.is_empty();
        if !locals.is_empty() {
            parameters["locals"] = locals.iter().map(|name| json!({"name": name})).collect();
        }
        let (started, finished) = times(built);
        let materials: BTreeSet<&Material> = built.materials.iter().chain(&request.context_origin).collect();
        Self {
            entry_point: request.dockerfile_name.clone(),
            origin: request.context_origin.clone(),
            parameters,
            complete_parameters,
            complete_materials,
            hermetic: complete_materials && !built.recipe.network,
            builder_platform: Platform::host().to_string(),
            materials: materials.into_iter().map(material).collect(),
            steps: is_max.then(|| steps(built, redact)),
            metadata: if is_max { metadata(request, built, redact) } else { Map::new() },
            started,
            finished,
        }
    }
}

/// What the frontend was told, in its own words.
fn arguments(request: &Request, built: &Built, redact: &Redact<'_>) -> BTreeMap<String, String> {
    let text = |text: &str| redact.text(text);
    let mut args = BTreeMap::new();
    args.extend(request.build_args.iter().map(|(name, value)| (format!("build-arg:{name}"), text(value))));
    args.extend(request.labels.iter().map(|(name, value)| (format!("label:{name}"), text(value))));
    args.extend(request.contexts.iter().map(|(name, context)| {
        let value = match context {
            NamedContext::Image(artifact) => format!("docker-image://{}", artifact.descriptor().digest),
            NamedContext::Reference(reference) => format!("docker-image://{reference}"),
            NamedContext::Directory { .. } => format!("local:{name}"),
            NamedContext::Http(url) | NamedContext::Git(url) => super::redact::without_credentials(url),
        };
        (format!("context:{name}"), value)
    }));
    if let Some(target) = &built.target {
        args.insert("target".to_owned(), target.clone());
    }
    if request.no_cache {
        args.insert("no-cache".to_owned(), String::new());
    }
    if !request.add_hosts.is_empty() {
        let hosts: Vec<String> = request.add_hosts.iter().map(|(name, address)| format!("{name}={address}")).collect();
        args.insert("add-hosts".to_owned(), hosts.join(","));
    }
    args
}

/// Directories of this machine that the build reads, as BuildKit's client calls them.
fn locals(request: &Request) -> Vec<String> {
    let own: &[&str] = if request.context_origin.is_some() { &[] } else { &["context", "dockerfile"] };
    let is_directory = |context: &NamedContext| matches!(context, NamedContext::Directory { .. });
    let named = request.contexts.iter().filter(|(_, context)| is_directory(context)).map(|(name, _)| name.clone());
    own.iter().map(|name| (*name).to_owned()).chain(named).collect()
}

/// Where the Dockerfile is from; `path` is what the version calls its name.
fn config_source(facts: &Facts, path: &str) -> Value {
    let mut source = facts.origin.as_ref().map_or_else(|| json!({}), material);
    source[path] = facts.entry_point.as_str().into();
    source
}

fn insert_ids(parameters: &mut Value, name: &str, ids: &BTreeMap<String, bool>) {
    let ids: Vec<Value> = ids
        .iter()
        .map(|(id, optional)| if *optional { json!({"id": id, "optional": true}) } else { json!({"id": id}) })
        .collect();
    if !ids.is_empty() {
        parameters[name] = ids.into();
    }
}

/// When the first and the last new layer were made: those of a cached image stay those of its first build.
fn times(built: &Built) -> (Option<String>, Option<String>) {
    let config = built.image.config();
    let new = config.history.iter().skip(built.base_history);
    let started = new.filter(|line| line.comment.as_deref() == Some(COMMENT)).filter_map(|line| line.created.clone());
    (started.min(), config.created.clone())
}

fn material(material: &Material) -> Value {
    json!({"uri": material.uri, "digest": {material.algorithm.as_str(): material.digest}})
}

fn steps(built: &Built, redact: &Redact<'_>) -> Value {
    let steps = built.recipe.steps.iter().enumerate().map(|(number, step)| {
        let mut operation = step.operation.clone();
        redact_all(&mut operation, redact);
        let inputs: Vec<String> = step.inputs.iter().map(|input| format!("step{input}:0")).collect();
        let mut value = json!({"id": format!("step{number}"), "op": operation});
        if !inputs.is_empty() {
            value["inputs"] = inputs.into();
        }
        value
    });
    steps.collect()
}

fn redact_all(value: &mut Value, redact: &Redact<'_>) {
    match value {
        Value::String(text) => *text = redact.text(text),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_all(value, redact)),
        Value::Object(fields) => fields.values_mut().for_each(|value| redact_all(value, redact)),
        _ => {}
    }
}

fn metadata(request: &Request, built: &Built, redact: &Redact<'_>) -> Map<String, Value> {
    let dockerfile = redact.text(&String::from_utf8_lossy(&request.dockerfile));
    let (mut locations, mut layers) = (Map::new(), Map::new());
    for (number, step) in built.recipe.steps.iter().enumerate() {
        if let Some(line) = step.line {
            let range = json!({"start": {"line": line}, "end": {"line": line}});
            locations.insert(format!("step{number}"), json!({"locations": [{"ranges": [range]}]}));
        }
        if !step.layers.is_empty() {
            let descriptors: Vec<Value> = step
                .layers
                .iter()
                .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}))
                .collect();
            layers.insert(format!("step{number}:0"), json!([descriptors]));
        }
    }
    let info =
        json!({"filename": request.dockerfile_name, "language": "Dockerfile", "data": STANDARD.encode(dockerfile)});
    let source = json!({"locations": locations, "infos": [info]});
    Map::from_iter([("source".to_owned(), source), ("layers".to_owned(), layers.into())])
}

fn v02(facts: &Facts, wanted: &Provenance) -> Value {
    let mut metadata = Map::new();
    insert_text(&mut metadata, "buildStartedOn", facts.started.as_ref());
    insert_text(&mut metadata, "buildFinishedOn", facts.finished.as_ref());
    let completeness = json!({
        "parameters": facts.complete_parameters,
        "environment": true,
        "materials": facts.complete_materials,
    });
    metadata.insert("completeness".to_owned(), completeness);
    metadata.insert("reproducible".to_owned(), wanted.reproducible.into());
    if facts.hermetic {
        metadata.insert(format!("{BUILD_TYPE_V02}#hermetic"), true.into());
    }
    metadata.insert(format!("{BUILD_TYPE_V02}#metadata"), facts.metadata.clone().into());
    let mut predicate = json!({
        "builder": {"id": wanted.builder_id},
        "buildType": BUILD_TYPE_V02,
        "materials": facts.materials,
        "invocation": {
            "configSource": config_source(facts, "entryPoint"),
            "parameters": facts.parameters,
            "environment": {"platform": facts.builder_platform},
        },
    });
    if let Some(steps) = &facts.steps {
        predicate["buildConfig"] = json!({"llbDefinition": steps});
    }
    predicate["metadata"] = metadata.into();
    predicate
}

fn v1(facts: &Facts, wanted: &Provenance) -> Value {
    let mut metadata = Map::new();
    insert_text(&mut metadata, "startedOn", facts.started.as_ref());
    insert_text(&mut metadata, "finishedOn", facts.finished.as_ref());
    metadata.insert("buildkit_metadata".to_owned(), facts.metadata.clone().into());
    if facts.hermetic {
        metadata.insert("buildkit_hermetic".to_owned(), true.into());
    }
    let completeness = json!({"request": facts.complete_parameters, "resolvedDependencies": facts.complete_materials});
    metadata.insert("buildkit_completeness".to_owned(), completeness);
    metadata.insert("buildkit_reproducible".to_owned(), wanted.reproducible.into());
    let mut internal = json!({"builderPlatform": facts.builder_platform});
    if let Some(steps) = &facts.steps {
        internal["buildConfig"] = json!({"llbDefinition": steps});
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {"configSource": config_source(facts, "path"), "request": facts.parameters},
            "internalParameters": internal,
            "resolvedDependencies": facts.materials,
        },
        "runDetails": {
            "builder": {"id": wanted.builder_id, "version": {"skycap": env!("CARGO_PKG_VERSION")}},
            "metadata": metadata,
        },
    })
}

fn insert_text(map: &mut Map<String, Value>, key: &str, text: Option<&String>) {
    if let Some(text) = text {
        map.insert(key.to_owned(), text.as_str().into());
    }
}
