//! The command line of `skycap build`. Flags that `docker buildx build` has keep their names and their forms.

#![allow(clippy::doc_markdown, reason = "the comments are what --help shows")]

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, ValueHint};

use super::Means;

const EXAMPLES: &str = "\
Examples:
  skycap build .                                            build, keep the steps, print the digest
  skycap build -t registry.example/app:1 --push .           build and push
  skycap build -t app:1 -o type=docker,dest=app.tar .       an archive for `docker load` or `podman load`
  skycap build --target test --build-arg GO=1.23 .          one stage, with a value for an ARG
  skycap build --platform linux/amd64,linux/arm64 -o oci:app .   an index in an OCI layout
  skycap build -o out .                                     the files of the image, in a directory
  skycap build --secret id=npm,src=npmrc --ssh default .    for RUN --mount=type=secret and type=ssh
  skycap build --check .                                    what the linter finds, without building
  tar c . | skycap build -f build/Dockerfile -              the context from standard input";

#[derive(Args, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct Build {
    /// What COPY and ADD read: a directory, `-` (a tar or a Dockerfile on standard input), a git or http(s) URL
    #[arg(default_value = ".", value_name = "CONTEXT", value_hint = ValueHint::DirPath)]
    pub context: String,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub image: ImageFlags,
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub steps: Steps,
    #[command(flatten)]
    pub caching: Caching,
    #[command(flatten)]
    pub reporting: Reporting,
    #[command(flatten)]
    pub refused: Refused,
    /// Allow plain HTTP to the registries that are pushed to
    #[arg(long)]
    pub insecure: bool,
    #[command(flatten)]
    pub means: Means,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What is built")]
pub struct Inputs {
    /// The Dockerfile; `-` reads it from standard input [default: Dockerfile in the context]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<String>,
    /// The stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// A value for an ARG; NAME alone takes it from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub args: Vec<String>,
    /// What to build for; several make an index: linux/amd64,linux/arm64 [default: this machine]
    #[arg(long, value_name = "OS/ARCH[,…]", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// A further context for FROM and --from: a directory, docker-image://REF, oci-layout://DIR:TAG, a git or http(s) URL
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub build_context: Vec<String>,
    /// For RUN --mount=type=secret: id=ID with src=FILE or env=NAME [default: the variable ID, else the file ID]
    #[arg(long, value_name = "id=ID[,…]")]
    pub secret: Vec<String>,
    /// For RUN --mount=type=ssh: `default` is the agent at SSH_AUTH_SOCK; else an agent's socket or private keys
    #[arg(long, value_name = "ID[=SOCKET|KEY[,…]]")]
    pub ssh: Vec<String>,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "The image")]
pub struct ImageFlags {
    /// A name for the image, in the archives and layouts that are written and for --push; may be repeated
    #[arg(short, long, value_name = "REFERENCE")]
    pub tag: Vec<String>,
    /// A label for the image; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// An annotation; `index:`, `manifest-descriptor:`, `index,manifest:` in front say where it goes [default: manifest]
    #[arg(long, value_name = "[WHERE:]NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Attach the list of packages (SPDX) [the same as --attest=type=sbom]
    #[arg(long, value_name = "BOOL|KEYS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// Attach how it was built (SLSA): mode=min or mode=max [the same as --attest=type=provenance]
    #[arg(long, value_name = "BOOL|KEYS", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// Attach an attestation: type=sbom or type=provenance; may be repeated
    #[arg(long, value_name = "type=TYPE[,…]")]
    pub attest: Vec<String>,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Where it goes")]
pub struct Outputs {
    /// Write the result: type=local|tar|oci|docker|image|registry,dest=…, a directory for its files, `-` for a tar of them, or
    /// docker-archive:FILE, oci-archive:FILE, oci:DIR, dir:DIR, docker://REF; may be repeated
    #[arg(short, long, value_name = "TO")]
    pub output: Vec<String>,
    /// Push under every name that -t gives
    #[arg(long)]
    pub push: bool,
    /// Docker's daemon is not asked: an error that says what to do instead
    #[arg(long)]
    pub load: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub iidfile: Option<PathBuf>,
    /// Write the result's digests and names to a file, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metadata_file: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "How RUN runs")]
pub struct Steps {
    /// The network of every RUN that does not choose one: default, none or host
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,
    /// A line for /etc/hosts; may be repeated
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Let RUN have what it must be granted: network.host, security.insecure; may be repeated
    #[arg(long, value_name = "RIGHT", value_delimiter = ',')]
    pub allow: Vec<String>,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Caching")]
pub struct Caching {
    /// Run every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE[,…]", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Ask the registries again what base images are: always done
    #[arg(long)]
    pub pull: bool,
    /// Take steps from a cache as well: type=registry,ref=REF or type=local,src=DIR; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,
    /// Leave steps in a cache as well: type=registry,ref=REF, type=local,dest=DIR or type=inline; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What is told")]
pub struct Reporting {
    /// Only look for mistakes: the same as --call=check
    #[arg(long, conflicts_with = "call")]
    pub check: bool,
    /// Instead of building: check, outline (what a target takes) or targets; `,format=json` for programs
    #[arg(long, value_name = "METHOD")]
    pub call: Option<String>,
    /// How the build is shown
    #[arg(long, value_name = "HOW", value_enum, env = "BUILDKIT_PROGRESS", hide_env_values = true)]
    pub progress: Option<ProgressArg>,
    /// Show nothing and print the image's id
    #[arg(short, long)]
    pub quiet: bool,
}

/// How a build is shown.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressArg {
    /// A table on a terminal, lines elsewhere
    #[default]
    Auto,
    /// A table that is redrawn; an error where there is no terminal
    Tty,
    /// Lines, each with its step's number
    Plain,
    /// Nothing but errors
    Quiet,
    #[value(help = "The events of BuildKit as JSON, for programs")]
    Rawjson,
}

/// Flags of Docker's that are read in order to be answered.
#[derive(Args, Debug, Default)]
pub struct Refused {
    #[arg(long, hide = true, value_name = "SIZE")]
    pub shm_size: Option<String>,
    #[arg(long, hide = true, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    #[arg(long, hide = true, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
    #[arg(short, long, hide = true, value_name = "SIZE")]
    pub memory: Option<String>,
    #[arg(long, hide = true, value_name = "SIZE")]
    pub memory_swap: Option<String>,
    #[arg(short, long, hide = true, value_name = "WEIGHT")]
    pub cpu_shares: Option<String>,
    #[arg(long, hide = true, value_name = "TIME")]
    pub cpu_period: Option<String>,
    #[arg(long, hide = true, value_name = "TIME")]
    pub cpu_quota: Option<String>,
    #[arg(long, hide = true, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    #[arg(long, hide = true, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    #[arg(long, hide = true, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "TECHNOLOGY")]
    pub isolation: Option<String>,
    #[arg(long, hide = true, value_name = "NAME")]
    pub builder: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    pub policy: Option<String>,
    #[arg(long, hide = true)]
    pub squash: bool,
    #[arg(long, hide = true)]
    pub compress: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub rm: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub force_rm: Option<bool>,
}
