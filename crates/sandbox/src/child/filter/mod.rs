//! Filters on the system calls of a command, in the kernel's language for them.

use libc::sock_filter;

pub(super) mod docker;
pub(super) mod network;
pub(super) mod pretend;

/// Where the kernel puts what a filter looks at (`struct seccomp_data`).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const SUCCESS: u32 = libc::SECCOMP_RET_ERRNO;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// The kernel's names of architectures (`AUDIT_ARCH_...`).
pub(super) const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
pub(super) const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

/// The call fails with this error number.
const fn error(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

/// Goes on if the loaded value is `value`, and skips `skip` instructions otherwise.
fn unless_equal(value: u32, skip: u8) -> sock_filter {
    sock_filter { jf: skip, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

#[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter on a call, as the kernel would.
    pub(super) fn verdict(program: &[sock_filter], architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            let (code, k) = (u32::from(step.code), step.k);
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                value = match k {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    _ => arguments[((k - ARGUMENTS) / 8) as usize],
                };
            } else if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K {
                at += jump(value == k);
            } else if code == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K {
                at += jump(value > k);
            } else if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K {
                at += jump(value & k != 0);
            } else if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K {
                value &= k;
            } else {
                return k;
            }
        }
    }
}
