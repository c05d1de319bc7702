//! The second process, first of the pid namespace: makes the world, starts the command in it, and cleans up after it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};

use super::command::{self, Standard};
use super::inside::{Inside, Missing, Stub};
use super::owners::Listener;
use super::stage::{self, OpenRoot, Rules, Stage};
use super::{special, terminal, volumes};
use crate::channel::Channel;
use crate::error::Failure;
use crate::ladder::Rung;
use crate::spawn::{END, Report, RunOrder};
use crate::spec::{Capabilities, Network};
use crate::sys::{self, Fork};
use crate::userns;

/// Runs the command to its end and tells the caller.
pub(super) fn main(order: &RunOrder, fds: Vec<OwnedFd>, channel: &Channel) {
    let report = start_and_wait(order, fds, channel).unwrap_or_else(|failure| Some(Report::Failed(failure)));
    if let Some(report) = report {
        // A caller that has gone wants no answer.
        let _ = channel.send(&report, &[]);
    }
}

fn start_and_wait(order: &RunOrder, fds: Vec<OwnedFd>, channel: &Channel) -> Result<Option<Report>, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::at("prctl"))?;
    // Inside, nobody may look into this process or at the program it runs.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("prctl"))?;
    rustix::process::umask(Mode::empty());
    let world = World::make(order, fds)?;
    if let Some(terminal) = &world.terminal {
        channel.send(&Report::Terminal, &[terminal.as_fd()]).map_err(Failure::at("hand over the terminal"))?;
    }
    let children = sys::children_fd().map_err(Failure::at("signalfd"))?;
    let (ours, theirs) = if order.ground.rung == Rung::SingleId {
        let (ours, theirs) = Channel::pair().map_err(Failure::at("socketpair"))?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    let others_are_seen = world.others_are_seen;
    // With all rights it may look at everybody, and needs them over these namespaces.
    let spec = &order.spec;
    let apart = others_are_seen && spec.capabilities == Capabilities::Default14 && spec.user_namespace.is_none();
    let command = match sys::fork().map_err(Failure::at("fork"))? {
        Fork::Child => {
            let order = command::Order { spec, rung: order.ground.rung, apart };
            command::main(&order, &world.standard, channel, theirs.as_ref())
        }
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let World { standard, terminal, stubs, others_are_seen: _ } = world;
    drop(terminal);
    // None if the command could not start, or if the kernel has no such listener.
    let owners = ours.and_then(|ours| ours.receive::<()>().ok()??.1.pop());
    let owners = owners.map(|listener| Listener::new(listener, others_are_seen));
    // Pipes are the command's alone. A terminal must stay open here: without any, the caller would see its end.
    let terminal = matches!(standard, Standard::Terminal(_)).then_some(standard);
    // Nobody left to be signalled is no error.
    let signal_all = |signal: Signal| drop(sys::kill_all(signal.as_raw()));
    let end = wait_for(command, &children, channel, owners.as_ref(), spec.grace, &signal_all);
    // Whatever the command left running ends here, before its mount points are taken away.
    signal_all(Signal::KILL);
    while let Ok(Some(_)) | Err(rustix::io::Errno::INTR) = rustix::process::wait(WaitOptions::empty()) {}
    stubs.iter().rev().for_each(Stub::remove);
    if let Some(lost) = owners.as_ref().and_then(Listener::lost) {
        // A caller that has gone needs not know.
        let _ = channel.send(&Report::Said(lost), &[]);
    }
    drop(terminal);
    Ok(end)
}

/// Everything that is ready when the command starts.
struct World {
    standard: Standard,
    /// The caller's side of the terminal.
    terminal: Option<OwnedFd>,
    stubs: Vec<Stub>,
    /// `/proc` shows processes that are not the command's.
    others_are_seen: bool,
}

impl World {
    fn make(order: &RunOrder, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let RunOrder { spec, ground, .. } = order;
        rustix::system::sethostname(spec.hostname.as_bytes()).map_err(Failure::at("sethostname"))?;
        if spec.network == Network::None {
            sys::loopback_up().map_err(Failure::at("switch the loopback interface on"))?;
        }
        stage::make_private()?;
        let root = OpenRoot::open(&spec.root)?;
        let mounts = spec.mounts.iter().map(volumes::open).collect::<Result<Vec<_>, _>>()?;
        // Root of the machine could change it through device files and parts of /proc and /sys, whatever its capabilities.
        let guard = ground.real_root && spec.capabilities == Capabilities::Default14;
        let mut stage = Stage::new(Rules { trusted: ground.trusted, no_devices: guard })?;
        let mut inside = Inside::new(root.mount(&mut stage)?);

        let others_are_seen = special::proc(&mut inside, spec, guard)?;
        let (_, gids) = userns::own_maps().map_err(Failure::at("read /proc/self/gid_map"))?;
        let dev = special::dev(&mut inside, spec.capabilities, gids.has(5), guard)?;
        special::sys(&mut inside, spec.capabilities, spec.network, guard)?;
        volumes::network_files(&mut inside, &mut stage, spec)?;
        for mount in &mounts {
            mount.mount(&mut inside, &mut stage)?;
        }
        if ground.rung == Rung::SingleId {
            volumes::one_id_for_apt(&mut inside, &mut stage)?;
        }
        let missing = if spec.create_cwd { Missing::Keep } else { Missing::Error };
        inside.find(&spec.cwd, missing)?;
        let (standard, terminal) = match spec.terminal {
            Some(size) => {
                let terminal = terminal::open(&dev, size)?;
                (Standard::Terminal(terminal.command), Some(terminal.caller))
            }
            None => (three(fds)?, None),
        };
        stage::pivot(inside.root())?;
        Ok(Self { standard, terminal, stubs: inside.into_stubs(), others_are_seen })
    }
}

pub(super) fn three(fds: Vec<OwnedFd>) -> Result<Standard, Failure> {
    let [input, output, error] = <[OwnedFd; 3]>::try_from(fds)
        .map_err(|_| Failure::new("standard input, output and error did not arrive", libc::EBADF))?;
    Ok(Standard::Three(input, output, error))
}

/// Reaps until the command has ended. None if the caller has gone, or if the command has told the caller itself that it
/// could not start.
pub(super) fn wait_for(
    command: Pid,
    children: &OwnedFd,
    channel: &Channel,
    owners: Option<&Listener>,
    grace: Duration,
    signal_all: &dyn Fn(Signal),
) -> Option<Report> {
    let mut deadline: Option<Instant> = None;
    let mut all_gone = false;
    loop {
        if let Some(status) = reap(command, children) {
            return report(status);
        }
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if timeout == Some(Duration::ZERO) {
            signal_all(Signal::KILL);
            deadline = None;
            continue;
        }
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(children, PollFlags::IN), PollFd::new(channel, PollFlags::IN)];
        fds.extend(owners.filter(|_| !all_gone).map(|owners| PollFd::new(&owners.calls, PollFlags::IN)));
        // Only an interruption can be the reason for an error; then we look again.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        let told = fds.get(2).map_or(PollFlags::empty(), PollFd::revents);
        if let Some(owners) = owners.filter(|_| told.contains(PollFlags::IN)) {
            owners.answer();
        }
        // Nobody is left under the filter.
        all_gone |= told.contains(PollFlags::HUP);
        let asked = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if asked {
            let mut byte = [0];
            match rustix::io::read(channel, &mut byte) {
                Ok(1) if byte == [END] => {
                    signal_all(Signal::TERM);
                    deadline.get_or_insert_with(|| Instant::now() + grace);
                }
                Err(rustix::io::Errno::INTR) => {}
                // The caller has gone: this is the end of everything.
                _ => return None,
            }
        }
    }
}

/// Takes the ends of all children that have one; that of the command if it is among them.
fn reap(command: Pid, children: &OwnedFd) -> Option<WaitStatus> {
    // It only tells that there is something to reap.
    let _ = rustix::io::read(children, &mut [0_u8; 128]);
    let mut end = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == command {
            end = Some(status);
        }
    }
    end
}

fn report(status: WaitStatus) -> Option<Report> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Report::Code(code)),
        (None, signal) => signal.map(Report::Signal),
    }
}
