//! The JSON form: the request that the original's `build` writes to the stdin of its `task`.

use std::path::PathBuf;

use super::{Params, SecretSource};
use crate::protocol::{DecodeError, Value, request};
use crate::{Environment, Failure};

impl Params {
    /// Reads the JSON request that the original's `task` takes on its stdin. Keys match in any case; unknown ones are
    /// ignored, as there. What has no key in it is read from the environment in this form, too.
    pub fn from_request(bytes: &[u8], environment: &Environment) -> Result<Self, Failure> {
        let during = |failure: Failure| failure.during("read request");
        let raw = request(bytes).map_err(|error| during(Failure::new(error.to_string())))?;
        let mut params = Self::default();
        let mut response_path = String::new();
        let read = Value::root(&raw, "Request").object(|key, value| match key {
            "response_path" => value.string(&mut response_path),
            "config" => value.object(|key, value| params.field(key, value)),
            _ => Ok(()),
        });
        read.map_err(|error| during(Failure::new(error.to_string())))?;
        if response_path.is_empty() {
            return Err(during(Failure::new("response_path is empty"))
                .with_hint("name the file that says which outputs there are; /dev/null will do"));
        }
        params.response_path = Some(response_path.into());
        params.with_surroundings(environment)
    }

    fn field(&mut self, key: &str, value: &Value<'_>) -> Result<(), DecodeError> {
        match key {
            "debug" => value.boolean(&mut self.debug),
            "context" => text(value).map(|context| self.context = context.into()),
            "dockerfile" => path(value, &mut self.dockerfile),
            "target" => value.string(&mut self.target),
            "target_file" => path(value, &mut self.target_file),
            "additional_targets" => value.strings(&mut self.additional_targets),
            "build_args" => value.strings(&mut self.build_args),
            "build_args_file" => path(value, &mut self.build_args_file),
            "registry_mirrors" => value.strings(&mut self.registry_mirrors),
            "labels" => value.strings(&mut self.labels),
            "labels_file" => path(value, &mut self.labels_file),
            "buildkit_secrets" => value.object(|_, secret| {
                let file = text(secret)?;
                self.secrets.insert(secret.key().to_owned(), SecretSource::File(file.into()));
                Ok(())
            }),
            "buildkit_ssh" => value.string(&mut self.ssh),
            "buildkit_extra_config" => value.string(&mut self.extra_config),
            "unpack_rootfs" => value.boolean(&mut self.unpack_rootfs),
            "output_oci" => value.boolean(&mut self.output_oci),
            "image_args" => value.strings(&mut self.image_args),
            "add_hosts" => value.string(&mut self.add_hosts),
            "image_platform" => value.string(&mut self.image_platform),
            _ => Ok(()),
        }
    }
}

fn text(value: &Value<'_>) -> Result<String, DecodeError> {
    let mut text = String::new();
    value.string(&mut text).map(|()| text)
}

fn path(value: &Value<'_>, target: &mut Option<PathBuf>) -> Result<(), DecodeError> {
    *target = Some(text(value)?).filter(|text| !text.is_empty()).map(PathBuf::from);
    Ok(())
}
