//! The cache across machines, and what becomes of those that are missing or damaged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use skycap_build::cache::{CacheDirectory, CacheMode, CacheSource, CacheTarget};
use skycap_build::{Built, Request};
use skycap_image::{ImageSink as _, Name};

use crate::world::{World, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("a_cache_in_a_directory_serves_another_machine", a_cache_in_a_directory_serves_another_machine),
    ("the_smallest_cache_holds_the_images_own_layers", the_smallest_cache_holds_the_images_own_layers),
    ("an_image_can_be_its_own_cache", an_image_can_be_its_own_cache),
    ("what_is_not_needed_is_not_fetched", what_is_not_needed_is_not_fetched),
    ("a_cache_that_is_not_there_or_damaged_is_told", a_cache_that_is_not_there_or_damaged_is_told),
    ("a_cache_that_cannot_be_written", a_cache_that_cannot_be_written),
    ("what_came_out_as_before_is_not_done_again", what_came_out_as_before_is_not_done_again),
    ("builds_at_the_same_time_share_caches", builds_at_the_same_time_share_caches),
    ("debug_lines_say_why_a_step_runs", debug_lines_say_why_a_step_runs),
];

const DOCKERFILE: &str = "\
FROM shell AS maker
COPY source /source
RUN mkdir /out && cat /source > /out/a && echo made >> /out/a
FROM shell
RUN echo base > /base
COPY --from=maker /out/ /out/
WORKDIR /work
";

fn world(test: &str) -> Option<World> {
    let mut world = World::new();
    with_shell(&mut world, test)?;
    world.file("source", "source\n");
    Some(world)
}

fn latest() -> Name {
    Name::Tag("latest".to_owned())
}

fn from(path: &Path) -> CacheSource {
    CacheSource::directory(path, latest())
}

fn to(path: &Path, mode: CacheMode) -> CacheTarget {
    CacheTarget::directory(path, latest(), mode, false)
}

fn request(world: &World, from: &[CacheSource], to: &[CacheTarget]) -> Request {
    let mut request = world.request(DOCKERFILE);
    request.cache_from = from.to_vec();
    request.cache_to = to.to_vec();
    request
}

fn all_are(built: &Built, outcome: &str) -> bool {
    outcomes(built).iter().all(|step| step.ends_with(outcome) || step.ends_with("skipped"))
}

fn lines(world: &World, text: &str) -> usize {
    world.log.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
}

fn a_cache_in_a_directory_serves_another_machine() {
    let test = "a_cache_in_a_directory_serves_another_machine";
    let (Some(one), Some(two)) = (world(test), world(test)) else { return };
    let shared = tempfile::tempdir().unwrap();
    let cache = shared.path().join("cache");
    let first = one.built_as(&request(&one, &[from(&cache)], &[to(&cache, CacheMode::Max)]));
    assert_eq!(lines(&one, "there is no cache"), 1);
    assert!(all_are(&first, "done"), "{:?}", outcomes(&first));
    let second = two.built_as(&request(&two, &[from(&cache)], &[to(&cache, CacheMode::Max)]));
    assert!(all_are(&second, "cached"), "{:?}", outcomes(&second));
    assert_eq!(second.image.descriptor(), first.image.descriptor());
    // What this build did not need is still there for one that does.
    let Some(three) = world(test) else { return };
    let mut wider = request(&three, &[from(&cache)], &[]);
    wider.dockerfile = DOCKERFILE.replace("COPY --from=maker /out/ /out/", "COPY --from=maker /out/a /b").into_bytes();
    assert_eq!(
        outcomes(&three.built_as(&wider)),
        ["copy cached", "run cached", "run cached", "copy done", "workdir done"]
    );
    // From then on the store knows by itself.
    assert!(all_are(&two.built_as(&request(&two, &[], &[])), "cached"));
    let names = fs::read_dir(cache.join("blobs/sha256")).unwrap().count();
    two.built_as(&request(&two, &[from(&cache)], &[to(&cache, CacheMode::Max)]));
    assert_eq!(fs::read_dir(cache.join("blobs/sha256")).unwrap().count(), names, "the same cache is the same bytes");
}

fn the_smallest_cache_holds_the_images_own_layers() {
    let test = "the_smallest_cache_holds_the_images_own_layers";
    let (Some(one), Some(two), Some(three)) = (world(test), world(test), world(test)) else { return };
    let shared = tempfile::tempdir().unwrap();
    one.built_as(&request(&one, &[], &[to(shared.path(), CacheMode::Min)]));
    let built = two.built_as(&request(&two, &[from(shared.path())], &[]));
    assert_eq!(outcomes(&built), ["copy skipped", "run skipped", "run cached", "copy cached", "workdir cached"]);
    three.file("source", "another\n");
    let built = three.built_as(&request(&three, &[from(shared.path())], &[]));
    assert_eq!(outcomes(&built), ["copy done", "run done", "run cached", "copy done", "workdir done"]);
}

