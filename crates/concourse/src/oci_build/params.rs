//! What the task was asked for: from the environment, or from the JSON that the original's `build` hands to its `task`.
//!
//! Nothing is read from disk here, so [`Params`] say what was written, in the order that decides: later build arguments
//! and labels win.

use std::collections::BTreeMap;
use std::path::PathBuf;

use skycap_image::Secret;

use super::values::{list, truth};
use crate::protocol::{DecodeError, Value, request};
use crate::{Environment, Failure};

/// What the task was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Params {
    /// The build context, relative to the working directory; empty for the directory itself.
    pub context: PathBuf,
    /// The Dockerfile, relative to the working directory; by default `Dockerfile` in the context.
    pub dockerfile: Option<PathBuf>,
    /// Say aloud what only fault-finders want to know.
    pub debug: bool,
    /// The stage to build; empty for the last.
    pub target: String,
    /// A file with the name of the stage; it wins.
    pub target_file: Option<PathBuf>,
    /// Stages to build before.
    pub additional_targets: Vec<String>,
    /// `NAME=VALUE`.
    pub build_args: Vec<String>,
    /// A file with more of them; they win.
    pub build_args_file: Option<PathBuf>,
    /// `NAME=VALUE`.
    pub labels: Vec<String>,
    /// A file with more of them; they win.
    pub labels_file: Option<PathBuf>,
    /// What `RUN --mount=type=secret` may ask for, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `NAME=PATH` of images that the Dockerfile names by a build argument.
    pub image_args: Vec<String>,
    /// The platforms, separated by commas; empty for this machine's.
    pub image_platform: String,
    /// Write OCI layouts instead of archives for `docker load`.
    pub output_oci: bool,
    /// Also write the image's files.
    pub unpack_rootfs: bool,
    /// Registries asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// `host=ip,host=ip`.
    pub add_hosts: String,
    /// The directory of Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// Seconds since 1970 that the image states as its time.
    pub source_date_epoch: Option<i64>,
    /// Where to write which outputs there are; only in the JSON form.
    pub response_path: Option<PathBuf>,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    /// A file, relative to the working directory.
    File(PathBuf),
    /// The parameter itself.
    Text(Secret),
}

/// Parameters that mean something to the original and nothing here yet.
const NOT_BUILT: [(&str, &str); 2] = [
    ("BUILDKIT_SSH", "no SSH agent is handed into RUN"),
    ("BUILDKIT_SECRETS", "name each secret by BUILDKIT_SECRET_<id> or BUILDKIT_SECRETTEXT_<id>"),
];
const EXTRA_CONFIG: &str = "there is no BuildKit to configure; use REGISTRY_MIRRORS and DOCKER_CONFIG";

