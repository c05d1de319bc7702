//! Docker's default filter for a container with the 14 usual capabilities.
//!
//! Docker lists what is allowed and resolves the list by the capabilities. Here it is the other way round: the calls of a
//! kernel that are not on that list, which are few. A call that is newer than all that the list knows does not exist, as
//! runc answers, so that programs fall back to older ones.

use libc::sock_filter;

use super::{
    AARCH64, ALLOW, ARCHITECTURE, ARGUMENTS, ARM, I386, NUMBER, X86_64, answer, error, load, statement, unless_equal,
};

/// What is refused on one architecture.
struct Calls {
    /// The kernel's name of the architecture.
    architecture: u32,
    refused: &'static [u32],
    clone: u32,
    personality: u32,
    socket: u32,
}

/// The calls above 424 have the same numbers everywhere: `io_uring_*`, `move_mount`, `fsopen`, `fsconfig`, `fsmount`, `fspick`,
/// `pidfd_getfd`, `process_madvise`, `mount_setattr`, `quotactl_fd`, `set_mempolicy_home_node`, `statmount`, `listmount`,
/// `lsm_*`. `open_tree` only clones with a capability that nobody has.
const NEW: [u32; 18] = [425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443, 450, 457, 458, 459, 460];
const CLONE3: u32 = 435;
/// The newest that the list knows: `removexattrat`.
const NEWEST: u32 = 466;

/// `CLONE_NEWNS`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`, `NEWCGROUP`
const NAMESPACES: u32 = 0x7e02_0000;
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// Sockets that reach the host from a guest, and its cipher engine.
const FAMILIES: [i32; 2] = [libc::AF_VSOCK, libc::AF_ALG];

/// The architectures whose programs run on this one: its own first.
#[cfg(target_arch = "x86_64")]
const HERE: &[Calls] = &[CALLS_OF_X86_64, CALLS_OF_I386];
#[cfg(target_arch = "aarch64")]
const HERE: &[Calls] = &[CALLS_OF_AARCH64, CALLS_OF_ARM];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const HERE: &[Calls] = &[];

/// Whether there is a filter for this architecture.
pub(crate) const IS_KNOWN_HERE: bool = !HERE.is_empty();

/// The filter; none for an architecture that it does not know.
pub(in crate::child) fn program() -> Option<Vec<sock_filter>> {
    IS_KNOWN_HERE.then(|| program_for(HERE))
}

fn program_for(all: &[Calls]) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for calls in all {
        let block = block(calls);
        // A block is shorter than the longest jump, 255; were it not, the tests below would fail.
        program.push(unless_equal(calls.architecture, u8::try_from(block.len()).unwrap_or(u8::MAX)));
        program.extend(block);
    }
    program.push(answer(error(libc::ENOSYS)));
    program
}

/// What is done with a call of one architecture.
fn block(calls: &Calls) -> Vec<sock_filter> {
    let mut block = vec![
        load(NUMBER),
        sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, NEWEST) },
        answer(error(libc::ENOSYS)),
        unless_equal(CLONE3, 1),
        answer(error(libc::ENOSYS)),
        unless_equal(calls.clone, 4),
        load(ARGUMENTS),
        sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, NAMESPACES) },
        answer(error(libc::EPERM)),
        answer(ALLOW),
    ];
    block.extend(by_argument(calls.personality, &PERSONALITIES, ALLOW, error(libc::EPERM)));
    block.extend(by_argument(calls.socket, &FAMILIES.map(i32::cast_unsigned), error(libc::EPERM), ALLOW));
    let refused: Vec<u32> = calls.refused.iter().chain(&NEW).copied().collect();
    for (place, number) in refused.iter().enumerate() {
        // To the last instruction.
        let jt = u8::try_from(refused.len() - place).unwrap_or(u8::MAX);
        block.push(sock_filter { jt, ..unless_equal(*number, 0) });
    }
    block.extend([answer(ALLOW), answer(error(libc::EPERM))]);
    block
}

/// A call that is judged by its first argument.
fn by_argument(number: u32, values: &[u32], if_one: u32, otherwise: u32) -> Vec<sock_filter> {
    let skip = u8::try_from(2 + 2 * values.len()).unwrap_or(u8::MAX);
    let mut steps = vec![unless_equal(number, skip), load(ARGUMENTS)];
    for value in values {
        steps.extend([unless_equal(*value, 1), answer(if_one)]);
    }
    steps.push(answer(otherwise));
    steps
}

/// `uselib ustat sysfs vhangup pivot_root _sysctl acct settimeofday mount umount2 swapon swapoff reboot sethostname
/// setdomainname iopl ioperm create_module init_module delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg
/// putpmsg afs_syscall tuxcall security lookup_dcookie clock_settime vserver mbind set_mempolicy get_mempolicy kexec_load add_key
/// request_key keyctl migrate_pages unshare move_pages perf_event_open fanotify_init open_by_handle_at setns kcmp finit_module
/// kexec_file_load bpf userfaultfd syslog`
#[allow(dead_code, reason = "the other architecture's numbers are only tested")]
const CALLS_OF_X86_64: Calls = Calls {
    architecture: X86_64,
    refused: &[
        134, 136, 139, 153, 155, 156, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 174, 175, 176, 177, 178,
        179, 180, 181, 182, 183, 184, 185, 212, 227, 236, 237, 238, 239, 246, 248, 249, 250, 256, 272, 279, 298, 300,
        304, 308, 312, 313, 320, 321, 323, 103,
    ],
    clone: 56,
    personality: 135,
    socket: 41,
};

