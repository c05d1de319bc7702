//! `RUN --mount`, `--security`, `--network` and the surroundings of a program (sections 3 and 5 of the language, section 8 of
//! the sandbox).

use std::fs;

use skycap_build::dockerfile::Network;
use skycap_build::{Entitlement, SandboxAccess};
use skycap_image::{Event, Progress, SecretBytes};

use crate::world::{World, access, around, chain, list, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("a_cache_begins_with_its_seed", a_cache_begins_with_its_seed),
    ("caches_differ_by_id_namespace_owner_and_mode", caches_differ_by_id_namespace_owner_and_mode),
    ("a_private_cache_in_use_is_another_directory", a_private_cache_in_use_is_another_directory),
    ("a_locked_cache_is_waited_for", a_locked_cache_is_waited_for),
    ("a_cache_may_be_read_only_and_mounted_twice", a_cache_may_be_read_only_and_mounted_twice),
    ("which_cache_it_is_makes_no_other_step", which_cache_it_is_makes_no_other_step),
    ("targets_join_the_working_directory", targets_join_the_working_directory),
    ("a_tmpfs_has_the_size_that_was_asked_for", a_tmpfs_has_the_size_that_was_asked_for),
    ("what_is_written_to_a_bind_mount_is_nobodys", what_is_written_to_a_bind_mount_is_nobodys),
    ("a_file_that_changes_before_it_is_shown_is_an_error", a_file_that_changes_before_it_is_shown_is_an_error),
    ("secrets_have_owners_and_modes", secrets_have_owners_and_modes),
    ("a_secret_need_not_be_text", a_secret_need_not_be_text),
    ("all_rights_are_for_the_caller_to_give", all_rights_are_for_the_caller_to_give),
    ("networks_of_one_run_and_of_all", networks_of_one_run_and_of_all),
    ("a_run_is_told_the_name_of_its_machine", a_run_is_told_the_name_of_its_machine),
    ("proxies_win_over_the_dockerfile", proxies_win_over_the_dockerfile),
];

fn world(test: &str) -> Option<World> {
    let mut world = World::new();
    with_shell(&mut world, test).map(|_| world)
}

fn owners_kept() -> bool {
    matches!(access(), SandboxAccess::Available(sandbox) if sandbox.owners_kept())
}

/// Table row `cache`: `from`, `source`.
fn a_cache_begins_with_its_seed() {
    let Some(world) = world("a_cache_begins_with_its_seed") else { return };
    let stage = "FROM shell AS seed\nRUN mkdir -p /s/d && echo one > /s/a && ln /s/a /s/b && ln -s a /s/l && echo two > /s/d/x && chmod 640 /s/a\n";
    let build = |n: u32, more: &str| {
        let run = "--mount=type=cache,id=c,from=seed,source=/s,target=/c";
        world.built(&format!("{stage}FROM shell\nRUN {run} echo {n} && {more}\n"))
    };
    let built = build(1, "cat /c/a /c/l /c/d/x && stat -c %a:%h /c/a && echo kept > /c/new");
    assert_eq!(world.output(), "1\none\none\ntwo\n640:2\n");
    assert_eq!(list(built.image.layers().last().unwrap()), "");
    build(2, "cat /c/new");
    assert_eq!(world.output(), "2\nkept\n");
    // Another seed is another cache, and so is one without.
    world.built(&format!("{stage}FROM shell\nRUN --mount=type=cache,id=c,from=seed,source=/s/d,target=/c ls /c\n"));
    assert_eq!(world.output(), "x\n");
    world.built("FROM shell\nRUN --mount=type=cache,id=c,target=/c mkdir /c/sub && echo in > /c/sub/f && ls /c\n");
    assert_eq!(world.output(), "sub\n");
    // Without a seed, the source is a directory of the cache.
    world.built("FROM shell\nRUN --mount=type=cache,id=c,source=sub,target=/c ls /c\n");
    assert_eq!(world.output(), "f\n");
    let error =
        world.error(&format!("{stage}FROM shell\nRUN --mount=type=cache,from=seed,source=/s/none,target=/x true\n"));
    assert!(error.contains("the directory of a cache mount cannot be prepared"), "{error}");
    let error =
        world.error(&format!("{stage}FROM shell\nRUN --mount=type=cache,from=seed,source=/s/a,target=/x true\n"));
    assert!(error.contains("/s/a is no directory"), "{error}");
}

