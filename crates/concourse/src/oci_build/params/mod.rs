//! What the task was asked for: from the environment, or from the JSON that the original's `build` hands to its `task`.
//!
//! Nothing is read from disk here, so [`Params`] say what was written, in the order that decides: later build arguments
//! and labels win.

mod additions;
mod environment;
mod json;
mod login;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use skycap_build::attest::Attest;
use skycap_image::{Compression, Secret};
use skycap_registry::Proxies;

use crate::Failure;

pub use self::login::Login;

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
    /// `ID[=PATH[,PATH]]` of what `RUN --mount=type=ssh` may ask for, one a line.
    pub ssh: String,
    /// Private keys by the id of such a mount.
    pub ssh_keys: BTreeMap<String, Secret>,
    /// `NAME=PATH` of images that the Dockerfile names by a build argument.
    pub image_args: Vec<String>,
    /// What names of images and stages stand for, as `--build-context` of buildx says it.
    pub build_contexts: BTreeMap<String, String>,
    /// The platforms, separated by commas; empty for this machine's.
    pub image_platform: String,
    /// Write OCI layouts instead of archives for `docker load`.
    pub output_oci: bool,
    /// How new layers are packed; by default gzip.
    pub compression: Option<Compression>,
    /// Also write the image's files.
    pub unpack_rootfs: bool,
    /// What the image says of what it holds and of how it was made.
    pub attest: Attest,
    /// Where else to look for what earlier builds made, one place a line, as `--cache-from` of buildx says it.
    pub cache_from: String,
    /// Where else to put what this one made, likewise.
    pub cache_to: String,
    /// Registries asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// `BuildKit`'s configuration, of which the tables of registries count.
    pub extra_config: String,
    /// Certificates in PEM, or paths of files with such, separated by commas.
    pub ca_certs: String,
    /// `host=ip,host=ip`.
    pub add_hosts: String,
    /// The directory of Docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// Who to become before bases are fetched.
    pub login: Option<Login>,
    /// The proxies that the environment names.
    pub proxies: Proxies,
    /// The socket of the agent that an `ssh` without a path means.
    pub ssh_agent: Option<PathBuf>,
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

impl Params {
    /// Settles what follows from several parameters together.
    fn settled(self) -> Result<Self, Failure> {
        // Several platforms do not fit into an archive for `docker load`.
        let output_oci = self.output_oci || self.image_platform.contains(',');
        if !output_oci && self.compression == Some(Compression::Zstd) {
            return Err(Failure::new("OUTPUT_COMPRESSION: zstd does not go into an archive for docker load")
                .with_hint("set OUTPUT_OCI: true, or leave OUTPUT_COMPRESSION out"));
        }
        if !output_oci && !self.attest.is_empty() {
            return Err(Failure::new("attestations do not go into an archive for docker load")
                .with_hint("set OUTPUT_OCI: true, or leave ATTEST_SBOM and ATTEST_PROVENANCE out"));
        }
        Ok(Self { output_oci, ..self })
    }
}
