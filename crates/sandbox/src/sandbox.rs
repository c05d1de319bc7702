//! The caller's side of a run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cancel::Cancel;
use crate::child::FILTER_IS_KNOWN_HERE;
use crate::error::{Failure, RunError};
use crate::ladder::Rung;
use crate::spawn::{self, END, Ground, Order, Report, RunOrder, Spawned};
use crate::spec::{Root, RunSpec};
use crate::territory::Territory;

/// What a command reads from its standard input. On a terminal, its end is an end-of-file character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stdin {
    /// Nothing: the end at once.
    Empty,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

/// Where the output of a command goes, as it comes.
pub trait Output {
    /// Bytes of standard output; of everything when there is a terminal.
    fn stdout(&mut self, bytes: &[u8]);
    /// Bytes of standard error.
    fn stderr(&mut self, bytes: &[u8]);
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The right to run commands, on the rung that was entered.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub(crate) ground: Ground,
    pub(crate) why: String,
    /// Of a takeover.
    pub(crate) territory: Option<Arc<Territory>>,
    /// Where commands see each other's processes.
    pub(crate) crowd: Option<Arc<Crowd>>,
}

/// Those that run at the same time.
#[derive(Default, Debug)]
pub(crate) struct Crowd(RwLock<()>);

/// A place in the crowd, as long as it is held.
enum Place<'c> {
    Alone { _place: RwLockWriteGuard<'c, ()> },
    Beside { _others: RwLockReadGuard<'c, ()> },
}

impl Crowd {
    /// Waits until there is a place: for one that is alone, until nobody runs.
    fn join(&self, alone: bool) -> Place<'_> {
        if alone {
            Place::Alone { _place: self.0.write().unwrap_or_else(PoisonError::into_inner) }
        } else {
            Place::Beside { _others: self.0.read().unwrap_or_else(PoisonError::into_inner) }
        }
    }
}

impl Sandbox {
    /// The rung we stand on.
    pub fn rung(&self) -> Rung {
        self.ground.rung
    }

    /// One line for the log: which rung, and why.
    pub fn describe(&self) -> String {
        let filter = if FILTER_IS_KNOWN_HERE || self.ground.rung == Rung::Takeover {
            ""
        } else {
            "; there is no filter on system calls for this architecture"
        };
        format!("{} ({}{filter})", self.ground.rung, self.why)
    }

    /// Whether owners set by commands are kept; false on [`Rung::SingleId`].
    pub fn owners_kept(&self) -> bool {
        self.ground.rung != Rung::SingleId
    }

    /// Whether overlay directories mark opaque directories by `trusted.overlay.opaque`; otherwise by
    /// `user.overlay.opaque`, which serves every rung and so is preferred where the kernel knows it (Linux 5.11).
    pub fn overlay_xattrs_trusted(&self) -> bool {
        self.ground.trusted
    }

    /// Of a takeover: the directory, on the file system of `/`, in which trees for [`Root::TakenOver`] are made. What a
    /// [`Mount::Bind`](crate::Mount::Bind) shows is moved instead of copied if it lies here.
    pub fn territory(&self) -> Option<&Path> {
        self.territory.as_deref().map(Territory::path)
    }

    /// Whether an overlay's upper directory may lie in `directory`, which must be an empty directory of the caller's own;
    /// tried out, with what that leaves in it. It may not on another overlay, nor on a file system without the extended
    /// attributes.
    pub fn overlay_upper_works(&self, directory: &Path) -> Result<(), RunError> {
        let order = Order::TryUpper { directory: directory.to_owned(), trusted: self.ground.trusted };
        spawn::ask(&order)?
            .map_err(|attempt| setup(Failure { step: attempt.call, errno: attempt.errno, hint: attempt.hint }))
    }

