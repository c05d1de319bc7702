//! RUN, where there is a sandbox.

use std::fs;

use skycap_build::SandboxAccess;
use skycap_image::SecretBytes;
use skycap_sandbox::{Attempt, Refused, Rung};

use crate::world::{World, list, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("a_run_leaves_what_it_wrote", a_run_leaves_what_it_wrote),
    ("a_second_run_is_cached", a_second_run_is_cached),
    ("runs_stack", runs_stack),
    ("a_run_on_scratch_layers_sees_copied_files", a_run_on_scratch_layers_sees_copied_files),
    ("a_failing_run_names_its_line_and_its_code", a_failing_run_names_its_line_and_its_code),
    ("the_environment_of_a_run", the_environment_of_a_run),
    ("a_run_is_who_user_says", a_run_is_who_user_says),
    ("proxies_reach_a_run_and_nothing_else", proxies_reach_a_run_and_nothing_else),
    ("arguments_make_a_run_another_run", arguments_make_a_run_another_run),
    ("heredocs_run", heredocs_run),
    ("a_run_deletes", a_run_deletes),
    ("mounts_leave_nothing_behind", mounts_leave_nothing_behind),
    ("a_cache_mount_outlives_the_build", a_cache_mount_outlives_the_build),
    ("secrets_stay_out_of_images_and_keys", secrets_stay_out_of_images_and_keys),
    ("stages_run_at_the_same_time", stages_run_at_the_same_time),
    ("an_unreachable_stage_does_not_run", an_unreachable_stage_does_not_run),
    ("one_failure_stops_the_others", one_failure_stops_the_others),
    ("without_a_sandbox_only_what_is_cached_runs", without_a_sandbox_only_what_is_cached_runs),
    ("owners_survive_a_run", owners_survive_a_run),
    ("a_run_copies_into_a_stage", a_run_copies_into_a_stage),
    ("a_program_for_another_machine_says_so_and_where_an_emulator_is", a_program_for_another_machine_says_so),
];

fn world(test: &str) -> Option<World> {
    let mut world = World::new();
    with_shell(&mut world, test).map(|_| world)
}

/// The last layer without times.
fn last_layer(built: &skycap_build::Built) -> Vec<String> {
    let layers = built.image.layers();
    let text = list(layers.last().unwrap());
    text.lines()
        .map(|line| {
            line.split(' ').filter(|word| !word.starts_with("mtime=")).collect::<Vec<_>>().join(" ").trim().to_owned()
        })
        .collect()
}

fn a_run_leaves_what_it_wrote() {
    let Some(world) = world("a_run_leaves_what_it_wrote") else { return };
    let built =
        world.built("FROM shell\nRUN echo hello && mkdir -p /srv/x && echo hi > /srv/x/y && chmod 600 /srv/x/y\n");
    assert_eq!(last_layer(&built), ["dir srv 0755 0:0", "dir srv/x 0755 0:0", "file srv/x/y 0600 0:0 \"hi\\n\""]);
    assert_eq!(world.output(), "hello\n");
    let history = built.image.config().history.last().unwrap().clone();
    assert_eq!(
        history.created_by.unwrap(),
        "RUN /bin/sh -c echo hello && mkdir -p /srv/x && echo hi > /srv/x/y && chmod 600 /srv/x/y # buildkit"
    );
    let empty = world.built("FROM shell\nRUN true\n");
    assert_eq!(last_layer(&empty), Vec::<String>::new());
    assert_eq!(empty.image.layers().len(), 2);
}

fn a_second_run_is_cached() {
    let Some(world) = world("a_second_run_is_cached") else { return };
    let dockerfile = "FROM shell\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN echo 2 > /two\n";
    let first = world.built(dockerfile);
    assert_eq!(outcomes(&first), ["run done", "run done"]);
    let second = world.built(dockerfile);
    assert_eq!(outcomes(&second), ["run cached", "run cached"]);
    assert_eq!(second.image.descriptor(), first.image.descriptor());
    let longer = world.built(&format!("{dockerfile}RUN test -s /id && test -s /two\n"));
    assert_eq!(outcomes(&longer), ["run cached", "run cached", "run done"]);
}

