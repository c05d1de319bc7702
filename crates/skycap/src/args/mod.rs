//! The command line. The flags that Concourse's `fly` and Docker's `build` have keep their names.

mod build;
mod images;
pub mod quantity;
mod registry;
mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use build::{Build, ProgressArg, Reporting};
pub use images::{Changes, Compress, Copy, Ends, Inspect, Login, Pull, Push, Sort, Tags};
pub use registry::{Registry, RegistryGc, Serve};
pub use store::{Store, StoreGc, StoreLs, StoreVerify};

/// Concourse image resources, a Dockerfile builder and a local pipeline runner in one binary.
#[derive(Parser, Debug)]
#[command(name = "skycap", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Start here: `skycap demo` runs the main job end to end, offline, and says what it does.")]
pub struct Cli {
    /// Say more: requests to registries and how long they took, git commands
    #[arg(long, global = true)]
    pub debug: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// How servers are reached.
#[derive(Args, Debug, Clone, Default)]
pub struct Network {
    /// Ask URL instead of the server HOST, for pulls, pushes, tag lists and git; may be repeated
    #[arg(long = "host", value_name = "HOST=URL")]
    pub hosts: Vec<String>,
    /// Trust the certificates in this PEM file as well as the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Vec<PathBuf>,
    /// Fetch layers that a registry does not have from the addresses in their manifests, without credentials (base images of
    /// Windows, for example); whoever wrote a manifest chose its addresses
    #[arg(long)]
    pub foreign_layers: bool,
}

/// What outlives a command.
#[derive(Args, Debug, Clone, Default)]
pub struct Kept {
    /// Where fetched layers, layer indexes and cached build steps are kept [default: the user's cache directory]
    #[arg(long, value_name = "DIR", env = "SKYCAP_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,
}

/// How much of what outlives a command may gather.
#[derive(Args, Debug, Clone, Default)]
pub struct Bounds {
    /// How much the store may hold, `none` for no limit; it is pruned by who uses it [default: a tenth of its disk, and 10GiB at least]
    #[arg(long, value_name = "SIZE", env = "SKYCAP_STORE_LIMIT", hide_env_values = true, value_parser = quantity::limit)]
    pub store_limit: Option<Limit>,
}

/// A bound that may be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes.
    Size(u64),
    /// Nothing goes by itself, however old.
    None,
}

/// How processes are run.
#[derive(Args, Debug, Clone, Default)]
pub struct Isolation {
    /// Use this rung of the sandbox instead of the strongest that works
    #[arg(long, value_name = "RUNG", env = "SKYCAP_SANDBOX")]
    pub sandbox: Option<RungArg>,
    /// Whether we are a task, whose container may be taken over if it is certain that it is thrown away.
    #[arg(skip)]
    pub is_task: bool,
}

/// All of them, for the commands that do everything.
#[derive(Args, Debug, Clone, Default)]
pub struct Means {
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub bounds: Bounds,
    #[command(flatten)]
    pub isolation: Isolation,
}

/// How a RUN or a task is isolated.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungArg {
    /// Namespaces made directly, as root
    Privileged,
    /// A user namespace below the one we are root in
    Nested,
    /// A user namespace with the ids of /etc/subuid
    SubordinateIds,
    /// A user namespace with one id
    SingleId,
    /// The root of this container itself, which is thrown away after the build
    Takeover,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  skycap completions bash > ~/.local/share/bash-completion/completions/skycap
  skycap completions zsh > ~/.zfunc/_skycap           with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  skycap completions fish > ~/.config/fish/completions/skycap.fish";

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the main job end to end, offline: a new upstream tag becomes a pushed image
    Demo(Demo),
    /// Run a job of a Concourse pipeline on this machine
    Run(Run),
    /// Keep checking a pipeline's resources and run the jobs that have new versions, until stopped
    Watch(Watch),
    /// Check a pipeline and say what Concourse would say
    Validate(Validate),
    /// Print what a job would do
    Plan(Plan),
    /// Build a Dockerfile
    Build(Box<Build>),
    /// Say what an image is: digest, platforms, layers, configuration, labels
    Inspect(Inspect),
    /// List the tags of a repository
    Tags(Tags),
    /// Copy an image between registries, layouts and archives, as it is
    Copy(Copy),
    /// Fetch an image: its files, or a layout or archive
    Pull(Pull),
    /// Push a layout or archive to a registry
    Push(Push),
    /// The store of fetched layers and cached build steps
    #[command(subcommand)]
    Store(Store),
    /// The embedded registry
    #[command(subcommand)]
    Registry(Registry),
    /// Write the executables that a Concourse image of a component carries
    Install(Install),
    /// The registry-image resource type, by hand: JSON on stdin, JSON on stdout
    RegistryImage(ByHand<RegistryImage>),
    /// The registry-tag resource type, by hand: JSON on stdin, JSON on stdout
    RegistryTag(ByHand<TagResource>),
    /// The oci-build task, by hand: parameters from the environment, inputs and outputs in the working directory
    OciBuild(Means),
    /// Say what this machine can do and what would lift it
    Doctor(Doctor),
    /// Print a completion script
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What a machine is judged by.
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub isolation: Isolation,
}

