//! Whole jobs whose resources and tasks all run in this process. No root, no sandbox, no internet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod world;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use skycap_image::{Artifact, ImageSource, Name};
use skycap_pipeline::{Options, Outcome, Puts, Ran, Report};
use skycap_sandbox::{Cancel, Refused};
use skycap_testkit::listing::{self, Style};
use world::{World, have};

const MISSION: &str = include_str!("../testdata/plan/mission/input.yml");

fn no_sandbox() -> World {
    World::new(Err(Refused { attempts: Vec::new() }))
}

#[track_caller]
fn build(ran: Ran) -> Report {
    match ran {
        Ran::Build(report) => report,
        Ran::Unchanged(build) => panic!("unchanged since {build}"),
    }
}

/// The mission's world: a base image in two versions, and a repository with a Dockerfile.
fn mission() -> World {
    let world = no_sandbox();
    for tag in ["3.4.0-alpine", "3.4.1-alpine"] {
        let text = format!("env RUBY_VERSION={tag}\nlayer\n  file etc/release 0644 0:0 \"{tag}\\n\"\n");
        listing::put(&world.place("docker.io/library/ruby"), &text, Style::default(), &[tag]);
    }
    *world.tags.lock().unwrap() = vec!["3.4.0-alpine".to_owned(), "latest".to_owned()];
    world.commit(
        "tlwr/my-repo",
        &[("Dockerfile", "ARG ruby_version\nFROM ruby:${ruby_version}\nCOPY app.rb /app.rb\n"), ("app.rb", "puts 1\n")],
    );
    world
}

#[test]
fn the_missions_pipeline_runs_unmodified_and_only_again_when_something_changed() {
    if !have("the_missions_pipeline_runs_unmodified", "git") {
        return;
    }
    let world = mission();
    let cancel = Cancel::new();
    let runner = world.runner(MISSION);
    let report = build(runner.run_if_changed("build-my-repo", &cancel).unwrap());
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", world.events.text());
    assert_eq!(report.gets.len(), 3);
    assert_eq!(report.puts[0].repository.as_deref(), Some("index.docker.io/tlwr/my-image"));
    world.events.has("load_var ruby_version: added var ruby_version to build.");
    world.events.lacks("hunter2");
    let pushed = world.place("docker.io/tlwr/my-image").get(&Name::Tag("latest".into())).unwrap();
    let Artifact::Image(image) = pushed else { panic!("an index") };
    let config = &image.config().config;
    assert_eq!(config.env.as_ref().unwrap()[0], "RUBY_VERSION=3.4.0-alpine");

    assert_eq!(runner.run_if_changed("build-my-repo", &cancel), Ok(Ran::Unchanged("1".into())));
    world.tags.lock().unwrap().insert(0, "3.4.1-alpine".to_owned());
    let report = build(runner.run_if_changed("build-my-repo", &cancel).unwrap());
    assert_eq!((report.name.as_str(), &report.outcome), ("2", &Outcome::Succeeded), "{}", world.events.text());
    assert_eq!(report.gets.iter().find_map(|get| get.version.as_ref()?.get("tag")).unwrap(), "3.4.1-alpine");
    world.commit("tlwr/my-repo", &[("app.rb", "puts 2\n")]);
    assert_eq!(build(runner.run_if_changed("build-my-repo", &cancel).unwrap()).name, "3");
    drop(runner);
    let again = world.runner(MISSION);
    assert_eq!(again.run_if_changed("build-my-repo", &cancel), Ok(Ran::Unchanged("3".into())));
}

#[test]
fn a_build_that_skipped_its_puts_is_not_the_last_success() {
    if !have("a_build_that_skipped_its_puts_is_not_the_last_success", "git") {
        return;
    }
    let world = mission();
    let cancel = Cancel::new();
    let skip = || Options { puts: Puts::Skip, ..world.options() };
    let run = |options| world.runner_with(MISSION, options).run_if_changed("build-my-repo", &cancel).unwrap();
    assert_eq!(build(run(skip())).outcome, Outcome::Succeeded, "{}", world.events.text());
    assert!(!world.has_image("docker.io/tlwr/my-image", "latest"));
    assert_eq!(build(run(world.options())).name, "2", "nothing was pushed yet");
    assert!(world.has_image("docker.io/tlwr/my-image", "latest"));
    assert_eq!(build(world.runner_with(MISSION, skip()).run("build-my-repo", &cancel).unwrap()).name, "3");
    assert_eq!(run(world.options()), Ran::Unchanged("2".into()));
}

