//! SIGKILL at any moment: the next run succeeds, and nothing half-made is ever taken for whole.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{World, listing, noise, registry, run, with_stdin};

/// How often each operation is killed. The points are spread over the time that a whole run takes.
const KILLS: u32 = 12;

/// An image with a few thousand files, so that there is something to interrupt.
fn context(world: &World) {
    world.file("context/Dockerfile", "FROM scratch\nCOPY tree /tree\nCOPY big /big\n");
    for number in 0..1500 {
        world.file(&format!("context/tree/{}/{number}", number % 40), format!("{number}\n"));
    }
    world.file("context/big", noise(4_000_000));
}

/// Runs `make()` whole once for its duration, then kills it at points spread over that time; `after` looks at what is left.
fn kill_often(mut make: impl FnMut() -> (Command, Option<String>), mut after: impl FnMut()) {
    let start = Instant::now();
    spawn(make(), None);
    let whole = start.elapsed();
    for point in 0..KILLS {
        spawn(make(), Some(whole * point / KILLS));
        after();
    }
}

fn spawn((mut command, input): (Command, Option<String>), kill_after: Option<Duration>) {
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A killed program does not read.
    let _ = std::io::Write::write_all(&mut stdin, input.unwrap_or_default().as_bytes());
    drop(stdin);
    if let Some(time) = kill_after {
        std::thread::sleep(time);
        let _ = child.kill();
    }
    child.wait().unwrap();
}

fn source(address: &str) -> Value {
    json!({"repository": format!("{address}/app"), "tag": "1"})
}

/// K01, K02, K25: at random times, with a larger image than `tests/crash` has.
#[test]
fn a_killed_get_leaves_nothing_that_looks_whole() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    context(&world);
    let address = server.address().to_string();
    run(world.skycap(["build", "-t", &format!("{address}/app:1"), "--push", "context"])).ok();
    let check = json!({"source": source(&address)});
    let version = world.resource(&["registry-image", "check"], None, &check).ok().json()[0].clone();
    let request = json!({"source": source(&address), "version": version}).to_string();
    let get = |directory: &Path| {
        let mut command = world.skycap(["registry-image", "in"]);
        command.arg(directory);
        command
    };
    let whole = world.path("whole");
    with_stdin(get(&whole), request.as_bytes()).ok();
    let expected = listing(&whole.join("rootfs"));

    let destination = world.path("got");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&destination);
        std::fs::create_dir(&destination).unwrap();
        (get(&destination), Some(request.clone()))
    };
    kill_often(fresh, || {
        let rootfs = destination.join("rootfs");
        if rootfs.exists() {
            assert_eq!(listing(&rootfs), expected, "a rootfs that is there is whole");
        }
        with_stdin(get(&destination), request.as_bytes()).ok();
        assert_eq!(listing(&rootfs), expected);
        let names: Vec<_> = std::fs::read_dir(&destination).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with('.')), "{names:?}");
    });
}

#[test]
fn a_killed_put_leaves_no_tag_whose_parts_are_missing() {
    let world = World::new();
    context(&world);
    run(world.skycap(["build", "-o", "oci:layout", "context"])).ok();
    let server = registry(&world.dir("registry"));
    let address = server.address().to_string();
    let request = json!({"source": source(&address), "params": {"image": "layout"}});
    let put = || {
        let mut command = world.skycap(["registry-image", "out"]);
        command.arg(world.path(""));
        command
    };
    let check = json!({"source": source(&address)});
    kill_often(
        || (put(), Some(request.to_string())),
        || {
            let found = world.resource(&["registry-image", "check"], None, &check).ok().json();
            if let Some(version) = found.get(0) {
                let _ = std::fs::remove_dir_all(world.path("got"));
                let get = json!({"source": source(&address), "version": version});
                world.resource(&["registry-image", "in"], Some(&world.dir("got")), &get).ok();
            }
            with_stdin(put(), request.to_string().as_bytes()).ok();
        },
    );
}

/// K02, K12
#[test]
fn a_killed_build_does_not_spoil_the_cache() {
    let world = World::new();
    context(&world);
    let build = |store: &str, output: &str| {
        let mut command = world.skycap(["build", "--store", store, "-o", output, "context"]);
        command.env("SOURCE_DATE_EPOCH", "1600000000");
        command
    };
    let expected = run(build("other", "oci:expected")).ok().stdout;
    let fresh = || {
        let _ = std::fs::remove_dir_all(world.path("store"));
        (build("store", "docker-archive:killed.tar"), None)
    };
    kill_often(fresh, || {
        assert_eq!(run(build("store", "docker-archive:image.tar")).ok().stdout, expected);
    });
}

/// K20
#[test]
fn a_killed_watch_finishes_its_work_when_it_is_started_again() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address().to_string();
    world.file("context/Dockerfile", "FROM scratch\nCOPY file /file\n");
    world.file("context/file", "1");
    run(world.skycap(["build", "-t", &format!("{address}/up:1.0.0"), "--push", "context"])).ok();
    let pipeline = format!(
        "resources:\n\
         - name: up\n  type: registry-image\n  check_every: 1s\n  source: {{repository: {address}/up}}\n\
         - name: down\n  type: registry-image\n  source: {{repository: {address}/down, tag: latest}}\n\
         jobs:\n\
         - name: mirror\n  plan:\n  - get: up\n    trigger: true\n    params: {{format: oci}}\n\
         \x20 - put: down\n    params: {{image: up/image.tar}}\n"
    );
    world.file("p.yml", pipeline);
    let down = json!({"source": {"repository": format!("{address}/down"), "tag": "latest"}});
    let found = || world.resource(&["registry-image", "check"], None, &down).ok().json();
    for point in 1..8 {
        spawn((world.skycap(["watch", "p.yml"]), None), Some(Duration::from_millis(60 * point)));
    }
    let mut watch = world.skycap(["watch", "p.yml"]);
    let mut child = watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while found() == json!([]) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert_ne!(found(), json!([]), "the image was mirrored after all");
}
