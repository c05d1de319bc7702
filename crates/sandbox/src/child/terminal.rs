//! The terminal of a command: a pair from the sandbox's own devpts, so that its name is right inside.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::Winsize;

use super::special::bind_file;
use crate::error::Failure;
use crate::spec::TerminalSize;

/// The side of the caller, and the side of the command.
pub(super) struct Terminal {
    pub(super) caller: OwnedFd,
    pub(super) command: OwnedFd,
}

/// Opens a terminal in the mounted `dev`, and makes it `/dev/console` too.
pub(super) fn open(dev: &OwnedFd, size: TerminalSize) -> Result<Terminal, Failure> {
    let attempt = || -> rustix::io::Result<Terminal> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let caller = rustix::fs::openat(dev, "pts/ptmx", flags, Mode::empty())?;
        unlockpt(&caller)?;
        let command = ioctl_tiocgptpeer(&caller, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&command, size)?;
        rustix::process::fchdir(dev)?;
        let slave = rustix::fs::openat(dev, "pts/0", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        bind_file(dev, "console", &slave)?;
        Ok(Terminal { caller, command })
    };
    attempt().map_err(Failure::at("open a terminal"))
}
