//! What is done again, and what is not.

use std::fs;
use std::time::{Duration, SystemTime};

use skycap_build::SandboxAccess;
use skycap_image::Compression;

use crate::world::{World, list, outcomes};

pub const TESTS: &[crate::Test] = &[
    ("a_second_build_is_cached_and_the_same", a_second_build_is_cached_and_the_same),
    ("times_of_files_change_nothing", times_of_files_change_nothing),
    ("what_depends_on_a_file_is_done_again_and_nothing_else", what_depends_on_a_file_is_done_again_and_nothing_else),
    ("a_mode_and_a_name_count", a_mode_and_a_name_count),
    ("a_fresh_store_gives_the_same_layers", a_fresh_store_gives_the_same_layers),
    ("the_epoch_makes_whole_images_the_same", the_epoch_makes_whole_images_the_same),
    ("a_damaged_store_gives_the_same_image", a_damaged_store_gives_the_same_image),
    ("a_known_copy_spares_the_stage_it_copies_from", a_known_copy_spares_the_stage_it_copies_from),
    ("a_base_with_the_same_layers_is_the_same_base", a_base_with_the_same_layers_is_the_same_base),
    ("a_linked_copy_survives_a_new_base", a_linked_copy_survives_a_new_base),
    ("another_packing_does_not_do_steps_again", another_packing_does_not_do_steps_again),
    ("archives_are_unpacked_by_add_only", archives_are_unpacked_by_add_only),
    ("a_file_keeps_its_time_if_asked", a_file_keeps_its_time_if_asked),
    ("two_builds_at_once_agree", two_builds_at_once_agree),
    ("equal_steps_of_two_targets_are_done_once", equal_steps_of_two_targets_are_done_once),
    ("a_forgotten_step_waits_for_nothing_that_is_not_needed", a_forgotten_step_waits_for_nothing_that_is_not_needed),
    ("a_symbolic_link_in_the_context_leads_nowhere_else", a_symbolic_link_in_the_context_leads_nowhere_else),
    ("no_cache_does_everything_again", no_cache_does_everything_again),
    ("a_step_that_dies_ends_the_build", a_step_that_dies_ends_the_build),
];

const DOCKERFILE: &str = "FROM base\nWORKDIR /app\nCOPY first ./\nCOPY second ./\nCMD [\"x\"]\n";

fn world() -> World {
    let mut world = World::new();
    world.image("base", "layer\n  dir srv\n  file srv/a 0644 0:0 \"a\"\n");
    world.file("first", "1");
    world.file("second", "2");
    world
}

fn a_second_build_is_cached_and_the_same() {
    let world = world();
    let first = world.built(DOCKERFILE);
    assert_eq!(outcomes(&first), ["workdir done", "copy done", "copy done"]);
    let second = world.built(DOCKERFILE);
    assert_eq!(outcomes(&second), ["workdir cached", "copy cached", "copy cached"]);
    assert_eq!(second.image.descriptor(), first.image.descriptor());
    let lines = world.log.lines.lock().unwrap().clone();
    let steps: Vec<&String> = lines.iter().filter(|line| line.starts_with('[')).collect();
    assert_eq!(steps, ["[2/4] WORKDIR /app: cached", "[3/4] COPY first ./: cached", "[4/4] COPY second ./: cached"]);
}

fn times_of_files_change_nothing() {
    let world = world();
    let first = world.built(DOCKERFILE);
    let later = SystemTime::now() + Duration::from_secs(100_000);
    fs::File::open(world.context().join("first")).unwrap().set_modified(later).unwrap();
    let second = world.built(DOCKERFILE);
    assert_eq!(second.image.descriptor(), first.image.descriptor());
    let mut request = world.request(DOCKERFILE);
    request.no_cache = true;
    let third = world.built_as(&request);
    assert_eq!(outcomes(&third), ["workdir done", "copy done", "copy done"]);
    assert_eq!(third.image.manifest().layers, first.image.manifest().layers);
}

