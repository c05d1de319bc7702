//! Standard input, for as long as somebody waits for what is built of it.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use skycap_sandbox::Cancel;

/// How soon a wish to end is noticed.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Standard input, unbuffered, until the build is cancelled: people who type, and programs that write slowly, can be given up.
pub struct Input<'c>(pub &'c Cancel);

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = rustix::stdio::stdin();
        loop {
            if self.0.is_cancelled() {
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(&input, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                // Of what cannot be waited for, reading tells more.
                Ok(_) | Err(_) => return Ok(rustix::io::read(input, buffer)?),
            }
        }
    }
}