fn runs_stack() {
    let Some(world) = world("runs_stack") else { return };
    let built = world.built(
        "FROM shell\nRUN mkdir /d && echo 1 > /d/one && echo x > /d/gone\nRUN rm /d/gone && echo 2 > /d/two\n\
         WORKDIR /d/w\nRUN test ! -e /d/gone && cat /d/one /d/two && echo 3 > three\n",
    );
    assert_eq!(world.output(), "1\n2\n");
    assert_eq!(last_layer(&built)[1..], ["dir d/w 0755 0:0", "file d/w/three 0644 0:0 \"3\\n\""]);
    let layers = built.image.layers();
    assert!(list(&layers[2]).contains("file d/.wh.gone"), "{}", list(&layers[2]));
}

fn a_run_on_scratch_layers_sees_copied_files() {
    let Some(world) = world("a_run_on_scratch_layers_sees_copied_files") else { return };
    fs::copy("/bin/busybox", world.context().join("busybox")).unwrap();
    world.file("etc/text", "content");
    let built =
        world.built("FROM scratch\nCOPY busybox /busybox\nCOPY etc /etc\nRUN [\"/busybox\", \"cat\", \"/etc/text\"]\n");
    assert_eq!(world.output(), "content");
    assert_eq!(last_layer(&built), Vec::<String>::new(), "nothing that the sandbox mounted stays");
}

fn a_failing_run_names_its_line_and_its_code() {
    let Some(world) = world("a_failing_run_names_its_line_and_its_code") else { return };
    let error = world.error("FROM shell\n\nRUN echo about to fail && \\\n    sh -c 'exit 7'\n");
    assert!(error.starts_with("Dockerfile:3: RUN echo about to fail"), "{error}");
    assert!(error.ends_with("exited with code 7"), "{error}");
    assert_eq!(world.output(), "about to fail\n");
    let error = world.error("FROM shell\nRUN [\"/none\"]\n");
    assert!(error.contains("Dockerfile:2: RUN [\"/none\"] could not be run"), "{error}");
    let error = world.build(&world.request("FROM scratch\nRUN true\n")).err().unwrap();
    assert!(error.hint().is_some_and(|hint| hint.starts_with("the image has no shell")), "{error}: {:?}", error.hint());
    let error = world.error("FROM shell\nRUN kill -9 $$\n");
    assert!(error.contains("Dockerfile:2: ") && error.contains('9'), "{error}");
    // What failed is not remembered, and what came before it is.
    let error = world.error("FROM shell\nRUN echo once\nRUN test -e /now\n");
    assert!(error.contains("Dockerfile:3: "), "{error}");
    world.error("FROM shell\nRUN echo once\nRUN test -e /now\n");
    assert_eq!(world.output(), "");
}