impl Params {
    /// Reads the parameters from the environment.
    pub fn from_environment(environment: &Environment) -> Result<Self, Failure> {
        let reader = Reader(environment);
        reader.refuse_what_is_not_built()?;
        let image_platform = reader.text("IMAGE_PLATFORM");
        let mut params = Self {
            context: PathBuf::from(reader.exact("CONTEXT")),
            dockerfile: reader.exact_path("DOCKERFILE"),
            debug: reader.truth("DEBUG")?,
            target: reader.text("TARGET"),
            target_file: reader.path("TARGET_FILE"),
            additional_targets: list(&reader.exact("ADDITIONAL_TARGETS")),
            build_args: list(&reader.text("BUILD_ARGS")),
            build_args_file: reader.path("BUILD_ARGS_FILE"),
            labels: list(&reader.text("LABELS")),
            labels_file: reader.path("LABELS_FILE"),
            secrets: reader.secrets(),
            image_args: list(&reader.text("IMAGE_ARGS")),
            output_oci: reader.truth("OUTPUT_OCI")?,
            unpack_rootfs: reader.truth("UNPACK_ROOTFS")?,
            registry_mirrors: list(&reader.exact("REGISTRY_MIRRORS")),
            add_hosts: reader.exact("BUILDKIT_ADD_HOSTS"),
            image_platform,
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

    /// Reads the JSON request that the original's `task` takes on its stdin. Keys match in any case; unknown ones are
    /// ignored, as there.
    pub fn from_request(bytes: &[u8], environment: &Environment) -> Result<Self, Failure> {
        let during = |failure: Failure| failure.during("read request");
        let raw = request(bytes).map_err(|error| during(Failure::new(error.to_string())))?;
        let mut params = Self::default();
        let mut response_path = String::new();
        let mut refused = Vec::new();
        let read = Value::root(&raw, "Request").object(|key, value| match key {
            "response_path" => value.string(&mut response_path),
            "config" => value.object(|key, value| params.field(key, value, &mut refused)),
            _ => Ok(()),
        });
        read.map_err(|error| during(Failure::new(error.to_string())))?;
        if let Some((name, why)) = refused.first() {
            return Err(Failure::unsupported(name, why));
        }
        if response_path.is_empty() {
            return Err(during(Failure::new("response_path is empty")));
        }
        params.response_path = Some(response_path.into());
        params.with_surroundings(environment)
    }

    fn field(
        &mut self,
        key: &str,
        value: &Value<'_>,
        refused: &mut Vec<(&'static str, &'static str)>,
    ) -> Result<(), DecodeError> {
        let path = |target: &mut Option<PathBuf>| {
            let mut text = String::new();
            value.string(&mut text).map(|()| *target = Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
        };
        let mut refuse_text = |name, why| {
            let mut text = String::new();
            value.string(&mut text).map(|()| {
                if !text.is_empty() {
                    refused.push((name, why));
                }
            })
        };
        match key {
            "debug" => value.boolean(&mut self.debug),
            "context" => {
                let mut text = String::new();
                value.string(&mut text).map(|()| self.context = text.into())
            }
            "dockerfile" => path(&mut self.dockerfile),
            "target" => value.string(&mut self.target),
            "target_file" => path(&mut self.target_file),
            "additional_targets" => value.strings(&mut self.additional_targets),
            "build_args" => value.strings(&mut self.build_args),
            "build_args_file" => path(&mut self.build_args_file),
            "registry_mirrors" => value.strings(&mut self.registry_mirrors),
            "labels" => value.strings(&mut self.labels),
            "labels_file" => path(&mut self.labels_file),
            "buildkit_secrets" => value.object(|_, secret| {
                let mut file = String::new();
                secret.string(&mut file)?;
                self.secrets.insert(secret.key().to_owned(), SecretSource::File(file.into()));
                Ok(())
            }),
            "unpack_rootfs" => value.boolean(&mut self.unpack_rootfs),
            "output_oci" => value.boolean(&mut self.output_oci),
            "image_args" => value.strings(&mut self.image_args),
            "add_hosts" => value.string(&mut self.add_hosts),
            "image_platform" => value.string(&mut self.image_platform),
            "buildkit_ssh" => refuse_text("config.buildkit_ssh", NOT_BUILT[0].1),
            "buildkit_extra_config" => refuse_text("config.buildkit_extra_config", EXTRA_CONFIG),
            _ => Ok(()),
        }
    }

    /// What the original's programs read from the environment in either form.
    fn with_surroundings(self, environment: &Environment) -> Result<Self, Failure> {
        let epoch = environment.get("SOURCE_DATE_EPOCH").map(|text| {
            let parsed = text.trim().parse();
            parsed.map_err(|_| Failure::new(format!("SOURCE_DATE_EPOCH must be seconds since 1970, not {text:?}")))
        });
        if let Some(login) =
            environment.get("LOGIN").filter(|login| matches!(login.to_lowercase().as_str(), "ecr" | "pass"))
        {
            let why = "log in by a config.json and DOCKER_CONFIG instead";
            return Err(Failure::unsupported(&format!("LOGIN={login}"), why));
        }
        Ok(Self {
            // Several platforms do not fit into an archive for `docker load`.
            output_oci: self.output_oci || self.image_platform.contains(','),
            docker_config: environment.get("DOCKER_CONFIG").map(PathBuf::from),
            source_date_epoch: epoch.transpose()?,
            ..self
        })
    }
}

struct Reader<'e>(&'e Environment);

impl Reader<'_> {
    /// A parameter that has one spelling.
    fn exact(&self, name: &str) -> String {
        self.0.get(name).unwrap_or_default().to_owned()
    }

    fn exact_path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
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

    fn secrets(&self) -> BTreeMap<String, SecretSource> {
        let files = self.0.with_prefix("BUILDKIT_SECRET_").map(|(id, path)| (id, SecretSource::File(path.into())));
        let texts =
            self.0.with_prefix("BUILDKIT_SECRETTEXT_").map(|(id, text)| (id, SecretSource::Text(Secret::new(text))));
        files.chain(texts).map(|(id, source)| (id.to_owned(), source)).collect()
    }

    fn refuse_what_is_not_built(&self) -> Result<(), Failure> {
        for (name, why) in NOT_BUILT {
            if spellings(name).iter().any(|name| self.0.get(name).is_some()) {
                return Err(Failure::unsupported(name, why));
            }
        }
        if self.0.get("BUILDKIT_EXTRA_CONFIG").is_some() {
            return Err(Failure::unsupported("BUILDKIT_EXTRA_CONFIG", EXTRA_CONFIG));
        }
        Ok(())
    }
}

/// `UNPACKROOTFS`, `UNPACK_ROOTFS`, `unpack_rootfs`, `unpackrootfs`: in byte order, each once.
fn spellings(name: &str) -> Vec<String> {
    let mut spellings =
        vec![name.replace('_', ""), name.to_owned(), name.to_lowercase(), name.to_lowercase().replace('_', "")];
    spellings.dedup();
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    fn params(variables: &[(&str, &str)]) -> Result<Params, String> {
        Params::from_environment(&environment(variables)).map_err(|failure| failure.message)
    }

    #[test]
    fn spellings_are_tried_in_byte_order() -> Result<(), String> {
        for name in ["UNPACKROOTFS", "UNPACK_ROOTFS", "unpack_rootfs", "unpackrootfs"] {
            assert!(params(&[(name, "1")])?.unpack_rootfs, "{name}");
        }
        assert_eq!(params(&[("TARGET", "a"), ("target", "b")])?.target, "a");
        assert_eq!(params(&[("TARGET", ""), ("target", "b")])?.target, "b");
        assert_eq!(params(&[("TARGETFILE", "a"), ("TARGET_FILE", "b")])?.target_file, Some("a".into()));
        // These have one spelling.
        let one =
            params(&[("context", "a"), ("dockerfile", "b"), ("additional_targets", "c"), ("buildkit_add_hosts", "d")])?;
        assert_eq!(one, Params::default());
        Ok(())
    }

    #[test]
    fn booleans_are_gos() -> Result<(), String> {
        for (text, expected) in
            [("1", true), ("t", true), ("True", true), ("TRUE", true), ("0", false), ("F", false), ("", false)]
        {
            assert_eq!(params(&[("OUTPUT_OCI", text)])?.output_oci, expected, "{text}");
        }
        let expected = "failed to parse config from env: envconfig: unable to parse value \"yes\" for possible keys \
                        [OUTPUTOCI OUTPUT_OCI output_oci outputoci]. err=strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(params(&[("OUTPUT_OCI", "yes")]), Err(expected.to_owned()));
        Ok(())
    }

    #[test]
    fn arguments_come_in_the_order_that_decides() -> Result<(), String> {
        let found = params(&[
            ("BUILD_ARGS", "a=0,b={1,2}"),
            ("BUILD_ARG_a", "x y\nz"),
            ("BUILD_ARG_empty", ""),
            ("BUILD_ARGS_FILE", "args.yml"),
            ("LABEL_org.example", "l"),
            ("LABELS", "a=b"),
            ("LABELS_FILE", "labels"),
            ("IMAGE_ARG_First", "image.tar"),
            ("ADDITIONAL_TARGETS", "a,"),
        ])?;
        assert_eq!(found.build_args, ["a=0", "b={1,2}", "a=x y\nz", "empty="]);
        assert_eq!(found.labels, ["a=b", "org.example=l"]);
        assert_eq!(found.image_args, ["First=image.tar"]);
        assert_eq!(found.additional_targets, ["a", ""]);
        assert_eq!(found.labels_file, Some("labels".into()));
        Ok(())
    }

    #[test]
    fn several_platforms_are_an_oci_layout() -> Result<(), String> {
        assert!(params(&[("IMAGE_PLATFORM", "linux/amd64,linux/arm64")])?.output_oci);
        assert!(!params(&[("IMAGE_PLATFORM", "linux/arm64")])?.output_oci);
        Ok(())
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for name in ["BUILDKIT_SSH", "buildkitssh", "BUILDKIT_SECRETS", "BUILDKIT_EXTRA_CONFIG"] {
            let error = params(&[(name, "x")]).err().unwrap_or_default();
            assert!(error.starts_with("BUILDKIT_") && error.contains("is not supported yet"), "{name}: {error}");
        }
        let error = params(&[("LOGIN", "Ecr")]).err().unwrap_or_default();
        assert!(error.starts_with("LOGIN=Ecr is not supported yet"), "{error}");
        assert!(params(&[("LOGIN", "no"), ("PASS", "x")]).is_ok());
        assert!(params(&[("SOURCE_DATE_EPOCH", "soon")]).is_err());
    }

    #[test]
    fn secrets_are_files_and_texts() -> Result<(), String> {
        let found = params(&[("BUILDKIT_SECRET_a/b", "file"), ("BUILDKIT_SECRETTEXT_c", "hunter2")])?;
        assert_eq!(found.secrets.get("a/b"), Some(&SecretSource::File("file".into())));
        assert_eq!(found.secrets.get("c"), Some(&SecretSource::Text(Secret::new("hunter2"))));
        assert!(!format!("{found:?}").contains("hunter2"));
        Ok(())
    }

    #[test]
    fn the_json_form_says_the_same() -> Result<(), Failure> {
        let text = br#"{"response_path":"/dev/null","config":{"Context":"c","build_args":["a=1"],"unpack_rootfs":true,
            "buildkit_secrets":{"Id":"path"},"image_platform":"linux/arm64","nonsense":1},"more":2}"#;
        let found = Params::from_request(text, &environment(&[("SOURCE_DATE_EPOCH", "7"), ("CONTEXT", "ignored")]))?;
        let expected = Params {
            context: "c".into(),
            build_args: vec!["a=1".to_owned()],
            unpack_rootfs: true,
            secrets: [("Id".to_owned(), SecretSource::File("path".into()))].into(),
            image_platform: "linux/arm64".to_owned(),
            source_date_epoch: Some(7),
            response_path: Some("/dev/null".into()),
            ..Params::default()
        };
        assert_eq!(found, expected);
        for (text, expected) in [
            ("{}", "read request: response_path is empty"),
            ("", "read request: EOF"),
            (
                r#"{"config":{"buildkit_ssh":"default"}}"#,
                "config.buildkit_ssh is not supported yet: no SSH agent is handed into RUN",
            ),
        ] {
            let error = Params::from_request(text.as_bytes(), &Environment::default()).map_err(|f| f.message).err();
            assert_eq!(error.as_deref(), Some(expected), "{text}");
        }
        Ok(())
    }
}
