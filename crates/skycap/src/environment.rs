//! The one place that reads the environment. Everything else is handed values.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use skycap_registry::Proxies;

/// `statfs` of an overlay (`linux/magic.h`).
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

/// What the process was started with, parsed once.
#[derive(Debug, Clone)]
pub struct World {
    /// All of it, for the oci-build task whose parameters are variables, and for the resources.
    pub variables: BTreeMap<String, String>,
    /// Whether stderr shows colours and bars.
    pub terminal: Terminal,
    /// Where caches go.
    pub cache: Kept,
    /// Where state goes.
    pub state: Kept,
    /// Where temporary files go.
    pub scratch: PathBuf,
    /// Where large temporary trees go: not on an overlay, on which no other can be stacked, if there is such a place.
    pub roomy: PathBuf,
    /// Where credentials may be kept, in the order in which they are asked. `docker login` and `podman login` write them.
    pub auth_files: Vec<PathBuf>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and their lower-case twins.
    pub proxies: Proxies,
}

/// What stderr can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// It is one.
    pub present: bool,
    /// Lines may be redrawn: nobody reads a log of them.
    pub interactive: bool,
    /// Colours are welcome (`NO_COLOR`, `TERM=dumb`).
    pub colour: bool,
}

/// A directory for what outlives this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is this one.
    Here(PathBuf),
    /// There is no home: it is one of this user's in a directory of everybody's.
    Among(PathBuf),
}

impl Kept {
    /// Where it is. One among those of others is made now, to be sure whose it is.
    pub fn directory(&self) -> PathBuf {
        match self {
            Self::Here(directory) => directory.clone(),
            Self::Among(directory) => own_directory(directory),
        }
    }
}

impl World {
    /// Reads the process's environment. Variables that are not UTF-8 are left out: no parameter of ours can be one.
    pub fn read() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let world = Self::from_variables(variables, std::io::stderr().is_terminal());
        let roomy = roomy(&world.scratch);
        Self { roomy, ..world }
    }

    fn from_variables(variables: BTreeMap<String, String>, is_terminal: bool) -> Self {
        let get = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        let home = get("HOME").map(PathBuf::from);
        let scratch = get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let below_home = |variable: &str, default: &str| match (get(variable), &home) {
            (Some(directory), _) => Kept::Here(Path::new(directory).join("skycap")),
            (None, Some(home)) => Kept::Here(home.join(default).join("skycap")),
            // A resource's container may have neither; what would be kept then lives as long as the container.
            (None, None) => Kept::Among(scratch.clone()),
        };
        let dumb = get("TERM").is_none_or(|term| term == "dumb");
        let either = |upper: &str, lower: &str| get(lower).or_else(|| get(upper)).cloned();
        Self {
            terminal: Terminal {
                present: is_terminal,
                interactive: is_terminal && !dumb && get("CI").is_none(),
                colour: is_terminal && !dumb && get("NO_COLOR").is_none(),
            },
            cache: below_home("XDG_CACHE_HOME", ".cache"),
            state: below_home("XDG_STATE_HOME", ".local/state"),
            auth_files: auth_files(get("DOCKER_CONFIG"), get("XDG_RUNTIME_DIR"), home.as_deref()),
            proxies: Proxies {
                http: either("HTTP_PROXY", "http_proxy"),
                https: either("HTTPS_PROXY", "https_proxy"),
                no: either("NO_PROXY", "no_proxy"),
            },
            roomy: scratch.clone(),
            scratch,
            variables,
        }
    }
}

/// A directory of this user's among those of everybody: others may not write to it, nor have made it, for what is kept there is
/// believed. Where somebody took the names, it is one that nobody can have known.
fn own_directory(among: &Path) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let numbers = std::iter::once(String::new()).chain((2..10).map(|number| format!("-{number}")));
    let names = numbers.map(|number| among.join(format!("skycap-{user}{number}")));
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    // If none can be made, the error is that of whoever wants to write there.
    let unknown = among.join(format!("skycap-{user}-{}-{since}", std::process::id()));
    let mut names = names.chain(std::iter::once(unknown.clone()));
    names.find(|name| is_made(name) || is_own(name, user)).unwrap_or(unknown)
}

fn is_made(directory: &Path) -> bool {
    std::fs::DirBuilder::new().mode(0o700).create(directory).is_ok()
}

fn is_own(directory: &Path, user: u32) -> bool {
    directory.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0)
}

/// A directory of Docker's that was named goes first, and then for the default one.
fn auth_files(docker: Option<&String>, runtime: Option<&String>, home: Option<&Path>) -> Vec<PathBuf> {
    let named = docker.map(|directory| Path::new(directory).join("config.json"));
    let containers = runtime.map(|directory| Path::new(directory).join("containers/auth.json"));
    let default = home.filter(|_| docker.is_none()).map(|home| home.join(".docker/config.json"));
    [named, containers, default].into_iter().flatten().collect()
}

/// A Concourse task has an empty volume at `/scratch`; most containers have a tmpfs at `/dev/shm`.
fn roomy(scratch: &Path) -> PathBuf {
    let candidates = [Path::new("/scratch"), scratch, Path::new("/dev/shm")];
    let fits = |path: &&Path| rustix::fs::statfs(*path).is_ok_and(|found| found.f_type != OVERLAY);
    candidates.into_iter().find(fits).unwrap_or(scratch).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(variables: &[(&str, &str)]) -> World {
        World::from_variables(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), true)
    }

    #[test]
    fn an_empty_environment_is_enough() {
        let world = world(&[]);
        assert_eq!(world.cache, Kept::Among(PathBuf::from("/tmp")));
        assert_eq!(world.terminal, Terminal { present: true, interactive: false, colour: false });
        assert!(world.auth_files.is_empty());
    }

    #[test]
    fn without_a_home_nothing_is_kept_where_others_may_have_put_something() {
        let tmp = tempfile::tempdir().unwrap();
        let first = own_directory(tmp.path());
        assert_eq!(first.symlink_metadata().unwrap().mode() & 0o7777, 0o700);
        assert_eq!(own_directory(tmp.path()), first, "it is found again");
        // Others could have written to it.
        std::fs::set_permissions(&first, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let second = own_directory(tmp.path());
        assert_ne!(second, first);
        std::fs::remove_dir(&second).unwrap();
        std::os::unix::fs::symlink(tmp.path(), &second).unwrap();
        let third = own_directory(tmp.path());
        assert!(third != second && third != first && third.is_dir(), "{third:?}");
        assert!(!is_own(tmp.path(), u32::MAX), "it is another's");
    }

    #[test]
    fn the_users_directories_and_wishes_are_respected() {
        let world = world(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("NO_COLOR", "1"), ("TERM", "xterm")]);
        let here = |directory| Kept::Here(PathBuf::from(directory));
        assert_eq!((world.cache, world.state), (here("/h/.cache/skycap"), here("/s/skycap")));
        assert_eq!(world.terminal, Terminal { present: true, interactive: true, colour: false });
        assert_eq!(world.auth_files, [PathBuf::from("/h/.docker/config.json")]);
    }

    #[test]
    fn credentials_are_looked_for_where_docker_and_podman_keep_them() {
        let files = |variables: &[(&str, &str)]| {
            let files = world(variables).auth_files;
            files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let both = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/u")];
        assert_eq!(files(&both), ["/run/u/containers/auth.json", "/h/.docker/config.json"]);
        let named = [&both[..], &[("DOCKER_CONFIG", "/d")]].concat();
        assert_eq!(files(&named), ["/d/config.json", "/run/u/containers/auth.json"]);
    }
}
