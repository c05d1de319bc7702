//! The third process: it becomes the command.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::filter::{docker, network, pretend};
use crate::channel::Channel;
use crate::error::Failure;
use crate::ladder::Rung;
use crate::spawn::Report;
use crate::spec::{Capabilities, Filter, Network, RunSpec, User};
use crate::sys;
use crate::userns::{self, NewIds, Writer};

/// What a path is searched on when the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capabilities of every container (`a80425fb`).
const DEFAULT: CapabilitySet = CapabilitySet::AUDIT_WRITE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Where the socket to the caller goes while everything above it is closed.
const CHANNEL: i32 = 3;
/// Where the socket to the first process goes, over which it gets the listener that tells of changed owners.
const OWNERS: i32 = 4;

/// The command's standard input, output and error.
pub(super) enum Standard {
    Three(OwnedFd, OwnedFd, OwnedFd),
    Terminal(OwnedFd),
}

impl Standard {
    fn each(&self) -> [BorrowedFd<'_>; 3] {
        match self {
            Self::Three(input, output, error) => [input.as_fd(), output.as_fd(), error.as_fd()],
            Self::Terminal(terminal) => [terminal.as_fd(); 3],
        }
    }
}

/// What becomes of this process.
pub(super) struct Order<'a> {
    pub(super) spec: &'a RunSpec,
    pub(super) rung: Rung,
    /// It gets a user namespace of its own: it sees other commands, whose rights are the same as its own, and must not be able
    /// to look into them.
    pub(super) apart: bool,
}

/// Becomes the command; if that fails, tells the caller why and ends.
pub(super) fn main(order: &Order<'_>, standard: &Standard, channel: &Channel, owners: Option<&OwnedFd>) -> ! {
    let report = match become_command(order, standard, channel, owners) {
        Ok(never) => match never {},
        Err(report) => report,
    };
    // The number above is a copy of the channel; a caller that has gone wants no answer.
    let _ = Channel::from_fd(sys::take_standard(CHANNEL)).send(&report, &[]);
    sys::exit_now(127)
}

fn become_command(
    order: &Order<'_>,
    standard: &Standard,
    channel: &Channel,
    owners: Option<&OwnedFd>,
) -> Result<std::convert::Infallible, Report> {
    prepare(order, standard, channel, owners).map_err(Report::Failed)?;
    let spec = order.spec;
    let c_strings = |strings: Vec<OsString>| -> Result<Vec<CString>, Failure> {
        let c_string = |string: OsString| CString::new(string.into_vec());
        strings
            .into_iter()
            .map(c_string)
            .collect::<Result<_, _>>()
            .map_err(|_| Failure::new("the command or its environment holds a NUL character", libc::EINVAL))
    };
    let pair = |(name, value): &(OsString, OsString)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        pair
    };
    let args = c_strings(spec.args.clone()).map_err(Report::Failed)?;
    let env = c_strings(spec.env.iter().map(pair).collect()).map_err(Report::Failed)?;
    Err(execute(spec, &args, &env))
}