fn a_program_for_another_machine_says_so() {
    let test = "a_program_for_another_machine_says_so_and_where_an_emulator_is";
    let Some(world) = world(test) else { return };
    // The beginning of an ELF file for s390x.
    let program = [&b"\x7fELF\x02\x02\x01"[..], &[0; 10], &[2, 0, 22]].concat();
    fs::write(world.context().join("program"), program).unwrap();
    let dockerfile = "FROM --platform=linux/s390x scratch\nCOPY --chmod=755 program /\nRUN [\"/program\"]\n";
    let error = world.build(&world.request(dockerfile)).err().unwrap();
    if skycap_sandbox::emulator("s390x").is_some() {
        // It was begun, and had no end.
        return;
    }
    assert!(error.to_string().ends_with("could not be run: exec /program"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("Exec format error"));
    let hint = error.hint().unwrap();
    assert!(hint.contains("linux/s390x") && hint.contains("tonistiigi/binfmt"), "{hint}");
}

fn the_environment_of_a_run() {
    let Some(world) = world("the_environment_of_a_run") else { return };
    world.built("FROM shell\nENV A=1\nARG B=2\nUSER app\nWORKDIR /tmp/w\nRUN echo $A $B $HOME $PWD $PATH\n");
    assert_eq!(world.output(), "1 2 /home/app /tmp/w /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    world.built(
        "FROM shell\nSHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN cat /etc/hosts > /dev/null; id -u; cat /dev/null\n",
    );
    assert_eq!(world.output(), "0\n");
}

fn a_run_is_who_user_says() {
    let Some(world) = world("a_run_is_who_user_says") else { return };
    if !matches!(crate::world::access(), SandboxAccess::Available(sandbox) if sandbox.owners_kept()) {
        skycap_testkit::skipped!("a_run_is_who_user_says: this sandbox has a single id");
        return;
    }
    for (user, expected) in
        [("app", "1000 1000 77 1000\n"), ("app:extra", "1000 77 77\n"), ("1234", "1234 0 0\n"), ("root", "0 0 0\n")]
    {
        world.built(&format!("FROM shell\nUSER {user}\nRUN echo $(id -u) $(id -g) $(id -G)\n"));
        let sorted = |text: &str| {
            let mut words: Vec<&str> = text.split_whitespace().skip(2).collect();
            words.sort_unstable();
            words.dedup();
            let first: Vec<&str> = text.split_whitespace().take(2).collect();
            (first.join(" "), words.join(" "))
        };
        assert_eq!(sorted(&world.output()), sorted(expected), "{user}");
    }
}

fn proxies_reach_a_run_and_nothing_else() {
    let Some(world) = world("proxies_reach_a_run_and_nothing_else") else { return };
    let mut request = world.request("FROM shell\nRUN echo $HTTP_PROXY $http_proxy\n");
    request.build_args.insert("HTTP_PROXY".to_owned(), "http://one".to_owned());
    let first = world.built_as(&request);
    assert_eq!(world.output(), "http://one http://one\n");
    request.build_args.insert("HTTP_PROXY".to_owned(), "http://two".to_owned());
    let second = world.built_as(&request);
    assert_eq!(outcomes(&second), ["run cached"]);
    assert_eq!(first.image.descriptor(), second.image.descriptor());
    assert!(!String::from_utf8_lossy(second.image.config_bytes()).contains("http://"));
}

fn arguments_make_a_run_another_run() {
    let Some(world) = world("arguments_make_a_run_another_run") else { return };
    let mut request = world.request("FROM shell\nRUN echo before\nARG V=1\nRUN echo v$V\n");
    let built = world.built_as(&request);
    let history = &built.image.config().history.last().unwrap().created_by;
    assert_eq!(history.as_deref(), Some("RUN |1 V=1 /bin/sh -c echo v$V # buildkit"));
    request.build_args.insert("V".to_owned(), "2".to_owned());
    assert_eq!(outcomes(&world.built_as(&request)), ["run cached", "run done"]);
    assert_eq!(world.output(), "v2\n");
}

fn heredocs_run() {
    let Some(world) = world("heredocs_run") else { return };
    world.built("FROM shell\nRUN <<EOF\necho one\necho $HOME\nEOF\n");
    assert_eq!(world.output(), "one\n/root\n");
    let built = world.built("FROM shell\nRUN <<script\n#!/bin/cat\nitself\nscript\n");
    assert_eq!(world.output(), "#!/bin/cat\nitself\n");
    assert_eq!(last_layer(&built), Vec::<String>::new());
    world.built("FROM shell\nRUN cat <<A && cat <<B\na\nA\nb\nB\n");
    assert_eq!(world.output(), "a\nb\n");
}

fn a_run_deletes() {
    let Some(world) = world("a_run_deletes") else { return };
    let built = world.built("FROM shell\nRUN rm /etc/group && rm -r /home && mkdir /home && echo x > /home/y\n");
    let layer = last_layer(&built);
    assert!(layer.iter().any(|line| line.starts_with("file etc/.wh.group")), "{layer:?}");
    assert!(layer.iter().any(|line| line.starts_with("file home/.wh.")), "{layer:?}");
    world.built("FROM shell\nRUN rm /etc/group && rm -r /home && mkdir /home && echo x > /home/y\nRUN ls /home; test ! -e /etc/group\n");
    assert_eq!(world.output(), "y\n");
}

fn mounts_leave_nothing_behind() {
    let Some(world) = world("mounts_leave_nothing_behind") else { return };
    world.file("dir/a", "from the context");
    world.file("dir/hidden", "x");
    let dockerfile = "FROM shell AS other\nRUN mkdir -p /o/sub && echo from a stage > /o/sub/f\nFROM shell\n\
        RUN --mount=target=/ctx --mount=type=bind,source=dir/a,target=/a.txt \
        --mount=type=bind,from=other,source=/o/sub,target=/stage,rw --mount=type=tmpfs,target=/t \
        cat /ctx/dir/a /a.txt && test ! -e /ctx/dir/hidden && ! touch /ctx/x 2>/dev/null && cat /stage/f && \
        echo x > /stage/new && echo x > /t/x\n";
    let mut request = world.request(dockerfile);
    request.ignore = skycap_build::ignore::Ignore::parse(b"**/hidden\n").unwrap();
    let built = world.built_as(&request);
    assert_eq!(world.output(), "from the contextfrom the contextfrom a stage\n");
    assert_eq!(last_layer(&built), Vec::<String>::new());
    assert_eq!(outcomes(&world.built_as(&request)), ["run skipped", "run cached"]);
    world.file("dir/a", "changed");
    assert_eq!(outcomes(&world.built_as(&request)), ["run cached", "run done"]);
}

fn a_cache_mount_outlives_the_build() {
    let Some(world) = world("a_cache_mount_outlives_the_build") else { return };
    let build = |n: u32| {
        let mount = "--mount=type=cache,target=/cache,sharing=locked --mount=type=cache,id=two,target=/two,mode=0700";
        world.built(&format!("FROM shell\nRUN {mount} echo {n} >> /cache/list && cat /cache/list && stat -c %a /two\n"))
    };
    let built = build(1);
    assert_eq!(world.output(), "1\n700\n");
    assert_eq!(last_layer(&built), Vec::<String>::new());
    build(2);
    assert_eq!(world.output(), "1\n2\n700\n");
}

fn secrets_stay_out_of_images_and_keys() {
    let Some(world) = world("secrets_stay_out_of_images_and_keys") else { return };
    let dockerfile = "FROM shell\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
         test $(cat /run/secrets/token) = $TOKEN && stat -c %a /run/secrets/token\n";
    let mut request = world.request(dockerfile);
    request.secrets.insert("token".to_owned(), SecretBytes::new("hunter2"));
    let built = world.built_as(&request);
    assert_eq!(world.output(), "400\n");
    assert_eq!(last_layer(&built), Vec::<String>::new());
    assert!(!String::from_utf8_lossy(built.image.config_bytes()).contains("hunter2"));
    request.secrets.insert("token".to_owned(), SecretBytes::new("hunter2-another"));
    assert_eq!(outcomes(&world.built_as(&request)), ["run cached"]);
    // Another secret in the same place is another step; its default name is the last part of its id.
    for (id, value) in [("one/name", "1"), ("two/name", "2")] {
        let dockerfile = format!("FROM shell\nRUN --mount=type=secret,id={id} cat /run/secrets/name\n");
        let mut request = world.request(&dockerfile);
        request.secrets.insert(id.to_owned(), SecretBytes::new(value));
        assert_eq!(outcomes(&world.built_as(&request)), ["run done"], "{id}");
        assert_eq!(world.output(), value);
    }
    let error = world.error("FROM shell\nRUN --mount=type=secret,id=none,required echo\n");
    assert!(error.contains("Dockerfile:2: secret none: not found"), "{error}");
    world.built("FROM shell\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none\n");
    assert!(!holds(&world.store_directory(), b"hunter2"), "the store holds a secret");
}

fn holds(directory: &std::path::Path, needle: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let Ok(kind) = path.symlink_metadata() else { return false };
        if kind.is_dir() {
            holds(&path, needle)
        } else if kind.is_file() {
            fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
        } else {
            false
        }
    })
}

