//! An image of three layers with sixty files, in a registry, and what a get of it gives.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use skycap_image::Platform;
use skycap_image::layout::Layout;
use skycap_registry::server::Server;
use skycap_testkit::listing::{Style, put};

use crate::world::{World, listing, registry, with_stdin};

/// The image, large enough that its layers come in several pieces.
pub fn image() -> String {
    let mut text = "layer\n dir a 0755\n dir a/b 0750\n".to_owned();
    for number in 0..30 {
        let _ = writeln!(text, " file a/b/{number} 0644 0:0 \"{number}\"");
    }
    text += " file a/big 0600 0:0 size=300000\n symlink a/link b/1\n";
    text += "layer zstd\n dir c 0755\n";
    for number in 0..20 {
        let _ = writeln!(text, " file c/{number} 0755 0:0 size=2000");
    }
    text += "layer none\n dir a 0755\n whiteout a/b/7\n";
    for number in 0..10 {
        let _ = writeln!(text, " file a/{number} 0644 0:0 size=100");
    }
    text + " hardlink a/again a/3\n"
}

/// A registry that has the image, and a layout and an archive of it.
pub struct Fixture {
    pub world: World,
    pub server: Server,
    pub version: Value,
}

impl Fixture {
    pub fn new() -> Self {
        let world = World::new();
        let server = registry(&world.dir("registry"));
        let layout = Layout::create(world.path("layout")).unwrap();
        put(&layout, &image(), Style::default(), &["1"]);
        let request = json!({"source": source(server.address()), "params": {"image": "layout"}});
        let put = world.resource(&["registry-image", "out"], Some(&world.path("")), &request).ok().json();
        Self { version: put["version"].clone(), world, server }
    }

    /// The digests of its layers.
    pub fn layers(&self) -> Vec<String> {
        let layout = Layout::open(self.world.path("layout")).unwrap();
        let artifact = layout.only().unwrap();
        let image = artifact.for_platform(&Platform::host()).unwrap();
        image.layers().iter().map(|layer| layer.descriptor.digest.to_string()).collect()
    }

    /// What a get is told.
    pub fn get_request(&self, format: &str) -> String {
        let source = source(self.server.address());
        json!({"source": source, "version": self.version, "params": {"format": format}}).to_string()
    }

    /// What a good get gives.
    pub fn good(&self, format: &str) -> State {
        let destination = self.world.path(&format!("good-{format}"));
        let mut command = self.world.skycap(["registry-image", "in"]);
        command.arg(&destination);
        with_stdin(command, self.get_request(format).as_bytes()).ok();
        State::of(&destination)
    }
}

pub fn source(address: SocketAddr) -> Value {
    json!({"repository": format!("{address}/app"), "tag": "1"})
}

pub fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(Into::into).collect()
}

/// What is in a directory: everything about each file, but the times only of what an image gives times to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State(Vec<String>);

impl State {
    pub fn of(directory: &Path) -> Self {
        if !directory.exists() {
            return Self::default();
        }
        let timeless = |line: &str| line.split(" @").next().unwrap_or_default().to_owned();
        let lines = listing(directory);
        let lines = lines.lines().filter(|line| !line.is_empty());
        Self(lines.map(|line| if line.starts_with("rootfs/") { line.to_owned() } else { timeless(line) }).collect())
    }

    /// The names at the top.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.iter().filter_map(|line| line.split(['/', ' ']).next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Everything below one of them.
    fn below(&self, name: &str) -> Vec<&String> {
        self.0.iter().filter(|line| line.split(['/', ' ']).next() == Some(name)).collect()
    }

    /// Fails unless everything that is there under a final name is whole, and the names that say so come last.
    #[track_caller]
    pub fn is_whole_as_far_as_it_goes(&self, good: &Self, what: &str) {
        for name in self.names() {
            if !name.starts_with('.') {
                assert_eq!(self.below(name), good.below(name), "{name} is there and not whole: {what}");
            }
        }
        if ["tag", "digest", "repository"].iter().any(|name| self.names().contains(name)) {
            let first = good.names().into_iter().find(|name| ["image.tar", "oci", "rootfs"].contains(name));
            assert!(first.is_none_or(|first| self.names().contains(&first)), "a version without its files: {what}");
        }
    }

    /// Fails if something temporary is there.
    #[track_caller]
    pub fn has_nothing_temporary(&self, what: &str) {
        let left: Vec<_> = self.names().into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "left over: {left:?}: {what}");
    }
}