fn what_depends_on_a_file_is_done_again_and_nothing_else() {
    let world = world();
    world.built(DOCKERFILE);
    world.file("second", "changed");
    assert_eq!(outcomes(&world.built(DOCKERFILE)), ["workdir cached", "copy cached", "copy done"]);
    world.file("first", "changed");
    assert_eq!(outcomes(&world.built(DOCKERFILE)), ["workdir cached", "copy done", "copy done"]);
    world.file("third", "nobody copies it");
    assert_eq!(outcomes(&world.built(DOCKERFILE)), ["workdir cached", "copy cached", "copy cached"]);
}

fn a_mode_and_a_name_count() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.file("d/a", "x");
    let dockerfile = "FROM scratch\nCOPY d /d\n";
    world.built(dockerfile);
    let path = world.context().join("d/a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcomes(&world.built(dockerfile)), ["copy done"]);
    fs::rename(&path, world.context().join("d/b")).unwrap();
    assert_eq!(outcomes(&world.built(dockerfile)), ["copy done"]);
}

fn a_fresh_store_gives_the_same_layers() {
    let (one, two) = (world(), world());
    let mut request = two.request(DOCKERFILE);
    request.threads = 7;
    let (one, two) = (one.built(DOCKERFILE), two.built_as(&request));
    assert_eq!(one.image.manifest().layers, two.image.manifest().layers);
}

fn the_epoch_makes_whole_images_the_same() {
    let digest = |world: &World| {
        let mut request = world.request(DOCKERFILE);
        request.source_date_epoch = Some(1_700_000_000);
        world.built_as(&request).image
    };
    let (one, two) = (world(), world());
    one.built(DOCKERFILE);
    std::thread::sleep(Duration::from_millis(1100));
    let image = digest(&one);
    assert_eq!(image.descriptor(), digest(&two).descriptor());
    assert_eq!(image.config().created.as_deref(), Some("2023-11-14T22:13:20Z"));
}

fn a_damaged_store_gives_the_same_image() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x10;
            }
        },
        |bytes| bytes.truncate(bytes.len() / 2),
        Vec::clear,
    ];
    for (damage, part) in damages.iter().flat_map(|damage| ["", "blobs", "records-1"].map(|part| (*damage, part))) {
        let world = world();
        let mut request = world.request(DOCKERFILE);
        request.source_date_epoch = Some(0);
        let first = world.built_as(&request);
        damage_files(&world.store_directory().join(part), damage);
        let second = world.built_as(&request);
        assert_eq!(second.image.descriptor(), first.image.descriptor());
        for layer in second.image.layers() {
            list(&layer);
        }
    }
    let world = world();
    let mut request = world.request(DOCKERFILE);
    request.source_date_epoch = Some(0);
    let first = world.built_as(&request);
    fs::remove_dir_all(world.store_directory()).unwrap();
    assert_eq!(world.built_as(&request).image.descriptor(), first.image.descriptor());
}

