//! One container as a worker would make it (sections "Task containers" and "Isolation" of the notes on Concourse): an image's
//! root file system below a layer for writes, volumes sorted by their paths, a user of the image's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use skycap_image::Digest;
use skycap_sandbox::{
    Capabilities, Exit, Filter, Mount, Network, NetworkFiles, Root, RunError, RunSpec, Stdin, TerminalSize, Upper,
    User, UserNamespace,
};

use super::engine::{Engine, Trouble, during, make};
use super::files;
use super::log::LineOutput;
use super::stop::Stop;
use super::users::{self, Account};

/// What tasks see when they ask their terminal.
const TERMINAL: TerminalSize = TerminalSize { rows: 500, columns: 500 };

/// How long a step has to end in after it was asked to, as on a cluster.
const GRACE: Duration = Duration::from_secs(10);

/// What to run, and where.
pub(crate) struct Container<'c> {
    pub rootfs: &'c Path,
    pub args: Vec<String>,
    /// Of several values of a name the last counts.
    pub env: Vec<(String, String)>,
    /// Empty for root.
    pub user: &'c str,
    pub cwd: PathBuf,
    pub volumes: Vec<Volume>,
    pub privileged: bool,
    pub terminal: bool,
    pub hermetic: bool,
}

/// A directory inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Volume {
    pub target: PathBuf,
    pub contents: Contents,
}

/// What a volume shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    /// A directory that was made empty for this container; what is written stays in it.
    Fresh(PathBuf),
    /// A directory of this container's own, with something in it; what is written stays in it.
    Own(PathBuf),
    /// Somebody else's directory; what is written is lost.
    Copy(PathBuf),
}

impl Container<'_> {
    /// Runs it to its end.
    pub fn run(self, engine: &Engine, stdin: Stdin, output: &mut LineOutput, stop: &Stop) -> Result<Exit, Trouble> {
        let sandbox = engine.sandbox()?;
        engine.announce(sandbox);
        let dir = engine.fresh("container").map_err(during("make a container's directory"))?;
        let account = users::find(self.rootfs, self.user).map_err(Trouble::Errored)?;
        let spec = self.spec(engine, &dir, &account)?;
        let result = sandbox.run(&spec, stdin, output, stop.token());
        // Left-overs go with the work directory at the next start.
        let _ = fs::remove_dir_all(&dir);
        if stop.is_cancelled() {
            return Err(Trouble::Aborted);
        }
        result.map_err(|error| Trouble::Errored(explain(&error)))
    }

    fn spec(self, engine: &Engine, dir: &Path, account: &Account) -> Result<RunSpec, Trouble> {
        let root = self.root(engine, dir)?;
        let env = environment(self.env, self.user, account, engine);
        let mut volumes = self.volumes;
        volumes.sort_by(|a, b| a.target.cmp(&b.target));
        make_mount_points(&volumes)?;
        let mut mounts = Vec::new();
        for (index, volume) in volumes.into_iter().enumerate() {
            mounts.push(mount(engine, &dir.join(format!("volume-{index}")), volume, account)?);
        }
        let mut spec = RunSpec::new(root, self.args.into_iter().map(OsString::from));
        spec.env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        spec.cwd = self.cwd;
        spec.create_cwd = true;
        spec.user = User { uid: account.uid, gid: account.gid, groups: account.groups.clone() };
        spec.mounts = mounts;
        spec.network = if self.hermetic { Network::None } else { Network::Host };
        spec.hostname = handle(dir);
        spec.network_files = NetworkFiles::Writable;
        // Tasks that build images make namespaces of their own, as on workers that permit it.
        spec.filter = Filter::None;
        spec.capabilities = if self.privileged { Capabilities::All } else { Capabilities::Default14 };
        spec.terminal = self.terminal.then_some(TERMINAL);
        spec.grace = GRACE;
        spec.user_namespace =
            Some(if self.privileged { UserNamespace::Identity } else { UserNamespace::RootIsHighest });
        Ok(spec)
    }

    fn root(&self, engine: &Engine, dir: &Path) -> Result<Root, Trouble> {
        if engine.overlays {
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            make(&upper)?;
            make(&work)?;
            // The mount's root looks like it, whatever the umask.
            fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).map_err(during("prepare a root"))?;
            return Ok(Root::Overlay { lowers: vec![self.rootfs.to_owned()], upper, work });
        }
        let copy = dir.join("rootfs");
        files::copy(self.rootfs, &copy).map_err(during("copy the image's root file system"))?;
        Ok(Root::Directory(copy))
    }
}