/// Everything between the fork and the exec.
fn prepare(order: &Order<'_>, standard: &Standard, channel: &Channel, owners: Option<&OwnedFd>) -> Result<(), Failure> {
    let Order { spec, rung, apart } = *order;
    sys::reset_signals();
    rustix::process::setsid().map_err(Failure::at("setsid"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::new_session_keyring();
    // One id only: every user is that one.
    let user = if rung == Rung::SingleId { User::default() } else { spec.user.clone() };
    if let Standard::Terminal(terminal) = standard {
        rustix::process::ioctl_tiocsctty(terminal).map_err(Failure::at("take the terminal"))?;
    }
    for (number, fd) in (0..).zip(standard.each()) {
        // So that the command can open /dev/stdout.
        if user.uid != 0 && user.uid != u32::MAX && is_ours(fd) {
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(user.uid)), None);
        }
        sys::duplicate_onto(fd, number).map_err(Failure::at("dup2"))?;
    }
    // Nothing else of ours may be open: neither in the command, nor when it names /proc/self/fd as its directory.
    sys::duplicate_onto(channel.as_fd(), CHANNEL).map_err(Failure::at("dup2"))?;
    rustix::io::fcntl_setfd(sys::borrow(CHANNEL), rustix::io::FdFlags::CLOEXEC).map_err(Failure::at("fcntl"))?;
    if let Some(owners) = owners {
        sys::duplicate_onto(owners.as_fd(), OWNERS).map_err(Failure::at("dup2"))?;
        rustix::io::fcntl_setfd(sys::borrow(OWNERS), rustix::io::FdFlags::CLOEXEC).map_err(Failure::at("fcntl"))?;
    }
    sys::close_from(if owners.is_some() { OWNERS } else { CHANNEL } + 1);

    // The kernel takes the highest number for "leave it as it is", which is root.
    if [spec.user.uid, spec.user.gid].iter().chain(&spec.user.groups).any(|id| *id == u32::MAX) {
        return Err(Failure::new(format!("{} is no id of a user or group", u32::MAX), libc::EINVAL));
    }

    let step = format!("change the directory to {}", spec.cwd.display());
    let early = rustix::process::chdir(&spec.cwd);
    if early != Err(rustix::io::Errno::ACCESS) {
        early.map_err(Failure::at(step.clone()))?;
    }
    if apart {
        let (uids, gids) = userns::own_maps().map_err(Failure::at("read /proc/self/uid_map"))?;
        userns::move_into(&NewIds { uids: uids.identity(), gids: gids.identity(), writer: Writer::Outside })?;
    }
    // Dropping from the bounding set takes a capability that a change of the user takes away.
    let keep = match spec.capabilities {
        Capabilities::Default14 => DEFAULT,
        Capabilities::All => CapabilitySet::from_bits_retain(u64::MAX),
    };
    bound(keep)?;
    filter(spec, rung)?;
    switch_user(&user, rung)?;
    drop_capabilities(keep, rung, owners.is_some())?;
    if early.is_err() {
        rustix::process::chdir(&spec.cwd).map_err(Failure::at(step))?;
    }
    stay_inside(spec)
}

/// Links in `/proc` lead out of the root file system, and were followed with all capabilities (CVE-2024-21626).
fn stay_inside(spec: &RunSpec) -> Result<(), Failure> {
    let directory = rustix::process::getcwd(Vec::new()).map_err(Failure::at("getcwd"))?;
    if directory.as_bytes().first() == Some(&b'/') {
        return Ok(());
    }
    Err(Failure::new(format!("the directory {} is not in the root file system", spec.cwd.display()), libc::EPERM))
}

/// Whether this was made for the run: a pipe or its terminal. `/dev/null` is the machine's, and open to all anyway.
fn is_ours(fd: BorrowedFd<'_>) -> bool {
    let is_pipe = |mode| FileType::from_raw_mode(mode) == FileType::Fifo;
    rustix::termios::isatty(fd) || rustix::fs::fstat(fd).is_ok_and(|stat| is_pipe(stat.st_mode))
}

fn switch_user(user: &User, rung: Rung) -> Result<(), Failure> {
    if rung == Rung::SingleId {
        return Ok(());
    }
    let hint = "only the ids in /proc/self/uid_map exist here; see /etc/subuid and /etc/subgid";
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .map_err(|errno| Failure::at(format!("change the group to {}", user.gid))(errno).hint(hint))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .map_err(|errno| Failure::at(format!("change the user to {}", user.uid))(errno).hint(hint))
}

/// Leaves the capabilities of the specification, none of them inheritable or ambient.
///
/// `no_new_privs` stays off: `sudo`, `su` and `ping` work inside, and gain what the bounding set has, in the user
/// namespace, no more.
fn drop_capabilities(keep: CapabilitySet, rung: Rung, told: bool) -> Result<(), Failure> {
    let step = || "drop capabilities";
    let current = rustix::thread::capabilities(None).map_err(Failure::at(step()))?;
    rustix::thread::clear_ambient_capability_set().map_err(Failure::at(step()))?;
    let mut sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..current };
    if rung == Rung::SingleId {
        rustix::thread::set_capabilities(None, sets).map_err(Failure::at(step()))?;
        // It takes CAP_SYS_ADMIN, and afterwards `capset` is pretended: the exec leaves what the bounding set allows.
        return pretend_owners(told);
    }
    sets.permitted &= keep;
    sets.effective &= keep;
    rustix::thread::set_capabilities(None, sets).map_err(Failure::at(step()))
}