fn damage_files(directory: &std::path::Path, damage: fn(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage_files(&path, damage);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
}

fn a_known_copy_spares_the_stage_it_copies_from() {
    let world = world();
    let dockerfile = "FROM base AS builder\nCOPY first /x\nFROM scratch\nCOPY --from=builder /x /x\n";
    assert_eq!(outcomes(&world.built(dockerfile)), ["copy done", "copy done"]);
    assert_eq!(outcomes(&world.built(dockerfile)), ["copy skipped", "copy cached"]);
}

fn a_base_with_the_same_layers_is_the_same_base() {
    let mut world = world();
    world.built(DOCKERFILE);
    world.image("base", "label new=1\nlayer\n  dir srv\n  file srv/a 0644 0:0 \"a\"\n");
    let built = world.built(DOCKERFILE);
    assert_eq!(outcomes(&built), ["workdir cached", "copy cached", "copy cached"]);
    assert_eq!(built.image.config().config.labels["new"], "1");
    world.image("base", "layer\n  dir srv\n  file srv/a 0644 0:0 \"b\"\n");
    assert_eq!(outcomes(&world.built(DOCKERFILE)), ["workdir done", "copy done", "copy done"]);
}

fn a_linked_copy_survives_a_new_base() {
    let mut world = world();
    let dockerfile = "FROM base\nCOPY --link --chown=5:5 first /srv/\n";
    let first = world.built(dockerfile);
    world.image("base", "layer\n  file other 0644 0:0 \"b\"\n");
    let second = world.built(dockerfile);
    assert_eq!(outcomes(&second), ["copy cached"]);
    assert_eq!(first.image.manifest().layers[1], second.image.manifest().layers[1]);
}

fn another_packing_does_not_do_steps_again() {
    let world = world();
    let first = world.built(DOCKERFILE);
    for compression in [Compression::Zstd, Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut request = world.request(DOCKERFILE);
        request.compression = compression;
        let built = world.built_as(&request);
        assert_eq!(outcomes(&built), ["workdir cached", "copy cached", "copy cached"]);
        assert_eq!(built.image.config().rootfs, first.image.config().rootfs);
        let layers = built.image.layers();
        assert_eq!(layers[1].descriptor.media_type.compression(), compression);
        assert_eq!(list(&layers[2]), list(&first.image.layers()[2]));
    }
}

fn archives_are_unpacked_by_add_only() {
    let mut world = World::new();
    world.image("base", "layer\n  dir srv 0700 4:4\n  symlink link srv\n");
    let tar = skycap_testkit::listing::tar(
        "dir d 0750 3:3\nfile d/f 0640 3:4 mtime=99 \"f\"\nhardlink d/g d/f\nsymlink s d/f\nfile link/in 0600 0:0 \"in\"\n",
    );
    fs::write(world.context().join("a.tar"), &tar).unwrap();
    fs::write(world.context().join("packed"), zipped(&tar)).unwrap();
    world.file("text", "no archive");
    let built =
        world.built("FROM base\nADD --chown=9:9 packed text /srv/\nADD --unpack=false a.tar /x.tar\nADD a.tar /\n");
    let layers: Vec<String> = built.image.layers().iter().map(list).collect();
    let expected = "  dir srv 0700 4:4 mtime=0\n  dir srv/d 0750 3:3 mtime=0\n  file srv/d/f 0640 3:4 mtime=99 \"f\"\n  \
                    hardlink srv/d/g 0640 3:4 mtime=99 -> srv/d/f\n  dir srv/link 0755 0:0\n  \
                    file srv/link/in 0600 0:0 mtime=0 \"in\"\n  symlink srv/s 0777 0:0 mtime=0 -> d/f\n  \
                    file srv/text 0644 9:9 \"no archive\"\n";
    assert_eq!(layers[1], expected);
    assert!(layers[2].contains("file x.tar"), "{}", layers[2]);
    assert!(layers[3].contains("  file srv/in 0600 0:0 mtime=0 \"in\"\n"), "{}", layers[3]);
    fs::write(world.context().join("bad.tar"), [&tar[..700], &[0xff; 700]].concat()).unwrap();
    let error = world.error("FROM base\nADD bad.tar /\n");
    assert!(error.contains("Dockerfile:2: the archive cannot be unpacked"), "{error}");
}

/// The bytes as gzip, made by packing them as a layer.
fn zipped(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = skycap_image::compress::LayerEncoder::new(Vec::new(), Compression::Gzip, false, 1).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().1
}

fn a_file_keeps_its_time_if_asked() {
    let world = World::new();
    world.file("a", "a");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(world.context().join("a")).unwrap().set_modified(time).unwrap();
    let mut request = world.request("FROM scratch\nCOPY a /\n");
    assert_eq!(list(&world.built_as(&request).image.layers()[0]), "  file a 0644 0:0 \"a\"\n");
    request.keep_file_times = true;
    assert_eq!(list(&world.built_as(&request).image.layers()[0]), "  file a 0644 0:0 mtime=1000000000 \"a\"\n");
}

fn two_builds_at_once_agree() {
    let world = world();
    let request = world.request(DOCKERFILE);
    let build = || {
        let sandbox = SandboxAccess::Refused(&skycap_sandbox::Refused { attempts: Vec::new() });
        let built = skycap_build::build(&request, &world.images, &world.store(), sandbox, &skycap_image::Silent);
        built.map_err(|error| error.to_string()).unwrap().remove(0).image
    };
    let images: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for image in &images {
        assert_eq!(image.manifest().layers, images[0].manifest().layers);
        assert_eq!(image.layers().iter().map(list).count(), 4);
    }
}

fn equal_steps_of_two_targets_are_done_once() {
    let world = world();
    let mut request =
        world.request("FROM base AS a\nCOPY first /\nFROM a AS b\nCOPY second /\nFROM base AS c\nCOPY first /\n");
    request.targets = ["a", "b", "c"].map(|name| Some(name.to_owned())).to_vec();
    let built = world.build(&request).map_err(|error| error.to_string()).unwrap();
    let lines = world.log.lines.lock().unwrap().clone();
    let steps: Vec<&String> = lines.iter().filter(|line| line.starts_with('[')).collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(built[0].image.descriptor(), built[2].image.descriptor());
    assert_eq!(built[1].image.layers().len(), 3);
}

fn no_cache_does_everything_again() {
    let world = world();
    world.built(DOCKERFILE);
    let mut request = world.request(DOCKERFILE);
    request.no_cache = true;
    assert_eq!(outcomes(&world.built_as(&request)), ["workdir done", "copy done", "copy done"]);
}

fn a_forgotten_step_waits_for_nothing_that_is_not_needed() {
    let world = world();
    // Both links are one step, and the first that the plan meets is that of a stage which nobody needs.
    let dockerfile = "FROM base AS one\nCOPY first /x\nCOPY --link second /l\nFROM base\n\
                      COPY --link --from=one /x /y\nCOPY --link second /l\n";
    let first = world.built(dockerfile);
    let forgotten = first.image.layers()[2].diff_id.hex();
    forget(&world.store_directory().join("records-1"), forgotten.as_bytes());
    let second = world.built(dockerfile);
    assert_eq!(outcomes(&second), ["copy skipped", "copy done", "copy cached", "copy done"]);
    assert_eq!(second.image.manifest().layers, first.image.manifest().layers);
}

/// Removes the records that hold a text.
fn forget(directory: &std::path::Path, text: &[u8]) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            forget(&path, text);
        } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text) {
            fs::remove_file(&path).unwrap();
        }
    }
}

