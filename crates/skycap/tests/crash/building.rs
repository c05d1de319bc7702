//! Builds with all that a build can have, interrupted: `skycap build` with every kind of output and cache, and the task.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Digest, ImageSource as _, Name};
use skycap_registry::server::Server;
use skycap_store::{Sort, Store};

use crate::fixture::State;
use crate::operation::{Operation, Site, is_whole_if_there};
use crate::trace::Line;
use crate::world::{Ran, World, listing, noise, peer, registry, run, skip};

/// Those that change something, and those by which worlds are made for programs and servers are talked to.
pub const BUILDING: &str = "write,writev,pwrite64,openat,creat,mkdir,mkdirat,mknodat,rename,renameat,renameat2,link,linkat,\
symlink,symlinkat,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,fchmod,fchmodat,chmod,fchown,fchownat,lchown,utimensat,\
ftruncate,fallocate,setxattr,fsetxattr,lsetxattr,copy_file_range,sendfile,openat2,flock,close,clone,clone3,execve,\
unshare,setns,mount,umount2,pivot_root,chroot,?fsopen,?fsconfig,?fsmount,?move_mount,?open_tree,?mount_setattr,prctl,\
connect,sendto,wait4,waitid,kill";
/// Of them those that count wherever they are made.
const WORLDS: &str = "clone clone3 execve unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount move_mount \
open_tree mount_setattr connect sendto wait4 waitid";
/// How soon nothing of a killed build must live.
const PROMPT: Duration = Duration::from_secs(2);
/// What no file may hold.
const SECRET: &str = "hunter2-of-a-killed-build";
const SEEDS: usize = 12;

/// Whether a call is about something of the build's: its place, or the world that a RUN gets.
fn is_of_a_build(site: &Site, line: &Line) -> bool {
    line.text.contains(&site.root()) || WORLDS.split(' ').any(|call| line.call == call)
}

/// A stage that is run, one whose files a cache mount begins with, and two that are copied from.
const MAKER: &str = "FROM scratch AS seed
COPY seed /seed
FROM --platform=$BUILDPLATFORM BASE AS maker
COPY tree /tree
RUN --mount=type=secret,id=password --mount=type=cache,id=kept,from=seed,source=/seed,target=/kept \
 mkdir /made && cat /kept/seed-* > /made/seeds && wc -c < /run/secrets/password > /made/length && echo visit >> /kept/visits
