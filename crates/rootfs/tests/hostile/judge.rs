//! One case: unpacked, viewed, stacked, packed again. Nothing outside may change, and all ways must agree.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skycap_image::{Event, Layer, Progress, Silent};
use skycap_rootfs::{
    Device, Kind, LayerIndex, Limits, OverlayXattrs, Pack, TreePath, Unpack, UnpackError, View, pack_directory,
    read_layer, unpack, unpack_overlay,
};

use crate::case::{Case, Expected, Format, layer};
use crate::identity::Identity;
use crate::room::Room;
use crate::tree::{Detail, Nodes, of_disk, of_overlay, of_view, print};

/// How long a case may take on a machine that has nothing else to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The device that overlayfs takes for a deleted file, and that anybody may make.
const WHITEOUT: Device = Device { block: false, major: 0, minor: 0 };
/// How much a case may leave on the disk.
const DISK: u64 = 256 << 20;

/// Remembers warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

pub(crate) fn options(limits: Limits) -> Unpack {
    Unpack { owners: Identity::current().owners(), concurrency: 2, limits, sync: false }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs something for a limited time; a panic and a hang are errors.
pub(crate) fn limited<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let _ = sender.send(result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(format!("PANIC: {}", text.unwrap_or_default()))
        }));
    });
    match receiver.recv_timeout(limit.mul_f64(busy())) {
        Ok(result) => {
            let _ = worker.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => Err(format!("HANG: not done after {limit:?}")),
        Err(RecvTimeoutError::Disconnected) => Err("PANIC: the worker is gone".to_owned()),
    }
}

/// How many times longer everything takes because of what else runs on this machine.
fn busy() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = f64::from(u16::try_from(processors).unwrap_or(u16::MAX));
    (load / processors).clamp(1.0, 12.0) * 2.0
}

/// Whether the layers were accepted, or what is wrong.
pub(crate) fn judge(case: &Case, format: Format) -> Result<bool, String> {
    let room = Room::new();
    let layers = case.layers(format);
    let (accepted, warnings) = unpacked(&layers, &room, case.limits)?;
    let (expected, expected_warnings) = case.expected(Identity::current());
    expect(expected, &accepted)?;
    for expected in expected_warnings {
        if !warnings.iter().any(|warning| warning.contains(expected)) {
            return Err(format!("no warning holds {expected:?}: {warnings:?}"));
        }
    }
    agree(&layers, &room, &accepted, case.limits, case.apart.as_deref())?;
    Ok(accepted.is_ok())
}

/// What unpacking makes: a tree or a refusal. That anything outside changes is an error.
pub(crate) fn unpacked(
    layers: &[Layer],
    room: &Room,
    limits: Limits,
) -> Result<(Result<Nodes, UnpackError>, Vec<String>), String> {
    let warnings = Warnings::default();
    let result = unpack(layers, &room.rootfs(), &options(limits), &warnings);
    room.changes(&[])?;
    let kind = std::fs::symlink_metadata(room.rootfs()).ok().map(|stat| stat.file_type());
    if let Some(text) = result.as_ref().err().map(|error| chain(error)).filter(|text| text.contains(char::is_control)) {
        return Err(format!("an error holds control characters: {}", text.escape_debug()));
    }
    let accepted = match result {
        Ok(()) if kind.is_some_and(|kind| kind.is_dir()) => Ok(of_disk(&room.rootfs())),
        Ok(()) => return Err("the root is no directory any more".to_owned()),
        Err(error) if kind.is_none() => Err(error),
        Err(error) => return Err(format!("the destination is there after an error: {}", chain(&error))),
    };
    if let Ok(nodes) = &accepted {
        let bytes: u64 = nodes.values().map(|node| node.content.len() as u64).sum();
        if bytes > DISK {
            return Err(format!("{bytes} bytes on the disk"));
        }
    }
    Ok((accepted, warnings.0.into_inner().unwrap()))
}