    /// Runs a command to its end. When this returns, none of its processes is left and nothing is mounted.
    pub fn run(
        &self,
        spec: &RunSpec,
        stdin: Stdin,
        output: &mut dyn Output,
        cancel: &Cancel,
    ) -> Result<Exit, RunError> {
        let territory = self.territory.as_deref();
        // While roots are exchanged, no path of this process is right: one at a time.
        let _turn = territory.map(Territory::turn);
        let _place = self.crowd.as_deref().map(|crowd| crowd.join(spec.alone));
        let territory = territory.map(|territory| territory.path().to_owned());
        let order = RunOrder { spec: spec.clone(), ground: self.ground, territory: territory.clone() };
        let order = Order::Run(Box::new(order));
        let (ours, theirs) = if spec.terminal.is_some() {
            (Streams::of_terminal(stdin), Vec::new())
        } else {
            Streams::of_pipes(stdin).map_err(RunError::io("make pipes for the command's output"))?
        };
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        let spawned = Spawned::new(&order, &fds).map_err(RunError::io("start the sandbox's child (/proc/self/exe)"))?;
        drop(theirs);
        let report = Conversation { streams: ours, output, report: None }
            .hold(&spawned, cancel)
            .map_err(RunError::io("read the command's output"))?;
        spawned.wait().map_err(RunError::io("wait for the sandbox's child"))?;
        match report {
            Some(Report::Code(code)) => Ok(Exit::Code(code)),
            Some(Report::Signal(signal)) => Ok(Exit::Signal(signal)),
            Some(Report::NotFound { name, searched }) => Err(RunError::ExecNotFound { name, searched }),
            Some(Report::Failed(failure)) => Err(setup(failure)),
            _ => {
                if let (Some(territory), Root::TakenOver { tree, .. }) = (territory, &spec.root) {
                    // That it died is what is told, whether this works or not.
                    let _ = spawn::ask(&Order::PutBack { territory, tree: tree.clone() });
                }
                Err(RunError::Died)
            }
        }
    }
}

fn setup(failure: Failure) -> RunError {
    let source = match failure.errno {
        0 => io::Error::other("no further reason is known"),
        errno => io::Error::from_raw_os_error(errno),
    };
    RunError::Setup { step: failure.step, hint: failure.hint, source }
}

/// Our ends of the command's standard input and output.
struct Streams {
    input: Option<OwnedFd>,
    to_write: Vec<u8>,
    written: usize,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    terminal: bool,
}

/// The character that a terminal takes for the end of the input.
const END_OF_FILE: u8 = 4;

impl Streams {
    /// Pipes, and the command's ends of them.
    fn of_pipes(stdin: Stdin) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (output, their_output) = pipe()?;
        let (error, their_error) = pipe()?;
        let (input, their_input, to_write) = match stdin {
            Stdin::Empty => (None, null()?, Vec::new()),
            Stdin::Bytes(bytes) => {
                let (theirs, ours) = pipe()?;
                nonblocking(&ours)?;
                (Some(ours), theirs, bytes)
            }
        };
        nonblocking(&output)?;
        nonblocking(&error)?;
        let ours = Self { input, to_write, written: 0, output: Some(output), error: Some(error), terminal: false };
        Ok((ours, vec![their_input, their_output, their_error]))
    }

    /// A terminal that has not arrived yet.
    fn of_terminal(stdin: Stdin) -> Self {
        let mut to_write = match stdin {
            Stdin::Empty => Vec::new(),
            Stdin::Bytes(bytes) => bytes,
        };
        to_write.push(END_OF_FILE);
        Self { input: None, to_write, written: 0, output: None, error: None, terminal: true }
    }

    /// The terminal is here.
    fn arrived(&mut self, terminal: OwnedFd) -> io::Result<()> {
        nonblocking(&terminal)?;
        self.input = Some(terminal.try_clone()?);
        self.output = Some(terminal);
        Ok(())
    }

    /// Writes what the pipe takes; closes it when all is written or nobody reads.
    fn write(&mut self) {
        let Some(fd) = &self.input else { return };
        let rest = self.to_write.get(self.written..).unwrap_or_default();
        match rustix::io::write(fd, rest) {
            Ok(count) => self.written += count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => self.written = self.to_write.len(),
        }
        if self.written >= self.to_write.len() {
            self.input = None;
        }
    }
}

