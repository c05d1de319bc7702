//! What to run, as plain data: it crosses the border to the process that becomes the sandbox.
//!
//! Paths outside (lower directories, bind sources) are seen by the caller; paths inside (targets, the working directory)
//! are resolved inside the root file system, whatever links lie on the way.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One command and the world it runs in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// The root file system.
    pub root: Root,
    /// The command and its arguments. A name without `/` is looked up on the `PATH` of [`env`](Self::env).
    pub args: Vec<OsString>,
    /// The whole environment; nothing of the caller's is added.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory inside.
    #[serde(with = "path")]
    pub cwd: PathBuf,
    /// Makes the working directory (mode 0777 less the umask) if it is missing; it stays in the root file system.
    pub create_cwd: bool,
    /// Who runs the command.
    pub user: User,
    /// Further mounts, made in this order, after `/proc`, `/dev` and `/sys`.
    pub mounts: Vec<Mount>,
    /// The network it sees.
    pub network: Network,
    /// The host name it sees.
    pub hostname: String,
    /// Lines added to `/etc/hosts`: a name and its address.
    pub hosts: Vec<(String, IpAddr)>,
    /// How `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are provided.
    pub network_files: NetworkFiles,
    /// What root may do inside.
    pub capabilities: Capabilities,
    /// Which system calls are refused.
    pub filter: Filter,
    /// Runs the command on a terminal of this size; its output then comes as standard output.
    pub terminal: Option<TerminalSize>,
    /// A user namespace of the command's own.
    pub user_namespace: Option<UserNamespace>,
    /// Not beside other runs of this [`Sandbox`](crate::Sandbox) that would see the arguments of its programs: where parts of
    /// `/proc` are hidden, the kernel gives nobody one of their own. Elsewhere of no effect.
    pub alone: bool,
    /// How long processes that are [asked to end](crate::Cancel) have for it before they are killed.
    pub grace: Duration,
}

impl RunSpec {
    /// `args` as root in `root`, with the defaults of a build step: no environment, `/`, the host's network, the 14
    /// default capabilities, Docker's filter, no terminal, and a second to end in: whoever stops a build waits for no more
    /// than two.
    pub fn new(root: Root, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            root,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            create_cwd: false,
            user: User::default(),
            mounts: Vec::new(),
            network: Network::Host,
            hostname: "buildkitsandbox".to_owned(),
            hosts: Vec::new(),
            network_files: NetworkFiles::ReadOnly,
            capabilities: Capabilities::Default14,
            filter: Filter::Docker,
            terminal: None,
            user_namespace: None,
            alone: false,
            grace: Duration::from_secs(1),
        }
    }
}

/// Where the root file system comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Root {
    /// An overlay of directories.
    Overlay {
        /// The read-only directories, topmost first. None at all is an empty root file system.
        #[serde(with = "paths")]
        lowers: Vec<PathBuf>,
        /// Where writes go; must not lie on an overlay itself (see [`Sandbox::overlay_upper_works`]).
        ///
        /// [`Sandbox::overlay_upper_works`]: crate::Sandbox::overlay_upper_works
        #[serde(with = "path")]
        upper: PathBuf,
        /// An empty directory on the same file system as `upper`, of no use afterwards.
        #[serde(with = "path")]
        work: PathBuf,
    },
    /// A directory, written to in place.
    Directory(#[serde(with = "path")] PathBuf),
    /// A directory in the [territory](crate::Sandbox::territory) of a [takeover](crate::Rung::Takeover), written to in
    /// place: while the command runs, its entries change places with those of `/`.
    TakenOver {
        /// That directory.
        #[serde(with = "path")]
        tree: PathBuf,
        /// Where others may write meanwhile. What the command changes elsewhere on volumes that it sees is an error: it
        /// would be lost.
        #[serde(with = "path")]
        shared: PathBuf,
    },
}

