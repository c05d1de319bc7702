//! The processes of a command that has no pid namespace: all that descend from this process, which adopts orphans.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::Failure;

/// Orphans of our descendants become our children.
pub(super) fn adopt() -> Result<(), Failure> {
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own).map_err(Failure::at("prctl(PR_SET_CHILD_SUBREAPER)"))
}

/// Sends a signal to every descendant.
pub(super) fn signal(signal: Signal) {
    for pid in descendants(&parents(), rustix::process::getpid().as_raw_pid()) {
        if let Some(pid) = Pid::from_raw(pid) {
            // One that has ended meanwhile needs none.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Kills until there is no descendant. Whatever a dying process has started becomes our child, so it is found.
pub(super) fn end() {
    const PAUSE: Duration = Duration::from_millis(1);
    loop {
        signal(Signal::KILL);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// The parent of every process that can be seen.
fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: i32| parent(&std::fs::read(format!("/proc/{pid}/stat")).ok()?);
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The fourth field of `/proc/PID/stat`; the second is a name in parentheses that may hold anything.
fn parent(stat: &[u8]) -> Option<i32> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn descendants(parents: &BTreeMap<i32, i32>, of: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(parent) = open.pop() {
        let children = parents.iter().filter(|(pid, above)| **above == parent && **pid != of);
        let children: Vec<i32> = children.map(|(pid, _)| *pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(&children);
        open.extend(children);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_through_any_name_and_depth() {
        assert_eq!(parent(b"12 (a) S 1 2) R 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (a"), None);
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 4), (7, 99)]);
        assert_eq!(descendants(&parents, 2), [3, 4, 6]);
        assert!(descendants(&parents, 7).is_empty());
    }
}