#[test]
fn watching_runs_what_was_only_rehearsed() {
    if !have("watching_runs_what_was_only_rehearsed", "git") {
        return;
    }
    let world = mission();
    let skip = || Options { puts: Puts::Skip, ..world.options() };
    assert_eq!(watch_with(&world, MISSION, skip(), 1), ["1"], "a rehearsal is not repeated for ever");
    assert_eq!(watch_with(&world, MISSION, skip(), 0), Vec::<String>::new());
    assert_eq!(watch(&world, MISSION, 1), ["2"]);
}

#[test]
fn whatever_changes_a_build_makes_it_run_again() {
    let world = no_sandbox();
    let yaml = r#"resource_types: [{name: x, type: registry-image, source: {repository: a/b, tag: "1"}}]
resources: [{name: r, type: registry-image, source: {repository: docker.io/x/none}}]
jobs:
- name: j
  plan:
  - try: {task: t, vars: {v: one}, file: a/b.yml}
  - try:
      task: u
      config:
        platform: linux
        image_resource: {type: registry-image, source: {repository: a/b}, version: {digest: a}, params: {format: oci}}
        run: {path: p, dir: d, user: u}
  - try: {put: r, inputs: []}
"#;
    let run =
        |yaml: &str, options: Options| world.runner_with(yaml, options).run_if_changed("j", &Cancel::new()).unwrap();
    let is_built = |yaml: &str, options: Options| matches!(run(yaml, options), Ran::Build(_));
    assert_eq!(build(run(yaml, world.options())).outcome, Outcome::Succeeded);
    assert!(!is_built(&format!("# moved\n\n{yaml}"), world.options()), "where it stands does not matter");
    for (from, to) in [
        ("tag: \"1\"", "tag: \"2\""),
        ("repository: docker.io/x/none", "repository: docker.io/x/other"),
        ("v: one", "v: two"),
        ("dir: d", "dir: e"),
        ("user: u", "user: w"),
        ("digest: a", "digest: b"),
        ("format: oci", "format: rootfs"),
    ] {
        assert_ne!(yaml, yaml.replace(from, to));
        assert!(is_built(&yaml.replace(from, to), world.options()), "{to}");
        assert!(is_built(yaml, world.options()), "{from}");
    }
    let mut secrets = world.options().secrets;
    secrets.set_text("docker_hub_password", "hunter2-changed").unwrap();
    for options in [
        Options { secrets, ..world.options() },
        Options { native: false, ..world.options() },
        Options { external_url: "https://ci.example.org".into(), ..world.options() },
    ] {
        assert!(is_built(yaml, options.clone()), "{options:?}");
        assert!(is_built(yaml, world.options()), "back from {options:?}");
    }
    assert!(!is_built(yaml, world.options()));
}

#[test]
fn watching_says_once_what_keeps_a_job_from_ever_running() {
    let world = no_sandbox();
    let yaml = r#"resources:
- {name: r, type: registry-image, check_every: never, source: {repository: "x((list))"}}
- {name: s, type: registry-image, check_every: 100ms, source: {repository: docker.io/x/none}}
jobs:
- {name: broken, plan: [{get: r, trigger: true}, {get: s}]}
- {name: waits, plan: [{get: s, trigger: true}]}
"#;
    let mut options = world.options();
    options.secrets.set_yaml("list", "[1]").unwrap();
    assert_eq!(watch_with(&world, yaml, options, 0), Vec::<String>::new());
    let text = world.events.text();
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("job ")).collect();
    assert_eq!(told.len(), 1, "{text}");
    assert!(told[0].starts_with("job broken: the job's inputs cannot be chosen: cannot interpolate"), "{told:?}");
}