/// The same, with the calls that only old programs had (`break oldstat mount umount stime oldfstat stty gtty ftime prof acct lock
/// mpx ulimit oldolduname uselib vm86old idle bdflush vm86 ...`).
#[allow(dead_code, reason = "the other architecture's numbers are only tested")]
const CALLS_OF_I386: Calls = Calls {
    architecture: I386,
    refused: &[
        17, 18, 21, 22, 25, 28, 31, 32, 35, 44, 51, 52, 53, 56, 58, 59, 62, 74, 79, 84, 86, 87, 88, 98, 101, 103, 109,
        110, 111, 112, 113, 115, 121, 127, 128, 129, 130, 131, 134, 135, 137, 149, 166, 167, 169, 188, 189, 217, 253,
        264, 273, 274, 275, 276, 283, 286, 287, 288, 294, 310, 317, 336, 338, 342, 346, 349, 350, 357, 374, 404,
    ],
    clone: 120,
    personality: 136,
    socket: 359,
};

/// The same; this architecture never had the old ones.
#[allow(dead_code, reason = "the other architecture's numbers are only tested")]
const CALLS_OF_AARCH64: Calls = Calls {
    architecture: AARCH64,
    refused: &[
        18, 39, 40, 41, 42, 58, 60, 89, 97, 104, 105, 106, 112, 116, 142, 161, 162, 170, 217, 218, 219, 224, 225, 235,
        236, 237, 238, 239, 241, 262, 265, 268, 272, 273, 280, 282, 294,
    ],
    clone: 220,
    personality: 92,
    socket: 198,
};

/// The same for 32-bit ARM (EABI).
#[allow(dead_code, reason = "the other architecture's numbers are only tested")]
const CALLS_OF_ARM: Calls = Calls {
    architecture: ARM,
    refused: &[
        21, 51, 52, 62, 74, 79, 86, 87, 88, 103, 111, 115, 121, 128, 129, 131, 134, 135, 149, 169, 218, 249, 262, 309,
        310, 311, 319, 320, 321, 337, 344, 347, 364, 367, 371, 375, 378, 379, 386, 388, 400, 401, 404,
    ],
    clone: 120,
    personality: 136,
    socket: 281,
};

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    const REFUSED: u32 = error(libc::EPERM);
    const UNKNOWN: u32 = error(libc::ENOSYS);

    #[test]
    fn what_dockers_list_does_not_allow_is_refused() {
        let x86 = program_for(&[CALLS_OF_X86_64, CALLS_OF_I386]);
        let arm = program_for(&[CALLS_OF_AARCH64, CALLS_OF_ARM]);
        for (what, architecture, number, argument, expected) in [
            ("read", X86_64, 0, 0, ALLOW),
            ("execve", X86_64, 59, 0, ALLOW),
            ("chroot", X86_64, 161, 0, ALLOW),
            ("ptrace", X86_64, 101, 0, ALLOW),
            ("mount", X86_64, 165, 0, REFUSED),
            ("unshare", X86_64, 272, 0, REFUSED),
            ("setns", X86_64, 308, 0, REFUSED),
            ("bpf", X86_64, 321, 0, REFUSED),
            ("keyctl", X86_64, 250, 0, REFUSED),
            ("syslog", X86_64, 103, 0, REFUSED),
            ("kexec_file_load", X86_64, 320, 0, REFUSED),
            ("io_uring_setup", X86_64, 425, 0, REFUSED),
            ("clone of a thread", X86_64, 56, 0x3d_0f00, ALLOW),
            ("clone(CLONE_NEWUSER)", X86_64, 56, 0x1000_0000, REFUSED),
            ("clone(CLONE_NEWCGROUP)", X86_64, 56, 0x0200_0000, REFUSED),
            ("clone3", X86_64, 435, 0, UNKNOWN),
            ("fchmodat2", X86_64, 452, 0, ALLOW),
            ("a call of the future", X86_64, 467, 0, UNKNOWN),
            ("x32", X86_64, 0x4000_0000, 0, UNKNOWN),
            ("personality(PER_LINUX)", X86_64, 135, 0, ALLOW),
            ("personality(ADDR_NO_RANDOMIZE)", X86_64, 135, 0x004_0000, REFUSED),
            ("socket(AF_INET)", X86_64, 41, 2, ALLOW),
            ("socket(AF_VSOCK)", X86_64, 41, 40, REFUSED),
            ("i386 mount", I386, 21, 0, REFUSED),
            ("i386 unshare", I386, 310, 0, REFUSED),
            ("i386 personality", I386, 136, 8, ALLOW),
            ("i386 read", I386, 3, 0, ALLOW),
            ("arm64 on a PC", AARCH64, 63, 0, UNKNOWN),
        ] {
            assert_eq!(verdict(&x86, architecture, number, [argument, 0, 0]), expected, "{what}");
        }
        for (what, architecture, number, argument, expected) in [
            ("read", AARCH64, 63, 0, ALLOW),
            ("mount", AARCH64, 40, 0, REFUSED),
            ("unshare", AARCH64, 97, 0, REFUSED),
            ("clone(CLONE_NEWNS)", AARCH64, 220, 0x2_0000, REFUSED),
            ("arm mount", ARM, 21, 0, REFUSED),
            ("arm unshare", ARM, 337, 0, REFUSED),
            ("arm read", ARM, 3, 0, ALLOW),
        ] {
            assert_eq!(verdict(&arm, architecture, number, [argument, 0, 0]), expected, "{what}");
        }
    }

    #[test]
    fn no_jump_is_too_far() {
        for calls in [CALLS_OF_X86_64, CALLS_OF_I386, CALLS_OF_AARCH64, CALLS_OF_ARM] {
            assert!(block(&calls).len() < 256);
        }
    }
}