fn stages_run_at_the_same_time() {
    let Some(world) = world("stages_run_at_the_same_time") else { return };
    // Each waits until the other one has begun.
    let wait = |mine: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,id=meet,target=/meet touch /meet/{mine}; i=0; \
             while ! test -e /meet/{other}; do sleep 0.05; i=$((i+1)); test $i -lt 200 || exit 1; done; echo > /{mine}\n"
        )
    };
    let built = world.built(&format!(
        "FROM shell AS one\n{}FROM shell AS two\n{}FROM scratch\nCOPY --from=one /a /\nCOPY --from=two /b /\n",
        wait("a", "b"),
        wait("b", "a")
    ));
    assert_eq!(built.image.layers().len(), 2);
}

fn an_unreachable_stage_does_not_run() {
    let Some(world) = world("an_unreachable_stage_does_not_run") else { return };
    world.built(
        "FROM shell AS unused\nRUN echo never && false\nFROM shell AS used\nRUN echo used\nFROM used\nRUN echo last\n",
    );
    assert_eq!(world.output(), "used\nlast\n");
}

fn one_failure_stops_the_others() {
    let Some(world) = world("one_failure_stops_the_others") else { return };
    let begun = std::time::Instant::now();
    let error = world.error(
        "FROM shell AS slow\nRUN sleep 60\nFROM shell AS bad\nRUN sleep 0.3; exit 3\nFROM scratch\n\
         COPY --from=slow /a /\nCOPY --from=bad /b /\n",
    );
    assert!(error.contains("Dockerfile:4: ") && error.contains("exited with code 3"), "{error}");
    assert!(begun.elapsed().as_secs() < 30);
}