/// Answers calls that change owners and ids with success; those that change owners are told over [`OWNERS`]. Linux before 5.0
/// has no listeners, and a sandbox in a sandbox gets none: there they are only pretended.
fn pretend_owners(told: bool) -> Result<(), Failure> {
    if told && let Ok(listener) = sys::install_listening_filter(&pretend::program(true)) {
        let channel = Channel::from_fd(sys::take_standard(OWNERS));
        return channel.send(&(), &[listener.as_fd()]).map_err(Failure::at("sendmsg"));
    }
    sys::install_filter(&pretend::program(false)).map_err(Failure::at("seccomp"))
}

/// Installs the filters that need no `no_new_privs`: that takes `CAP_SYS_ADMIN` in our user namespace, which is about to go.
fn filter(spec: &RunSpec, rung: Rung) -> Result<(), Failure> {
    if rung == Rung::Takeover {
        return without_network(spec);
    }
    if spec.filter == Filter::None || spec.capabilities == Capabilities::All {
        return Ok(());
    }
    match docker::program().map(|program| sys::install_filter(&program)) {
        // A kernel without filters.
        Some(Err(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
        Some(installed) => installed.map_err(Failure::at("seccomp")),
        None => Ok(()),
    }
}

/// Where no network namespace can be made, a filter takes its place, at the price of `no_new_privs`.
fn without_network(spec: &RunSpec) -> Result<(), Failure> {
    if spec.network == Network::Host {
        return Ok(());
    }
    rustix::thread::set_no_new_privs(true)
        .map_err(std::io::Error::from)
        .and_then(|()| sys::install_filter(&network::program()))
        .map_err(Failure::at("switch the network off (seccomp)"))
}

fn bound(keep: CapabilitySet) -> Result<(), Failure> {
    for capability in CapabilitySet::from_bits_retain(!keep.bits()).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel does not know that one.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(Failure::at("drop capabilities from the bounding set")(errno)),
        }
    }
    Ok(())
}

/// Executes the command; returns what went wrong.
fn execute(spec: &RunSpec, args: &[CString], env: &[CString]) -> Report {
    let Some(name) = args.first() else {
        return Report::Failed(Failure::new("there is no command", libc::EINVAL));
    };
    let shown = name.to_string_lossy().into_owned();
    if name.as_bytes().contains(&b'/') {
        return attempt(name, name, args, env).unwrap_or(Report::NotFound { name: shown, searched: String::new() });
    }
    let path = spec.env.iter().rev().find(|(variable, _)| variable == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    let mut refused = None;
    for directory in path.as_bytes().split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let directory = if directory.is_empty() { b"." } else { directory };
        let Ok(candidate) = CString::new([directory, b"/", name.as_bytes()].concat()) else { continue };
        match attempt(&candidate, name, args, env) {
            None => {}
            // As a shell does: perhaps another directory has one that may be executed.
            Some(Report::Failed(failure)) if failure.errno == libc::EACCES => {
                refused.get_or_insert(Report::Failed(failure));
            }
            Some(other) => return other,
        }
    }
    refused.unwrap_or_else(|| Report::NotFound { name: shown, searched: path.to_string_lossy().into_owned() })
}

/// Tries one file. None if it does not exist.
fn attempt(path: &CString, name: &CString, args: &[CString], env: &[CString]) -> Option<Report> {
    let error = sys::execve(path, args, env);
    let failure = |hint: &str| {
        let step = format!("exec {}", name.to_string_lossy());
        Some(Report::Failed(
            Failure::at::<io::Error>(step)(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0))).hint(hint),
        ))
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) if rustix::fs::stat(&**path).is_err() => None,
        Some(libc::ENOENT) => failure("the file exists, but not the interpreter or dynamic loader that it names"),
        Some(libc::ENOEXEC) => failure("the file is no program for this machine, or a script without a #! line"),
        _ => failure(""),
    }
}
