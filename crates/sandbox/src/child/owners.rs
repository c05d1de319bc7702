//! Owners that a command gives to files where one id only can be mapped: answered with success and recorded in an extended
//! attribute of the file, as `user:group`, where whoever makes a layer of the files finds it
//! (`docs/decisions/0003-ownership-with-a-single-id.md`).
//!
//! The kernel stops the call and tells this process, the first of the pid namespace, which looks at the path in the caller's
//! memory. Nothing is guarded by this: a caller that changes the path meanwhile only fools itself.

use std::cell::RefCell;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::filter::{AARCH64, X86_64};
use super::inside::by_descriptor;
use crate::sys::{self, Notification};

/// The attribute.
const OWNER: &str = "user.skycap.owner";
/// The longest path that the kernel takes.
const LONGEST: usize = 4096;

/// The numbers of `chown`, `fchown`, `lchown` and `fchownat` on an architecture that this program is for.
pub(super) fn calls(architecture: u32) -> &'static [u32] {
    match architecture {
        X86_64 if cfg!(target_arch = "x86_64") => &[92, 93, 94, 260],
        AARCH64 if cfg!(target_arch = "aarch64") => &[55, 54],
        _ => &[],
    }
}

/// Where the kernel tells of calls.
pub(super) struct Listener {
    pub(super) calls: OwnedFd,
    /// `/proc` is that of the outside, and so are the numbers in it.
    pub(super) others_are_seen: bool,
    /// Device files that were not made; the first few.
    devices: RefCell<Vec<String>>,
}

/// How many device files are named.
const NAMED_DEVICES: usize = 8;

impl Listener {
    pub(super) fn new(listener: OwnedFd, others_are_seen: bool) -> Self {
        Self { calls: listener, others_are_seen, devices: RefCell::default() }
    }

    /// What the caller has to be told at the end: what is not there, though the command was told that it is.
    pub(super) fn lost(&self) -> Option<String> {
        let devices = self.devices.borrow();
        let more = if devices.len() > NAMED_DEVICES { ", …" } else { "" };
        let named = devices.get(..NAMED_DEVICES.min(devices.len()))?.join(", ");
        (!devices.is_empty()).then(|| format!("with one id no device can be made; these are missing: {named}{more}\n"))
    }

    /// Remembers a device file; false if the call makes none.
    fn is_device(&self, notification: &Notification) -> bool {
        let [first, second, ..] = notification.arguments;
        let address = match i64::from(notification.number) {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mknod => first,
            libc::SYS_mknodat => second,
            _ => {
                let _ = first;
                return false;
            }
        };
        let path = string(notification.process, address).unwrap_or_default();
        let path = path.as_bytes().escape_ascii().to_string();
        let mut devices = self.devices.borrow_mut();
        if devices.len() <= NAMED_DEVICES && !devices.contains(&path) {
            devices.push(path);
        }
        true
    }

    /// Answers one call.
    pub(super) fn answer(&self) {
        // A caller that was killed meanwhile needs no answer.
        let Ok(mut notification) = sys::receive_notification(&self.calls) else { return };
        let error = if !self.others_are_seen || Self::translate(&mut notification).is_ok() {
            if self.is_device(&notification) {
                0
            } else {
                Chown::of(&notification).map_or(0, |chown| chown.record().err().map_or(0, Errno::raw_os_error))
            }
        } else {
            // It is only pretended.
            0
        };
        let _ = sys::answer_notification(&self.calls, notification.id, error);
    }

    /// The caller's number becomes that which it has in `/proc`: the kernel tells it of an open process.
    fn translate(notification: &mut Notification) -> rustix::io::Result<()> {
        let pid = i32::try_from(notification.process).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let open = pidfd_open(pid, PidfdFlags::empty()).or_else(|_| pidfd_open(pid, THREAD))?;
        let text =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd())).map_err(|_| Errno::SRCH)?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<u32>().ok());
        notification.process = number.filter(|number| *number > 0).ok_or(Errno::SRCH)?;
        Ok(())
    }
}

/// Threads may be opened (Linux 6.9).
const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// A change of owners.
struct Chown {
    process: u32,
    file: Named,
    owner: u32,
    group: u32,
}

/// How a call names its file.
enum Named {
    Descriptor(i32),
    Path { directory: i32, address: u64, flags: AtFlags },
}

