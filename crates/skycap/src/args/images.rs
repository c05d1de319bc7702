//! The command line of what looks at images and moves them. Flags that skopeo has keep their names.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Bounds, Kept, Network};

/// Who we are to registries and what is trusted there.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Registries")]
pub struct Login {
    /// Name and password; other users see arguments, so prefer --password-stdin or `docker login`
    #[arg(long, value_name = "NAME:PASSWORD", conflicts_with_all = ["username", "password_stdin"])]
    pub creds: Option<String>,
    /// The name that goes with --password-stdin
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Credentials in the form of Docker's config.json [default: where `docker login` and `podman login` keep them]
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub authfile: Option<PathBuf>,
    /// With `false`, do not check the certificates of the registries named on this command line, and allow plain HTTP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub tls_verify: bool,
    /// The same as --tls-verify=false
    #[arg(long)]
    pub insecure: bool,
    /// Ask this registry first for images on Docker Hub
    #[arg(long, value_name = "HOST")]
    pub mirror: Option<String>,
    #[command(flatten)]
    pub network: Network,
}

/// The same for the two ends of a copy.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Registries")]
pub struct Ends {
    /// --creds for the source only
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub src_creds: Option<String>,
    /// --creds for the destinations only
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub dest_creds: Option<String>,
    /// --tls-verify for the source only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub src_tls_verify: Option<bool>,
    /// --tls-verify for the destinations only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dest_tls_verify: Option<bool>,
}

/// What a copy changes on the way.
#[derive(Args, Debug, Clone, Default)]
pub struct Changes {
    /// Only the image for this platform, or an index of several: linux/arm64,linux/amd64; `all` is the default, the artifact as it is
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Also copy what refers to it: signatures, SBOMs, attestations
    #[arg(long)]
    pub referrers: bool,
    /// Compress layers that are not compressed; digests change. With --recompress all layers
    #[arg(long, value_name = "HOW")]
    pub compress: Option<Compress>,
    /// Compress also what is compressed in another way; digests change
    #[arg(long, requires = "compress")]
    pub recompress: bool,
}

/// How layers are compressed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// What every runtime reads
    Gzip,
    /// Smaller and faster to unpack; needs containerd 1.5, Docker 23, podman 3.2 or later
    Zstd,
    /// Bare tars, only with --recompress; also keeps bare layers of a docker-archive bare in a registry
    None,
}

const PLACES: &str = "\
Places, as skopeo spells them:
  docker://HOST/REPOSITORY[:TAG][@DIGEST]   a registry; a name alone is the same
  oci:DIR[:NAME]                            an OCI layout
  oci-archive:FILE[:NAME]                   an OCI layout in a tar
  docker-archive:FILE[:REPOSITORY:TAG]      what `docker save` writes and `docker load` reads
  dir:DIR                                   one image, a file for each part";

const INSPECT_EXAMPLES: &str = "\
Examples:
  skycap inspect alpine:3.20                          what is it, for which platforms, how big
  skycap inspect --platform linux/arm64 alpine:3.20   one of its images
  skycap inspect --json alpine:3.20 | jq -r .Digest   keys as in `skopeo inspect`, and more
  skycap inspect --raw oci:layout | sha256sum         the manifest, byte for byte
  skycap inspect --referrers registry.example/app:1   its signatures, SBOMs, attestations";

#[derive(Args, Debug)]
#[command(after_help = INSPECT_EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Inspect {
    /// An image's name, or a place such as oci:DIR or docker-archive:FILE
    pub name: String,
    /// Print JSON with the keys of `skopeo inspect`
    #[arg(long)]
    pub json: bool,
    /// Print the manifest or index as it is stored
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Print the image's configuration as it is stored
    #[arg(long, conflicts_with_all = ["json", "raw"])]
    pub config: bool,
    /// Look at the image for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// List what refers to it: signatures, SBOMs, attestations
    #[arg(long, conflicts_with_all = ["raw", "config"])]
    pub referrers: bool,
    #[command(flatten)]
    pub login: Login,
}