/// Table row `cache`: `id`, the namespace, `uid`, `gid`, `mode`.
fn caches_differ_by_id_namespace_owner_and_mode() {
    let Some(world) = world("caches_differ_by_id_namespace_owner_and_mode") else { return };
    let mut request = world.request("");
    let mut first = |namespace: &str, mount: &str, command: &str| {
        request.dockerfile = format!("FROM shell\nWORKDIR /w\nRUN --mount=type=cache,{mount} {command}\n").into_bytes();
        request.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), namespace.to_owned());
        request.no_cache = true;
        world.built_as(&request);
        world.output()
    };
    let visit = "cat /c/visits 2>/dev/null; echo v >> /c/visits";
    assert_eq!(first("", "target=/c", visit), "");
    assert_eq!(first("", "target=/c/", visit), "v\n", "the id is the target, cleaned");
    assert_eq!(first("", "target=//x/../c", visit), "v\nv\n");
    assert_eq!(first("", "id=/c,target=/c", visit), "v\nv\nv\n");
    assert_eq!(first("", "id=other,target=/c", visit), "");
    assert_eq!(first("team", "target=/c", visit), "");
    assert_eq!(first("team", "target=/c", visit), "v\n");
    assert_eq!(first("", "target=/c,mode=0700", &format!("stat -c %a /c; {visit}")), "700\n");
    assert_eq!(first("", "target=/c,mode=0700", visit), "v\n");
    // The same relative path is the same cache in every directory.
    assert_eq!(first("", "target=c", "cat /w/c/visits 2>/dev/null; echo v >> /w/c/visits"), "");
    assert_eq!(first("", "id=c,target=/c", visit), "v\n");
    if owners_kept() {
        let output = first("", "target=/c,uid=1000,gid=77", "stat -c %u:%g:%a /c");
        assert_eq!(output, "1000:77:755\n");
    }
}

/// Two stages that meet in `/meet`; what they print about `/c` with this sharing.
fn meet(world: &World, sharing: &str) -> String {
    let stage = |mine: &str, other: &str| {
        format!(
            "FROM shell AS {mine}\nRUN --mount=type=cache,id=meet,target=/meet --mount=type=cache,target=/c,sharing={sharing} \
             touch /c/{mine} /meet/{mine}; i=0; while ! test -e /meet/{other}; do sleep 0.05; i=$((i+1)); test $i -lt 100 || exit 1; done; \
             sleep 0.3; ls /c > /out; touch /meet/{mine}-done\n"
        )
    };
    world.built(&format!(
        "{}{}FROM shell\nCOPY --from=one /out /1\nCOPY --from=two /out /2\nRUN echo $(cat /1) / $(cat /2)\n",
        stage("one", "two"),
        stage("two", "one")
    ));
    world.output().lines().last().unwrap_or_default().to_owned()
}

/// Table row `cache`: `sharing=private` and `sharing=shared`.
fn a_private_cache_in_use_is_another_directory() {
    let Some(world) = world("a_private_cache_in_use_is_another_directory") else { return };
    if matches!(access(), SandboxAccess::Available(sandbox) if sandbox.territory().is_some()) {
        skycap_testkit::skipped!("a_private_cache_in_use_is_another_directory: programs run one after the other here");
        return;
    }
    assert_eq!(meet(&world, "private"), "one / two");
    let Some(another) = self::world("a_private_cache_in_use_is_another_directory") else { return };
    assert_eq!(meet(&another, "shared"), "one two / one two");
    // Both directories stay; alone, the first free one is used again.
    world.built("FROM shell\nRUN --mount=type=cache,target=/c,sharing=private ls /c | wc -l\n");
    assert_eq!(world.output(), "1\n");
}