fn expect(expected: &Expected, found: &Result<Nodes, UnpackError>) -> Result<(), String> {
    match (expected, found) {
        (Expected::Error(text), Err(error)) if chain(error).contains(text) => Ok(()),
        (Expected::Limit(name), Err(error)) if chain(error).contains(&format!("(limit {name})")) => Ok(()),
        (Expected::Tree { all, lines }, Ok(nodes)) => {
            let identity = Identity::current();
            let owners = *all && identity.keeps_owners();
            let found = print(nodes, Detail { metadata: *all, owners, xattrs: *all });
            let found = found.split_once('\n').map_or("", |(_, rest)| rest).trim_end();
            let expected = adjusted(lines, *all);
            if is_like(found, &expected) { Ok(()) } else { Err(format!("expected\n{expected}\nbut found\n{found}")) }
        }
        (expected, Ok(nodes)) => {
            Err(format!("expected {expected:?}, but it was accepted as\n{}", print(nodes, Detail::SHAPE)))
        }
        (expected, Err(error)) => Err(format!("expected {expected:?}, but it was refused: {}", chain(error))),
    }
}

/// Whether a tree is the expected one. A line may end in `…` for anything, and a line of only that stands for the rest.
fn is_like(found: &str, expected: &str) -> bool {
    let (mut found, mut expected) = (found.lines(), expected.lines());
    loop {
        match (found.next(), expected.next()) {
            (_, Some("…")) | (None, None) => return true,
            (Some(found), Some(expected)) if found == expected => {}
            (Some(found), Some(expected))
                if expected.strip_suffix('…').is_some_and(|start| found.starts_with(start)) => {}
            _ => return false,
        }
    }
}

/// An expected tree as this identity can make it.
fn adjusted(lines: &str, all: bool) -> String {
    let identity = Identity::current();
    let is_owner =
        |word: &str| word.split_once(':').is_some_and(|(uid, gid)| uid.parse::<u32>().and(gid.parse::<u32>()).is_ok());
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        // Anybody may make the device 0:0.
        let is_device = matches!(words[0].as_str(), "char" | "block") && !line.ends_with(" 0 0");
        if is_device && !identity.makes_devices() {
            "file".clone_into(&mut words[0]);
            words.truncate(words.len() - 2);
            words.push("\"\"".to_owned());
            if all {
                let mode = u32::from_str_radix(&words[2], 8).unwrap() & 0o777;
                words[2] = format!("{mode:04o}");
            }
        }
        if all && !identity.keeps_owners() {
            let at = words.iter().take(4).position(|word| is_owner(word));
            at.map(|at| words.remove(at));
        }
        words.join(" ")
    };
    lines.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// All other ways through the layers must lead to the same tree, or to a refusal.
pub(crate) fn agree(
    layers: &[Layer],
    room: &Room,
    accepted: &Result<Nodes, UnpackError>,
    limits: Limits,
    apart: Option<&str>,
) -> Result<(), String> {
    let view = viewed(layers, limits);
    match (accepted, &view) {
        (Err(_), Err(_)) => {}
        // The view knows owners that this process may not give.
        (Err(error), Ok(_)) if chain(error).contains("this user namespace has") => {}
        (Ok(nodes), Ok((_, view))) => {
            let mut viewed = of_view(view, layers)?;
            let mut nodes = nodes.clone();
            as_rendered(&mut viewed);
            without_xattrs_unless_root(&mut viewed);
            without_xattrs_unless_root(&mut nodes);
            same("the view", &viewed, "the disk", &nodes)?;
        }
        (Ok(_), Err(error)) => return Err(format!("the view refuses what was unpacked: {error}")),
        (Err(error), Ok(_)) => return Err(format!("the view takes what was not unpacked: {}", chain(error))),
    }
    stacked(layers, room, accepted.as_ref().ok(), view.as_ref().ok().map(|(indexes, _)| &indexes[..]), limits, apart)?;
    repacked(layers, accepted, limits)?;
    if let Ok(nodes) = accepted {
        packed(nodes, &room.rootfs(), limits)?;
    }
    Ok(())
}

