//! What stands behind a resource type's name: something that skycap is, or an image to run.

use std::collections::BTreeSet;

use skycap_concourse::{Kind, Known, known_image};
use skycap_image::Repository;

use crate::config::{Config, ResourceType};
use crate::vars::{Lookup, Missing, interpolate};
use crate::yaml::{Map, Node, Position, Value};

/// Base types that a worker ships, each as an image of the same name.
const BASE_TYPES: [&str; 12] = [
    "bosh-io-release",
    "bosh-io-stemcell",
    "docker-image",
    "git",
    "github-release",
    "hg",
    "mock",
    "pool",
    "registry-image",
    "s3",
    "semver",
    "time",
];

/// How to serve a resource type.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Served {
    /// In this process.
    Native(Kind),
    /// By a worker's own image, whose environment and user are ignored.
    Base { image: String },
    /// By the image of a resource type of the pipeline.
    Custom(Box<CustomType>),
}

/// An image to fetch, and how to fetch it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct CustomType {
    pub name: String,
    /// What serves the image itself.
    pub parent: TypeChain,
    pub source: Node,
    pub params: Node,
    pub privileged: bool,
}

/// A resource type, down to its base.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TypeChain {
    pub name: String,
    pub served: Served,
    /// Source fields that resources of this type have unless they say otherwise.
    pub defaults: Map,
}

/// What of the options matters here.
pub(crate) struct Rules<'r> {
    pub native: bool,
    /// Further base types, or other images for known ones.
    pub base_types: &'r std::collections::BTreeMap<String, String>,
}

impl TypeChain {
    /// Resolves a name. `vars` fill in the sources of types.
    pub fn resolve(config: &Config, rules: &Rules<'_>, name: &str, vars: &dyn Lookup) -> Result<Self, String> {
        resolve(config, rules, name, vars, &BTreeSet::new())
    }

    /// A source as resources of this type get it: the type's defaults below the resource's own fields.
    pub fn source(&self, own: &Node) -> serde_json::Value {
        if self.defaults.is_empty() {
            return own.to_json();
        }
        let mut merged = self.defaults.clone();
        for entry in own.as_map().into_iter().flatten() {
            merged.insert(entry.key.clone(), Position::default(), entry.value.clone());
        }
        merged.to_json()
    }

    /// Whether its containers are privileged.
    pub fn privileged(&self) -> bool {
        matches!(&self.served, Served::Custom(custom) if custom.privileged)
    }

    /// What identifies the code behind the type, apart from its image's version.
    pub fn identity(&self) -> serde_json::Value {
        match &self.served {
            Served::Native(kind) => serde_json::json!({ "native": kind.name() }),
            Served::Base { image } => serde_json::json!({ "base": self.name, "image": image }),
            Served::Custom(custom) => serde_json::json!({
                "type": custom.parent.identity(),
                "source": custom.parent.source(&custom.source),
                "params": custom.params.to_json(),
            }),
        }
    }
}

fn resolve(
    config: &Config,
    rules: &Rules<'_>,
    name: &str,
    vars: &dyn Lookup,
    hidden: &BTreeSet<&str>,
) -> Result<TypeChain, String> {
    let Some(found) = config.resource_type(name).filter(|found| !hidden.contains(found.name.as_str())) else {
        return base(config, rules, name).map(|served| TypeChain {
            name: name.to_owned(),
            served,
            defaults: Map::default(),
        });
    };
    // While a type is resolved it is not there itself, so a type may be named like its base.
    let mut hidden = hidden.clone();
    hidden.insert(&found.name);
    let parent = resolve(config, rules, &found.kind, vars, &hidden)?;
    let fill = |node: &Node| {
        interpolate(node, vars, Missing::Refuse).map_err(|error| format!("resource type '{name}': {error}"))
    };
    let source = fill(&found.source)?;
    let defaults = match fill(&found.defaults)?.value {
        Value::Map(map) => map,
        _ => Map::default(),
    };
    let served = match known(rules, found, &parent, &source) {
        Some(kind) => Served::Native(kind),
        None => Served::Custom(Box::new(CustomType {
            name: name.to_owned(),
            parent,
            source,
            params: fill(&found.params)?,
            privileged: found.privileged,
        })),
    };
    Ok(TypeChain { name: name.to_owned(), served, defaults })
}

/// What skycap is, if the type's image is one that it replaces.
fn known(rules: &Rules<'_>, found: &ResourceType, parent: &TypeChain, source: &Node) -> Option<Kind> {
    let is_image = matches!(parent.served, Served::Native(Kind::RegistryImage)) || found.kind == "docker-image";
    if !rules.native || !is_image {
        return None;
    }
    match known_image(&repository(source)?)? {
        Known::Resource(kind) => Some(kind),
        Known::OciBuildTask => None,
    }
}

/// The repository that a registry-image source names.
pub(crate) fn repository(source: &Node) -> Option<Repository> {
    source.as_map()?.get("repository")?.as_str()?.parse().ok()
}

fn base(config: &Config, rules: &Rules<'_>, name: &str) -> Result<Served, String> {
    if let Some(image) = rules.base_types.get(name) {
        return Ok(Served::Base { image: image.clone() });
    }
    match Kind::of_name(name) {
        Some(kind) if rules.native && BASE_TYPES.contains(&name) => return Ok(Served::Native(kind)),
        _ => {}
    }
    if BASE_TYPES.contains(&name) {
        return Ok(Served::Base { image: format!("concourse/{name}-resource") });
    }
    let own: Vec<&str> = config.resource_types.iter().map(|kind| kind.name.as_str()).collect();
    Err(format!(
        "unknown resource type '{name}': the pipeline declares [{}], and the base types are [{}]",
        own.join(", "),
        BASE_TYPES.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vars;

    fn served(name: &str, native: bool) -> String {
        let yaml = b"resource_types:
- {name: registry-tag, type: registry-image, source: {repository: tlwr/registry-tag-resource}, defaults: {a: 1}}
- {name: registry-image, type: registry-image, source: {repository: my/own}}
- {name: git, type: registry-image, source: {repository: harbor.corp/concourse/git-resource, tag: x}}
- {name: slack, type: mid, source: {repository: x/slack}, privileged: true}
- {name: mid, type: slack, source: {repository: x/mid}}
";
        let config = crate::load(yaml, "p.yml", &Vars::default()).unwrap();
        let base_types = std::collections::BTreeMap::from([("ftp".to_owned(), "me/ftp".to_owned())]);
        match TypeChain::resolve(&config, &Rules { native, base_types: &base_types }, name, &Vars::default()) {
            Ok(chain) => print(&chain),
            Err(error) => error.split(':').next().unwrap().to_owned(),
        }
    }

    fn print(chain: &TypeChain) -> String {
        match &chain.served {
            Served::Native(kind) => format!("native {}", kind.name()),
            Served::Base { image } => image.clone(),
            Served::Custom(custom) => format!("{} by {}", custom.name, print(&custom.parent)),
        }
    }

    #[test]
    fn types_end_at_something_that_runs() {
        for (name, native, expected) in [
            ("time", true, "concourse/time-resource"),
            ("ftp", true, "me/ftp"),
            ("nope", true, "unknown resource type 'nope'"),
            ("registry-image", true, "registry-image by native registry-image"),
            ("registry-image", false, "registry-image by concourse/registry-image-resource"),
            ("slack", true, "unknown resource type 'slack'"),
        ] {
            assert_eq!(served(name, native), expected, "{name} {native}");
        }
    }
}