/// Table row `cache`: `sharing=locked`.
fn a_locked_cache_is_waited_for() {
    let Some(world) = world("a_locked_cache_is_waited_for") else { return };
    let stage = |name: &str| {
        format!(
            "FROM shell AS {name}\nRUN --mount=type=cache,target=/c,sharing=locked \
             test ! -e /c/busy && touch /c/busy && sleep 0.3 && rm /c/busy && echo {name} > /out\n"
        )
    };
    world.built(&format!(
        "{}{}FROM scratch\nCOPY --from=one /out /1\nCOPY --from=two /out /2\n",
        stage("one"),
        stage("two")
    ));
}

fn a_cache_may_be_read_only_and_mounted_twice() {
    let Some(world) = world("a_cache_may_be_read_only_and_mounted_twice") else { return };
    world.built(
        "FROM shell\nRUN --mount=type=cache,id=c,target=/a,sharing=locked --mount=type=cache,id=c,target=/b,sharing=locked,ro \
         echo x > /a/f && cat /b/f && ! touch /b/g 2>/dev/null\n",
    );
    assert_eq!(world.output(), "x\n");
}

/// Section 11: the id and the sharing of a cache are in no key.
fn which_cache_it_is_makes_no_other_step() {
    let Some(world) = world("which_cache_it_is_makes_no_other_step") else { return };
    let outcome =
        |mount: &str| outcomes(&world.built(&format!("FROM shell\nRUN --mount=type=cache,target=/c{mount} true\n")));
    assert_eq!(outcome(""), ["run done"]);
    assert_eq!(outcome(",id=another"), ["run cached"]);
    assert_eq!(outcome(",sharing=locked"), ["run cached"]);
    assert_eq!(outcome(",ro"), ["run done"]);
}

fn targets_join_the_working_directory() {
    let Some(world) = world("targets_join_the_working_directory") else { return };
    world.file("f", "file");
    let mut request = world.request(
        "FROM shell\nWORKDIR /w\nRUN --mount=target=ctx --mount=type=tmpfs,target=../t --mount=type=cache,target=c/d \
         --mount=type=secret,id=s,target=sec cat ctx/f sec | tr 2 _ && touch /t/x c/d/y && ls /w\n",
    );
    request.secrets.insert("s".to_owned(), SecretBytes::new("hunter2\n"));
    let built = world.built_as(&request);
    assert_eq!(world.output(), "filehunter_\nc\nctx\nsec\n");
    assert_eq!(list(built.image.layers().last().unwrap()), "");
    for target in ["/", "/w/..", "../.."] {
        let error = world.error(&format!("FROM shell\nWORKDIR /w\nRUN --mount=type=tmpfs,target={target} true\n"));
        assert!(error.contains("invalid mount target \"/\""), "{target}: {error}");
    }
}

/// Table row `tmpfs`.
fn a_tmpfs_has_the_size_that_was_asked_for() {
    let Some(world) = world("a_tmpfs_has_the_size_that_was_asked_for") else { return };
    if matches!(access(), SandboxAccess::Available(sandbox) if sandbox.territory().is_some()) {
        skycap_testkit::skipped!("a_tmpfs_has_the_size_that_was_asked_for: nothing can be mounted here");
        return;
    }
    world.file("big", &"x".repeat(200_000));
    world.built(
        "FROM shell\nRUN --mount=target=/ctx --mount=type=tmpfs,target=/t,size=64k --mount=type=tmpfs,target=/u,size=1m \
         ! cp /ctx/big /t/big 2>/dev/null && cp /ctx/big /u/big && stat -c %a /t\n",
    );
    assert_eq!(world.output(), "1777\n");
}

/// Table row `bind`: `rw`.
fn what_is_written_to_a_bind_mount_is_nobodys() {
    let Some(world) = world("what_is_written_to_a_bind_mount_is_nobodys") else { return };
    world.file("d/f", "before");
    let built = world.built(
        "FROM shell AS other\nRUN mkdir /o && echo before > /o/f\nFROM shell\n\
         RUN --mount=source=d,target=/d,rw --mount=from=other,source=/o,target=/o,rw echo after > /d/f && echo after > /o/f && cat /d/f /o/f\n\
         RUN --mount=source=d,target=/d --mount=from=other,source=/o,target=/o cat /d/f /o/f\n",
    );
    assert_eq!(world.output(), "after\nafter\nbeforebefore\n");
    assert_eq!(fs::read_to_string(world.context().join("d/f")).unwrap(), "before");
    assert_eq!(built.image.layers().iter().skip(1).map(list).collect::<String>(), "");
}