fn an_image_can_be_its_own_cache() {
    let test = "an_image_can_be_its_own_cache";
    let (Some(one), Some(two)) = (world(test), world(test)) else { return };
    let shared = tempfile::tempdir().unwrap();
    let mut inline = request(&one, &[], &[CacheTarget::Inline]);
    inline.source_date_epoch = Some(1_500_000_000);
    inline.docker_media_types = true;
    let first = one.built_as(&inline);
    CacheDirectory::new(shared.path()).put(&skycap_image::Artifact::Image(first.image.clone()), &[latest()]).unwrap();
    let mut again = request(&two, &[from(shared.path())], &[CacheTarget::Inline]);
    again.source_date_epoch = Some(1_500_000_000);
    again.docker_media_types = true;
    let second = two.built_as(&again);
    assert_eq!(outcomes(&second), ["copy skipped", "run skipped", "run cached", "copy cached", "workdir cached"]);
    assert_eq!(second.image.descriptor(), first.image.descriptor(), "with an epoch nothing in it tells the time");
    // An image on top of it does not pass its steps on.
    let mut world = two;
    world.images.known.insert("library/mine".to_owned(), skycap_image::Artifact::Image(first.image.clone()));
    let top = world.built("FROM mine\nENV A=1\n");
    assert!(first.image.config().extra.keys().any(|key| key.starts_with("dev.skycap.build-cache")));
    assert!(top.image.config().extra.is_empty());
}

/// The layers of a cache: the first RUN of the last stage, those of the other stage, and the rest of the last.
fn layers(cache: &Path) -> Vec<PathBuf> {
    let image = match skycap_image::ImageSource::get(&CacheDirectory::new(cache), &latest()).unwrap() {
        skycap_image::Artifact::Image(image) => image,
        skycap_image::Artifact::Index(_) => panic!("an index"),
    };
    image.layers().iter().map(|layer| cache.join("blobs/sha256").join(layer.descriptor.digest.hex())).collect()
}

fn what_is_not_needed_is_not_fetched() {
    let test = "what_is_not_needed_is_not_fetched";
    let (Some(one), Some(two)) = (world(test), world(test)) else { return };
    let shared = tempfile::tempdir().unwrap();
    one.built_as(&request(&one, &[], &[to(shared.path(), CacheMode::Max)]));
    // The two layers of the stage that the image is copied from.
    for path in &layers(shared.path())[1..3] {
        fs::remove_file(path).unwrap();
    }
    let built = two.built_as(&request(&two, &[from(shared.path())], &[]));
    assert_eq!(outcomes(&built), ["copy skipped", "run skipped", "run cached", "copy cached", "workdir cached"]);
    assert_eq!(lines(&two, "is not used"), 0);
}

fn a_cache_that_is_not_there_or_damaged_is_told() {
    let test = "a_cache_that_is_not_there_or_damaged_is_told";
    let Some(one) = world(test) else { return };
    let shared = tempfile::tempdir().unwrap();
    let first = one.built_as(&request(&one, &[], &[to(shared.path(), CacheMode::Max)]));
    let damaged = layers(shared.path());
    // A layer whose bytes are wrong: its step is done again, the others are not.
    let run = &damaged[0];
    let mut bytes = fs::read(run).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(run, bytes).unwrap();
    let Some(two) = world(test) else { return };
    let built = two.built_as(&request(&two, &[from(shared.path())], &[]));
    assert_eq!(outcomes(&built), ["copy skipped", "run skipped", "run done", "copy cached", "workdir cached"]);
    assert_eq!(lines(&two, "of cache"), 1, "{:?}", two.log.lines.lock().unwrap());
    // No index at all, or rubbish.
    for content in [&b""[..], b"{", b"{\"schemaVersion\":2,\"manifests\":[]}"] {
        let Some(three) = world(test) else { return };
        fs::write(shared.path().join("index.json"), content).unwrap();
        let built = three.built_as(&request(&three, &[from(shared.path())], &[]));
        assert!(all_are(&built, "done"));
        assert_eq!(built.image.layers().len(), first.image.layers().len());
        assert_eq!(lines(&three, "cache"), 1, "{:?}", three.log.lines.lock().unwrap());
    }
}

