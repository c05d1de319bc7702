//! The ladder: which rights we have, and the strongest way to run commands with them.
//!
//! Every rung is tried by a child before this process moves, so that a refusal leaves it as it was. Where namespaces are
//! ours to make already, nothing moves; elsewhere this process becomes root of a user namespace, and everything it does
//! afterwards (unpacking, owners, overlays) sees the ids of the containers.

use std::fmt;
use std::sync::Arc;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Failure, Refused};
use crate::hints::{self, Facts};
use crate::ids::{self, IdMap};
use crate::sandbox::Sandbox;
use crate::spawn::{self, Ground, Order};
use crate::territory::{self, Territory};
use crate::userns::{self, NewIds, Writer};

/// What is told of a takeover that works and is not taken by itself.
pub const ON_REQUEST: &str = "works, but has to be asked for";

/// A way to get a world of one's own, strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Rung {
    /// We hold `CAP_SYS_ADMIN`: namespaces and mounts are ours to make.
    Privileged,
    /// Root without `CAP_SYS_ADMIN`: a user namespace that maps every id we have to itself.
    NestedUserNamespace,
    /// An ordinary user with ranges in `/etc/subuid` and `/etc/subgid`.
    SubordinateIds,
    /// An ordinary user with one id: all owners are root, and changing one is pretended.
    SingleId,
    /// Root of a container that may make no namespace: its own root file system changes places with that of the command.
    /// Only builds run there, and only if asked for by name.
    Takeover,
}

impl Rung {
    /// Those with a world of their own, strongest first.
    pub const ALL: [Self; 4] = [Self::Privileged, Self::NestedUserNamespace, Self::SubordinateIds, Self::SingleId];
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::NestedUserNamespace => "nested user namespace",
            Self::SubordinateIds => "subordinate ids",
            Self::SingleId => "single id",
            Self::Takeover => "takeover",
        })
    }
}

/// Climbs the ladder: finds the strongest rung that carries (or tries only `want`) and moves this process onto it.
///
/// [`Rung::Takeover`] is entered only if it is wanted: it is no world of one's own.
///
/// To be called early in `main`, while this process has one thread: the kernel moves no process with several.
pub fn enter(want: Option<Rung>) -> Result<Sandbox, Refused> {
    let mut attempts = Vec::new();
    let rungs = want.map_or_else(|| Rung::ALL.to_vec(), |want| vec![want]);
    for rung in rungs {
        match climb(rung) {
            Ok(sandbox) => return Ok(sandbox),
            Err(attempt) => attempts.push((rung, attempt)),
        }
    }
    if want.is_none() && territory::check().is_ok() {
        let on_request = |()| Failure::new(ON_REQUEST, 0).hint(hints::TAKEOVER);
        attempts.push((Rung::Takeover, territory::check_alone(None).map_or_else(|taken| taken, on_request).into()));
    }
    Err(Refused { attempts })
}

/// What each rung says here, for a report; this process stays as it is.
pub fn probe() -> Vec<(Rung, Result<(), Attempt>)> {
    let own = Rung::ALL.into_iter().map(|rung| (rung, try_rung(rung).map(drop)));
    let takeover = territory::check().and_then(|()| territory::check_alone(None)).map_err(with_hint);
    own.chain([(Rung::Takeover, takeover)]).collect()
}

fn climb(rung: Rung) -> Result<Sandbox, Attempt> {
    if rung == Rung::Takeover {
        return take_over();
    }
    let uid = userns::own_ids().0;
    let ids = try_rung(rung)?;
    if let Some(ids) = &ids {
        if std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) > 1 {
            return Err(with_hint(Failure::new("unshare(CLONE_NEWUSER): this process has threads", libc::EINVAL)));
        }
        userns::move_into(ids).map_err(with_hint)?;
        if ids.writer == Writer::Programs {
            // The groups we had outside have no number in here.
            rustix::thread::set_thread_groups(&[]).map_err(Failure::at("setgroups")).map_err(with_hint)?;
        }
    }
    let privileged = userns::is_real_root();
    // In a user namespace root may be the machine's without its capabilities, and its files are root's all the same.
    let real_root = privileged || userns::owns_settings();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let ground = Ground { rung, real_root, trusted: privileged && !has_userxattr(&release) };
    let why = match rung {
        Rung::Privileged => "CAP_SYS_ADMIN is held".to_owned(),
        Rung::NestedUserNamespace => "root without CAP_SYS_ADMIN; all its ids are mapped".to_owned(),
        Rung::SubordinateIds => {
            let count = ids.map_or(0, |ids| ids.uids.top());
            format!("user {uid} with {count} subordinate ids")
        }
        Rung::SingleId => format!("user {uid} without subordinate ids; owners of files are not kept"),
        Rung::Takeover => String::new(),
    };
    let crowd = (!privileged && userns::proc_is_masked()).then(Arc::default);
    Ok(Sandbox { ground, why, territory: None, crowd })
}