const TAGS_EXAMPLES: &str = "\
Examples:
  skycap tags alpine --filter '^3\\.' --sort version   the 3.x releases, oldest first
  skycap tags --digests registry.example/app          what each tag stands for
  skycap tags --json alpine                           keys as in `skopeo list-tags`";

#[derive(Args, Debug)]
#[command(after_help = TAGS_EXAMPLES)]
pub struct Tags {
    /// A repository, or a layout or archive
    pub repository: String,
    /// Print JSON with the keys of `skopeo list-tags`
    #[arg(long)]
    pub json: bool,
    /// The order [default: the registry's own]
    #[arg(long, value_name = "BY")]
    pub sort: Option<Sort>,
    /// Only tags in which this regular expression is found
    #[arg(long, value_name = "REGEX")]
    pub filter: Option<String>,
    /// Also say what each tag stands for
    #[arg(long)]
    pub digests: bool,
    #[command(flatten)]
    pub login: Login,
}

/// How tags are sorted.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Numbers by their value, releases after their candidates
    Version,
    /// Byte by byte
    Name,
}

const COPY_EXAMPLES: &str = "\
Examples:
  skycap copy alpine:3.20 registry.example/alpine:3.20            all platforms, same digest
  skycap copy alpine:3.20 registry.example/alpine:{3,3.20}        (bash) two tags, sent once
  skycap copy --platform linux/arm64 alpine:3.20 oci:layout:3.20  one platform into a layout
  skycap copy docker-archive:app.tar registry.example/app:1       what `docker save` wrote
  skycap copy --referrers a.example/app:1 b.example/app:1         with signatures and SBOMs";

#[derive(Args, Debug)]
#[command(after_help = format!("{PLACES}\n\n{COPY_EXAMPLES}"))]
pub struct Copy {
    /// What to copy
    pub source: String,
    /// Where to; several get the same
    #[arg(required = true)]
    pub destination: Vec<String>,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub ends: Ends,
    #[command(flatten)]
    pub login: Login,
}

const PULL_EXAMPLES: &str = "\
Examples:
  skycap pull alpine:3.20                            its files, into ./alpine
  skycap pull alpine:3.20 --rootfs /srv/root         its files, into another directory
  skycap pull alpine:3.20 docker-archive:alpine.tar  for `docker load`
  skycap pull alpine:3.20 oci:layout:3.20            all platforms, into a layout";

#[derive(Args, Debug)]
#[command(after_help = format!("{PLACES}\n\n{PULL_EXAMPLES}"))]
pub struct Pull {
    /// The image; with --rootfs also one in a layout or an archive
    pub image: String,
    /// Where to [default: its files, into a directory of the repository's last name]
    #[arg(conflicts_with = "rootfs")]
    pub destination: Option<String>,
    /// Unpack its files into this directory, which must be empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// The image for this platform [default: this machine's for files and docker-archive, else all]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Neither use nor keep layers in the store
    #[arg(long)]
    pub no_cache: bool,
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub bounds: Bounds,
    #[command(flatten)]
    pub login: Login,
}

const PUSH_EXAMPLES: &str = "\
Examples:
  skycap push app.tar registry.example/app:1                     what `docker save` or a build wrote
  skycap push layout registry.example/app:1 registry.example/app:latest
  skycap push oci:layout:1.2 registry.example/app:1.2
  echo \"$TOKEN\" | skycap push app.tar registry.example/app:1 --username robot --password-stdin";

#[derive(Args, Debug)]
#[command(after_help = PUSH_EXAMPLES)]
pub struct Push {
    /// The path of a layout or archive, or a place such as oci:DIR:NAME
    pub source: String,
    /// The names that it gets
    #[arg(required = true, value_name = "IMAGE[:TAG]")]
    pub image: Vec<String>,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub login: Login,
}