/// A mount inside the root file system. A missing target is created, and removed again afterwards if it is still empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mount {
    /// A file, socket or directory of the outside.
    Bind {
        /// The path outside; with [`within`](Self::Bind::within), a path inside that directory.
        #[serde(with = "path")]
        source: PathBuf,
        /// Resolve the source as if this directory were `/`, so that no link in it can lead elsewhere.
        #[serde(with = "path_option")]
        within: Option<PathBuf>,
        /// Where it appears inside.
        #[serde(with = "path")]
        target: PathBuf,
        /// Whether writing is refused, also to what is mounted below the source.
        read_only: bool,
    },
    /// An overlay of directories.
    Overlay {
        /// The read-only directories, topmost first.
        #[serde(with = "paths")]
        lowers: Vec<PathBuf>,
        /// Where writes go; none makes the mount read-only.
        upper: Option<Upper>,
        /// The path inside the overlay that appears at the target (links are resolved inside it); `/` for all of it.
        #[serde(with = "path")]
        source: PathBuf,
        /// Where it appears inside.
        #[serde(with = "path")]
        target: PathBuf,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where it appears inside.
        #[serde(with = "path")]
        target: PathBuf,
        /// The most it may hold, in bytes; none leaves it to the kernel (half of the memory).
        size: Option<u64>,
        /// Its mode, for instance `0o1777`.
        mode: u32,
    },
    /// A read-only file that exists in memory only, for a secret.
    File {
        /// Where it appears inside.
        #[serde(with = "path")]
        target: PathBuf,
        /// Its content.
        content: Vec<u8>,
        /// Its mode, for instance `0o400`.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// The writable directories of an overlay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upper {
    /// Where writes go.
    #[serde(with = "path")]
    pub upper: PathBuf,
    /// An empty directory on the same file system.
    #[serde(with = "path")]
    pub work: PathBuf,
}

/// Who runs the command, by number; names are the caller's to resolve.
///
/// Where one id only can be mapped ([`Rung::SingleId`](crate::Rung::SingleId)) every user is root in disguise: the command runs as uid 0 and
/// all changes of ids are answered with success.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

/// The network a command sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Network {
    /// The caller's.
    Host,
    /// Only a loopback interface of its own.
    None,
}

/// How `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are provided. What is written to them is never kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NetworkFiles {
    /// Present, and not writable, as in a build step.
    ReadOnly,
    /// Present and writable, as in a task.
    Writable,
    /// The root file system's own are left alone.
    Absent,
}

/// What root may do inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Capabilities {
    /// The 14 of every container runtime (mask `a80425fb`).
    Default14,
    /// All that we have ourselves; `/sys` is writable and `/dev/fuse` is there if we have it.
    All,
}

/// A filter on system calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Filter {
    /// Docker's default for the 14 usual capabilities: no mounts, no namespaces, no `bpf`, no key rings, no kernel modules.
    /// On x86-64 and `AArch64`, and wherever a filter can be installed without `no_new_privs`, which would switch off `sudo`:
    /// not in a [takeover](crate::Rung::Takeover), whose container has its own. Of no effect with [`Capabilities::All`].
    Docker,
    /// None of ours.
    None,
}

/// The size of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// How the ids of a user namespace look from inside (`/proc/self/uid_map`).
///
/// In both cases the kernel's ids are those outside: nothing has to be chowned. A look, for programs that read the map to
/// learn whether they are privileged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserNamespace {
    /// `0 0 …`, as a privileged task sees it.
    Identity,
    /// `0 <highest id> 1`, as an unprivileged task sees it. Where a single id can be mapped: as [`Identity`](Self::Identity).
    RootIsHighest,
}

/// Paths as bytes, for they need not be UTF-8.
mod path {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        <OsStr as Serialize>::serialize(path.as_os_str(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

/// As [`path`], for several.
mod paths {
    use std::ffi::{OsStr, OsString};
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| -> &OsStr { path.as_os_str() }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<OsString>::deserialize(deserializer)?.into_iter().map(PathBuf::from).collect())
    }
}

/// As [`path`], for one that may be absent.
mod path_option {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| path.as_os_str()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_cross_the_border_unchanged() {
        let odd = OsString::from_vec(vec![b'a', 0xff, b'/', 0x80]);
        let mut spec = RunSpec::new(
            Root::Overlay { lowers: vec![odd.clone().into()], upper: odd.clone().into(), work: "w".into() },
            [odd.clone()],
        );
        spec.cwd = odd.clone().into();
        spec.env.push((odd.clone(), odd.clone()));
        spec.mounts.push(Mount::Bind {
            source: odd.clone().into(),
            within: Some(odd.clone().into()),
            target: odd.into(),
            read_only: true,
        });
        let text = serde_json::to_vec(&spec).unwrap();
        assert_eq!(serde_json::from_slice::<RunSpec>(&text).unwrap(), spec);
    }
}
