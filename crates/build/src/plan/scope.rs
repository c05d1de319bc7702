//! What names are worth: the environment, and the arguments that are there without being declared.

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::Platform;

use crate::arguments;
use crate::dockerfile::{Dockerfile, expand};
use crate::error::{BuildError, Fault};
use crate::request::Request;

/// How many bytes the names and values of a stage's environment may have together. A kernel gives no program more than 2 MiB
/// for its arguments and its environment.
const LARGEST: usize = 2 << 20;

/// Names and values in the order in which they were set.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Sets a name that a Dockerfile asks for; all of them have a largest size.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        self.put(name, value);
        if self.size() <= LARGEST {
            return Ok(());
        }
        let what = format!("with {name}, the variables of the stage have more than {LARGEST} bytes");
        Err(Fault::new(what).with_hint("files of the context can be of any size"))
    }

    /// The bytes of all names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Sets a name; it keeps its place if it is known.
    fn put(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Everything, in order.
    pub fn to_vec(&self) -> Vec<(String, String)> {
        self.0.clone()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut variables = Self::default();
        for (name, value) in pairs {
            variables.put(&name.into(), &value.into());
        }
        variables
    }
}

/// Names that RUN gets without a declaration, and that count neither for keys nor for history.
pub(super) fn is_proxy(name: &str) -> bool {
    const NAMES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    NAMES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// Arguments that mean something to the builder itself, so that nobody need declare them.
pub(super) fn is_built_in(name: &str) -> bool {
    is_proxy(name) || arguments::is_built_in(name)
}

/// Names that a stage may use without anybody having set them: they are the builder's. No program gets them as variables.
pub(super) fn means_something(name: &str) -> bool {
    matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE")
}

/// The proxies among the build arguments, in both spellings, as programs look for either.
pub(super) fn proxies(request: &Request) -> Vec<(String, String)> {
    let given = request.build_args.iter().filter(|(name, _)| is_proxy(name));
    given
        .flat_map(|(name, value)| [name.to_ascii_uppercase(), name.to_ascii_lowercase()].map(|n| (n, value.clone())))
        .collect::<Variables>()
        .to_vec()
}

/// What FROM lines see: the platforms, and ARGs before the first FROM.
pub(super) fn globals(
    build_args: &BTreeMap<String, String>,
    dockerfile: &Dockerfile,
    platform: &Platform,
    target: Option<&str>,
    used: &mut BTreeSet<String>,
) -> Result<Variables, BuildError> {
    let mut globals = Variables::default();
    for (prefix, platform) in [("BUILD", &Platform::host()), ("TARGET", platform)] {
        let platform = platform.normalized();
        globals.put(&format!("{prefix}PLATFORM"), &platform.to_string());
        globals.put(&format!("{prefix}OS"), &platform.os);
        globals.put(&format!("{prefix}OSVERSION"), platform.os_version.as_deref().unwrap_or_default());
        globals.put(&format!("{prefix}ARCH"), &platform.architecture);
        globals.put(&format!("{prefix}VARIANT"), platform.variant.as_deref().unwrap_or_default());
    }
    globals.put("TARGETSTAGE", target.unwrap_or("default"));
    for name in globals.to_vec().into_iter().map(|(name, _)| name) {
        if let Some(value) = build_args.get(&name) {
            globals.put(&name, value);
            used.insert(name);
        }
    }
    for line in &dockerfile.global_args {
        let at = |fault: Fault| fault.at(&dockerfile.name, line.span.line);
        for arg in &line.value {
            let value = match (build_args.get(&arg.name), &arg.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let lookup = |name: &str| globals.get(name).map(str::to_owned);
                    let expanded = expand(default, dockerfile.directives.escape, &lookup);
                    Some(expanded.map_err(|error| at(error.into()))?)
                }
                (None, None) => None,
            };
            used.insert(arg.name.clone());
            if let Some(value) = value {
                globals.set(&arg.name, &value).map_err(at)?;
            }
        }
    }
    Ok(globals)
}
