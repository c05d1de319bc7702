//! Images that do not tell when they were built.

use std::time::{Duration, SystemTime};

use skycap_build::{Built, Request};

use crate::world::{World, list, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("with_an_epoch_two_builds_give_the_same_digest", with_an_epoch_two_builds_give_the_same_digest),
    ("the_epoch_leaves_times_that_came_with_inputs", the_epoch_leaves_times_that_came_with_inputs),
    ("another_epoch_runs_nothing_again", another_epoch_runs_nothing_again),
];

/// A program writes, changes what an earlier one wrote, unpacks something old; others copy that.
const DOCKERFILE: &str = "\
FROM shell AS maker
RUN mkdir /out && echo new > /out/new && echo old > /out/old && touch -d @1000000000 /out/old
FROM shell
RUN echo a > /a && mkdir /d
RUN chmod 600 /a && echo b > /d/b
COPY --from=maker /out/ /out/
WORKDIR /work
";

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

fn build(world: &World, epoch: i64) -> Built {
    let mut request = Request::new(world.context(), DOCKERFILE);
    request.source_date_epoch = Some(epoch);
    world.build(&request).unwrap().remove(0)
}

fn world(test: &str) -> Option<World> {
    let mut world = World::new();
    with_shell(&mut world, test).map(|_| world)
}

fn with_an_epoch_two_builds_give_the_same_digest() {
    let test = "with_an_epoch_two_builds_give_the_same_digest";
    // A commit is older than what its first build writes, and newer than what is in the cache since another commit.
    for epoch in [1_100_000_000, now() + 1000] {
        let (Some(first), Some(second)) = (world(test), world(test)) else { return };
        let one = build(&first, epoch);
        std::thread::sleep(Duration::from_millis(1100));
        let two = build(&second, epoch);
        assert_eq!(one.image.descriptor(), two.image.descriptor());
        let cached = build(&first, epoch);
        assert_eq!(cached.image.descriptor(), one.image.descriptor());
    }
}

fn the_epoch_leaves_times_that_came_with_inputs() {
    let Some(world) = world("the_epoch_leaves_times_that_came_with_inputs") else { return };
    let epoch = 1_100_000_000;
    let built = build(&world, epoch);
    let layers = built.image.layers();
    let base = list(&layers[0]);
    let new: String = layers[1..].iter().map(list).collect();
    assert!(new.contains("out/old 0644 0:0 mtime=1000000000"), "{new}");
    for file in ["out/new", "d/b", "file a"] {
        let line = new.lines().find(|line| line.contains(file)).unwrap();
        assert!(line.contains(&format!("mtime={epoch}")), "{line}");
    }
    assert_eq!(base, list(&world.images.known["library/shell"].for_platform(&built.platform).unwrap().layers()[0]));
}

fn another_epoch_runs_nothing_again() {
    let Some(world) = world("another_epoch_runs_nothing_again") else { return };
    let first = build(&world, now() - 1000);
    let second = build(&world, now() - 500);
    assert_eq!(outcomes(&second), ["run skipped", "run cached", "run cached", "copy cached", "workdir cached"]);
    assert_ne!(first.image.descriptor(), second.image.descriptor());
}
