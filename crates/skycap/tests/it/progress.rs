//! What people see while something is moved: bars on a terminal, lines elsewhere, a summary at the end.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use skycap_registry::server::Server;
use skycap_testkit::registry::{Reply, Scripted};

use crate::copy::layout;
use crate::world::{Ran, World, registry, run};

/// Four layers that can be told apart by their sizes.
const LAYERS: &str = "
    layer
      file a 0644 0:0 size=2000000
    layer
      file b 0644 0:0 size=2100000
    layer
      file c 0644 0:0 size=2200000
    layer
      file d 0644 0:0 size=2300000
";

/// An image in a registry that stops for a while in the middle of each layer.
struct Slow {
    world: World,
    image: String,
    _registry: Server,
    front: Scripted,
}

impl Slow {
    fn new(pause: Duration) -> Self {
        let world = World::new();
        let server = registry(&world.dir("registry"));
        layout(&world, "source", LAYERS, "1");
        run(world.skycap(["copy", "oci:source:1", &format!("{}/app:1", server.address())])).ok();
        let front = Scripted::in_front_of(server.address(), move |request| {
            let is_layer = request.method == "GET" && request.path.contains("/blobs/");
            if is_layer { Reply::forward().pause(1_000_000, pause) } else { Reply::forward() }
        })
        .unwrap();
        let image = format!("{}/app:1", front.address());
        Self { world, image, _registry: server, front }
    }

    fn pull(&self) -> Command {
        self.world.skycap(["pull", &self.image, "--rootfs", "got", "--no-cache"])
    }
}

/// A terminal that remembers what was written to it.
pub struct Terminal {
    master: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub fn new(columns: u16, rows: u16) -> (Self, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = Self { master, shown: Arc::default() };
        terminal.resize(columns, rows);
        // It must not become the terminal of the tests, which its end would end.
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
        let (mut reader, shown) = (File::from(terminal.master.try_clone().unwrap()), Arc::clone(&terminal.shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Reading fails once nobody has the other side open.
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                shown.lock().unwrap().extend(&piece[..count]);
            }
        });
        (terminal, slave)
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    fn text(&self) -> String {
        // What was written last may still be on its way.
        std::thread::sleep(Duration::from_millis(100));
        String::from_utf8(self.shown.lock().unwrap().clone()).unwrap()
    }
}

/// Runs with stderr on a terminal.
pub fn on(
    terminal: (Terminal, File),
    mut command: Command,
    meanwhile: impl FnOnce(&Terminal),
) -> (Ran, String, Duration) {
    let (terminal, slave) = terminal;
    command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(slave);
    let start = Instant::now();
    let child = command.spawn().unwrap();
    drop(command);
    meanwhile(&terminal);
    let ran: Ran = child.wait_with_output().unwrap().into();
    (ran, terminal.text(), start.elapsed())
}

/// The lines without the sequences that clear and move, and without what an ordinary user is told about owners.
pub fn lines(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        rest = &after[end + 1..];
    }
    plain.push_str(rest);
    let lines = plain.split('\n').map(|line| line.trim_matches('\r').to_owned());
    lines.filter(|line| !line.starts_with("not root: ")).collect()
}

#[test]
fn a_terminal_shows_a_bar_a_layer_and_keeps_only_the_summary() {
    let slow = Slow::new(Duration::from_secs(1));
    let (ran, text, time) = on(Terminal::new(100, 24), slow.pull(), |_| {});
    let ran = ran.ok();
    assert!(ran.stdout.starts_with("sha256:") && ran.stdout.lines().count() == 1, "{}", ran.stdout);
    let lines = lines(&text);
    let bars =
        lines.iter().filter(|line| line.starts_with("  pull layer ") && line.contains('[') && line.contains(" MB"));
    assert!(bars.count() >= 8, "{text}");
    assert!(lines.iter().any(|line| line.contains("0 done, 4 under way, ")), "{text}");
    assert!(text.contains("fetched 4 layers; 8.6 MB in "), "{text}");
    let frames = text.matches("\x1b[J").count();
    assert!(frames >= 5 && frames <= 12 + usize::try_from(time.as_millis() / 100).unwrap(), "{frames} in {time:?}");
    // What stays on the screen: nothing above the summary.
    let last = text.rsplit("\x1b[J").next().unwrap();
    assert!(last.starts_with("fetched 4 layers"), "{last}");
}