RUN cp -r /tree /made/tree && ln /made/seeds /made/again && rm /tree/0
";
const LAST: &str = "FROM scratch
COPY --from=maker /made /made
COPY big /big
ENTRYPOINT [\"/big\"]
";

/// A registry with a base that has a shell, and a context.
pub struct Grounds {
    pub world: World,
    pub server: Server,
}

impl Grounds {
    /// `None` with a printed reason where nothing can be run.
    pub fn new(test: &str) -> Option<Self> {
        let busybox = peer(test, "busybox")?;
        let world = World::new();
        let server = registry(&world.dir("registry"));
        world.dir("base");
        std::fs::copy(busybox, world.path("base/busybox")).unwrap();
        let base = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
        world.file("base/Dockerfile", base);
        let base = format!("{}/base:1", server.address());
        let built = run(world.skycap(["build", "--push", "-t", &base, "base"]));
        if built.code != Some(0) {
            skip(test, built.stderr.lines().last().unwrap_or("the build failed"));
            return None;
        }
        for number in 0..10 {
            world.file(&format!("context/tree/{number}"), format!("{number}\n"));
        }
        for number in 0..SEEDS {
            world.file(&format!("context/seed/seed-{number:02}"), seed(number));
        }
        world.file("context/big", noise(100_000));
        world.file("password", SECRET);
        world.file("context/Dockerfile", MAKER.replace("BASE", &base) + LAST);
        Some(Self { world, server })
    }

    /// What nothing has to do with who was killed when.
    fn check_left(&self, site: &Site, store: &str, what: &str) {
        is_gone(&site.root(), what);
        for tag in ["1", "cache"] {
            is_whole_if_there(self.server.address(), &repository(site), tag, what);
        }
        let store = site.world.path(store);
        if store.join("sessions-1").exists() {
            let damaged = Store::open(&store).unwrap().audit(&mut |_| {}).unwrap().damaged;
            assert!(damaged.is_empty(), "{damaged:?}: {what}");
        }
        holds_no_secret(&site.world.path(""), what);
    }

    fn check_done(site: &Site, store: &str, what: &str) {
        is_gone(&site.root(), what);
        let store = site.world.path(store);
        assert_eq!(std::fs::read_dir(store.join("sessions-1")).unwrap().count(), 0, "{what}");
        assert_eq!(listing(&site.world.dir("tmp")), "", "{what}");
        holds_no_secret(&site.world.path(""), what);
        check_cache_mount(&store, what);
    }
}

fn seed(number: usize) -> String {
    format!("seed {number}\n").repeat(50)
}

fn repository(site: &Site) -> String {
    format!("built-{}-{}", std::process::id(), site.number)
}

/// A cache mount has all that it began with, and what was written to it is not garbled.
fn check_cache_mount(store: &Path, what: &str) {
    let store = Store::open(store).unwrap();
    let mounts: Vec<_> = store.inventory().unwrap().into_iter().filter(|item| item.sort == Sort::CacheMount).collect();
    assert!(!mounts.is_empty(), "{what}");
    for mount in mounts {
        let root = mount.path(&store).join("root");
        for number in 0..SEEDS {
            let found = std::fs::read_to_string(root.join(format!("seed-{number:02}"))).unwrap_or_default();
            assert_eq!(found, seed(number), "{what}");
        }
        let visits = std::fs::read_to_string(root.join("visits")).unwrap_or_default();
        assert!(visits.lines().all(|line| line == "visit"), "{visits:?}: {what}");
    }
}

fn holds_no_secret(directory: &Path, what: &str) {
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(path),
                // The log shows what was written where.
                Ok(kind) if kind.is_file() && !path.ends_with("strace.log") => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                    assert!(!found, "{} holds the secret: {what}", path.display());
                }
                _ => {}
            }
        }
    }
}

/// Fails if a process or a mount is left that has to do with a directory.
#[track_caller]
pub fn is_gone(root: &str, what: &str) {
    let start = Instant::now();
    loop {
        let left = left_over(root);
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < PROMPT, "left over: {left:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn left_over(root: &str) -> Vec<String> {
    let mut left = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        for name in ["cmdline", "mountinfo", "environ"] {
            let bytes = std::fs::read(path.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let mut lines = text.lines().filter(|line| line.contains(root) && !is_disk_of_a_test(line, root));
            // A dead one that nobody has asked after yet does nothing any more.
            let is_dead = || std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
            if let Some(line) = lines.next().filter(|_| !is_dead()) {
                left.push(format!("{} of {}: {line}", name, path.display()));
            }
        }
    }
    left
}

/// Whether a line of `mountinfo` is about a file system that a test mounts for a build.
fn is_disk_of_a_test(line: &str, root: &str) -> bool {
    let at = line.split(' ').nth(4).and_then(|at| at.strip_prefix(root));
    line.contains(" - tmpfs tmpfs ") && at.is_some_and(|at| ["tmp", "work/cache", "work/image"].contains(&at))
}

/// `skycap build` for two platforms, into an archive, a layout, a directory and a registry, with caches in a registry and a
/// directory.
pub struct Everything<'g> {
    pub grounds: &'g Grounds,
    good: String,
    stdout: String,
}

impl<'g> Everything<'g> {
    pub fn new(grounds: &'g Grounds) -> Self {
        let mut operation = Self { grounds, good: String::new(), stdout: String::new() };
        let site = operation.site();
        let ran = operation.run(&site).ok();
        operation.stdout = ran.stdout;
        operation.good = Self::result(&site);
        assert_eq!(operation.good.lines().count(), 5, "{}", operation.good);
        operation
    }

