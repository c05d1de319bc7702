//! What is done again, and what is not.

use std::fs;
use std::time::{Duration, SystemTime};

use skycap_build::SandboxAccess;
use skycap_image::Compression;

use crate::world::{World, around, list, outcomes};

pub const TESTS: &[crate::Test] = &[
    ("a_second_build_is_cached_and_the_same", a_second_build_is_cached_and_the_same),
    ("times_of_files_change_nothing", times_of_files_change_nothing),
    ("what_depends_on_a_file_is_done_again_and_nothing_else", what_depends_on_a_file_is_done_again_and_nothing_else),
    ("a_mode_and_a_name_count", a_mode_and_a_name_count),
    ("hard_links_of_the_context_stay_links_and_count", hard_links_of_the_context_stay_links_and_count),
    ("attributes_of_files_travel_and_count", attributes_of_files_travel_and_count),
    ("a_fresh_store_gives_the_same_layers", a_fresh_store_gives_the_same_layers),
    ("the_epoch_makes_whole_images_the_same", the_epoch_makes_whole_images_the_same),
    ("a_damaged_store_gives_the_same_image", a_damaged_store_gives_the_same_image),
    ("a_known_copy_spares_the_stage_it_copies_from", a_known_copy_spares_the_stage_it_copies_from),
    ("a_base_with_the_same_layers_is_the_same_base", a_base_with_the_same_layers_is_the_same_base),
    ("a_linked_copy_survives_a_new_base", a_linked_copy_survives_a_new_base),
    ("what_stands_upon_a_linked_copy_depends_on_the_base", what_stands_upon_a_linked_copy_depends_on_the_base),
    ("a_linked_copy_is_no_plain_one_whatever_is_below", a_linked_copy_is_no_plain_one_whatever_is_below),
    ("another_packing_does_not_do_steps_again", another_packing_does_not_do_steps_again),
    ("archives_are_unpacked_by_add_only", archives_are_unpacked_by_add_only),
    ("a_file_keeps_its_time_if_asked", a_file_keeps_its_time_if_asked),
    ("two_builds_at_once_agree", two_builds_at_once_agree),
    ("equal_steps_of_two_targets_are_done_once", equal_steps_of_two_targets_are_done_once),
    ("a_forgotten_step_waits_for_nothing_that_is_not_needed", a_forgotten_step_waits_for_nothing_that_is_not_needed),
    ("a_symbolic_link_in_the_context_leads_nowhere_else", a_symbolic_link_in_the_context_leads_nowhere_else),
    ("what_is_no_regular_file_is_never_read", what_is_no_regular_file_is_never_read),
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

/// Of a file that is named, of one in a directory and of the directory itself.
fn attributes_of_files_travel_and_count() {
    const TEST: &str = "attributes_of_files_travel_and_count";
    let world = world();
    world.file("directory/inside", "3");
    let build = || world.built("FROM base\nCOPY first /named\nCOPY directory /in/\nCOPY . /all/\n");
    build();
    for (number, name) in ["first", "directory/inside", "directory"].into_iter().enumerate() {
        let value = format!("value {number}");
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(world.context().join(name), "user.note", value.as_bytes(), flags).is_err() {
            skycap_testkit::skipped!("{TEST}: no such attributes in {}", world.path().display());
            return;
        }
        let built = build();
        assert!(outcomes(&built).contains(&"copy done".to_owned()), "{name} counts");
        let layers: String = built.image.layers().iter().map(list).collect();
        // The directory of COPY's source gives only what is in it.
        let times = if name == "directory" { 1 } else { 2 };
        assert_eq!(layers.matches(&format!("user.note={value}")).count(), times, "{name}: {layers}");
    }
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

/// Section 4, metadata: hard links are kept within one copy. Which names are one file is part of what is copied.
fn hard_links_of_the_context_stay_links_and_count() {
    let world = World::new();
    world.file("d/a", "x");
    let (first, second) = (world.context().join("d/a"), world.context().join("d/b"));
    fs::hard_link(&first, &second).unwrap();
    let dockerfile = "FROM scratch\nCOPY d /d/\nCOPY d/a d/b /e/\nCOPY d/a /f\n";
    let layers: Vec<String> = world.built(dockerfile).image.layers().iter().map(list).collect();
    let linked = |name: &str| {
        format!("  dir {name} 0755 0:0\n  file {name}/a 0644 0:0 \"x\"\n  hardlink {name}/b 0644 0:0 -> {name}/a\n")
    };
    assert_eq!(layers, [linked("d"), linked("e"), "  file f 0644 0:0 \"x\"\n".to_owned()]);
    fs::remove_file(&second).unwrap();
    fs::write(&second, "x").unwrap();
    fs::set_permissions(&second, fs::metadata(&first).unwrap().permissions()).unwrap();
    let apart = world.built(dockerfile);
    assert_eq!(outcomes(&apart), ["copy done", "copy done", "copy done"]);
    assert!(!list(&apart.image.layers()[0]).contains("hardlink"));
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

fn what_stands_upon_a_linked_copy_depends_on_the_base() {
    let mut world = world();
    world.image("base", "layer\n  dir real\n  symlink way real\n");
    world.image("other", "layer\n  dir way\n");
    let dockerfile = |base: &str| format!("FROM {base}\nCOPY --link first /l\nCOPY second /way/\n");
    let own = |built: &skycap_build::Built| list(built.image.layers().last().unwrap());
    assert!(own(&world.built(&dockerfile("base"))).contains("real/second"));
    let other = world.built(&dockerfile("other"));
    assert_eq!(outcomes(&other), ["copy cached", "copy done"]);
    assert!(own(&other).contains("way/second"));
}

fn a_linked_copy_is_no_plain_one_whatever_is_below() {
    let mut world = world();
    let passwd = "  dir etc\n  file etc/passwd 0644 0:0 \"u:x:5:5::/:/bin/sh\\n\"\n";
    world.image("base", &format!("layer\n{passwd}  dir real\n  symlink way real\n"));
    let own = |flags: &str| {
        let built = world.built(&format!("FROM base\nCOPY {flags} --chown=u second /way/\n"));
        list(built.image.layers().last().unwrap())
    };
    assert!(own("").contains("real/second 0644 5:5"));
    assert!(own("--link").contains("way/second 0644 5:5"));
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
    let expected = "  dir srv 0700 4:4 mtime=0\n  dir srv/d 0750 9:9 mtime=0\n  file srv/d/f 0640 9:9 mtime=99 \"f\"\n  \
                    hardlink srv/d/g 0640 9:9 mtime=99 -> srv/d/f\n  dir srv/link 0755 0:0\n  \
                    file srv/link/in 0600 9:9 mtime=0 \"in\"\n  symlink srv/s 0777 9:9 mtime=0 -> d/f\n  \
                    file srv/text 0644 9:9 \"no archive\"\n";
    assert_eq!(layers[1], expected);
    assert!(layers[2].contains("file x.tar"), "{}", layers[2]);
    assert!(layers[3].contains("  file srv/in 0600 0:0 mtime=0 \"in\"\n"), "{}", layers[3]);
    for (what, packed) in [("xz", XZ), ("bzip2", BZIP2)] {
        fs::write(world.context().join(what), packed).unwrap();
    }
    let built = world.built("FROM base\nADD xz /srv/\nADD bzip2 /srv/\nCOPY xz bzip2 /srv/\n");
    let layers: Vec<String> = built.image.layers().iter().map(list).collect();
    for unpacked in &layers[1..3] {
        assert_eq!(unpacked, "  dir srv 0700 4:4 mtime=0\n  file srv/f 0644 0:0 mtime=0 \"f\"\n");
    }
    assert!(layers[3].contains("file srv/xz") && layers[3].contains("file srv/bzip2"), "{}", layers[3]);
    for wide in [XZ_WIDE, &zstd_of_a_wide_window(&tar)] {
        fs::write(world.context().join("wide"), wide).unwrap();
        let error = world.error("FROM base\nADD wide /srv/\n");
        assert!(error.contains("Dockerfile:2: cannot tell whether wide is an archive"), "{error}");
        assert!(error.contains("hint: repack it with gzip, zstd or xz at their usual levels"), "{error}");
    }
    fs::write(world.context().join("bad.tar"), [&tar[..700], &[0xff; 700]].concat()).unwrap();
    let error = world.error("FROM base\nADD bad.tar /\n");
    assert!(error.contains("Dockerfile:2: the archive cannot be unpacked"), "{error}");
}

/// The bytes as a zstd frame that asks for 2 GiB of memory: a header, and one block that is not packed.
fn zstd_of_a_wide_window(bytes: &[u8]) -> Vec<u8> {
    let block = u32::try_from(bytes.len() << 3 | 1).unwrap().to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3], &block[..3], bytes].concat()
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
        let store = world.store();
        let built = skycap_build::build(&request, &around(&world.images, &store, sandbox, &skycap_image::Silent));
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

fn what_is_no_regular_file_is_never_read() {
    let (send, receive) = std::sync::mpsc::channel();
    // Who opens a pipe that nobody writes to waits for ever.
    std::thread::spawn(move || {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let world = World::new();
        let context = world.context();
        world.file("d/file", "x");
        mknodat(CWD, context.join("d/pipe"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(context.join("d/socket")).unwrap();
        let layers =
            |dockerfile: &str| -> Vec<String> { world.built(dockerfile).image.layers().iter().map(list).collect() };
        let copied = layers("FROM scratch\nCOPY d /\nADD d/pipe /a/\nCOPY d/p* /b\nCOPY --link d/pipe /c\n");
        assert!(copied[0].starts_with("  file file 0644 0:0 \"x\"\n  fifo pipe "), "{}", copied[0]);
        assert!(!copied[0].contains("socket"), "{}", copied[0]);
        assert!(copied[1].contains("fifo a/pipe "), "{}", copied[1]);
        assert!(copied[2].contains("fifo b "), "{}", copied[2]);
        assert!(copied[3].contains("fifo c "), "{}", copied[3]);
        let error = world.error("FROM scratch\nCOPY d/socket /\n");
        assert!(error.contains("Dockerfile:2: \"/d/socket\": not found"), "{error}");
        let device =
            mknodat(CWD, context.join("d/zero"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5));
        if device.is_ok() {
            let copied = layers("FROM scratch\nCOPY d/zero /\nADD d /\n");
            assert!(copied.iter().all(|layer| layer.contains("device zero ")), "{copied:?}");
        }
        let _ = send.send(());
    });
    receive.recv_timeout(Duration::from_secs(30)).expect("the builds end");
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
        let store = world.store();
        let built = skycap_build::build(&request, &around(&world.images, &store, sandbox, &progress));
        let _ = send.send(built.err().map(|error| error.to_string()));
    });
    let error = receive.recv_timeout(Duration::from_secs(20)).expect("the build ends");
    assert_eq!(error.as_deref(), Some("Dockerfile:2: this step was given up: a fault of the builder"));
}

/// A tar with the file `f`, as xz, as xz that asks for 512 MiB of memory, and as bzip2.
const XZ: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00, 0x00,
    0x00, 0x74, 0x2f, 0xe5, 0xa3, 0xe0, 0x07, 0xff, 0x00, 0x38, 0x5d, 0x00, 0x33, 0x00, 0x33, 0x50, 0x18, 0x68, 0x89,
    0x83, 0x01, 0xdc, 0xe2, 0x6e, 0x21, 0x05, 0x46, 0x57, 0x7c, 0xd8, 0x72, 0xef, 0x32, 0x84, 0xdc, 0x3b, 0xa9, 0xe6,
    0x3a, 0xea, 0xb2, 0x72, 0x81, 0x41, 0x32, 0x0f, 0xb2, 0x2e, 0x0e, 0x2e, 0x39, 0xe8, 0x00, 0x4f, 0xb8, 0xc3, 0x92,
    0xb3, 0x2d, 0x6e, 0xfc, 0x3c, 0x15, 0x63, 0xa4, 0x7d, 0xd1, 0x00, 0x00, 0xbb, 0xaa, 0x9a, 0x05, 0x84, 0x9f, 0x63,
    0xa7, 0x00, 0x01, 0x54, 0x80, 0x10, 0x00, 0x00, 0x00, 0x31, 0x79, 0xb5, 0xb5, 0xb1, 0xc4, 0x67, 0xfb, 0x02, 0x00,
    0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
];
const XZ_WIDE: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x22, 0x00, 0x00,
    0x00, 0x82, 0x40, 0xac, 0xdc, 0xe0, 0x07, 0xff, 0x00, 0x38, 0x5d, 0x00, 0x33, 0x00, 0x33, 0x50, 0x18, 0x68, 0x89,
    0x83, 0x01, 0xdc, 0xe2, 0x6e, 0x21, 0x05, 0x46, 0x57, 0x7c, 0xd8, 0x72, 0xef, 0x32, 0x84, 0xdc, 0x3b, 0xa9, 0xe6,
    0x3a, 0xea, 0xb2, 0x72, 0x81, 0x41, 0x32, 0x0f, 0xb2, 0x2e, 0x0e, 0x2e, 0x39, 0xe8, 0x00, 0x4f, 0xb8, 0xc3, 0x92,
    0xb3, 0x2d, 0x6e, 0xfc, 0x3c, 0x15, 0x63, 0xa4, 0x7d, 0xd1, 0x00, 0x00, 0xbb, 0xaa, 0x9a, 0x05, 0x84, 0x9f, 0x63,
    0xa7, 0x00, 0x01, 0x54, 0x80, 0x10, 0x00, 0x00, 0x00, 0x31, 0x79, 0xb5, 0xb5, 0xb1, 0xc4, 0x67, 0xfb, 0x02, 0x00,
    0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
];
const BZIP2: &[u8] = &[
    0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x34, 0x7d, 0x5f, 0x46, 0x00, 0x00, 0x2d, 0x5b, 0x80,
    0xe9, 0x80, 0x40, 0x00, 0x65, 0x00, 0x00, 0x00, 0xe1, 0x00, 0x1e, 0x00, 0x08, 0x08, 0x20, 0x00, 0x54, 0x57, 0xa8,
    0x01, 0x88, 0x34, 0xf5, 0x04, 0x93, 0x52, 0x69, 0x93, 0x04, 0x0d, 0xfe, 0xaa, 0x34, 0x39, 0x21, 0x16, 0xee, 0x28,
    0x5e, 0xd5, 0xe4, 0x44, 0x04, 0x5d, 0x89, 0xc0, 0x8c, 0xb4, 0x4e, 0x58, 0xcb, 0xe9, 0xba, 0x87, 0xd9, 0x72, 0x4d,
    0xc0, 0xf8, 0xbb, 0x92, 0x29, 0xc2, 0x84, 0x81, 0xa3, 0xea, 0xfa, 0x30,
];
