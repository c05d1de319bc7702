//! Starting ourselves again as the sandbox's child, and what the two say to each other.
//!
//! The caller may have threads; a forked copy of it could not even allocate safely. So the child is a fresh execution of
//! `/proc/self/exe`, told by its zeroth argument, with an empty environment and one socket as its standard input. What to
//! do crosses as data.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::error::{Attempt, Failure, RunError};
use crate::ladder::Rung;
use crate::spec::RunSpec;
use crate::userns::NewIds;

/// The zeroth argument by which a child knows itself.
pub(crate) const MARK: &str = "skycap-sandbox-child";

/// From the caller to the child: the first message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Find out whether namespaces and mounts are permitted.
    Try(Option<NewIds>),
    /// Find out whether an overlay can have its upper directory in this empty directory.
    TryUpper { directory: PathBuf, trusted: bool },
    /// Run a command. Its standard input, output and error come with the message, unless it gets a terminal.
    Run(Box<RunOrder>),
    /// Undo an exchange of roots whose child died. The territory and the tree that took the root's place.
    PutBack { territory: PathBuf, tree: PathBuf },
}

/// What a run needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunOrder {
    pub(crate) spec: RunSpec,
    pub(crate) ground: Ground,
    /// The directory of a takeover.
    pub(crate) territory: Option<PathBuf>,
}

/// What is known about the place we stand on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ground {
    pub(crate) rung: Rung,
    /// Our root is the machine's, with or without its capabilities: the settings in `/proc/sys` belong to it, so parts of
    /// `/proc` and `/sys` must be kept from it.
    pub(crate) real_root: bool,
    /// Overlays use `trusted.` attributes: the kernel is too old for `user.` ones.
    pub(crate) trusted: bool,
}

/// From the child to the caller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// What was to be tried works.
    Works,
    /// What was to be tried does not.
    Refused(Attempt),
    /// The terminal's other end comes with this message.
    Terminal,
    /// Something to be read with the command's output.
    Said(String),
    /// A step failed before the command ran.
    Failed(Failure),
    /// There is no such command.
    NotFound { name: String, searched: String },
    /// The command ended with this status.
    Code(i32),
    /// The command was ended by this signal.
    Signal(i32),
}

/// The byte that asks the first process of the sandbox to end the others.
pub(crate) const END: u8 = b'T';

/// A running child. Dropping it kills the sandbox and waits for its end.
#[derive(Debug)]
pub(crate) struct Spawned {
    child: Child,
    pub(crate) channel: Channel,
}

impl Spawned {
    /// Starts a child and gives it its order.
    pub(crate) fn new(order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        // What /dev/null is elsewhere; here it need not exist.
        let nothing = rustix::fs::memfd_create("nothing", MemfdFlags::CLOEXEC)?;
        let child = Command::new("/proc/self/exe")
            .arg0(MARK)
            .env_clear()
            // A Ctrl-C at the terminal is the caller's to turn into a `Cancel`.
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(nothing.try_clone()?)
            .stderr(nothing)
            .spawn()?;
        let spawned = Self { child, channel };
        spawned.channel.send(order, fds)?;
        Ok(spawned)
    }

    /// Waits for the child's own end; by then no process of the sandbox is left.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Both answer with an error if the child has been waited for already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a child something that it answers with [`Report::Works`] or [`Report::Refused`].
pub(crate) fn ask(order: &Order) -> Result<Result<(), Attempt>, RunError> {
    let spawned = Spawned::new(order, &[]).map_err(RunError::io("start the sandbox's child (/proc/self/exe)"))?;
    let answer = spawned.channel.receive().map_err(RunError::io("read the answer of the sandbox's child"))?;
    match answer {
        Some((Report::Works, _)) => Ok(Ok(())),
        Some((Report::Refused(attempt), _)) => Ok(Err(attempt)),
        _ => Err(RunError::Died),
    }
}
