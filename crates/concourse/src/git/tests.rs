//! The git resource against repositories on disk. Skipped where there is no `git`.

#![allow(clippy::needless_pass_by_value, reason = "`json!` makes values, and tests read better without `&`")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use skycap_image::Silent;
use skycap_registry::Settings;
use tempfile::TempDir;

use crate::{Environment, Failure, Host, Kind, resource};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// A world with one remote repository at `tlwr/my-repo.git`, known as `https://git.example/tlwr/my-repo.git`.
struct World {
    root: TempDir,
    host: Host,
    clock: u64,
}

const URI: &str = "https://git.example/tlwr/my-repo.git";

impl World {
    fn new(test: &str) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        if Command::new("git").arg("--version").output().is_err() {
            skycap_testkit::skipped!("{test}: there is no program git");
            return Ok(None);
        }
        let root = tempfile::tempdir()?;
        for directory in ["scratch", "out", "srv/tlwr"] {
            fs::create_dir_all(root.path().join(directory))?;
        }
        let mut settings = Settings::default();
        settings.hosts.insert("git.example".to_owned(), format!("file://{}", root.path().join("srv").display()));
        let environment: Environment = [("PATH", DEFAULT_PATH)].into_iter().collect();
        let host = Host::new(settings, environment, root.path().join("scratch"), Arc::new(Silent))?;
        let world = Self { root, host, clock: 1_700_000_000 };
        world.git(world.root.path(), &["init", "--quiet", "--initial-branch=main", "srv/tlwr/my-repo.git"])?;
        world.git(&world.remote(), &["config", "receive.denyCurrentBranch", "ignore"])?;
        Ok(Some(world))
    }

    fn remote(&self) -> PathBuf {
        self.root.path().join("srv/tlwr/my-repo.git")
    }

    fn git(&self, directory: &Path, arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
        let date = format!("{} +0000", self.clock);
        let output = Command::new("git")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "safe.directory=*"])
            .args(arguments)
            .current_dir(directory)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .output()?;
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn commit(&mut self, file: &str, message: &str) -> Result<String, Box<dyn std::error::Error>> {
        self.clock += 60;
        let path = self.remote().join(file);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, message)?;
        self.git(&self.remote(), &["add", "--all"])?;
        self.git(&self.remote(), &["commit", "--quiet", "--message", message])?;
        self.git(&self.remote(), &["rev-parse", "HEAD"])
    }

    fn check(&self, source: Value, version: Option<&str>) -> Result<Value, Failure> {
        let mut request = json!({"source": with_uri(source)});
        if let Some(version) = version {
            request["version"] = json!({"ref": version});
        }
        resource(Kind::Git).check(request.to_string().as_bytes(), &self.host)
    }

    fn get(&self, source: Value, params: Value, version: &str, to: &str) -> Result<(Value, PathBuf), Failure> {
        let destination = self.root.path().join("out").join(to);
        let request = json!({"source": with_uri(source), "params": params, "version": {"ref": version}});
        let answer = resource(Kind::Git).get(request.to_string().as_bytes(), &destination, &self.host)?;
        Ok((answer, destination))
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn with_uri(mut source: Value) -> Value {
    source["uri"] = json!(URI);
    source
}

fn refs(commits: &[&String]) -> Value {
    commits.iter().map(|commit| json!({"ref": commit})).collect()
}

#[test]
fn check_reports_commits_from_the_cursor_on() -> TestResult {
    let Some(mut world) = World::new("check_reports_commits_from_the_cursor_on")? else { return Ok(()) };
    let first = world.commit("a", "first")?;
    let second = world.commit("b", "second")?;
    let skipped = world.commit("c", "third [ci skip]")?;
    let main = || json!({"branch": "main"});
    assert_eq!(world.check(main(), None)?, refs(&[&second]));
    assert_eq!(world.check(json!({}), None)?, refs(&[&second]));
    assert_eq!(world.check(main(), Some(&first))?, refs(&[&first, &second]));
    assert_eq!(world.check(main(), Some(&second))?, refs(&[&second]));
    assert_eq!(world.check(main(), Some(&skipped))?, refs(&[&skipped]), "unchanged needs no second look");
    assert_eq!(world.check(main(), Some(&"0".repeat(40)))?, refs(&[&second]), "a commit that is gone");
    let all = json!({"branch": "main", "disable_ci_skip": true, "version_depth": 2});
    assert_eq!(world.check(all, None)?, refs(&[&second, &skipped]));
    let error = world.check(json!({"branch": "nope"}), None).map_err(|f| f.message).err().unwrap_or_default();
    assert!(error.contains("nope"), "{error}");
    Ok(())
}

#[test]
fn check_follows_paths_only() -> TestResult {
    let Some(mut world) = World::new("check_follows_paths_only")? else { return Ok(()) };
    let first = world.commit("src/a", "first")?;
    let second = world.commit("docs/b", "second")?;
    let third = world.commit("src/gen/c", "third")?;
    let source = |extra: Value| {
        let mut source = json!({"branch": "main"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            source[key] = value.clone();
        }
        source
    };
    assert_eq!(world.check(source(json!({"paths": ["src"]})), Some(&first))?, refs(&[&first, &third]));
    assert_eq!(world.check(source(json!({"paths": ["src"], "ignore_paths": ["src/gen"]})), None)?, refs(&[&first]));
    assert_eq!(world.check(source(json!({"ignore_paths": ["src"]})), None)?, refs(&[&second]));
    Ok(())
}

#[test]
fn check_follows_tags() -> TestResult {
    let Some(mut world) = World::new("check_follows_tags")? else { return Ok(()) };
    let first = world.commit("a", "first")?;
    world.git(&world.remote(), &["tag", "v1"])?;
    let second = world.commit("b", "second")?;
    world.git(&world.remote(), &["tag", "v2"])?;
    world.git(&world.remote(), &["tag", "other"])?;
    let source = || json!({"branch": "main", "tag_filter": "v*"});
    let (v1, v2) = (json!({"ref": "v1", "commit": first}), json!({"ref": "v2", "commit": second}));
    assert_eq!(world.check(source(), None)?, json!([v2]));
    assert_eq!(world.check(source(), Some("v1"))?, json!([v1, v2]));
    let (answer, destination) = world.get(source(), json!({}), "v1", "tag")?;
    assert_eq!(answer["version"], json!({"ref": "v1"}));
    assert_eq!(fs::read_to_string(destination.join(".git/ref"))?, "v1\n");
    assert!(!destination.join("b").exists());
    Ok(())
}

#[test]
fn get_clones_at_the_commit_and_leaves_notes() -> TestResult {
    let Some(mut world) = World::new("get_clones_at_the_commit_and_leaves_notes")? else { return Ok(()) };
    let first = world.commit("a", "first line\n\nbody")?;
    world.commit("b", "second")?;
    let params = json!({"short_ref_format": "dev-%s"});
    let (answer, destination) = world.get(json!({"branch": "main"}), params, &first, "plain")?;
    assert_eq!(fs::read_to_string(destination.join("a"))?, "first line\n\nbody");
    assert!(!destination.join("b").exists());
    let note = |name: &str| fs::read_to_string(destination.join(".git").join(name));
    assert_eq!(note("ref")?, format!("{first}\n"));
    assert_eq!(note("short_ref")?, format!("dev-{}", &first[..7]));
    assert_eq!(note("commit_message")?, "first line\n\nbody");
    assert_eq!(note("committer")?, "ann@example.org");
    assert_eq!(note("branch")?, "main\n");
    assert_eq!(note("commit_timestamp")?, "2023-11-14 22:14:20 +0000\n");
    assert_eq!(answer["version"], json!({"ref": first}));
    assert_eq!(answer["metadata"][0], json!({"name": "commit", "value": first}));
    assert_eq!(answer["metadata"][1], json!({"name": "author", "value": "Ann"}));
    let origin = world.git(&destination, &["config", "remote.origin.url"])?;
    assert_eq!(origin, URI, "the host map leaves no trace");
    Ok(())
}

#[test]
fn a_shallow_get_reaches_older_commits() -> TestResult {
    let Some(mut world) = World::new("a_shallow_get_reaches_older_commits")? else { return Ok(()) };
    let first = world.commit("a", "first")?;
    let second = world.commit("b", "second")?;
    let (_, destination) = world.get(json!({"branch": "main"}), json!({"depth": 1}), &second, "newest")?;
    assert_eq!(world.git(&destination, &["rev-list", "--count", "HEAD"])?, "1");
    let (_, destination) = world.get(json!({"branch": "main"}), json!({"depth": 1}), &first, "older")?;
    assert_eq!(world.git(&destination, &["rev-parse", "HEAD"])?, first);
    let error = world.get(json!({"branch": "main"}), json!({}), &"1".repeat(40), "gone");
    let error = error.map_err(|failure| failure.message).err().unwrap_or_default();
    assert_eq!(error, format!("{URI} has no {} on main", "1".repeat(40)));
    Ok(())
}

#[test]
fn files_in_lfs_are_refused_unless_pointers_will_do() -> TestResult {
    let Some(mut world) = World::new("files_in_lfs_are_refused_unless_pointers_will_do")? else { return Ok(()) };
    fs::write(world.remote().join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")?;
    let commit = world.commit("a", "first")?;
    let error = world.get(json!({}), json!({}), &commit, "refused");
    assert!(error.is_err_and(|failure| failure.message.contains("git-lfs")));
    assert!(world.get(json!({}), json!({"disable_git_lfs": true}), &commit, "pointers").is_ok());
    Ok(())
}

#[test]
fn put_pushes_what_a_step_committed_and_runs_none_of_its_hooks() -> TestResult {
    let Some(mut world) = World::new("put_pushes_what_a_step_committed_and_runs_none_of_its_hooks")? else {
        return Ok(());
    };
    let first = world.commit("a", "first")?;
    let (_, repository) = world.get(json!({"branch": "main"}), json!({}), &first, "repo")?;
    fs::write(repository.join("new"), "new")?;
    world.git(&repository, &["add", "--all"])?;
    world.git(&repository, &["commit", "--quiet", "--message", "made by a step"])?;
    world.git(&repository, &["tag", "v9"])?;
    let made = world.git(&repository, &["rev-parse", "HEAD"])?;
    let trap = world.root.path().join("trap");
    let hook = repository.join(".git/hooks/pre-push");
    fs::create_dir_all(repository.join(".git/hooks"))?;
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", trap.display()))?;
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    world.git(&repository, &["config", "core.fsmonitor", &format!("touch {}", trap.display())])?;
    world.git(&repository, &["config", "core.hooksPath", &repository.join(".git/hooks").display().to_string()])?;

    let put = |world: &World, params: Value| {
        let request = json!({"source": with_uri(json!({"branch": "main"})), "params": params});
        resource(Kind::Git).put(request.to_string().as_bytes(), &world.root.path().join("out"), &world.host)
    };
    let answer = put(&world, json!({"repository": "repo"}))?;
    assert_eq!(answer["version"], json!({"ref": made}));
    assert_eq!(world.git(&world.remote(), &["rev-parse", "main", "v9"])?, format!("{made}\n{made}"));
    assert!(!trap.exists(), "the step's repository ran a command");
    let answer = put(&world, json!({"repository": "repo", "branch": "other"}))?;
    assert_eq!(answer["version"], json!({"branch": "other", "ref": made}));

    world.git(&world.remote(), &["reset", "--quiet", "--hard", "HEAD"])?;
    world.commit("b", "in between")?;
    fs::write(repository.join("new"), "newer")?;
    world.git(&repository, &["-c", "core.fsmonitor=false", "commit", "--quiet", "--all", "--message", "late"])?;
    let refused = put(&world, json!({"repository": "repo"})).err().ok_or("a push over another's commit passed")?;
    assert!(refused.hint.is_some_and(|hint| hint.contains("somebody pushed")), "{}", refused.message);
    assert!(put(&world, json!({"repository": "repo", "force": true})).is_ok());
    for (params, expected) in [
        (json!({}), "invalid payload (missing repository)"),
        (json!({"repository": "../out/repo"}), "params.repository \"../out/repo\" is no repository"),
        (json!({"repository": "nope"}), "params.repository \"nope\" is no repository"),
    ] {
        assert_eq!(put(&world, params).err().map(|failure| failure.message).as_deref(), Some(expected));
    }
    Ok(())
}

#[test]
fn attributes_that_are_a_link_are_not_followed() -> TestResult {
    let Some(mut world) = World::new("attributes_that_are_a_link_are_not_followed")? else { return Ok(()) };
    std::os::unix::fs::symlink("/dev/zero", world.remote().join(".gitattributes"))?;
    let commit = world.commit("a", "first")?;
    assert!(world.get(json!({}), json!({}), &commit, "link").is_ok());
    fs::remove_file(world.remote().join(".gitattributes"))?;
    let long = fs::File::create(world.remote().join(".gitattributes"))?;
    long.set_len(17 << 20)?;
    let commit = world.commit("b", "second")?;
    let error = world.get(json!({}), json!({}), &commit, "long").map_err(|failure| failure.message);
    assert!(error.is_err_and(|error| error.ends_with("it is larger than 16777216 bytes")));
    Ok(())
}

#[test]
fn a_confined_put_pushes_nothing_from_outside() -> TestResult {
    let Some(mut world) = World::new("a_confined_put_pushes_nothing_from_outside")? else { return Ok(()) };
    let commit = world.commit("a", "first")?;
    let (_, victim) = world.get(json!({}), json!({}), &commit, "../victim")?;
    let (_, own) = world.get(json!({}), json!({}), &commit, "own")?;
    let out = world.root.path().join("out");
    std::os::unix::fs::symlink(&victim, out.join("link"))?;
    fs::create_dir_all(out.join("file"))?;
    fs::write(out.join("file/.git"), format!("gitdir: {}\n", victim.join(".git").display()))?;
    world.git(&out, &["clone", "--quiet", "--shared", &victim.display().to_string(), "shared"])?;
    world.get(json!({}), json!({}), &commit, "including")?;
    world.git(&out.join("including"), &["config", "include.path", "/dev/null"])?;
    fs::create_dir_all(out.join("inner"))?;
    fs::write(out.join("inner/.git"), "gitdir: ../own/.git\n")?;
    let put = |repository: &str, host: &Host| {
        let request = json!({"source": with_uri(json!({"branch": "main"})), "params": {"repository": repository}});
        resource(Kind::Git).put(request.to_string().as_bytes(), &out, host).map_err(|failure| failure.message)
    };
    let confined = world.host.clone().confined_to(&out);
    put("own", &confined)?;
    put("inner", &confined)?;
    for (repository, expected) in [
        ("link", "params.repository: link leads outside the put's directory (-> "),
        ("file", "params.repository: ../victim/.git leads outside the put's directory"),
        ("shared", "params.repository keeps a part of itself elsewhere: objects/info/alternates"),
        ("including", "params.repository keeps a part of itself elsewhere: config includes other files"),
        ("nope", "params.repository \"nope\" is no repository"),
    ] {
        let error = put(repository, &confined).err().unwrap_or_default();
        assert!(error.starts_with(expected), "{repository}: {error}");
        assert_eq!(put(repository, &world.host).is_ok(), repository != "nope", "{repository} in a container");
    }
    fs::remove_file(own.join(".git/HEAD"))?;
    std::os::unix::fs::symlink(victim.join(".git/HEAD"), own.join(".git/HEAD"))?;
    assert!(put("own", &confined).is_err_and(|error| error.contains("own/.git/HEAD leads outside")));
    Ok(())
}
