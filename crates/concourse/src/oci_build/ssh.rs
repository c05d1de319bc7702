//! `BUILDKIT_SSH` and `BUILDKIT_SSHTEXT_<id>`: agents and private keys for `RUN --mount=type=ssh`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skycap_build::ssh::{PrivateKey, SshError, SshSource};

use super::params::Params;
use crate::Failure;
use crate::failure::chain;
use crate::inputs::Inputs;

/// Opens agents and reads keys, by id.
pub(super) fn read(params: &Params, inputs: &Inputs) -> Result<BTreeMap<String, SshSource>, Failure> {
    let mut sources = BTreeMap::new();
    for (id, text) in &params.ssh_keys {
        let key = PrivateKey::parse(text.reveal().as_bytes());
        let key = key.map_err(|error| {
            let failure = Failure::new(chain(&error)).during(format_args!("BUILDKIT_SSHTEXT_{id}"));
            error.hint().map_or(failure.clone(), |hint| failure.with_hint(hint))
        })?;
        sources.insert(id.clone(), SshSource::Keys([key].into()));
    }
    for line in params.ssh.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (id, paths) = line.split_once('=').unwrap_or((line, ""));
        let paths = find(paths, params, inputs)?;
        let source = SshSource::open(&paths).map_err(|error| failed(id, &error))?;
        sources.insert(id.to_owned(), source);
    }
    Ok(sources)
}

/// The files; without any the socket of the agent that the environment names.
fn find(paths: &str, params: &Params, inputs: &Inputs) -> Result<Vec<PathBuf>, Failure> {
    let named = paths.split(',').filter(|path| !path.is_empty()).map(Path::new);
    let agent = params.ssh_agent.as_deref().filter(|_| paths.is_empty());
    named
        .chain(agent)
        .map(|path| inputs.find("BUILDKIT_SSH", path).map_err(|failure| failure.during("BUILDKIT_SSH")))
        .collect()
}

fn failed(id: &str, error: &SshError) -> Failure {
    let failure = Failure::new(chain(error)).during(format_args!("BUILDKIT_SSH: {id:?}"));
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
