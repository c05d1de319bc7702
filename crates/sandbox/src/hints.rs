//! What to tell a user whose system refuses something: facts in, a sentence out.

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
    /// We are root.
    root: bool,
    /// The `AppArmor` profile we run under, or none.
    profile: Option<String>,
}

/// Advice for an ordinary user without subordinate ids.
pub(crate) const SUBORDINATE_IDS: &str = "to keep owners of files, give the user ranges in /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 \
     --add-subgids 100000-165535 USER)";

const PROGRAMS: &str = "install newuidmap and newgidmap (package uidmap or shadow-utils)";
const SECCOMP: &str = "a seccomp profile refuses this. In Concourse: `privileged: true` on the task, or a worker with \
                       --containerd-privileged-mode=fuse-only or another --containerd-seccomp-profile; in Docker: \
                       --security-opt seccomp=unconfined; or a Dockerfile whose needed stages have no RUN";
const APPARMOR: &str = "AppArmor restricts user namespaces here: sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
                        or a profile with `userns,` for this program";
const PROFILE: &str =
    "the AppArmor profile of this container refuses mounts; in Docker: --security-opt apparmor=unconfined";
const ROOT_MAP: &str = "root may give itself a user namespace only with the capabilities SETUID, SETGID and SETFCAP: add them, or \
                        run this as an ordinary user";
const SYSCTL: &str = "user namespaces are switched off for ordinary users: sysctl kernel.unprivileged_userns_clone=1";
const LIMIT: &str = "user namespaces are switched off: sysctl user.max_user_namespaces=15000";
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
            root: rustix::process::geteuid().is_root(),
            profile: sysctl("/proc/self/attr/apparmor/current").filter(|profile| profile.ends_with("(enforce)")),
        }
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// What a user can do when `step` was answered with `errno`; empty if nothing is known.
pub(crate) fn way_out(step: &str, errno: i32, facts: &Facts) -> String {
    let refused = errno == libc::EPERM || errno == libc::EACCES;
    let advice = if step.contains("newuidmap") || step.contains("newgidmap") {
        match (errno, facts.no_new_privileges) {
            (libc::ENOENT, _) => PROGRAMS,
            (_, true) => NO_NEW_PRIVILEGES,
            _ => SUBORDINATE_IDS,
        }
    } else if facts.none_allowed && (errno == libc::ENOSPC || refused) {
        LIMIT
    } else if facts.debian_off && refused {
        SYSCTL
    } else if facts.apparmor && refused {
        APPARMOR
    } else if facts.profile.is_some() && errno == libc::EACCES {
        PROFILE
    } else if facts.root && refused && step.contains("uid_map") {
        ROOT_MAP
    } else if facts.filtered && (refused || errno == libc::ENOSYS) {
        SECCOMP
    } else if errno == libc::ENOSPC {
        LIMIT
    } else {
        ""
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_from_the_call_and_the_system() {
        let none = Facts::default();
        let filtered = Facts { filtered: true, ..none.clone() };
        let ubuntu = Facts { apparmor: true, ..none.clone() };
        for (step, errno, facts, advice) in [
            ("unshare(CLONE_NEWUSER)", libc::EPERM, &filtered, SECCOMP),
            ("unshare(CLONE_NEWUSER)", libc::EPERM, &none, ""),
            ("mount(tmpfs)", libc::EACCES, &ubuntu, APPARMOR),
            ("write /proc/self/uid_map", libc::EPERM, &ubuntu, APPARMOR),
            ("unshare(CLONE_NEWUSER)", libc::EPERM, &Facts { debian_off: true, ..filtered.clone() }, SYSCTL),
            (
                "mount(tmpfs)",
                libc::EACCES,
                &Facts { profile: Some("docker-default (enforce)".into()), ..none.clone() },
                PROFILE,
            ),
            ("write /proc/self/uid_map", libc::EPERM, &Facts { root: true, ..filtered.clone() }, ROOT_MAP),
            ("unshare(CLONE_NEWUSER)", libc::ENOSPC, &none, LIMIT),
            ("run newuidmap", libc::ENOENT, &filtered, PROGRAMS),
            ("newuidmap failed: denied", 0, &Facts { no_new_privileges: true, ..none.clone() }, NO_NEW_PRIVILEGES),
            ("newgidmap failed: denied", 0, &none, SUBORDINATE_IDS),
            ("CAP_SYS_ADMIN is not held", 0, &filtered, ""),
        ] {
            assert_eq!(way_out(step, errno, facts), advice, "{step} {errno}");
        }
    }
}