/// A script of a resource.
#[derive(Args, Debug)]
pub struct ByHand<S: Subcommand> {
    #[command(flatten)]
    pub network: Network,
    #[command(subcommand)]
    pub script: S,
}

#[derive(Args, Debug)]
pub struct Demo {
    /// Publish another version of the base image first, such as 3.4.0
    #[arg(long, value_name = "VERSION")]
    pub new_upstream_tag: Option<String>,
    /// Where the demo keeps its registry, git repository and state [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub isolation: Isolation,
}

/// Values for a pipeline's ((vars)), as fly takes them.
#[derive(Args, Debug, Clone, Default)]
pub struct VarArgs {
    /// A string for a var
    #[arg(short = 'v', long = "var", value_name = "NAME=STRING")]
    pub vars: Vec<String>,
    /// A YAML value for a var
    #[arg(short = 'y', long = "yaml-var", value_name = "NAME=YAML")]
    pub yaml_vars: Vec<String>,
    /// A YAML file of vars; the file given last wins, -v and -y win over files
    #[arg(short = 'l', long = "load-vars-from", value_name = "FILE")]
    pub var_files: Vec<PathBuf>,
    /// A YAML file that plays the cluster's credential manager: looked up when a step runs, redacted in its output
    #[arg(long, value_name = "FILE")]
    pub secrets: Option<PathBuf>,
}

/// What `run` and `watch` have in common.
#[derive(Args, Debug, Clone, Default)]
pub struct RunnerArgs {
    #[command(flatten)]
    pub vars: VarArgs,
    /// Run every image for real, also those that skycap can stand in for
    #[arg(long)]
    pub no_native: bool,
    /// Fetch a base resource type from this image, as in time=registry.example/time-resource; may be repeated
    #[arg(long, value_name = "TYPE=IMAGE")]
    pub base_type: Vec<String>,
    /// Where versions, builds and caches of this pipeline are kept [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub means: Means,
}

const RUN_EXAMPLES: &str = "\
Examples:
  skycap run pipeline.yml my-job -l vars.yml          check the inputs, run the job
  skycap run pipeline.yml --if-changed                nothing if all versions are those of the last success
  skycap run pipeline.yml my-job -i src=. --skip-put  a rehearsal: a local directory, nothing is pushed
  skycap run pipeline.yml -v tag=1.2 --secrets secrets.yml --host docker.io=http://127.0.0.1:5000";

#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub struct Run {
    /// The pipeline, as given to `fly set-pipeline`
    pub pipeline: PathBuf,
    /// The job; may be left out if the pipeline has only one
    pub job: Option<String>,
    #[command(flatten)]
    pub runner: RunnerArgs,
    /// Use a local directory instead of what a get would fetch; may be repeated
    #[arg(short = 'i', long = "input", value_name = "NAME=DIR")]
    pub inputs: Vec<String>,
    /// Do nothing if the newest versions are those of the last successful build
    #[arg(long)]
    pub if_changed: bool,
    /// Let puts succeed without running them
    #[arg(long)]
    pub skip_put: bool,
}

const WATCH_EXAMPLES: &str = "\
Examples:
  skycap watch pipeline.yml -l vars.yml               until Ctrl-C; a build that it interrupts is run again
  skycap watch pipeline.yml --state /var/lib/images   versions, builds and caches in a place of their own
  skycap watch pipeline.yml --store-limit 20GB        and no more than this for layers";

#[derive(Args, Debug)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct Watch {
    /// The pipeline, as given to `fly set-pipeline`
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub runner: RunnerArgs,
}

#[derive(Args, Debug)]
pub struct Validate {
    /// The pipeline
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub vars: VarArgs,
    /// Treat warnings as errors
    #[arg(short, long)]
    pub strict: bool,
}

#[derive(Args, Debug)]
pub struct Plan {
    /// The pipeline
    pub pipeline: PathBuf,
    /// The job; may be left out if the pipeline has only one
    pub job: Option<String>,
    #[command(flatten)]
    pub vars: VarArgs,
}

#[derive(Args, Debug)]
pub struct Install {
    /// registry-image, registry-tag or oci-build
    pub component: String,
    /// Where the executables go, such as /opt/resource
    pub dir: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum RegistryImage {
    #[command(flatten)]
    Script(Resource),
    /// Say in plain words what a source does: its JSON, or a whole request, on stdin
    Explain {
        /// Ask the registry which tags count
        #[arg(long)]
        check: bool,
    },
}

#[derive(Subcommand, Debug)]
pub enum Resource {
    /// Print the versions there are
    Check,
    /// Fetch a version into DIR
    In {
        /// Where to put it
        dir: Option<PathBuf>,
    },
    /// Push what is in DIR
    Out {
        /// Where the inputs are
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
pub enum TagResource {
    /// Print the versions there are
    Check,
    /// Write a version's tag and digest into DIR
    In {
        /// Where to put them
        dir: Option<PathBuf>,
    },
}
