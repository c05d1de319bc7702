//! `skycap demo`: the main job, end to end, offline.
//!
//! Everything that `examples/auto-update` expects of the world is made in one directory: a registry, an upstream base image
//! in two versions (whose only program is this binary), and a git repository. The names in the pipeline stay what they are;
//! hosts below `.example` are led here. Nothing is faked: the pipeline runs as `skycap run` would run it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use skycap_build::remote::Offline;
use skycap_build::{Request, World, build};
use skycap_image::{Artifact, ImageSink, ImageSource, Name, Repository};
use skycap_pipeline::{Options, Puts, Vars};
use skycap_registry::server::{self, Server};
use skycap_registry::{Access, Client, Place, Registries};

use super::pipeline::{self, Pipeline};
use super::{Context, threads};
use crate::args::Demo;
use crate::failure::Failure;
use crate::report::Style;

const PIPELINE: &str = include_str!("../../../../examples/auto-update/pipeline.yml");
const VARS: &str = include_str!("../../../../examples/auto-update/vars.yml");
/// What the git repository holds.
const REPOSITORY: [(&str, &str); 2] = [
    ("Dockerfile", include_str!("../../../../examples/auto-update/repo/Dockerfile")),
    ("greeting.txt", include_str!("../../../../examples/auto-update/repo/greeting.txt")),
];
const BASE_DOCKERFILE: &str =
    "FROM scratch\nARG version\nCOPY skycap /bin/skycap\nENV BASE_VERSION=${version}\nCMD [\"/bin/skycap\"]\n";
/// What upstream has published before the story begins.
const FIRST_VERSIONS: [&str; 2] = ["3.2.0", "3.3.0"];
const SUFFIX: &str = "-alpine";
const JOB: &str = "build-my-repo";

/// Where the demo keeps things.
struct Stage {
    directory: PathBuf,
    style: Style,
}

/// Sets the stage where it is not set yet, then runs the job if something changed.
pub fn run(arguments: &Demo, context: &Context) -> Result<ExitCode, Failure> {
    let version = arguments.new_upstream_tag.as_deref().map(version).transpose()?;
    let directory = arguments.dir.clone().unwrap_or_else(|| context.world.state.directory().join("demo"));
    git_is_here()?;
    let stage = Stage { directory, style: Style::new(context.world.terminal.colour) };
    stage.make_repository(context)?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let registry = stage.directory.join("registry");
    let server = Server::start(listen, &registry, server::Options::default())
        .map_err(|error| Failure::because(format!("cannot serve {}", registry.display()), &error))?;
    stage.publish(&server, version.as_deref(), context)?;
    let code = stage.run_job(&server, context);
    server.stop();
    code
}

/// Asked before anything is made.
fn git_is_here() -> Result<(), Failure> {
    let found = Command::new("git").arg("--version").stdin(Stdio::null()).output();
    found.map(drop).map_err(|error| {
        Failure::because("cannot run git", &error)
            .with_hint("install git: the demo's pipeline follows a git repository")
    })
}

/// Only what the pipeline's `regexp` sees makes sense as a new tag.
fn version(text: &str) -> Result<String, Failure> {
    let text = text.strip_suffix(SUFFIX).unwrap_or(text);
    let parts: Vec<&str> = text.split('.').collect();
    let is_version = parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok());
    if is_version {
        Ok(text.to_owned())
    } else {
        Err(Failure::usage(format!("--new-upstream-tag {text}: expected a version such as 3.4.0")))
    }
}

impl Stage {
    fn say(&self, text: &str) {
        show!("{} {text}", self.style.strong("demo:"));
    }

    /// A git repository with one commit. Fixed names and times: the same commit id everywhere.
    fn make_repository(&self, context: &Context) -> Result<(), Failure> {
        let repository = self.directory.join("git/hello.git");
        if repository.join(".git").is_dir() {
            return Ok(());
        }
        self.say(&format!("making a git repository in {}", repository.display()));
        let staged = self.directory.join("git/.new");
        let failed = |error: std::io::Error| Failure::because(format!("cannot write {}", repository.display()), &error);
        let _ = fs::remove_dir_all(&staged);
        fs::create_dir_all(&staged).map_err(failed)?;
        for (name, content) in REPOSITORY {
            fs::write(staged.join(name), content).map_err(failed)?;
        }
        git(&staged, &["init", "--quiet", "--initial-branch=main"], context)?;
        git(&staged, &["add", "."], context)?;
        git(
            &staged,
            &["commit", "--quiet", "--no-gpg-sign", "--message", "An image that keeps itself up to date"],
            context,
        )?;
        fs::rename(&staged, &repository).map_err(failed)
    }