/// A directory that lies inside another volume's own directory must be there to be mounted on, and a later step that gets
/// that volume sees it. Inside copies the sandbox makes it, and takes it away again.
fn make_mount_points(volumes: &[Volume]) -> Result<(), Trouble> {
    for (index, volume) in volumes.iter().enumerate() {
        let outer = volumes.iter().take(index).rev().find(|outer| volume.target.starts_with(&outer.target));
        let Some(Volume { target, contents: Contents::Fresh(dir) }) = outer else { continue };
        if let Ok(inside) = volume.target.strip_prefix(target) {
            make(&dir.join(inside))?;
        }
    }
    Ok(())
}

fn mount(engine: &Engine, dir: &Path, volume: Volume, account: &Account) -> Result<Mount, Trouble> {
    let target = volume.target;
    let own = match volume.contents {
        Contents::Copy(lower) if engine.overlays && account.uid == 0 => {
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            make(&upper)?;
            make(&work)?;
            // The upper directory's attributes are what the mount's root shows.
            files::like(&lower, &upper).map_err(during("prepare a volume"))?;
            let upper = Some(Upper { upper, work });
            return Ok(Mount::Overlay { lowers: vec![lower], upper, source: "/".into(), target });
        }
        Contents::Copy(lower) => {
            files::copy(&lower, dir).map_err(during("copy a volume"))?;
            dir.to_owned()
        }
        Contents::Fresh(own) | Contents::Own(own) => own,
    };
    if account.uid != 0 {
        files::give(&own, account.uid, account.gid).map_err(during("give a volume to the container's user"))?;
    }
    Ok(Mount::Bind { source: own, within: None, target, read_only: false })
}

/// The image's variables and the step's, the worker's proxies, and what runc adds.
fn environment(env: Vec<(String, String)>, user: &str, account: &Account, engine: &Engine) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = env.into_iter().collect();
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = engine.host.environment.get(name) {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    if !user.is_empty() {
        all.insert("USER".to_owned(), user.to_owned());
    }
    let path = if account.uid == 0 {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin"
    };
    all.entry("PATH".to_owned()).or_insert_with(|| path.to_owned());
    all.entry("HOME".to_owned()).or_insert_with(|| account.home.clone());
    all
}

/// A host name like a container's handle: hexadecimal in five groups.
fn handle(dir: &Path) -> String {
    let hex = Digest::sha256(format!("{}{}", dir.display(), crate::state::now()).as_bytes()).hex();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn explain(error: &RunError) -> String {
    if let RunError::ExecNotFound { name, .. } = error {
        return format!("exec: {name:?}: executable file not found in $PATH");
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Where a path of a task's configuration leads (`resolvePath`): an absolute path stays; of any other every `..` goes, and
/// the rest counts from the working directory.
pub(crate) fn resolve_path(working_dir: &Path, path: &str) -> PathBuf {
    let joined = if path.starts_with('/') {
        PathBuf::from(path)
    } else {
        working_dir.join(path.replace("..", "").trim_start_matches('/'))
    };
    let mut clean = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// The working directory of a task: users print it, so it is the one a cluster would choose.
pub(crate) fn working_dir(task: &str) -> PathBuf {
    let hex = Digest::sha256(task.as_bytes()).hex();
    Path::new("/tmp/build").join(hex.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_working_directory_unless_they_are_absolute() {
        for (path, expected) in [
            ("a", "/w/a"),
            (".", "/w"),
            ("./a/./b", "/w/a/b"),
            ("../../etc", "/w/etc"),
            ("a/../b", "/w/a/b"),
            ("/abs/x", "/abs/x"),
            ("/abs/../x", "/x"),
        ] {
            let found = resolve_path(Path::new("/w"), path);
            assert_eq!(found, Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_tasks_directory_is_the_one_a_cluster_has() {
        // printf build | sha256sum | cut -c-8
        assert_eq!(working_dir("build"), Path::new("/tmp/build/44575cf5"));
    }
}