fn a_cache_that_cannot_be_written() {
    let Some(world) = world("a_cache_that_cannot_be_written") else { return };
    let file = world.path().join("file");
    fs::write(&file, "").unwrap();
    let target = |ignore_error| CacheTarget::directory(file.join("cache"), latest(), CacheMode::Min, ignore_error);
    let error = match world.build(&request(&world, &[], &[target(false)])) {
        Ok(_) => panic!("it was written"),
        Err(error) => crate::world::chain(&error),
    };
    assert!(error.contains("cannot be written"), "{error}");
    world.built_as(&request(&world, &[], &[target(true)]));
    assert_eq!(lines(&world, "was not written"), 1);
}

/// The second key: COPY by what it copies, RUN by the layers below it and those that it mounts.
fn what_came_out_as_before_is_not_done_again() {
    let Some(world) = world("what_came_out_as_before_is_not_done_again") else { return };
    let build = |note: &str, out: &str, flags: &str| {
        outcomes(&world.built(&format!(
            "FROM shell AS maker\nRUN echo {note} && mkdir /out && echo {out} > /out/a && ln /out/a /out/b\n\
             FROM shell\nCOPY {flags} --from=maker /out/ /out/\nRUN cat /out/a\nWORKDIR /w\n"
        )))
    };
    assert_eq!(build("1", "same", ""), ["run done", "copy done", "run done", "workdir done"]);
    assert_eq!(build("2", "same", ""), ["run done", "copy cached", "run cached", "workdir cached"]);
    assert_eq!(build("3", "other", ""), ["run done", "copy done", "run done", "workdir done"]);
    // Asked from the end, nothing of it is needed from then on.
    assert_eq!(build("2", "same", ""), ["run skipped", "copy cached", "run cached", "workdir cached"]);
    assert_eq!(build("4", "same", "--chmod=600"), ["run done", "copy done", "run done", "workdir done"]);
    // A program below which other bytes lie runs, and so does one whose mount holds others.
    let mounted = |note: &str, out: &str| {
        outcomes(&world.built(&format!(
            "FROM shell AS maker\nRUN echo {note} && mkdir /out\nCOPY --chmod=644 {out} /out/a\nFROM shell\nRUN --mount=from=maker,target=/m cat /m/out/a\n"
        )))
    };
    world.file("a", "a");
    world.file("b", "b");
    assert_eq!(mounted("1", "a"), ["run done", "copy done", "run done"]);
    assert_eq!(mounted("1", "b"), ["run cached", "copy done", "run done"]);
}

/// Several builds with one store and one directory that all of them write.
fn builds_at_the_same_time_share_caches() {
    let Some(world) = world("builds_at_the_same_time_share_caches") else { return };
    let cache = world.path().join("exchange");
    let mut request = request(&world, &[from(&cache)], &[to(&cache, CacheMode::Max)]);
    request.source_date_epoch = Some(1_500_000_000);
    request.dockerfile =
        format!("{DOCKERFILE}RUN --mount=type=cache,target=/c,sharing=locked echo x >> /c/visits\n").into_bytes();
    let digests: BTreeSet<String> = std::thread::scope(|scope| {
        let build = || world.build(&request).map(|built| built[0].image.descriptor().digest.to_string());
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        builds.into_iter().map(|build| build.join().unwrap().unwrap()).collect()
    });
    assert_eq!(digests.len(), 1, "{digests:?}");
    let after = world.built_as(&request);
    assert!(all_are(&after, "cached"), "{:?}", outcomes(&after));
    assert!(digests.contains(&after.image.descriptor().digest.to_string()));
}

fn debug_lines_say_why_a_step_runs() {
    let Some(world) = world("debug_lines_say_why_a_step_runs") else { return };
    let said = |request: &Request| {
        world.built_as(request);
        world.log.debug.lock().unwrap().iter().filter(|line| line.starts_with("cache: ")).cloned().collect::<Vec<_>>()
    };
    let has = |lines: &[String], words: &[&str]| {
        assert!(lines.iter().any(|line| words.iter().all(|word| line.contains(word))), "{words:?}: {lines:#?}");
    };
    let mut request = request(&world, &[], &[]);
    has(&said(&request), &["RUN mkdir /out", "miss: no earlier build had this instruction"]);
    has(&said(&request), &["COPY --from=maker", ": hit"]);
    world.file("source", "changed\n");
    let lines = said(&request);
    has(&lines, &["COPY source", "miss: changed: the sources"]);
    has(&lines, &["RUN mkdir /out", "miss: changed: what is below"]);
    has(&lines, &["RUN echo base", ": hit"]);
    request.dockerfile = DOCKERFILE.replace("RUN echo base", "ENV A=1\nRUN echo base").into_bytes();
    has(&said(&request), &["RUN echo base", "miss: changed: the environment"]);
    fs::remove_dir_all(world.store_directory().join("blobs")).unwrap();
    has(&said(&request), &["RUN echo base", "miss: its result is no longer there"]);
    request.no_cache = true;
    has(&said(&request), &["RUN echo base", "not looked for"]);
}