fn take_over() -> Result<Sandbox, Attempt> {
    let territory = Territory::create().map_err(with_hint)?;
    let ground = Ground { rung: Rung::Takeover, real_root: false, trusted: false };
    let why =
        "no namespace may be made here; RUN uses this container's own root file system and is not kept apart from \
               the builder"
            .to_owned();
    Ok(Sandbox { ground, why, territory: Some(Arc::new(territory)), crowd: None })
}

/// Tries a rung in a child. The ids of the user namespace it needs, if it needs one.
fn try_rung(rung: Rung) -> Result<Option<NewIds>, Attempt> {
    let ids = ids_for(rung).map_err(with_hint)?;
    match spawn::ask(&Order::Try(ids.clone())) {
        Ok(Ok(())) => Ok(ids),
        Ok(Err(attempt)) => Err(with_hint(Failure { step: attempt.call, errno: attempt.errno, hint: attempt.hint })),
        Err(error) => Err(with_hint(Failure::new(chain(&error), 0))),
    }
}

/// The ids of the user namespace that a rung needs; what is missing otherwise.
fn ids_for(rung: Rung) -> Result<Option<NewIds>, Failure> {
    let capabilities = rustix::thread::capabilities(None).map_err(Failure::at("capget"))?.effective;
    let (uid, gid) = userns::own_ids();
    let maps = || userns::own_maps().map_err(Failure::at("read /proc/self/uid_map"));
    match rung {
        // Root of somebody else's single-id user namespace cannot keep owners, whatever its capabilities say.
        Rung::Privileged | Rung::NestedUserNamespace if maps()?.0.top() == 0 => {
            Err(Failure::new("only one id is mapped in this user namespace", 0))
        }
        Rung::Privileged if capabilities.contains(CapabilitySet::SYS_ADMIN) => Ok(None),
        Rung::Privileged => Err(Failure::new("CAP_SYS_ADMIN is not held", 0)),
        Rung::NestedUserNamespace
            if uid == 0 && capabilities.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) =>
        {
            let (uids, gids) = maps()?;
            Ok(Some(NewIds { uids: uids.identity(), gids: gids.identity(), writer: Writer::Outside }))
        }
        Rung::NestedUserNamespace => Err(Failure::new("we are not root with CAP_SETUID and CAP_SETGID", 0)),
        Rung::SubordinateIds => subordinate(uid, gid).map(Some),
        Rung::Takeover => Err(Failure::new("a takeover needs no ids", 0)),
        Rung::SingleId => {
            Ok(Some(NewIds { uids: IdMap::single(uid), gids: IdMap::single(gid), writer: Writer::Inside }))
        }
    }
}

/// Our own ids and the ranges that the system's files give us.
fn subordinate(uid: u32, gid: u32) -> Result<NewIds, Failure> {
    if uid == 0 {
        return Err(Failure::new("we are root, which has ids of its own", 0));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = ids::user_name(&passwd, uid);
    let map = |file: &str, own| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let ranges = ids::subordinate(&text, name, uid);
        if ranges.is_empty() {
            let who = name.map_or_else(|| uid.to_string(), str::to_owned);
            return Err(Failure::new(format!("{file} has no range for {who}"), 0).hint(hints::SUBORDINATE_IDS));
        }
        Ok(IdMap::with_ranges(own, &ranges))
    };
    Ok(NewIds { uids: map("/etc/subuid", uid)?, gids: map("/etc/subgid", gid)?, writer: Writer::Programs })
}

fn with_hint(failure: Failure) -> Attempt {
    let hint = if failure.hint.is_empty() {
        hints::way_out(&failure.step, failure.errno, &Facts::read())
    } else {
        failure.hint
    };
    Attempt { call: failure.step, errno: failure.errno, hint }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether this release of Linux knows overlays with `user.` attributes (5.11).
fn has_userxattr(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_tells_which_attributes_an_overlay_uses() {
        for (release, new) in [
            ("4.18.0-553.el8_10.x86_64", false),
            ("5.4.0-200-generic", false),
            ("5.10.234", false),
            ("5.11.0", true),
            ("5.15.167.4-microsoft-standard-WSL2", true),
            ("6.18.44", true),
            ("10.0", true),
            ("", false),
        ] {
            assert_eq!(has_userxattr(release), new, "{release}");
        }
    }
}