/// Writes to a file when a RUN begins.
struct Changing(std::path::PathBuf);

impl Progress for Changing {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Started { label, .. } if label.contains("RUN")) {
            fs::write(&self.0, "after!").unwrap();
        }
    }
}

fn a_file_that_changes_before_it_is_shown_is_an_error() {
    let Some(world) = world("a_file_that_changes_before_it_is_shown_is_an_error") else { return };
    world.file("d/f", "before");
    let request = world.request("FROM shell\nRUN --mount=source=d,target=/d cat /d/f\n");
    let (store, progress) = (world.store(), Changing(world.context().join("d/f")));
    let built = skycap_build::build(&request, &around(&world.images, &store, access(), &progress));
    let error = chain(&built.err().unwrap());
    assert!(error.contains("d/f changed while it was being read"), "{error}");
}

/// Table row `secret`.
fn secrets_have_owners_and_modes() {
    let Some(world) = world("secrets_have_owners_and_modes") else { return };
    let mut request = world.request(
        "FROM shell\nRUN --mount=type=secret,id=s,target=/etc/s,mode=0444,env=S stat -c %a /etc/s && echo $S | tr 2 _ && cat /etc/s | tr 2 _ && cat /etc/s\n\
         RUN --mount=type=secret,target=/x/named tr 2 _ < /x/named\n",
    );
    request.secrets.insert("s".to_owned(), SecretBytes::new("hunter2\n"));
    request.secrets.insert("named".to_owned(), SecretBytes::new("hunter2-named\n"));
    let built = world.built_as(&request);
    assert_eq!(world.output(), "444\nhunter_\nhunter_\n***\nhunter_-named\n");
    assert_eq!(built.image.layers().iter().skip(1).map(list).collect::<String>(), "");
    if owners_kept() {
        request.dockerfile =
            b"FROM shell\nUSER app\nRUN --mount=type=secret,id=s,uid=1000,gid=77 stat -c %u:%g /run/secrets/s && tr 2 _ < /run/secrets/s\n"
                .to_vec();
        world.built_as(&request);
        assert_eq!(world.output(), "1000:77\nhunter_\n");
    }
}

fn a_secret_need_not_be_text() {
    let Some(world) = world("a_secret_need_not_be_text") else { return };
    let mount = "RUN --mount=type=secret,id=keystore";
    let mut request = world.request(&format!("FROM shell\n{mount} wc -c < /run/secrets/keystore\n"));
    request.secrets.insert("keystore".to_owned(), SecretBytes::new([0xff, 0, b'a']));
    world.built_as(&request);
    assert_eq!(world.output(), "3\n");
    request.dockerfile = format!("FROM shell\n{mount},env=KEY true\n").into_bytes();
    let error = world.build(&request).err().unwrap().to_string();
    assert_eq!(error, "Dockerfile:2: secret keystore is not UTF-8: no variable can hold it");
}

