//! No network, where no network namespace can be made: no socket but those between processes of one machine, and those that
//! ask the kernel about its interfaces.

use libc::sock_filter;

use super::{AARCH64, ALLOW, ARCHITECTURE, ARGUMENTS, ARM, I386, NUMBER, X86_64, answer, error, load, unless_equal};

/// `socket` of each architecture.
const SOCKET: [(u32, u32); 5] = [(X86_64, 41), (X86_64, X32 + 41), (I386, 359), (AARCH64, 198), (ARM, 281)];
/// What stands in the numbers of calls with short pointers.
const X32: u32 = 0x4000_0000;
/// `io_uring_setup`, the same everywhere but for x32: its rings make sockets, too.
const RINGS: [u32; 2] = [425, X32 + 425];
/// The one call of i386 that stands for all that has to do with sockets.
const SOCKETCALL: (u32, u32) = (I386, 102);
const PERMITTED: [i32; 2] = [libc::AF_UNIX, libc::AF_NETLINK];

/// The filter.
pub(in crate::child) fn program() -> Vec<sock_filter> {
    let refused = answer(error(libc::ENETUNREACH));
    let mut program = Vec::new();
    for (architecture, number) in SOCKET {
        program.extend([load(ARCHITECTURE), unless_equal(architecture, 8), load(NUMBER), unless_equal(number, 6)]);
        program.push(load(ARGUMENTS));
        for family in PERMITTED {
            program.extend([unless_equal(family.cast_unsigned(), 1), answer(ALLOW)]);
        }
        program.push(refused);
    }
    let (architecture, number) = SOCKETCALL;
    program.extend([load(ARCHITECTURE), unless_equal(architecture, 3), load(NUMBER), unless_equal(number, 1), refused]);
    program.push(load(NUMBER));
    for number in RINGS {
        program.extend([unless_equal(number, 1), answer(error(libc::ENOSYS))]);
    }
    program.push(answer(ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;

    #[test]
    fn only_sockets_within_the_machine_are_made() {
        let refused = error(libc::ENETUNREACH);
        for (architecture, number, family, expected) in [
            (X86_64, 41, 1, ALLOW),
            (X86_64, 41, 16, ALLOW),
            (X86_64, 41, 2, refused),
            (X86_64, 41, 10, refused),
            (X86_64, 41, 17, refused),
            (X86_64, X32 + 41, 2, refused),
            (X86_64, X32 + 41, 1, ALLOW),
            (X86_64, 425, 2, error(libc::ENOSYS)),
            (X86_64, X32 + 425, 2, error(libc::ENOSYS)),
            (AARCH64, 425, 1, error(libc::ENOSYS)),
            (X86_64, 42, 2, ALLOW),
            (I386, 359, 2, refused),
            (I386, 102, 1, refused),
            (X86_64, 102, 1, ALLOW),
            (AARCH64, 198, 2, refused),
            (AARCH64, 41, 2, ALLOW),
            (ARM, 281, 10, refused),
        ] {
            assert_eq!(verdict(&program(), architecture, number, [family, 0, 0]), expected, "{number} {family}");
        }
    }
}