#[test]
fn what_a_get_fetched_is_not_fetched_again() {
    if !have("what_a_get_fetched_is_not_fetched_again", "git") {
        return;
    }
    let world = mission();
    let runner = world.runner(MISSION);
    runner.run("build-my-repo", &Cancel::new()).unwrap();
    world.events.clear();
    runner.run("build-my-repo", &Cancel::new()).unwrap();
    world.events.has("get my-repo: INFO: found existing resource cache");
    world.events.has("get ruby-img-tag: INFO: found existing resource cache");
}

#[test]
fn what_is_missing_is_said_before_anything_runs() {
    let world = no_sandbox();
    let refused = |yaml: &str, options: Options| {
        let runner = world.try_runner(yaml, options)?;
        runner.run("build-my-repo", &Cancel::new()).map(|_| ())
    };
    let options = |name: &str| Options { puts: Puts::Allow, ..Options::new("p", world.path(name)) };
    let error = refused(MISSION, options("a")).unwrap_err();
    assert_eq!(error.message, "undefined vars: docker_hub_password, docker_hub_username");
    let error = refused(MISSION, Options { puts: Puts::Refuse, ..options("b") }).unwrap_err();
    assert_eq!(error.message, "this job puts to my-image, which was not allowed");
    let unknown = MISSION.replace("type: git", "type: gut");
    let error = refused(&unknown, Options { puts: Puts::Skip, ..options("c") }).unwrap_err();
    assert!(error.message.starts_with("unknown resource type 'gut'"), "{error}");
    let held = world.runner_with(MISSION, options("d"));
    let error = world.try_runner(MISSION, options("d")).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("is in use"), "{error}");
    drop(held);
    assert_eq!(world.events.text(), "", "nothing ran");
    let error = world.runner_with(MISSION, options("e")).run("nope", &Cancel::new()).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("its jobs are build-my-repo"));
}

#[test]
fn a_local_directory_can_stand_in_for_a_get_and_puts_can_be_skipped() {
    let world = mission();
    let dir = world.path("checkout");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("Dockerfile"), "ARG ruby_version\nFROM ruby:$ruby_version\nCOPY here /\n").unwrap();
    fs::write(dir.join("here"), "local").unwrap();
    let inputs = BTreeMap::from([("my-repo".to_owned(), dir.clone())]);
    let runner = world.runner_with(MISSION, Options { inputs, puts: Puts::Skip, ..world.options() });
    let report = build(runner.run_if_changed("build-my-repo", &Cancel::new()).unwrap());
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", world.events.text());
    assert_eq!(report.puts[0].version, None);
    assert!(report.gets.iter().any(|get| get.name == "my-repo" && get.version.is_none()));
    assert!(!world.has_image("docker.io/tlwr/my-image", "latest"));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "the build wrote nothing into it");
    assert!(matches!(runner.run_if_changed("build-my-repo", &Cancel::new()), Ok(Ran::Build(_))), "it may have changed");
}

#[test]
fn links_in_inputs_do_not_lead_to_this_machine() {
    let world = no_sandbox();
    let (dir, outside) = (world.path("input"), world.path("outside"));
    for dir in [&dir, &outside] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(outside.join("Dockerfile"), "FROM scratch\nCOPY secret /\n").unwrap();
    fs::write(outside.join("secret"), "of this machine").unwrap();
    symlink(&outside, dir.join("link")).unwrap();
    let yaml = "resources: [{name: r, type: registry-image, source: {repository: docker.io/x/made}}]
jobs:
- name: task
  plan:
  - {get: in, resource: r}
  - task: t
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: vito/oci-build-task}}
      inputs: [{name: in}]
      params: {CONTEXT: in/link}
      run: {path: build}
- name: dir
  plan:
  - {get: in, resource: r}
  - task: t
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: vito/oci-build-task}}
      inputs: [{name: in}]
      run: {path: build, dir: in/link}
- name: put
  plan: [{get: in, resource: r}, {put: r, params: {image: in/link/secret}}]
";
    let inputs = BTreeMap::from([("in".to_owned(), dir)]);
    for job in ["task", "dir", "put"] {
        world.events.clear();
        let runner = world.runner_with(yaml, Options { inputs: inputs.clone(), ..world.options() });
        let report = build(runner.run(job, &Cancel::new()).unwrap());
        assert_eq!(report.outcome, Outcome::Failed, "{job}: {}", world.events.text());
        world.events.has("leads outside");
    }
}

