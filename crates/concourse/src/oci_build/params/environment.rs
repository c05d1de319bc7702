//! The environment's form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use skycap_image::Secret;

use super::{Params, SecretSource};
use crate::oci_build::values::{list, truth};
use crate::{Environment, Failure};

impl Params {
    /// Reads the parameters from the environment.
    pub fn from_environment(environment: &Environment) -> Result<Self, Failure> {
        let reader = Reader(environment);
        if !reader.text("BUILDKIT_SECRETS").is_empty() {
            return Err(Failure::new("BUILDKIT_SECRETS cannot hold secrets").with_hint(
                "name each: BUILDKIT_SECRET_<id> is the path of a file, BUILDKIT_SECRETTEXT_<id> the secret itself",
            ));
        }
        let mut params = Self {
            context: PathBuf::from(reader.exact("CONTEXT")),
            dockerfile: Some(reader.exact("DOCKERFILE")).filter(|text| !text.is_empty()).map(PathBuf::from),
            debug: reader.truth("DEBUG")?,
            target: reader.text("TARGET"),
            target_file: reader.path("TARGET_FILE"),
            additional_targets: list(&reader.exact("ADDITIONAL_TARGETS")),
            build_args: list(&reader.text("BUILD_ARGS")),
            build_args_file: reader.path("BUILD_ARGS_FILE"),
            labels: list(&reader.text("LABELS")),
            labels_file: reader.path("LABELS_FILE"),
            secrets: reader.secrets(),
            ssh: reader.text("BUILDKIT_SSH"),
            image_args: list(&reader.text("IMAGE_ARGS")),
            output_oci: reader.truth("OUTPUT_OCI")?,
            unpack_rootfs: reader.truth("UNPACK_ROOTFS")?,
            registry_mirrors: list(&reader.exact("REGISTRY_MIRRORS")),
            extra_config: reader.exact("BUILDKIT_EXTRA_CONFIG"),
            add_hosts: reader.exact("BUILDKIT_ADD_HOSTS"),
            image_platform: reader.text("IMAGE_PLATFORM"),
            ..Self::default()
        };
        for (prefix, target) in [
            ("BUILD_ARG_", &mut params.build_args),
            ("LABEL_", &mut params.labels),
            ("IMAGE_ARG_", &mut params.image_args),
        ] {
            target.extend(environment.with_prefix(prefix).map(|(name, value)| format!("{name}={value}")));
        }
        params.with_surroundings(environment)
    }
}

struct Reader<'e>(&'e Environment);

impl Reader<'_> {
    /// A parameter that has one spelling.
    fn exact(&self, name: &str) -> String {
        self.0.get(name).unwrap_or_default().to_owned()
    }

    /// A parameter that has four: the first that is not empty wins.
    fn text(&self, name: &str) -> String {
        spellings(name).iter().find_map(|name| self.0.get(name)).unwrap_or_default().to_owned()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn truth(&self, name: &str) -> Result<bool, Failure> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(false);
        }
        truth(&text).ok_or_else(|| {
            let keys = spellings(name).join(" ");
            Failure::new(format!(
                "failed to parse config from env: envconfig: unable to parse value {text:?} for possible keys [{keys}]. \
                 err=strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))
            .with_hint("write true or false")
        })
    }

    /// Files and texts; of two with one id the one whose variable comes later wins, and that is the file.
    fn secrets(&self) -> BTreeMap<String, SecretSource> {
        let texts =
            self.0.with_prefix("BUILDKIT_SECRETTEXT_").map(|(id, text)| (id, SecretSource::Text(Secret::new(text))));
        let files = self.0.with_prefix("BUILDKIT_SECRET_").map(|(id, path)| (id, SecretSource::File(path.into())));
        texts.chain(files).map(|(id, source)| (id.to_owned(), source)).collect()
    }
}

/// `UNPACKROOTFS`, `UNPACK_ROOTFS`, `unpack_rootfs`, `unpackrootfs`: in byte order, each once.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut spellings = vec![name.replace('_', ""), name.to_owned(), lower.clone(), lower.replace('_', "")];
    spellings.sort();
    spellings.dedup();
    spellings
}