/// The listings of all layers, and the view of them.
fn viewed(layers: &[Layer], limits: Limits) -> Result<(Vec<Arc<LayerIndex>>, View), String> {
    let mut indexes = Vec::new();
    for layer in layers {
        let index = LayerIndex::of(layer, &limits).map_err(|error| chain(&error))?;
        if LayerIndex::decode(&index.encode()).as_ref() != Some(&index) {
            return Err("a listing does not survive its encoding".to_owned());
        }
        indexes.push(Arc::new(index));
    }
    let view = View::new(&indexes).map_err(|error| chain(&error))?;
    Ok((indexes, view))
}

/// What unpacking leaves out of what a view says.
pub(crate) fn as_rendered(nodes: &mut Nodes) {
    for node in nodes.values_mut() {
        node.metadata.xattrs.retain(|name, _| !is_of_the_host(name));
        let is_device = matches!(node.kind, Kind::Device(device) if device != WHITEOUT);
        if is_device && !Identity::current().makes_devices() {
            node.kind = Kind::File { size: 0 };
            node.metadata.mode &= 0o777;
        }
    }
}

fn is_of_the_host(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || matches!(name, b"security.selinux" | b"security.ima" | b"security.evm")
}

/// Which attributes others can set depends on too much; cases say it one by one. Attributes of links and devices are not
/// possible for anybody in some namespaces.
fn without_xattrs_unless_root(nodes: &mut Nodes) {
    let is_root = Identity::current() == Identity::Root;
    for node in nodes.values_mut() {
        if !is_root || !matches!(node.kind, Kind::Directory | Kind::File { .. }) {
            node.metadata.xattrs.clear();
        }
        node.metadata.xattrs.retain(|name, _| name.starts_with(b"user."));
    }
}

pub(crate) fn same(what: &str, found: &Nodes, other: &str, expected: &Nodes) -> Result<(), String> {
    let detail = Detail { metadata: true, owners: Identity::current().keeps_owners(), xattrs: true };
    let (found, expected) = (print(found, detail), print(expected, detail));
    if found == expected { Ok(()) } else { Err(format!("{what} says\n{found}\nbut {other}\n{expected}")) }
}

