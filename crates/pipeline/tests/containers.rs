//! Jobs in containers, with a busybox for an image. Skipped where there is no busybox, or where nothing can be contained.
//!
//! The sandbox starts its child from this program, and enters namespaces while there is one thread: so there is no test
//! harness here, only a list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail loudly")]

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{panic, thread};

use skycap_pipeline::{Options, Outcome, Ran, Report};
use skycap_sandbox::{Cancel, Rung, Sandbox};
use world::World;

const BUSYBOX: &str = "/bin/busybox";

type Test = fn(&World);

fn main() -> ExitCode {
    skycap_sandbox::child_main();
    #[allow(clippy::disallowed_methods, reason = "a test program of its own")]
    let arguments: Vec<String> = std::env::args().collect();
    let sandbox = match skycap_sandbox::enter(None) {
        Ok(sandbox) => sandbox,
        Err(refused) => {
            skycap_testkit::skipped!("containers: {refused}");
            return ExitCode::SUCCESS;
        }
    };
    if let [_, mode, dir] = &arguments[..]
        && mode == "watch-until-killed"
    {
        watch_until_killed(dir, sandbox);
    }
    if !fs::exists(BUSYBOX).unwrap_or(false) {
        skycap_testkit::skipped!("containers: there is no {BUSYBOX}");
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().skip(1).find(|argument| !argument.starts_with('-'));
    let tests: [(&str, Test); 15] = [
        ("a_task_sees_what_a_cluster_would_show_it", a_task_sees_what_a_cluster_would_show_it),
        ("writes_to_an_input_reach_nobody", writes_to_an_input_reach_nobody),
        ("an_output_lies_in_the_input_around_it", an_output_lies_in_the_input_around_it),
        ("an_output_at_an_inputs_path_begins_with_it", an_output_at_an_inputs_path_begins_with_it),
        ("a_failed_tasks_outputs_serve_its_hooks", a_failed_tasks_outputs_serve_its_hooks),
        ("a_timeout_ends_every_process", a_timeout_ends_every_process),
        ("caches_outlive_builds", caches_outlive_builds),
        ("a_user_owns_its_volumes", a_user_owns_its_volumes),
        ("secrets_are_redacted", secrets_are_redacted),
        ("a_missing_program_is_an_error", a_missing_program_is_an_error),
        ("a_custom_resource_type_runs_its_scripts", a_custom_resource_type_runs_its_scripts),
        ("the_images_own_program_runs", the_images_own_program_runs),
        ("a_task_file_is_filled_in_with_vars", a_task_file_is_filled_in_with_vars),
        ("a_stopped_watch_runs_its_hooks_and_the_build_again", a_stopped_watch_runs_its_hooks_and_the_build_again),
        ("a_killed_watch_runs_the_build_again", a_killed_watch_runs_the_build_again),
    ];
    eprintln!("containers on: {}", sandbox.describe());
    let world = World::new(Ok(sandbox));
    make_images(&world);
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str()))) {
        world.events.clear();
        let _ = fs::remove_dir_all(world.path("state"));
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| test(&world)));
        eprintln!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            eprintln!("{}", world.events.text());
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `docker.io/a/busybox`, made by the native build task, and `docker.io/a/resource` with scripts.
fn make_images(world: &World) {
    let dir = world.path("image");
    fs::create_dir_all(dir.join("root/bin")).unwrap();
    fs::copy(BUSYBOX, dir.join("root/bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "echo", "ls", "mkdir", "id", "stat", "stty", "tty", "sleep", "env", "grep", "touch", "pwd", "test",
    ] {
        symlink("busybox", dir.join("root/bin").join(applet)).unwrap();
    }
    for part in ["etc", "tmp", "opt/resource"] {
        fs::create_dir_all(dir.join("root").join(part)).unwrap();
    }
    fs::write(dir.join("root/etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n").unwrap();
    let scripts = [
        (
            "check",
            r#"cat >/tmp/request; cat /tmp/request >&2; echo " cwd=$(pwd) greeting=$GREETING build=$BUILD_JOB_NAME" >&2; echo '[{"n":"1"},{"n":"2"}]'"#,
        ),
        (
            "in",
            r#"cat >&2; echo " in $1 build $BUILD_JOB_NAME" >&2; echo made > $1/file; echo '{"version":{"n":"2"},"metadata":[{"name":"colour","value":"blue"}]} and more'"#,
        ),
        (
            "out",
            r#"cat >&2; echo " out: $(ls $1) $(cat $1/*/file)" >&2; touch $1/art/written; echo '{"version":{"n":"3"}}'"#,
        ),
    ];
    for (name, script) in scripts {
        let path = dir.join("root/opt/resource").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(
        dir.join("Dockerfile"),
        "FROM scratch\nCOPY root /\nENV GREETING=hello\nENTRYPOINT [\"echo\", \"from\"]\nCMD [\"image\"]\n",
    )
    .unwrap();
    let yaml = "resources: [{name: busybox, type: registry-image, source: {repository: docker.io/a/busybox}}]
jobs:
- name: make
  plan:
  - {get: src, resource: busybox}
  - task: build
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: vito/oci-build-task}}
      inputs: [{name: src, path: .}]
      outputs: [{name: image}]
      run: {path: build}
  - {put: busybox, params: {image: image/image.tar}}
";
    let options = Options { inputs: [("src".to_owned(), dir)].into(), ..world.options() };
    let report =
        build(world.runner_with(yaml, options).run("make", &Cancel::new()).unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(report.outcome, Outcome::Succeeded, "{}", world.events.text());
}

#[track_caller]
fn build(ran: Ran) -> Report {
    match ran {
        Ran::Build(report) => report,
        Ran::Unchanged(build) => panic!("unchanged since {build}"),
    }
}

/// A task step in YAML: `before` are further lines of its configuration, `script` is what the shell runs.
fn task(name: &str, before: &str, script: &str) -> String {
    let script = script.replace('\n', "\n          ");
    format!(
        "  - task: {name}
    config:
      platform: linux
      image_resource: {{type: registry-image, source: {{repository: docker.io/a/busybox}}}}
{before}
      run:
        path: sh
        args:
        - -ec
        - |
          {script}
"
    )
}

fn job(steps: &[String]) -> String {
    format!("jobs:\n- name: j\n  plan:\n{}", steps.concat())
}

#[track_caller]
fn run(world: &World, yaml: &str, expected: &Outcome) -> Report {
    let report = build(world.runner(yaml).run("j", &Cancel::new()).unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(&report.outcome, expected);
    report
}

fn a_task_sees_what_a_cluster_would_show_it(world: &World) {
    let script =
        "echo cwd=$(pwd) tty=$(tty) size=$(stty size) user=$(id -u) map=$(cat /proc/self/uid_map | grep -c '^ *0 *0 ')
env
touch /scratch/x /written
ls /dev/fuse || true";
    let privileged = task("one", "      params: {NUM: 010, F: 1.10, B: yes, M: {a: [1]}, Z: }", script)
        .replace("  - task: one", "  - task: one\n    privileged: true\n    params: {EXTRA: x}");
    run(
        world,
        &job(&[privileged, task("build", "", "echo cwd=$(pwd); test ! -e /written; cat /proc/self/uid_map")]),
        &Outcome::Succeeded,
    );
    world.events.has("task one: checking image");
    world.events.has("tty=/dev/pts/0 size=500 500 user=0 map=1");
    for line in [
        "NUM=8",
        "F=1.1",
        "B=true",
        "M={\"a\":[1]}",
        "Z=",
        "GREETING=hello",
        "EXTRA=x",
        "ATC_EXTERNAL_URL=http://127.0.0.1:8080",
        "HOME=/root",
    ] {
        world.events.has(&format!("task one: {line}\n"));
    }
    world.events.lacks("BUILD_");
    world.events.has("[WARNING] EXTRA was defined in pipeline but missing from task file");
    world.events.has("task build: cwd=/tmp/build/44575cf5");
}

fn writes_to_an_input_reach_nobody(world: &World) {
    let make = task("make", "      outputs: [{name: art}]", "echo first > art/file; mkdir art/sub; echo x > art/sub/y");
    let spoil = task(
        "spoil",
        "      inputs: [{name: art}]",
        "echo spoiled > art/file; echo more > art/more; busybox rm -r art/sub",
    );
    let look =
        task("look", "      inputs: [{name: art, path: deep/er}]", "ls -1 deep/er; cat deep/er/file deep/er/sub/y");
    run(world, &job(&[make, spoil, look]), &Outcome::Succeeded);
    world.events.has("task look: file\ntask look: sub\ntask look: first\ntask look: x\n");
}

fn an_output_lies_in_the_input_around_it(world: &World) {
    let make = task("make", "      outputs: [{name: src}]", "echo code > src/main");
    let build = task(
        "build",
        "      inputs: [{name: src, path: .}]\n      outputs: [{name: image}, {name: all, path: ../out}]",
        "cat main; echo built > image/file; echo two > out/two; ls -1",
    );
    let look = task("look", "      inputs: [{name: src}, {name: image}, {name: all}]", "ls -1 src image all");
    run(world, &job(&[make, build, look]), &Outcome::Succeeded);
    world.events.has("task build: image\ntask build: main\ntask build: out\n");
    world.events.has("task look: all:\ntask look: two\n");
    world.events.has("task look: image:\ntask look: file\n");
    world.events.has("task look: src:\ntask look: main\n");
}

fn an_output_at_an_inputs_path_begins_with_it(world: &World) {
    let make = task("make", "      outputs: [{name: a}]", "echo one > a/one");
    let change = task("change", "      inputs: [{name: a}]\n      outputs: [{name: b, path: ./a}]", "echo two > a/two");
    let look = task("look", "      inputs: [{name: a}, {name: b}]", "ls -1 a b");
    run(world, &job(&[make, change, look]), &Outcome::Succeeded);
    world.events.has("task look: a:\ntask look: one\ntask look: \ntask look: b:\ntask look: one\ntask look: two\n");
}

fn a_failed_tasks_outputs_serve_its_hooks(world: &World) {
    let fail = task("fail", "      outputs: [{name: logs}]", "echo why > logs/file; exit 3");
    let hook =
        task("hook", "      inputs: [{name: logs}]", "cat logs/file").replace("  - task: hook", "    task: hook");
    let hook = hook.replace("\n    ", "\n      ");
    run(world, &job(&[fail, format!("    on_failure:\n  {hook}\n")]), &Outcome::Failed);
    world.events.has("task fail: exit status 3");
    world.events.has("task hook: why");
}

fn a_timeout_ends_every_process(world: &World) {
    let slow = task("slow", "", "sleep 100 & sleep 100").replace("  - task: slow", "  - task: slow\n    timeout: 1s");
    let began = Instant::now();
    run(world, &job(&[slow]), &Outcome::Failed);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    world.events.has("timeout exceeded");
}

fn caches_outlive_builds(world: &World) {
    let yaml = job(&[task(
        "t",
        "      caches: [{path: kept}]\n      outputs: [{name: o}]",
        "ls -1 kept; touch kept/n$(ls kept | busybox wc -l)",
    )]);
    run(world, &yaml, &Outcome::Succeeded);
    world.events.lacks("task t: n0");
    run(world, &yaml, &Outcome::Succeeded);
    world.events.has("task t: n0");
    world.events.clear();
    run(world, &yaml.replace("task: t", "task: other"), &Outcome::Succeeded);
    world.events.lacks("n0");
}

fn a_user_owns_its_volumes(world: &World) {
    if world.sandbox.as_ref().as_ref().is_ok_and(|sandbox| !sandbox.owners_kept()) {
        skycap_testkit::skipped!("a_user_owns_its_volumes: only one id can be mapped");
        return;
    }
    let make = task("make", "      outputs: [{name: a}]", "echo one > a/one");
    let user = task(
        "user",
        "      inputs: [{name: a}]\n      outputs: [{name: b}]",
        "id -u; echo $HOME $USER; stat -c %u a/one b .; touch a/x b/y",
    )
    .replace("        path: sh", "        path: sh\n        user: ann");
    let look = task("look", "      inputs: [{name: a}, {name: b}]", "stat -c owner=%u a/one b/y");
    run(world, &job(&[make, user, look]), &Outcome::Succeeded);
    world.events.has("task user: 1000\ntask user: /home/ann ann\ntask user: 1000\ntask user: 1000\n");
    world.events.has("task look: owner=0\ntask look: owner=1000\n");
    let nobody =
        job(&[task("t", "", "id").replace("        path: sh", "        path: sh\n        user: nobody-known")]);
    run(
        world,
        &nobody,
        &Outcome::Errored(
            "lookup user: unable to find user nobody-known: no matching entries in passwd file".to_owned(),
        ),
    );
}

fn secrets_are_redacted(world: &World) {
    let make = task("make", "      outputs: [{name: a}]", "echo s3cret-value > a/f");
    let load = "  - {load_var: v, file: a/f}\n".to_owned();
    let tell = task("tell", "      params: {V: ((.:v)), P: ((docker_hub_password))}", "echo $V, $P; echo ((.:v))");
    run(world, &job(&[make, load, tell]), &Outcome::Succeeded);
    world.events.has("task tell: ((redacted)), ((redacted))\ntask tell: ((redacted))\n");
    let text = world.events.text();
    assert_eq!(text.matches("s3cret-value").count(), 1, "only the task that made it says it");
    assert!(!text.contains("hunter2"));
}

fn a_missing_program_is_an_error(world: &World) {
    let yaml = job(&[task("t", "", "true").replace("path: sh", "path: nonsense")]);
    run(world, &yaml, &Outcome::Errored("exec: \"nonsense\": executable file not found in $PATH".to_owned()));
    let missing = job(&[task("t", "      inputs: [{name: b}, {name: a}, {name: c, optional: true}]", "true")]);
    run(world, &missing, &Outcome::Errored("missing inputs: a, b".to_owned()));
}

fn a_custom_resource_type_runs_its_scripts(world: &World) {
    let yaml = format!(
        "resource_types: [{{name: mine, type: registry-image, source: {{repository: docker.io/a/busybox}}, defaults: {{k: default, d: 1}}}}]
resources:
- {{name: r, type: mine, source: {{k: v}}}}
jobs:
- name: j
  plan:
  - {{get: r, params: {{p: 1}}}}
{}  - {{put: art-put, resource: r, params: {{dir: art/x}}, get_params: {{q: [2]}}}}
{}",
        task("make", "      inputs: [{name: r}]\n      outputs: [{name: art}, {name: not}]", "cat r/file; echo ((.:r.colour)) > art/file; echo no > not/file"),
        task("look", "      inputs: [{name: art-put}, {name: art}]", "cat art-put/file; ls -1 art")
    );
    let report = run(world, &yaml, &Outcome::Succeeded);
    world.events.has(r#"check r: {"source":{"d":1,"k":"v"}} cwd=/ greeting=hello build="#);
    world
        .events
        .has(r#"get r: {"source":{"d":1,"k":"v"},"params":{"p":1},"version":{"n":"2"}} in /tmp/build/get build j"#);
    world.events.has(r#"put art-put: {"source":{"d":1,"k":"v"},"params":{"dir":"art/x"}} out: art blue"#);
    world.events.has(r#""params":{"q":[2]},"version":{"n":"3"}} in /tmp/build/get"#);
    world.events.has("task look: made\ntask look: file\n");
    assert_eq!(report.puts[0].version.as_ref().unwrap()["n"], "3");
    world.events.clear();
    run(world, &yaml, &Outcome::Succeeded);
    world.events.has("get r: INFO: found existing resource cache");
    world.events.has(r#"check r: {"source":{"d":1,"k":"v"},"version":{"n":"#);
}

fn the_images_own_program_runs(world: &World) {
    let yaml = "resources: [{name: img, type: registry-image, source: {repository: docker.io/a/busybox}}]
jobs: [{name: j, plan: [{get: img}, {task: t, image: img, config: {platform: linux, run: {args: [more]}}}]}]";
    run(world, yaml, &Outcome::Succeeded);
    world.events.has("task t: running echo from image more");
    world.events.has("task t: from image more");
    let archive = yaml.replace("{get: img}", "{get: img, params: {format: oci}}");
    let report = build(world.runner(&archive).run("j", &Cancel::new()).unwrap());
    assert!(matches!(&report.outcome, Outcome::Errored(error) if error.starts_with("No image specified for task?")));
}

fn a_task_file_is_filled_in_with_vars(world: &World) {
    let make = task(
        "make",
        "      outputs: [{name: src}]",
        "L='(('
cat > src/t.yml <<EOT
platform: linux
image_resource: {type: registry-image, source: {repository: ${L}repo))}}
params: {P: ${L}docker_hub_username))-${L}.:x))}
run: {path: echo, args: [${L}word)), \\$P]}
platform: linux
image_resource: {type: registry-image, source: {repository: ${L}repo))}}
params: {P: ${L}docker_hub_username))-${L}.:x))}
run: {path: echo, args: [${L}word)), \\$P]}
EOT
echo 7 > src/x.json",
    );
    let steps = "  - {load_var: x, file: src/x.json, reveal: true}
  - {task: t, file: src/t.yml, vars: {repo: docker.io/a/busybox, word: hi}}
  - {task: u, file: src/none.yml}
