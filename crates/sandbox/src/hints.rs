//! What to tell a user whose system refuses something: facts in, a sentence out.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

/// Settings of the system that explain refusals.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each a switch of the system")]
pub(crate) struct Facts {
    /// A seccomp filter is on.
    filtered: bool,
    /// `no_new_privs` is set: setuid programs do nothing.
    no_new_privileges: bool,
    /// `kernel.unprivileged_userns_clone` is 0.
    debian_off: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    apparmor: bool,
    /// `user.max_user_namespaces` is 0.
    none_allowed: bool,
    /// We live in a chroot: our root directory is no mount point.
    chroot: bool,
    /// `/proc` is not mounted.
    no_proc: bool,
    /// We are root.
    root: bool,
    /// The `AppArmor` profile we run under, or none.
    profile: Option<String>,
}

/// Advice for an ordinary user without subordinate ids.
pub(crate) const SUBORDINATE_IDS: &str = "to keep owners of files, give the user ranges in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 \
     --add-subgids 100000-165535 USER)";

/// Advice for root of a container in which nothing but a takeover works.
pub(crate) const TAKEOVER: &str = "if this container is thrown away afterwards: SKYCAP_SANDBOX=takeover lets RUN use its root file system \
                                   (RUN is then not kept apart from the builder)";

const PROGRAMS: &str = "install newuidmap and newgidmap (package uidmap or shadow-utils)";
const SECCOMP: &str = "a seccomp filter is on, which may refuse this";
const UNKNOWN: &str =
    "a chroot, a container runtime or a security module refuses user namespaces: run this outside of it";
const CONTAINER: &str = "in Concourse: `privileged: true` on the task, or a worker with \
                         --containerd-privileged-mode=fuse-only or another --containerd-seccomp-profile; in Docker: \
                         --privileged or --security-opt seccomp=unconfined";
const AS_ROOT: &str = "a Concourse task that runs as root (`run: {user: root, …}`) needs no namespace";
const CHROOT: &str = "the kernel refuses this inside a chroot: run it outside of one, or in a container";
const NO_RUN: &str = "a Dockerfile whose needed stages have no RUN needs nothing of this";
const PROC: &str = "mount /proc here";
const APPARMOR: &str = "AppArmor restricts user namespaces here: sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
                        or a profile with `userns,` for this program";
const PROFILE: &str =
    "the AppArmor profile of this container refuses mounts; in Docker: --security-opt apparmor=unconfined";
const ROOT_MAP: &str = "root may give itself a user namespace only with the capabilities SETUID, SETGID and SETFCAP: add them, or \
                        run this as an ordinary user";
const SYSCTL: &str = "user namespaces are switched off for ordinary users: sysctl kernel.unprivileged_userns_clone=1";
const LIMIT: &str = "user namespaces are switched off or used up: sysctl user.max_user_namespaces=15000";
const NO_NEW_PRIVILEGES: &str = "no_new_privs is set, so that setuid programs have no effect: start this without it";

impl Facts {
    /// As they are now.
    pub(crate) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let sysctl = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let is = |path: &str, value: &str| sysctl(path).is_some_and(|text| text == value);
        Self {
            filtered: field(&status, "Seccomp:") == Some("2"),
            no_new_privileges: field(&status, "NoNewPrivs:") == Some("1"),
            debian_off: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            none_allowed: is("/proc/sys/user/max_user_namespaces", "0"),
            chroot: is_chroot(),
            no_proc: !Path::new("/proc/self").exists(),
            root: rustix::process::geteuid().is_root(),
            profile: sysctl("/proc/self/attr/apparmor/current").filter(|profile| profile.ends_with("(enforce)")),
        }
    }
}