    /// What is under each name, in a line, if it is there.
    fn result(site: &Site) -> String {
        let mut text = String::new();
        let path = |name: &str| site.world.path(name);
        if path("image.tar").exists() {
            // The name that it gives the image is that of a repository of its own.
            let image = skycap_image::archive::open(path("image.tar")).unwrap().only().unwrap();
            reads_whole(&image);
            writeln!(text, "image.tar {}", image.descriptor().digest).unwrap();
        }
        for (layout, tag) in [("layout", "1"), ("exchange", "latest")] {
            if path(layout).join("index.json").exists() {
                let found = Layout::open(path(layout)).unwrap().find(&Name::Tag(tag.to_owned())).unwrap();
                if let Some(found) = found {
                    let digest = found.digest;
                    reads_whole(&Layout::open(path(layout)).unwrap().get(&Name::Digest(digest)).unwrap());
                    // A cache states when its steps were made.
                    let digest = if layout == "layout" { digest.to_string() } else { "whole".to_owned() };
                    writeln!(text, "{layout} {digest}").unwrap();
                }
            }
        }
        for entry in std::fs::read_dir(path("files")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with('.') {
                let digest = Digest::sha256(format!("{:?}", State::of(&entry.path())).as_bytes());
                writeln!(text, "files/{name} {digest}").unwrap();
            }
        }
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

/// Fails unless every blob is there and right.
fn reads_whole(artifact: &Artifact) {
    match artifact {
        Artifact::Image(image) => {
            image.layers().iter().for_each(|layer| layer.open().unwrap().finish().unwrap());
        }
        Artifact::Index(index) => index.manifests().iter().for_each(|child| reads_whole(&index.child(child).unwrap())),
    }
}

impl Operation for Everything<'_> {
    fn name(&self) -> String {
        "build of everything".to_owned()
    }

    fn site(&self) -> Site {
        Site::new()
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let at = format!("{}/{}", self.grounds.server.address(), repository(site));
        let secret = self.grounds.world.path("password").display().to_string();
        let words = [
            "build --store store --platform linux/amd64,linux/arm64 --build-arg SOURCE_DATE_EPOCH=1600000000",
            "-o oci-archive:image.tar -o oci:layout:1 -o type=local,dest=files",
            &format!("-t {at}:1 --push --secret id=password,src={secret}"),
            &format!("--cache-from type=registry,ref={at}:cache --cache-to type=registry,ref={at}:cache,mode=max"),
            "--cache-from type=local,src=exchange --cache-to type=local,dest=exchange,mode=max",
        ]
        .join(" ");
        let context = self.grounds.world.path("context").display().to_string();
        words.split(' ').chain([&*context]).map(OsString::from).collect()
    }

    fn calls(&self) -> &'static str {
        BUILDING
    }

    fn matters(&self, site: &Site, line: &Line) -> bool {
        is_of_a_build(site, line)
    }

    fn check_left(&self, site: &Site, what: &str) {
        self.grounds.check_left(site, "store", what);
        let left = Self::result(site);
        for line in left.lines() {
            assert!(self.good.lines().any(|good| good == line), "{line} is not whole: {what}\n{}", self.good);
        }
    }

    fn check_done(&self, site: &Site, ran: &Ran, what: &str) {
        Grounds::check_done(site, "store", what);
        assert_eq!(Self::result(site), self.good, "{what}");
        assert_eq!(ran.stdout, self.stdout, "{what}");
        for tag in ["1", "cache"] {
            assert!(is_whole_if_there(self.grounds.server.address(), &repository(site), tag, what), "{tag}: {what}");
        }
        self.check_tidy(site, what);
    }

    fn check_tidy(&self, site: &Site, what: &str) {
        let root = site.world.path("");
        for directory in ["", "layout", "files", "exchange"] {
            let names = std::fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
            let left: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
            assert!(left.iter().all(|name| !name.starts_with('.')), "left over in {directory:?}: {left:?}: {what}");
        }
        site.is_tidy(what);
    }
}