/// Every layer as a directory of an overlay, as the store makes them: one that stands alone does not know what is below it.
fn stacked(
    layers: &[Layer],
    room: &Room,
    merged: Option<&Nodes>,
    indexes: Option<&[Arc<LayerIndex>]>,
    limits: Limits,
    apart: Option<&str>,
) -> Result<(), String> {
    // Without a view there is nothing to stack.
    let Some(indexes) = indexes else { return Ok(()) };
    let style = if Identity::current() == Identity::Root { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    let mut lowers = Vec::new();
    let mut refused = None;
    for (number, (layer, index)) in layers.iter().zip(indexes).enumerate() {
        let destination = room.path().join("p").join(format!("lower{number}"));
        let below = if index.needs_below() { &indexes[..number] } else { &[] };
        let below = View::new(below).map_err(|error| chain(&error))?;
        if let Err(error) = unpack_overlay(layer, index, &below, &destination, &options(limits), style, &Silent) {
            refused = refused.or(Some(chain(&error)));
        }
        lowers.insert(0, destination);
    }
    let own: Vec<String> = (0..layers.len()).map(|number| format!("lower{number}")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    room.changes(&own)?;
    match (merged, refused) {
        (Some(merged), None) => overlaid(merged, &lowers),
        (Some(_), Some(error)) => {
            let documented = apart.unwrap_or("which overlay directories cannot hold");
            if error.contains(documented) { Ok(()) } else { Err(format!("the overlay form refuses it: {error}")) }
        }
        (None, _) => Ok(()),
    }
}

fn overlaid(merged: &Nodes, lowers: &[PathBuf]) -> Result<(), String> {
    let mut merged = merged.clone();
    for node in merged.values_mut() {
        // Overlayfs would take it for a whiteout.
        if node.kind == Kind::Device(WHITEOUT) {
            node.kind = Kind::File { size: 0 };
            node.metadata.mode &= 0o777;
        }
    }
    let mut found = of_overlay(lowers);
    // Whoever mounts an overlay chooses what its root is like.
    merged.remove(&Vec::new());
    found.remove(&Vec::new());
    same("the overlay", &found, "unpacking", &merged)
}

/// Every layer read into a new one: names are clean in it, and it unpacks to the same (M10).
fn repacked(layers: &[Layer], expected: &Result<Nodes, UnpackError>, limits: Limits) -> Result<(), String> {
    let mut copies = Vec::new();
    for original in layers {
        let mut pack = Pack::new(Vec::new());
        if let Err(error) = read_layer(original, &mut pack, &limits) {
            return match expected {
                Err(_) => Ok(()),
                // Others could not unpack it.
                Ok(_) if chain(&error).contains("is longer than 4095") => Ok(()),
                Ok(_) => Err(format!("it cannot be packed again: {}", chain(&error))),
            };
        }
        let bytes = pack.finish().map_err(|error| chain(&error))?;
        clean(&bytes)?;
        copies.push(layer(&bytes, Format::Plain));
    }
    let room = Room::new();
    match (expected, unpacked(&copies, &room, limits)?.0) {
        (Err(_), Err(_)) => Ok(()),
        (Ok(expected), Ok(found)) => same("what was packed again", &found, "the original", expected),
        (Ok(_), Err(error)) => Err(format!("what was packed again is refused: {}", chain(&error))),
        (Err(error), Ok(_)) => Err(format!("packing made good what was refused: {}", chain(error))),
    }
}

/// No name in an archive that we wrote climbs, is absolute or a marker that is none.
fn clean(bytes: &[u8]) -> Result<(), String> {
    let mut reader = skycap_image::tar::Reader::new(bytes);
    while let Some(header) = reader.next().map_err(|error| format!("what we packed is malformed: {error}"))? {
        let is_link = header.kind == skycap_image::tar::Kind::Hardlink;
        for name in [&header.path].into_iter().chain(is_link.then_some(&header.link)) {
            let is_bad = name.starts_with(b"/") || name.split(|&byte| byte == b'/').any(|part| part == b"..");
            if is_bad || name.contains(&0) {
                return Err(format!("we packed the name {}", name.escape_ascii()));
            }
        }
    }
    Ok(())
}

/// The tree on disk as a layer of its own.
fn packed(nodes: &Nodes, rootfs: &Path, limits: Limits) -> Result<(), String> {
    let mut pack = Pack::new(Vec::new());
    let owners = Identity::current().owners();
    match pack_directory(rootfs, &TreePath::root(), owners, &|_, _| {}, &mut pack) {
        // What its owner may not read cannot be packed.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {
            return Ok(());
        }
        // No tar holds such a name as a file, and no ustar header such a device.
        Err(error) if error.to_string().contains("cannot be written to a tar") => return Ok(()),
        Err(error) if error.to_string().contains("is longer than 4095") => return Ok(()),
        other => other.map(drop).map_err(|error| format!("the tree cannot be packed: {error}"))?,
    }
    let bytes = pack.finish().map_err(|error| chain(&error))?;
    clean(&bytes)?;
    let room = Room::new();
    match unpacked(&[layer(&bytes, Format::Plain)], &room, limits)?.0 {
        Ok(mut found) => {
            let mut nodes = nodes.clone();
            // The root has no entry in such a layer.
            nodes.remove(&Vec::new());
            found.remove(&Vec::new());
            same("the tree packed", &found, "the tree", &nodes)
        }
        Err(error) => Err(format!("the tree packed is refused: {}", chain(&error))),
    }
}