/// Linux before 5.8 does not tell; nor is a chroot seen whose directory is a mount point.
fn is_chroot() -> bool {
    let asked = StatxAttributes::MOUNT_ROOT;
    rustix::fs::statx(CWD, "/", AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes_mask.contains(asked) && !stat.stx_attributes.contains(asked))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// What a user can do when `step` was answered with `errno`; empty if nothing is known.
pub(crate) fn way_out(step: &str, errno: i32, facts: &Facts) -> String {
    if errno == libc::EPERM && step.contains("CLONE_NEWUSER") {
        return no_user_namespace(facts).join("; ");
    }
    let refused = errno == libc::EPERM || errno == libc::EACCES;
    let advice: &[&str] = if step.contains("newuidmap") || step.contains("newgidmap") {
        match (errno, facts.no_new_privileges) {
            (libc::ENOENT, _) => &[PROGRAMS],
            (_, true) => &[NO_NEW_PRIVILEGES],
            _ => &[SUBORDINATE_IDS],
        }
    } else if facts.no_proc && step.contains("/proc/self") {
        &[PROC]
    } else if facts.chroot && (refused || errno == libc::EINVAL) {
        &[CHROOT, NO_RUN]
    } else if facts.none_allowed && (errno == libc::ENOSPC || refused) {
        &[LIMIT]
    } else if facts.debian_off && refused {
        &[SYSCTL]
    } else if facts.apparmor && refused {
        &[APPARMOR]
    } else if facts.profile.is_some() && errno == libc::EACCES {
        &[PROFILE]
    } else if facts.root && refused && step.contains("uid_map") {
        &[ROOT_MAP]
    } else if facts.filtered && (refused || errno == libc::ENOSYS) {
        &[SECCOMP, CONTAINER, NO_RUN]
    } else if errno == libc::ENOSPC {
        &[LIMIT]
    } else {
        &[]
    };
    advice.join("; ")
}

/// The kernel gives one answer for many reasons: everything that could be one here, and what is to be done about it.
fn no_user_namespace(facts: &Facts) -> Vec<&'static str> {
    let known = [
        (facts.chroot, CHROOT),
        (facts.none_allowed, LIMIT),
        (facts.debian_off, SYSCTL),
        (facts.apparmor, APPARMOR),
        (facts.filtered, SECCOMP),
    ];
    let mut advice: Vec<_> = known.into_iter().filter_map(|(holds, text)| holds.then_some(text)).collect();
    if advice.is_empty() {
        advice.push(UNKNOWN);
    }
    if matches!(advice.last(), Some(&(SECCOMP | UNKNOWN))) {
        advice.push(CONTAINER);
    }
    if advice.contains(&SECCOMP) && !facts.root {
        advice.push(AS_ROOT);
    }
    advice.push(NO_RUN);
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_from_the_call_and_the_system() {
        let none = Facts::default();
        let filtered = Facts { filtered: true, ..none.clone() };
        let ubuntu = Facts { apparmor: true, ..none.clone() };
        let chroot = Facts { chroot: true, ..none.clone() };
        let both = Facts { debian_off: true, ..filtered.clone() };
        let docker = Facts { profile: Some("docker-default (enforce)".into()), ..none.clone() };
        let root = Facts { root: true, ..filtered.clone() };
        let setuid = Facts { no_new_privileges: true, ..none.clone() };
        let off = Facts { none_allowed: true, ..none.clone() };
        let new_user = "unshare(CLONE_NEWUSER)";
        for (step, errno, facts, advice) in [
            (new_user, libc::EPERM, &filtered, &[SECCOMP, CONTAINER, AS_ROOT, NO_RUN] as &[_]),
            (new_user, libc::EPERM, &root, &[SECCOMP, CONTAINER, NO_RUN]),
            (new_user, libc::EPERM, &none, &[UNKNOWN, CONTAINER, NO_RUN]),
            (new_user, libc::EPERM, &chroot, &[CHROOT, NO_RUN]),
            (new_user, libc::EPERM, &both, &[SYSCTL, SECCOMP, CONTAINER, AS_ROOT, NO_RUN]),
            (new_user, libc::EPERM, &off, &[LIMIT, NO_RUN]),
            (new_user, libc::EPERM, &ubuntu, &[APPARMOR, NO_RUN]),
            (new_user, libc::ENOSPC, &none, &[LIMIT]),
            ("mount(MS_PRIVATE)", libc::EINVAL, &chroot, &[CHROOT, NO_RUN]),
            ("mount(tmpfs)", libc::EPERM, &filtered, &[SECCOMP, CONTAINER, NO_RUN]),
            ("mount(tmpfs)", libc::EACCES, &ubuntu, &[APPARMOR]),
            ("mount(tmpfs)", libc::EACCES, &docker, &[PROFILE]),
            ("write /proc/self/uid_map", libc::EPERM, &ubuntu, &[APPARMOR]),
            ("write /proc/self/uid_map", libc::EPERM, &root, &[ROOT_MAP]),
            ("run newuidmap", libc::ENOENT, &filtered, &[PROGRAMS]),
            ("newuidmap failed: denied", 0, &setuid, &[NO_NEW_PRIVILEGES]),
            ("newgidmap failed: denied", 0, &none, &[SUBORDINATE_IDS]),
            ("read /proc/self/uid_map", libc::ENOENT, &Facts { no_proc: true, ..none.clone() }, &[PROC]),
            ("CAP_SYS_ADMIN is not held", 0, &filtered, &[]),
        ] {
            assert_eq!(way_out(step, errno, facts), advice.join("; "), "{step} {errno} {facts:?}");
        }
    }
}