impl Chown {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel looks at 32 bits")]
    fn of(notification: &Notification) -> Option<Self> {
        let [first, second, third, fourth, fifth, _] = notification.arguments;
        let path = |flags| Named::Path { directory: libc::AT_FDCWD, address: first, flags };
        let (file, owner, group) = match i64::from(notification.number) {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => (path(AtFlags::empty()), second, third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => (path(AtFlags::SYMLINK_NOFOLLOW), second, third),
            libc::SYS_fchown => (Named::Descriptor(first as i32), second, third),
            libc::SYS_fchownat => {
                let flags = AtFlags::from_bits_retain(fifth as u32);
                (Named::Path { directory: first as i32, address: second, flags }, third, fourth)
            }
            _ => {
                let _ = path;
                return None;
            }
        };
        Some(Self { process: notification.process, file, owner: owner as u32, group: group as u32 })
    }

    fn record(&self) -> rustix::io::Result<()> {
        let open = self.open()?;
        let file = by_descriptor(&open);
        // To nobody else: what the kernel does to a file whose owner changes, it does here (set-user-ID bits, capabilities).
        let _ = rustix::fs::chown(&file, None, None);
        let mut before = [0; 32];
        let length = rustix::fs::getxattr(&file, OWNER, &mut before[..]).unwrap_or(0);
        let before = std::str::from_utf8(before.get(..length).unwrap_or_default()).unwrap_or_default();
        match rustix::fs::setxattr(
            &file,
            OWNER,
            changed(before, self.owner, self.group).as_bytes(),
            XattrFlags::empty(),
        ) {
            // Links, devices and file systems that have no such attributes: it is only pretended.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::NOSPC | Errno::ROFS) => Ok(()),
            other => other,
        }
    }

    fn open(&self) -> rustix::io::Result<OwnedFd> {
        let process = PathBuf::from(format!("/proc/{}", self.process));
        let place = OFlags::PATH | OFlags::CLOEXEC;
        let (directory, address, flags) = match self.file {
            Named::Descriptor(number) => {
                return rustix::fs::open(process.join(format!("fd/{number}")), place, Mode::empty())
                    .map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error });
            }
            Named::Path { directory, address, flags } => (directory, address, flags),
        };
        let path = string(self.process, address)?;
        let start = match directory {
            _ if path.as_bytes().first() == Some(&b'/') => process.join("root"),
            libc::AT_FDCWD => process.join("cwd"),
            number => process.join(format!("fd/{number}")),
        };
        let start = rustix::fs::open(&start, place, Mode::empty())?;
        if path.is_empty() {
            return if flags.contains(AtFlags::EMPTY_PATH) { Ok(start) } else { Err(Errno::NOENT) };
        }
        let links = if flags.contains(AtFlags::SYMLINK_NOFOLLOW) { place | OFlags::NOFOLLOW } else { place };
        if path.as_bytes().first() == Some(&b'/') {
            return rustix::fs::openat2(&start, &*path, links, Mode::empty(), ResolveFlags::IN_ROOT);
        }
        rustix::fs::openat(&start, &*path, links, Mode::empty())
    }
}

/// The string at an address of a process's memory.
fn string(process: u32, address: u64) -> rustix::io::Result<CString> {
    let memory = File::open(format!("/proc/{process}/mem")).map_err(|_| Errno::SRCH)?;
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST {
        // Up to the end of a page: the next one need not be there.
        let at = address.saturating_add(bytes.len() as u64);
        let mut page = vec![0; LONGEST - usize::try_from(at % LONGEST as u64).unwrap_or(0)];
        let count = memory.read_at(&mut page, at).map_err(|_| Errno::FAULT)?;
        let page = page.get(..count).unwrap_or_default();
        if let Some(end) = page.iter().position(|byte| *byte == 0) {
            bytes.extend(page.get(..end).unwrap_or_default());
            return CString::new(bytes).map_err(|_| Errno::FAULT);
        }
        if page.is_empty() {
            return Err(Errno::FAULT);
        }
        bytes.extend(page);
    }
    Err(Errno::NAMETOOLONG)
}

/// `user:group` after a change; the highest number leaves one as it was, and nothing stands for what was not changed yet.
fn changed(before: &str, owner: u32, group: u32) -> String {
    let (old_owner, old_group) = before.split_once(':').unwrap_or_default();
    let one = |new: u32, old: &str| if new == u32::MAX { old.to_owned() } else { new.to_string() };
    format!("{}:{}", one(owner, old_owner), one(group, old_group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_leaves_the_other() {
        for (before, owner, group, after) in [
            ("", 33, 44, "33:44"),
            ("", u32::MAX, 44, ":44"),
            (":44", 33, u32::MAX, "33:44"),
            ("33:44", 0, u32::MAX, "0:44"),
            ("", u32::MAX, u32::MAX, ":"),
        ] {
            assert_eq!(changed(before, owner, group), after);
        }
    }
}