#[test]
fn lines_fit_narrow_and_low_terminals_also_when_they_change() {
    let slow = Slow::new(Duration::from_millis(800));
    for (columns, rows) in [(30, 5), (9, 2), (60, 50)] {
        let (_, text, _) = on(Terminal::new(columns, rows), slow.pull(), |_| {});
        let drawn = text.split("fetched").next().unwrap();
        let widest = lines(drawn).iter().map(String::len).max().unwrap();
        assert!(widest < usize::from(columns), "{columns}: {widest}\n{drawn}");
        assert_eq!(text.contains("(2 not "), rows == 5, "{columns}x{rows}: {drawn}");
        std::fs::remove_dir_all(slow.world.path("got")).unwrap();
    }
    let (_, text, _) = on(Terminal::new(100, 24), slow.pull(), |terminal| {
        std::thread::sleep(Duration::from_millis(500));
        terminal.resize(40, 24);
    });
    let drawn: Vec<&str> = text.split("fetched").next().unwrap().split("\x1b[J").collect();
    let widest = |frame: &str| lines(frame).iter().map(String::len).max().unwrap();
    assert!(widest(drawn[1]) > 40 && widest(drawn[drawn.len() - 2]) < 40, "{text}");
}

#[test]
fn colours_and_bars_are_for_those_who_want_them() {
    let slow = Slow::new(Duration::from_millis(500));
    let missing = |variable: &str| {
        let mut command = slow.world.skycap(["inspect", "oci:missing"]);
        command.env(variable, "1");
        on(Terminal::new(80, 24), command, |_| {}).1
    };
    assert!(missing("X").contains("\x1b[1;31merror:"));
    assert!(!missing("NO_COLOR").contains('\x1b'));
    let mut command = slow.pull();
    command.env("CI", "true");
    let (_, text, _) = on(Terminal::new(80, 24), command, |_| {});
    assert!(!text.contains("\x1b[J") && text.contains("pull layer "), "{text}");
}

#[test]
fn a_log_gets_a_line_a_layer() {
    let slow = Slow::new(Duration::ZERO);
    let ran = run(slow.pull()).ok();
    assert!(!ran.stderr.contains('\x1b') && !ran.stderr.contains('\r'), "{}", ran.stderr);
    let layers: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("pull layer ")).collect();
    assert_eq!(layers.len(), 4, "{}", ran.stderr);
    assert!(layers.iter().all(|line| line.contains(": done, 2.") && line.contains(" MB in ")), "{layers:?}");
    assert!(ran.stderr.contains("fetched 4 layers; 8.6 MB in "), "{}", ran.stderr);
}

#[test]
fn the_resource_and_the_builder_tell_in_the_same_way() {
    let slow = Slow::new(Duration::ZERO);
    let (repository, tag) = slow.image.rsplit_once(':').unwrap();
    let source = serde_json::json!({"repository": repository, "tag": tag});
    let check = serde_json::json!({"source": source});
    let version = slow.world.resource(&["registry-image", "check"], None, &check).ok().json()[0].clone();
    let request = serde_json::json!({"source": source, "version": version});
    let got = slow.world.resource(&["registry-image", "in"], Some(&slow.world.dir("volume")), &request).ok();
    assert!(got.stderr.contains("fetched 4 layers; "), "{}", got.stderr);
    slow.world.file("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let built = run(slow.world.skycap(["build", "-t", &format!("{repository}:2"), "--push", "context"])).ok();
    assert!(built.stderr.contains("uploaded 1 layer; "), "{}", built.stderr);
}

/// R15.
#[test]
fn waiting_for_a_rate_limit_is_said_with_how_long() {
    let slow = Slow::new(Duration::ZERO);
    let behind = slow.front.address();
    let limited = Scripted::in_front_of(behind, |request| {
        let is_first = request.path.contains("/manifests/") && request.seen == 0;
        if is_first { Reply::status(429).header("retry-after", "1") } else { Reply::forward() }
    })
    .unwrap();
    let ran = run(slow.world.skycap(["inspect", &format!("{}/app:1", limited.address())])).ok();
    assert!(ran.stderr.contains("429") && ran.stderr.contains("trying again in 1.0 s"), "{}", ran.stderr);
}
