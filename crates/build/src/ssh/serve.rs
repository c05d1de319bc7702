//! A socket in a directory of ours that answers as long as it is kept.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{SshSource, agent};

/// How many programs may speak at the same time; one more is turned away.
const MOST: usize = 64;

/// A socket that answers as an agent until this is dropped.
pub(crate) struct Served {
    path: PathBuf,
    /// Its other end goes with this.
    stop: Option<UnixStream>,
    listener: Option<JoinHandle<()>>,
}

impl Served {
    /// Listens in `directory`, which must be empty; the socket has this mode.
    pub fn start(source: &SshSource, directory: &Path, mode: u32) -> io::Result<Self> {
        const NAME: &str = "agent";
        // The address of a socket is short; that of a directory need not be.
        let place = File::open(directory)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{NAME}", place.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        let path = directory.join(NAME);
        std::fs::set_permissions(&path, Permissions::from_mode(mode & 0o777))?;
        let (stop, stopped) = UnixStream::pair()?;
        let source = source.clone();
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        let listener = thread.spawn(move || listen(&listener, &stopped, &source))?;
        Ok(Self { path, stop: Some(stop), listener: Some(listener) })
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes calls until the other end of `stopped` is closed. What a call comes to is its caller's affair: a broken one ends.
fn listen(listener: &UnixListener, stopped: &UnixStream, source: &SshSource) {
    let speaking = Arc::new(AtomicUsize::new(0));
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let Ok(_) = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)) else { return };
        if !fds[1].revents().is_empty() {
            return;
        }
        let Ok((program, _)) = listener.accept() else {
            // Out of descriptors, most likely; the caller still waits.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if program.set_nonblocking(false).is_err() || speaking.load(Ordering::Relaxed) >= MOST {
            continue;
        }
        let (source, counted) = (source.clone(), Arc::clone(&speaking));
        speaking.fetch_add(1, Ordering::Relaxed);
        let started = std::thread::Builder::new().name("ssh agent".to_owned()).spawn(move || {
            let _ = agent::converse(program, &source);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            speaking.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