/// The task, through the executable that `skycap install oci-build` writes, with a cache and outputs of two targets.
pub struct Task<'g> {
    grounds: &'g Grounds,
    /// With `rootfs/` and `metadata.json`, or a layout.
    oci: bool,
    good: [State; 2],
}

const OUTPUTS: [&str; 2] = ["image", "maker"];

impl<'g> Task<'g> {
    pub fn new(grounds: &'g Grounds, oci: bool) -> Self {
        run(grounds.world.skycap(["install", "oci-build", "installed"])).ok();
        let mut operation = Self { grounds, oci, good: [State::default(), State::default()] };
        let site = operation.site();
        operation.run(&site).ok();
        operation.good = OUTPUTS.map(|name| State::of(&site.world.path(&format!("work/{name}"))));
        for good in &operation.good {
            let wanted: &[&str] = if oci {
                &["digest", "image", "image.tar"]
            } else {
                &["digest", "image.tar", "metadata.json", "rootfs"]
            };
            assert_eq!(good.names(), wanted);
        }
        operation
    }
}

impl Task<'_> {
    pub fn check_outputs(&self, site: &Site, what: &str) {
        for (name, good) in OUTPUTS.iter().zip(&self.good) {
            assert_eq!(State::of(&site.world.path(&format!("work/{name}"))), *good, "{what}");
        }
    }
}

impl Operation for Task<'_> {
    fn name(&self) -> String {
        if self.oci { "task to layouts" } else { "task to archives and files" }.to_owned()
    }

    fn site(&self) -> Site {
        let site = Site::new();
        for name in ["cache", "image", "maker"] {
            site.world.dir(&format!("work/{name}"));
        }
        site
    }

    fn arguments(&self, _: &Site) -> Vec<OsString> {
        Vec::new()
    }

    fn program(&self) -> PathBuf {
        self.grounds.world.path("installed/build")
    }

    fn dress(&self, site: &Site, command: &mut Command) {
        let at = format!("{}/{}", self.grounds.server.address(), repository(site));
        command.current_dir(site.world.path("work")).env("CONTEXT", self.grounds.world.path("context"));
        command.env("ADDITIONAL_TARGETS", "maker").env("SOURCE_DATE_EPOCH", "1600000000");
        command.env("BUILDKIT_SECRET_password", self.grounds.world.path("password"));
        command.env("CACHE_TO", format!("type=registry,ref={at}:cache,mode=max"));
        command.env("CACHE_FROM", format!("type=registry,ref={at}:cache"));
        command.env(if self.oci { "OUTPUT_OCI" } else { "UNPACK_ROOTFS" }, "true");
    }

    fn calls(&self) -> &'static str {
        BUILDING
    }

    fn matters(&self, site: &Site, line: &Line) -> bool {
        is_of_a_build(site, line)
    }

    fn check_left(&self, site: &Site, what: &str) {
        self.grounds.check_left(site, "work/cache", what);
        for (name, good) in OUTPUTS.iter().zip(&self.good) {
            let left = State::of(&site.world.path(&format!("work/{name}")));
            left.is_whole_as_far_as_it_goes(good, what);
            // It comes last.
            let visible: Vec<_> = left.names().into_iter().filter(|name| !name.starts_with('.')).collect();
            assert!(!visible.contains(&"digest") || visible == good.names(), "a digest without its files: {what}");
        }
    }

    fn check_done(&self, site: &Site, _: &Ran, what: &str) {
        Grounds::check_done(site, "work/cache", what);
        self.check_outputs(site, what);
        let lowers = std::fs::read_dir(site.world.path("work/cache/lowers-2")).unwrap().count();
        assert_eq!(lowers, 0, "unpacked layers are left in what Concourse copies: {what}");
        assert!(is_whole_if_there(self.grounds.server.address(), &repository(site), "cache", what), "{what}");
    }

    fn check_tidy(&self, site: &Site, what: &str) {
        for name in OUTPUTS {
            State::of(&site.world.path(&format!("work/{name}"))).has_nothing_temporary(what);
        }
        site.is_tidy(what);
    }
}