/// Table row `RUN --security`.
fn all_rights_are_for_the_caller_to_give() {
    let Some(world) = world("all_rights_are_for_the_caller_to_give") else { return };
    let capabilities = "echo $(grep CapEff /proc/self/status) $(grep Seccomp: /proc/self/status)";
    let dockerfile = |security: &str| format!("FROM shell\nRUN --security={security} {capabilities}\n");
    let error = world.error(&dockerfile("insecure"));
    assert!(error.starts_with("Dockerfile:2: security.insecure is not allowed"), "{error}");
    assert!(error.contains("--allow security.insecure"), "{error}");
    let mut request = world.request(&dockerfile("sandbox"));
    request.allow.insert(Entitlement::SecurityInsecure);
    world.built_as(&request);
    let usual = world.output();
    request.dockerfile = dockerfile("insecure").into_bytes();
    let built = world.built_as(&request);
    assert_eq!(outcomes(&built), ["run done"]);
    let of = |text: &str| u64::from_str_radix(text.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let insecure = world.output();
    assert_eq!(of(&usual) & !0xa804_25fb, 0, "{usual}");
    assert_eq!(of(&usual) & of(&insecure), of(&usual), "{usual} {insecure}");
    let is_territory = matches!(access(), SandboxAccess::Available(sandbox) if sandbox.territory().is_some());
    if !is_territory {
        assert!(of(&insecure) & (1 << 21) != 0, "CAP_SYS_ADMIN is not held: {insecure}");
        request.dockerfile =
            b"FROM shell\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && touch /m/x && ls /m\n".to_vec();
        let built = world.built_as(&request);
        assert_eq!(world.output(), "x\n");
        let layer = list(built.image.layers().last().unwrap());
        assert!(layer.contains("dir m 0755") && !layer.contains("m/x"), "{layer}");
    }
    assert!("security.insecure".parse::<Entitlement>().is_ok() && "device".parse::<Entitlement>().is_err());
}

/// Table row `RUN --network`.
fn networks_of_one_run_and_of_all() {
    let Some(world) = world("networks_of_one_run_and_of_all") else { return };
    if matches!(access(), SandboxAccess::Available(sandbox) if sandbox.territory().is_some()) {
        skycap_testkit::skipped!("networks_of_one_run_and_of_all: there are no namespaces here");
        return;
    }
    let mut request = world.request(
        "FROM shell\nRUN echo default $(ls /proc/self/net/dev >/dev/null; grep -c : /proc/net/dev)\n\
         RUN --network=none echo none $(grep -c : /proc/net/dev)\nRUN --network=host echo host $(grep -c : /proc/net/dev)\n",
    );
    let ours = fs::read_to_string("/proc/self/net/dev").unwrap().matches(':').count();
    world.built_as(&request);
    let output = |default: usize| format!("default {default}\nnone 1\nhost {ours}\n");
    let alone = world.output().lines().nth(1).unwrap_or_default().to_owned();
    assert!(alone.starts_with("none "), "{alone}");
    request.network = Network::None;
    world.built_as(&request);
    // What has its own network is known; the others are other steps.
    assert_eq!(world.output().lines().next(), Some(&*format!("default {}", alone.trim_start_matches("none "))));
    request.network = Network::Host;
    world.built_as(&request);
    assert_eq!(world.output().lines().next(), output(ours).lines().next());
}

/// Section 6: `BUILDKIT_SANDBOX_HOSTNAME`; section 8 of the sandbox: the usual name.
fn a_run_is_told_the_name_of_its_machine() {
    let Some(world) = world("a_run_is_told_the_name_of_its_machine") else { return };
    if matches!(access(), SandboxAccess::Available(sandbox) if sandbox.territory().is_some()) {
        skycap_testkit::skipped!("a_run_is_told_the_name_of_its_machine: there are no namespaces here");
        return;
    }
    let mut request = world.request("FROM shell\nRUN cat /proc/sys/kernel/hostname\n");
    world.built_as(&request);
    assert_eq!(world.output(), "buildkitsandbox\n");
    request.build_args.insert("BUILDKIT_SANDBOX_HOSTNAME".to_owned(), "maker".to_owned());
    world.built_as(&request);
    assert_eq!(world.output(), "maker\n");
}

/// BuildKit adds proxies last, so they win.
fn proxies_win_over_the_dockerfile() {
    let Some(world) = world("proxies_win_over_the_dockerfile") else { return };
    let mut request = world.request("FROM shell\nENV http_proxy=mine\nRUN echo $http_proxy $ALL_PROXY\n");
    request.build_args.insert("HTTP_PROXY".to_owned(), "http://one".to_owned());
    request.build_args.insert("all_proxy".to_owned(), "http://all".to_owned());
    let built = world.built_as(&request);
    assert_eq!(world.output(), "http://one http://all\n");
    assert!(!String::from_utf8_lossy(built.image.config_bytes()).contains("http://"));
}
