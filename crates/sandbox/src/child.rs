//! The child's side: everything that happens after this program was started again as a sandbox's child.
//!
//! Three processes share the work, each single-threaded. The *first* leaves the caller's namespaces and then only waits.
//! The *second* is the first process of the new pid namespace ([`init`]): it makes the mounts, starts the command and
//! reaps what is left over; when it ends, the kernel ends the rest. The *third* becomes the command ([`command`]). The
//! socket to the caller is open in the first two until all is over, so its end tells the caller that nobody is left; and
//! the other way round its end tells the second that the caller has died. A [`takeover`] has no namespaces and needs two
//! processes only.

mod command;
mod cover;
mod exchange;
mod filter;
mod herd;
mod init;
mod inside;
mod overlay;
mod owners;
mod special;
mod stage;
mod standing;
mod takeover;
mod terminal;
mod volumes;

pub(crate) use filter::docker::IS_KNOWN_HERE as FILTER_IS_KNOWN_HERE;

use std::os::fd::OwnedFd;

use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::channel::Channel;
use crate::error::Failure;
use crate::ladder::Rung;
use crate::spawn::{MARK, Order, Report, RunOrder};
use crate::spec::{Network, UserNamespace};
use crate::sys::{self, Fork};
use crate::userns::{self, NewIds, Writer};

/// Becomes the sandbox's child if this process was started as one, and then never returns; otherwise does nothing.
///
/// Must be the first line of `main` in every program that uses this crate: a run starts `/proc/self/exe` again.
pub fn child_main() {
    #[expect(clippy::disallowed_methods, reason = "the mark by which a re-executed child knows itself")]
    let marked = std::env::args_os().next().is_some_and(|name| name == MARK);
    if marked {
        sys::close_from(3);
        if let Ok(channel) = take_channel()
            && let Ok(Some((order, fds))) = channel.receive()
        {
            obey(order, fds, &channel);
        }
        sys::exit_now(0);
    }
}

/// The socket came as standard input, where the command's will be; it moves out of the way.
fn take_channel() -> std::io::Result<Channel> {
    let channel = rustix::io::fcntl_dupfd_cloexec(sys::borrow(0), 10)?;
    sys::duplicate_onto(sys::borrow(1), 0)?;
    Ok(Channel::from_fd(channel))
}

fn obey(order: Order, fds: Vec<OwnedFd>, channel: &Channel) {
    let report = match order {
        Order::Try(ids) => userns::try_out(ids.as_ref()).map_or_else(Report::Refused, |()| Report::Works),
        Order::TryUpper { directory, trusted } => {
            overlay::try_upper(&directory, trusted).map_or_else(Report::Refused, |()| Report::Works)
        }
        Order::PutBack { territory, tree } => {
            let answer = takeover::put_back(&territory, &tree);
            answer.map_or_else(|failure| Report::Refused(failure.into()), |()| Report::Works)
        }
        Order::Run(order) if order.ground.rung == Rung::Takeover => {
            takeover::main(&order, fds, channel);
            return;
        }
        Order::Run(order) => match run(&order, fds, channel) {
            Ok(()) => return,
            Err(failure) => Report::Failed(failure),
        },
    };
    // A caller that has gone wants no answer.
    let _ = channel.send(&report, &[]);
}

/// Leaves the caller's namespaces and waits for the one that goes on.
fn run(order: &RunOrder, fds: Vec<OwnedFd>, channel: &Channel) -> Result<(), Failure> {
    let network_is_ours = order.spec.network == Network::Host || may_make_networks()?;
    match order.spec.user_namespace {
        Some(look) => enter_look(look)?,
        // Where we hold CAP_SYS_ADMIN and little else, all capabilities are to be had one namespace further in.
        None if !network_is_ours => enter_look(UserNamespace::Identity)?,
        None => {}
    }
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if order.spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).map_err(Failure::at("unshare(CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWIPC|CLONE_NEWUTS)"))?;
    // It hides the path of our control group; kernels without it have nothing else to offer.
    let _ = sys::unshare(UnshareFlags::NEWCGROUP);
    match sys::fork().map_err(Failure::at("fork"))? {
        Fork::Child => {
            init::main(order, fds, channel);
            sys::exit_now(0);
        }
        Fork::Parent(pid) => {
            drop(fds);
            // The end is what is awaited; how the command ended has been told by then.
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
            Ok(())
        }
    }
}

/// Whether a new network would be ours to configure.
fn may_make_networks() -> Result<bool, Failure> {
    let capabilities = rustix::thread::capabilities(None).map_err(Failure::at("capget"))?;
    Ok(capabilities.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Moves into the user namespaces that look as asked.
fn enter_look(look: UserNamespace) -> Result<(), Failure> {
    let (uids, gids) = userns::own_maps().map_err(Failure::at("read /proc/self/uid_map"))?;
    let enter = |uids, gids| userns::move_into(&NewIds { uids, gids, writer: Writer::Outside });
    if look == UserNamespace::RootIsHighest
        && let (Some((outer_uids, inner_uids)), Some((outer_gids, inner_gids))) =
            (uids.root_is_highest(), gids.root_is_highest())
    {
        enter(outer_uids, outer_gids)?;
        return enter(inner_uids, inner_gids);
    }
    enter(uids.identity(), gids.identity())
}