    /// Publishes the versions of the base image that are missing.
    fn publish(&self, server: &Server, new: Option<&str>, context: &Context) -> Result<(), Failure> {
        let client = Client::new(context.settings()?, context.progress.clone())?;
        let repository: Repository = format!("{}/base", server.address()).parse()?;
        let access = Access { push: true, ..Access::default() };
        let place = client.place(repository, access)?;
        for version in FIRST_VERSIONS.into_iter().chain(new) {
            let tag = Name::Tag(format!("{version}{SUFFIX}"));
            if place.find(&tag)?.is_none() {
                self.say(&format!("upstream publishes base:{tag}"));
                self.publish_version(version, &tag, &place, &client, context)?;
            }
        }
        Ok(())
    }

    fn publish_version(
        &self,
        version: &str,
        tag: &Name,
        place: &Place,
        client: &Client,
        context: &Context,
    ) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory)?;
        let files = tempfile::Builder::new().prefix(".base-").tempdir_in(&self.directory)?;
        fs::copy("/proc/self/exe", files.path().join("skycap"))?;
        let mut request = Request { threads: threads(), ..Request::new(files.path(), BASE_DOCKERFILE) };
        request.build_args.insert("version".to_owned(), version.to_owned());
        let registries = Registries::new(client.clone(), skycap_registry::Keychain::default());
        let store = self.store()?;
        let sandbox = context.sandbox()?;
        let progress = &skycap_image::Silent;
        let world = World { resolver: &registries, remote: &Offline, store: &store, sandbox, progress };
        let built = build(&request, &world)?;
        for base in built {
            place.put(&Artifact::Image(base.image), std::slice::from_ref(tag))?;
        }
        Ok(())
    }

    fn store(&self) -> Result<skycap_store::Store, Failure> {
        Ok(skycap_store::Store::open(&self.directory.join("store"))?)
    }

    fn run_job(&self, server: &Server, context: &Context) -> Result<ExitCode, Failure> {
        let mut vars = Vars::default();
        vars.add_file("examples/auto-update/vars.yml", VARS.as_bytes())?;
        let mut hosts = context.hosts()?;
        hosts.insert("registry.example".to_owned(), format!("http://{}", server.address()));
        hosts.insert("git.example".to_owned(), format!("file://{}", absolute(&self.directory.join("git"))?.display()));
        let options = Options { puts: Puts::Allow, ..Options::new("auto-update", self.directory.join("state")) };
        let config = pipeline::read(PIPELINE.as_bytes(), "examples/auto-update/pipeline.yml", &vars)?;
        let pipeline = Pipeline { config, options, hosts, store: self.store()?, context };
        let code = pipeline.run(Some(JOB), true)?;
        self.say("run it again, or with --new-upstream-tag 3.4.0; look around with");
        show!("    skycap registry serve --dir {}", self.directory.join("registry").display());
        Ok(code)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

fn git(directory: &Path, arguments: &[&str], context: &Context) -> Result<(), Failure> {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "core.hooksPath=/dev/null"]).args(arguments).stdin(Stdio::null());
    for (role, value) in [("NAME", "skycap"), ("EMAIL", "demo@skycap.invalid"), ("DATE", "2020-01-01T00:00:00Z")] {
        command.env(format!("GIT_AUTHOR_{role}"), value).env(format!("GIT_COMMITTER_{role}"), value);
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    if context.debug {
        say!("git {}", arguments.join(" "));
    }
    let output = command.output().map_err(|error| Failure::because("cannot run git", &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("git {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_the_pipeline_sees_are_published() {
        assert_eq!(version("3.4.0").ok().as_deref(), Some("3.4.0"));
        assert_eq!(version("3.4.0-alpine").ok().as_deref(), Some("3.4.0"));
        for text in ["latest", "3.4", "3.4.0.1", "a.b.c", ""] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
