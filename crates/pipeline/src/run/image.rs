//! An image as an artifact: `rootfs/` and `metadata.json`.

use std::path::PathBuf;

use serde::Deserialize;

use super::engine::Trouble;
use super::files::read_in;
use super::resource::Fetched;
use super::scope::Artifact;

/// A larger configuration than this is none.
const LIMIT: u64 = 16 << 20;

/// What a container is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ImageDir {
    pub rootfs: PathBuf,
    pub env: Vec<(String, String)>,
    pub user: String,
    /// `entrypoint`, then `cmd`.
    pub program: Vec<String>,
    /// What it was kept under, where it was.
    pub key: String,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
}

impl ImageDir {
    /// Opens an image that was fetched.
    pub fn open(fetched: &Fetched) -> Result<Self, Trouble> {
        let artifact = Artifact { dir: fetched.dir.clone() };
        Self::of(&artifact).map(|image| Self { key: fetched.key.hex(), ..image })
    }

    /// Opens an artifact that a step left.
    pub fn of(artifact: &Artifact) -> Result<Self, Trouble> {
        let rootfs = artifact.dir.join("rootfs");
        let is_directory = std::fs::symlink_metadata(&rootfs).is_ok_and(|metadata| metadata.is_dir());
        let metadata = read_in(&artifact.dir, "metadata.json", LIMIT);
        let (true, Ok(metadata)) = (is_directory, metadata) else {
            return Err(Trouble::Errored(
                "No image specified for task? Make sure to specify \"image\" on your task step or \"image_resource\" in your task config. The image must be in rootfs format."
                    .to_owned(),
            ));
        };
        let metadata: Metadata = serde_json::from_slice(&metadata)
            .map_err(|error| Trouble::Errored(format!("malformed image metadata: {error}")))?;
        let pair = |text: String| {
            text.split_once('=')
                .map_or((text.clone(), String::new()), |(name, value)| (name.to_owned(), value.to_owned()))
        };
        let mut program = metadata.entrypoint.unwrap_or_default();
        program.extend(metadata.cmd.unwrap_or_default());
        Ok(Self {
            rootfs,
            env: metadata.env.unwrap_or_default().into_iter().map(pair).collect(),
            user: metadata.user.unwrap_or_default(),
            program,
            key: String::new(),
        })
    }

    /// The bare files.
    pub fn without_configuration(self) -> Self {
        Self { env: Vec::new(), user: String::new(), program: Vec::new(), ..self }
    }
}