";
    let failure = Outcome::Errored("task config 'src/none.yml' not found".to_owned());
    run(world, &job(&[make, steps.to_owned()]), &failure);
    world.events.has("task t: running echo hi $P");
    world.events.has("task t: succeeded");
}

const SLOW: &str = "resource_types: [{name: mine, type: registry-image, source: {repository: docker.io/a/busybox}}]
resources: [{name: r, type: mine, check_every: 100ms, source: {}}]
jobs:
- name: j
  plan:
  - {get: r, trigger: true}
";

/// The other process of the next test: watches with a build that takes long.
fn watch_until_killed(dir: &str, sandbox: Sandbox) -> ! {
    let world = World::beside(dir.as_ref(), Ok(sandbox));
    let yaml = format!("{SLOW}{}", task("slow", "", "echo begun; sleep 100"));
    let runner = world.runner(&yaml);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !world.events.text().contains("slow: begun") {
                thread::sleep(Duration::from_millis(20));
            }
            fs::write(world.path("begun"), "").unwrap();
        });
        let _ = runner.watch(&Cancel::new(), &mut |_| {});
    });
    unreachable!("it is killed")
}

/// K20
fn a_killed_watch_runs_the_build_again(world: &World) {
    if world.sandbox.as_ref().as_ref().is_ok_and(|sandbox| sandbox.rung() != Rung::Privileged) {
        skycap_testkit::skipped!(
            "a_killed_watch_runs_the_build_again: the other process would begin inside our user namespace"
        );
        return;
    }
    #[allow(clippy::disallowed_methods, reason = "a test program of its own")]
    let me = std::env::current_exe().unwrap();
    world.share();
    let mut child =
        Command::new(me).arg("watch-until-killed").arg(world.root.path()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while !world.path("begun").exists() {
        assert!(began.elapsed() < Duration::from_mins(1), "the other process does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let quick = format!("{SLOW}{}", task("slow", "", "echo quick"));
    let stop = Cancel::new();
    let names = Mutex::new(Vec::new());
    let runner = world.runner(&quick);
    thread::scope(|threads| {
        threads.spawn(|| {
            while names.lock().unwrap().is_empty() && began.elapsed() < Duration::from_secs(90) {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_millis(700));
            stop.cancel();
        });
        let mut ran = |report: &Report| names.lock().unwrap().push((report.name.clone(), report.outcome.clone()));
        runner.watch(&stop, &mut ran).unwrap();
    });
    assert_eq!(names.into_inner().unwrap(), [("2".to_owned(), Outcome::Succeeded)]);
}

fn a_stopped_watch_runs_its_hooks_and_the_build_again(world: &World) {
    let hook =
        task("hook", "", "echo tidied").replace("  - task: hook", "    task: hook").replace("\n    ", "\n      ");
    let slow = format!("{SLOW}{}    on_abort:\n  {hook}", task("slow", "", "echo begun; sleep 100"));
    let stop = Cancel::new();
    let reports = Mutex::new(Vec::new());
    let runner = world.runner(&slow);
    thread::scope(|threads| {
        threads.spawn(|| {
            let began = Instant::now();
            while !world.events.text().contains("slow: begun") && began.elapsed() < Duration::from_mins(1) {
                thread::sleep(Duration::from_millis(20));
            }
            stop.cancel();
        });
        runner.watch(&stop, &mut |report| reports.lock().unwrap().push(report.outcome.clone())).unwrap();
    });
    assert_eq!(reports.into_inner().unwrap(), [Outcome::Aborted]);
    world.events.has("task hook: tidied");
    drop(runner);
    let (stop, mut names) = (Cancel::new(), Vec::new());
    let again = world.runner(&format!("{SLOW}{}", task("slow", "", "echo quick")));
    let mut ran = |report: &Report| {
        names.push(report.name.clone());
        stop.cancel();
    };
    again.watch(&stop, &mut ran).unwrap();
    assert_eq!(names, ["2"]);
}