fn a_symbolic_link_in_the_context_leads_nowhere_else() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    let outside = world.path().join("outside");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, world.context().join("absolute")).unwrap();
    symlink("../outside", world.context().join("climbing")).unwrap();
    symlink("..", world.context().join("up")).unwrap();
    for source in ["absolute", "climbing", "up/outside", "../outside", "up/../../outside"] {
        let error = world.error(&format!("FROM scratch\nCOPY {source} /x\n"));
        assert!(error.contains("not found"), "{source}: {error}");
    }
    // The link itself may be copied: it means something in the image.
    let built = world.built("FROM scratch\nCOPY . /\n");
    assert!(!list(&built.image.layers()[0]).contains("secret"));
}

/// Dies when a step of that text begins.
struct Deadly(&'static str);

impl skycap_image::Progress for Deadly {
    fn event(&self, event: skycap_image::Event<'_>) {
        let skycap_image::Event::Started { label, .. } = event else { return };
        assert!(!label.contains(self.0), "this step dies on purpose");
    }
}

fn a_step_that_dies_ends_the_build() {
    let (send, receive) = std::sync::mpsc::channel();
    // Nobody waits for a thread that never ends.
    std::thread::spawn(move || {
        let world = world();
        let mut request = world.request("FROM base AS one\nCOPY first /\nFROM base\nCOPY --from=one /first /\n");
        request.threads = 4;
        let sandbox = SandboxAccess::Refused(&skycap_sandbox::Refused { attempts: Vec::new() });
        let progress = Deadly("COPY first");
        let built = skycap_build::build(&request, &world.images, &world.store(), sandbox, &progress);
        let _ = send.send(built.err().map(|error| error.to_string()));
    });
    let error = receive.recv_timeout(Duration::from_secs(20)).expect("the build ends");
    assert_eq!(error.as_deref(), Some("Dockerfile:2: this step was given up: a fault of the builder"));
}