#[test]
fn a_build_that_fails_is_a_failure_and_its_hooks_run() {
    if !have("a_build_that_fails_is_a_failure_and_its_hooks_run", "git") {
        return;
    }
    let world = mission();
    world.commit("tlwr/my-repo", &[("Dockerfile", "FROM nothing-of-the-kind\n")]);
    let hooked = MISSION
        .replace("  - put: my-image", "    on_failure: {load_var: why, file: my-repo/app.rb}\n  - put: my-image");
    let report = build(world.runner(&hooked).run("build-my-repo", &Cancel::new()).unwrap());
    assert_eq!(report.outcome, Outcome::Failed, "{}", world.events.text());
    assert_eq!(report.outcome.exit_code(), 1);
    world.events.has("load_var why: succeeded");
    assert!(report.puts.is_empty());
}

#[test]
fn a_check_that_fails_keeps_the_job_from_running() {
    let world = no_sandbox();
    let yaml = "resources: [{name: r, type: registry-image, source: {repository: docker.io/x/none}}]
jobs: [{name: j, plan: [{get: r}]}]";
    let error = world.runner(yaml).run("j", &Cancel::new()).unwrap_err();
    assert!(
        error.message.contains("latest version of resource not found") || error.message.contains("check"),
        "{error}"
    );
}

#[test]
fn a_container_without_a_sandbox_is_an_error_that_says_why() {
    let world = no_sandbox();
    let yaml = "jobs: [{name: j, plan: [{task: t, config: {platform: linux, run: {path: x}, image_resource: {type: registry-image, source: {repository: a/busybox}}}}]}]";
    let report = build(world.runner(yaml).run("j", &Cancel::new()).unwrap());
    assert!(matches!(&report.outcome, Outcome::Errored(error) if error.contains("sandbox")), "{:?}", report.outcome);
    assert_eq!(report.outcome.exit_code(), 2);
}

#[test]
fn a_job_that_was_cancelled_is_aborted() {
    let world = no_sandbox();
    let cancel = Cancel::new();
    cancel.cancel();
    let ran = world.runner("jobs: [{name: j, plan: [{task: t, file: a/b}]}]").run("j", &cancel);
    // The wish is seen within moments: before the build begins, or as its first step does.
    if let Ok(Ran::Build(report)) = ran {
        assert!(matches!(report.outcome, Outcome::Aborted | Outcome::Errored(_)), "{:?}", report.outcome);
    }
}

#[test]
fn watching_runs_a_job_once_for_each_new_version_and_goes_on_where_it_was() {
    if !have("watching_runs_a_job_once", "git") {
        return;
    }
    let world = mission();
    let yaml = MISSION
        .replace("check_every: 15m", "check_every: 100ms")
        .replace("type: git\n", "type: git\n  check_every: 100ms\n");
    assert_eq!(watch(&world, &yaml, 1), ["1"]);
    world.events.clear();
    assert_eq!(watch(&world, &yaml, 0), Vec::<String>::new(), "nothing is new\n{}", world.events.text());
    world.commit("tlwr/my-repo", &[("app.rb", "puts 2\n")]);
    assert_eq!(watch(&world, &yaml, 1), ["2"]);
}

/// Watches until so many builds have run, and a little longer: their names.
fn watch(world: &World, yaml: &str, builds: usize) -> Vec<String> {
    watch_with(world, yaml, world.options(), builds)
}

fn watch_with(world: &World, yaml: &str, options: Options, builds: usize) -> Vec<String> {
    let runner = world.runner_with(yaml, options);
    let stop = Cancel::new();
    let names = Mutex::new(Vec::new());
    thread::scope(|threads| {
        threads.spawn(|| {
            let began = Instant::now();
            while names.lock().unwrap().len() < builds && began.elapsed() < Duration::from_mins(1) {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_millis(700));
            stop.cancel();
        });
        let mut ran = |report: &Report| {
            assert_eq!(report.outcome, Outcome::Succeeded, "{}", world.events.text());
            names.lock().unwrap().push(report.name.clone());
        };
        runner.watch(&stop, &mut ran).unwrap_or_else(|error| panic!("{error}"));
    });
    names.into_inner().unwrap()
}