/// The device itself: programs such as `rg` take an empty pipe for input that they shall search.
fn null() -> io::Result<OwnedFd> {
    let file = std::fs::File::open("/dev/null");
    Ok(file.map_err(|error| io::Error::new(error.kind(), format!("open /dev/null: {error}")))?.into())
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// How many buffers are read before we look around again: a terminal gives 4 KiB at a time.
const ROUNDS: usize = 16;

/// A run as the caller sees it: bytes one way and the other, and one report in the end.
struct Conversation<'a> {
    streams: Streams,
    output: &'a mut dyn Output,
    report: Option<Report>,
}

impl Conversation<'_> {
    /// Goes on until the sandbox has closed its end of the socket, which it does when nobody is left in it.
    fn hold(mut self, spawned: &Spawned, cancel: &Cancel) -> io::Result<Option<Report>> {
        let wake = cancel.wake()?;
        let mut asked = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let ready = self.poll(spawned, (!asked).then_some(&*wake))?;
            if ready.cancel && !asked {
                asked = true;
                // If it has ended already, it needs not be asked to.
                let _ = spawned.channel.send_bytes(&[END]);
            }
            if ready.input {
                self.streams.write();
            }
            self.read_all(&mut buffer, ROUNDS);
            if ready.channel && !self.listen(spawned)? {
                self.read_all(&mut buffer, usize::MAX);
                return Ok(self.report);
            }
        }
    }

    /// Waits until there is something to do.
    fn poll(&self, spawned: &Spawned, wake: Option<&OwnedFd>) -> io::Result<Ready> {
        let streams = &self.streams;
        let wanted = [
            (Some(spawned.channel.as_fd()), PollFlags::IN),
            (wake.map(AsFd::as_fd), PollFlags::IN),
            (streams.input.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (streams.output.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (streams.error.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let mut fds = Vec::with_capacity(wanted.len());
        let places = wanted.map(|(fd, flags)| {
            let place = fds.len();
            fds.extend(fd.map(|fd| PollFd::from_borrowed_fd(fd, flags)));
            fd.map(|_| place)
        });
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        let [channel, cancel, input, ..] =
            places.map(|place| place.and_then(|place| fds.get(place)).is_some_and(|fd| !fd.revents().is_empty()));
        Ok(Ready { channel, cancel, input })
    }

    /// Takes a message; false when there will be none any more.
    fn listen(&mut self, spawned: &Spawned) -> io::Result<bool> {
        match spawned.channel.receive()? {
            None => return Ok(false),
            Some((Report::Terminal, fds)) => {
                for fd in fds {
                    self.streams.arrived(fd)?;
                }
            }
            Some((Report::Said(text), _)) => self.output.stderr(text.as_bytes()),
            // The first one counts: a command that could not start says so itself, before its exit status is known.
            Some((report, _)) => {
                self.report.get_or_insert(report);
            }
        }
        Ok(true)
    }

    /// Passes on what there is of each stream, at most `rounds` buffers.
    fn read_all(&mut self, buffer: &mut [u8], rounds: usize) {
        for _ in 0..rounds {
            let output = &mut *self.output;
            let one = read(&mut self.streams.output, buffer, &mut |bytes| output.stdout(bytes));
            let two = read(&mut self.streams.error, buffer, &mut |bytes| output.stderr(bytes));
            if !one && !two {
                break;
            }
        }
        if self.streams.terminal && self.streams.output.is_none() {
            self.streams.input = None;
        }
    }
}

/// What there is to do.
struct Ready {
    channel: bool,
    cancel: bool,
    input: bool,
}

/// Reads once; whether there was something. A stream at its end is closed: for a terminal that is an error, EIO.
fn read(stream: &mut Option<OwnedFd>, buffer: &mut [u8], take: &mut dyn FnMut(&[u8])) -> bool {
    let Some(fd) = stream else { return false };
    match rustix::io::read(fd, &mut *buffer) {
        Ok(count) if count > 0 => {
            take(buffer.get(..count).unwrap_or_default());
            true
        }
        Err(Errno::AGAIN | Errno::INTR) => false,
        _ => {
            *stream = None;
            false
        }
    }
}
