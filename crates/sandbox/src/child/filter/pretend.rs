//! Where one id only can be mapped, changing owners and ids fails; package managers take that for an error. This filter
//! answers such calls with success and does nothing, as Charliecloud's does.
//!
//! What is pretended is lost: a process stays root. Only changes of owners by programs of the machine's own architecture are told
//! to somebody who records them ([`crate::child::owners`]), and so are device files: it says which were not made. Where nobody is
//! told, the kernel refuses these. It is not a guard, so calls of an unknown architecture pass.

use libc::sock_filter;

use super::{
    AARCH64, ALLOW, ARCHITECTURE, ARGUMENTS, ARM, I386, NUMBER, SUCCESS, X86_64, answer, load, statement, unless_equal,
};
use crate::child::owners;

/// The numbers of one architecture's calls.
struct Calls {
    /// The kernel's name of the architecture (`AUDIT_ARCH_…`).
    architecture: u32,
    /// `chown`, `setuid`, `capset` and their like.
    pretended: &'static [u32],
    /// `mknod` and its like, and which argument is the mode; told for devices.
    make_node: &'static [(u32, u32)],
}

const ARCHITECTURES: [Calls; 4] = [
    // x86-64: chown fchown lchown fchownat, setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid,
    // capset
    Calls {
        architecture: X86_64,
        pretended: &[92, 93, 94, 260, 105, 106, 113, 114, 116, 117, 119, 122, 123, 126],
        make_node: &[(133, 1), (259, 2)],
    },
    // i386: the 16-bit calls, then those whose names end in 32
    Calls {
        architecture: I386,
        pretended: &[
            16, 95, 182, 298, 23, 46, 70, 71, 81, 138, 139, 164, 170, 185, 198, 203, 204, 206, 207, 208, 210, 212, 213,
            214, 215, 216,
        ],
        make_node: &[(14, 1), (297, 2)],
    },
    // AArch64
    Calls {
        architecture: AARCH64,
        pretended: &[54, 55, 91, 143, 144, 145, 146, 147, 149, 151, 152, 159],
        make_node: &[(33, 2)],
    },
    // 32-bit ARM
    Calls {
        architecture: ARM,
        pretended: &[
            16, 95, 182, 325, 23, 46, 70, 71, 81, 138, 139, 164, 170, 185, 198, 203, 204, 206, 207, 208, 210, 212, 213,
            214, 215, 216,
        ],
        make_node: &[(14, 1), (324, 2)],
    },
];

/// The filter. With `tell`, changes of owners are told instead of only pretended.
pub(in crate::child) fn program(tell: bool) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for calls in &ARCHITECTURES {
        let block = block(calls, if tell { owners::calls(calls.architecture) } else { &[] });
        // A block is far shorter than the longest jump, 255; were it not, the test below would fail.
        program.push(unless_equal(calls.architecture, u8::try_from(block.len()).unwrap_or(u8::MAX)));
        program.extend(block);
    }
    program.push(answer(ALLOW));
    program
}

fn block(calls: &Calls, told: &[u32]) -> Vec<sock_filter> {
    let mut block = vec![load(NUMBER)];
    for number in told {
        block.extend([unless_equal(*number, 1), answer(libc::SECCOMP_RET_USER_NOTIF)]);
    }
    for number in calls.pretended {
        block.extend([unless_equal(*number, 1), answer(SUCCESS)]);
    }
    for (number, argument) in calls.make_node.iter().filter(|_| !told.is_empty()) {
        block.extend([
            unless_equal(*number, 6),
            load(ARGUMENTS + 8 * argument),
            statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, libc::S_IFMT),
            sock_filter { jt: 1, ..unless_equal(libc::S_IFCHR, 0) },
            unless_equal(libc::S_IFBLK, 1),
            answer(libc::SECCOMP_RET_USER_NOTIF),
            answer(ALLOW),
        ]);
    }
    block.push(answer(ALLOW));
    block
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn owners_are_pretended_and_everything_else_passes() {
        let device = [0, libc::S_IFCHR | 0o600, 0];
        let fifo = [0, libc::S_IFIFO | 0o600, 0];
        for (what, architecture, number, arguments, expected) in [
            ("chown", X86_64, 92, [0; 3], SUCCESS),
            ("setgroups", X86_64, 116, [0; 3], SUCCESS),
            ("capset", X86_64, 126, [0; 3], SUCCESS),
            ("read", X86_64, 0, [0; 3], ALLOW),
            ("execve", X86_64, 59, [0; 3], ALLOW),
            ("mknod of a device", X86_64, 133, device, ALLOW),
            ("mknod of a fifo", X86_64, 133, fifo, ALLOW),
            ("mknodat of a disk", X86_64, 259, [0, 0, libc::S_IFBLK], ALLOW),
            ("mknodat of a file", X86_64, 259, [0, 0, libc::S_IFREG], ALLOW),
            ("i386 lchown", I386, 16, [0; 3], SUCCESS),
            ("i386 chown32", I386, 212, [0; 3], SUCCESS),
            ("i386 chown's number of x86-64", I386, 92, [0; 3], ALLOW),
            ("arm64 fchownat", AARCH64, 54, [0; 3], SUCCESS),
            ("arm64 mknodat of a device", AARCH64, 33, [0, 0, libc::S_IFCHR], ALLOW),
            ("arm64 execve", AARCH64, 221, [0; 3], ALLOW),
            ("arm fchownat", ARM, 325, [0; 3], SUCCESS),
            ("chown's number elsewhere", 0x8000_0016, 92, [0; 3], ALLOW),
        ] {
            assert_eq!(verdict(&program(false), architecture, number, arguments), expected, "{what}");
        }
        if cfg!(target_arch = "x86_64") {
            for (number, arguments, expected) in [
                (92, [0; 3], libc::SECCOMP_RET_USER_NOTIF),
                (133, device, libc::SECCOMP_RET_USER_NOTIF),
                (133, fifo, ALLOW),
                (259, [0, 0, libc::S_IFBLK], libc::SECCOMP_RET_USER_NOTIF),
            ] {
                assert_eq!(verdict(&program(true), X86_64, number, arguments), expected, "{number}");
            }
        }
    }
}