fn without_a_sandbox_only_what_is_cached_runs() {
    let Some(world) = world("without_a_sandbox_only_what_is_cached_runs") else { return };
    let attempt = Attempt {
        call: "unshare(CLONE_NEWUSER)".to_owned(),
        errno: 1,
        hint: "run the task with privileged: true".to_owned(),
    };
    let refused = Refused { attempts: vec![(Rung::NestedUserNamespace, attempt)] };
    let build = |dockerfile: &str| {
        let request = world.request(dockerfile);
        let store = world.store();
        let around = crate::world::around(&world.images, &store, SandboxAccess::Refused(&refused), &world.log);
        skycap_build::build(&request, &around)
    };
    let error = build("FROM shell\nRUN echo a\nRUN echo b\n").err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("Dockerfile:2: RUN echo a cannot be run here"), "{text}");
    assert!(text.contains("unshare(CLONE_NEWUSER): EPERM"), "{text}");
    assert_eq!(error.hint(), Some("run the task with privileged: true"));
    world.built("FROM shell\nRUN echo a\n");
    world.file("f", "f");
    let built = build("FROM shell\nRUN echo a\nCOPY f /\n").map_err(|error| error.to_string()).unwrap();
    assert_eq!(outcomes(&built[0]), ["run cached", "copy done"]);
}

fn owners_survive_a_run() {
    let Some(world) = world("owners_survive_a_run") else { return };
    if !matches!(crate::world::access(), SandboxAccess::Available(sandbox) if sandbox.owners_kept()) {
        skycap_testkit::skipped!("owners_survive_a_run: this sandbox has a single id");
        return;
    }
    world.file("a", "a");
    let built = world.built("FROM shell\nCOPY --chown=app a /home/app/\nRUN chown 5:6 /tmp; touch /home/app/b; chown app /home/app/b; chmod 4755 /home/app/b\n");
    let layer = last_layer(&built);
    assert_eq!(
        layer,
        ["dir home 0755 0:0", "dir home/app 0700 1000:1000", "file home/app/b 4755 1000:0 \"\"", "dir tmp 1777 5:6"]
    );
}

fn a_run_copies_into_a_stage() {
    let Some(world) = world("a_run_copies_into_a_stage") else { return };
    let built = world.built(
        "FROM shell AS make\nRUN mkdir /out && echo x > /out/x && ln /out/x /out/y 2>/dev/null || cp /out/x /out/y; chown -R 7:8 /out 2>/dev/null; true\n\
         FROM scratch\nCOPY --from=make --chown=1:2 /out /\n",
    );
    let layer = last_layer(&built);
    assert!(layer[0].starts_with("file x 0644 1:2"), "{layer:?}");
    assert!(layer[1].starts_with("file y 0644 1:2") || layer[1].starts_with("hardlink y 0644 1:2"), "{layer:?}");
}
