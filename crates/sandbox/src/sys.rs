//! The system calls that rustix does not offer safely: every `unsafe` of the house is in this file.
//!
//! The wrappers take Rust types and return the kernel's answer; what to do with it is decided elsewhere.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Which side of a [`fork`] we are on.
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Copies this process. It must have one thread: then the copy may allocate and lock as it likes.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the callers are single-threaded (a freshly executed child, or `enter`, which has checked), so no lock can be
    // held by a thread that does not exist in the copy.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// Ends this process without running destructors or flushing what the original will flush.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Leaves the namespaces named by `flags`. No descriptor table or memory is unshared, only namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unsafe in rustix because of `FILES`, which would break I/O safety; it is masked out.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES)) }?)
}

/// Replaces this process. Returns only if that failed.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the strings are NUL-terminated, the arrays end in a null pointer, and all of them outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from `first` on, however it came to be.
pub(crate) fn close_from(first: RawFd) {
    let Ok(from) = libc::c_uint::try_from(first) else { return };
    // SAFETY: the callers own nothing at or above `first` any more.
    if unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Linux before 5.9.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd >= first) {
        // SAFETY: as above; the directory's own descriptor is closed already, which only answers EBADF.
        unsafe { libc::close(fd) };
    }
}

/// Takes the standard descriptor `fd` (0, 1 or 2) as an owned one.
pub(crate) fn take_standard(fd: RawFd) -> OwnedFd {
    // SAFETY: called once, by the process that was just executed with this descriptor open.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Looks at a descriptor of a fixed number that is open for the rest of this process's life.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers have just made it, and nothing closes it but an exec.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Makes `fd` the descriptor `number`, open across an exec.
pub(crate) fn duplicate_onto(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: the numbers are 0 to 3 of a process that is about to exec and owns nothing there.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// All signals back to their default, none blocked.
pub(crate) fn reset_signals() {
    const SIGNALS: libc::c_int = 64;
    /// All zeros is a `struct sigaction` of the kernel's that means the default, whatever the architecture.
    const DEFAULT: [u64; 8] = [0; 8];
    // SAFETY: plain system calls on memory of our own; SIGKILL and SIGSTOP just answer EINVAL. The C library would refuse
    // the two signals that it keeps for itself, but the caller may have been started with them ignored.
    unsafe {
        for signal in 1..=SIGNALS {
            let mask_size = SIGNALS / 8;
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), mask_size);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks every signal, and returns a descriptor that becomes readable when a child changes state.
pub(crate) fn children_fd() -> io::Result<OwnedFd> {
    // SAFETY: the sets are initialised by the calls that fill them; the descriptor is new and ours.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()))?;
        let mut children = std::mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        let fd = check(libc::signalfd(-1, &raw const children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends a signal to every process that this one may signal: in a pid namespace's first process, all the others.
pub(crate) fn kill_all(signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call. The caller is the first process of its own pid namespace.
    check(unsafe { libc::kill(-1, signal) }).map(drop)
}

/// The attributes of [`mount_restrict`], as the kernel lays them out.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Makes a mount and all mounts below it read-only, or their device files useless, or both (Linux 5.12).
pub(crate) fn mount_restrict(mount: BorrowedFd<'_>, read_only: bool, no_devices: bool) -> io::Result<()> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NODEV: u64 = 4;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let set = u64::from(read_only) * MOUNT_ATTR_RDONLY + u64::from(no_devices) * MOUNT_ATTR_NODEV;
    let attributes = MountAttributes { set, ..MountAttributes::default() };
    // SAFETY: the path is an empty C string, the attributes are of the size that is named.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives this process a session key ring of its own, so that it cannot see the caller's keys.
pub(crate) fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous ring. Kernels without key rings have none to hide.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// Switches the loopback interface of this network namespace on.
pub(crate) fn loopback_up() -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "the flag is 1")]
    const UP: libc::c_short = libc::IFF_UP as libc::c_short;
    // SAFETY: all-zero is a valid `ifreq`, and the ioctls read and write just that.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed() as libc::c_char;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= UP;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)).map(drop)
    }
}

/// Installs a filter on the system calls of this process and its descendants, without `no_new_privs`: that takes
/// `CAP_SYS_ADMIN` in our user namespace.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions, which the slice holds, and does not write.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The same, with a descriptor on which the calls arrive that the filter answers with `SECCOMP_RET_USER_NOTIF`.
pub(crate) fn install_listening_filter(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: as above; a successful answer is a new descriptor of ours.
    unsafe {
        let answer = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        let fd = RawFd::try_from(answer).unwrap_or(-1);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// A system call that waits for an answer.
pub(crate) struct Notification {
    pub(crate) id: u64,
    pub(crate) process: u32,
    pub(crate) number: i32,
    pub(crate) arguments: [u64; 6],
}

/// Takes the next call from a listener.
pub(crate) fn receive_notification(listener: &OwnedFd) -> io::Result<Notification> {
    /// `SECCOMP_IOCTL_NOTIF_RECV`
    const RECEIVE: u64 = 0xc050_2100;
    // SAFETY: the kernel wants the structure zeroed, and fills just that.
    let found = unsafe {
        let mut found: libc::seccomp_notif = std::mem::zeroed();
        check(libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut found))?;
        found
    };
    Ok(Notification { id: found.id, process: found.pid, number: found.data.nr, arguments: found.data.args })
}

/// Lets a call return: with success if `error` is 0.
pub(crate) fn answer_notification(listener: &OwnedFd, id: u64, error: i32) -> io::Result<()> {
    /// `SECCOMP_IOCTL_NOTIF_SEND`
    const SEND: u64 = 0xc018_2101;
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -error, flags: 0 };
    // SAFETY: the kernel reads the structure, and no more.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const answer) }).map(drop)
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
