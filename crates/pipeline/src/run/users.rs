//! Who a container runs as: `user[:group]` by the image's own `/etc/passwd` and `/etc/group` (`moby/sys/user`).

use std::path::Path;

use super::files::read_in;

/// Larger files of users than this are nobody's.
const LIMIT: u64 = 4 << 20;

/// A user, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Finds a user in a root file system. Numbers need no entry, and root none either.
pub(crate) fn find(rootfs: &Path, user: &str) -> Result<Account, String> {
    let text = |path| read_in(rootfs, path, LIMIT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    parse(user, &text("etc/passwd").unwrap_or_default(), &text("etc/group").unwrap_or_default())
}

fn parse(user: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let (name, group_name) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let name = if name.is_empty() { "root" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.first() == Some(&name) || (number.is_some() && fields.get(2).and_then(|uid| uid.parse().ok()) == number)
    });
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index).copied());
    let uid = match (field(2).and_then(|uid| uid.parse().ok()), number) {
        (Some(uid), _) | (None, Some(uid)) => uid,
        (None, None) if name == "root" => 0,
        (None, None) => {
            return Err(format!("lookup user: unable to find user {name}: no matching entries in passwd file"));
        }
    };
    let login = field(0).unwrap_or(name);
    let gid = match group_name {
        Some(wanted) => group_id(wanted, group)?,
        None => field(3).and_then(|gid| gid.parse().ok()).unwrap_or_default(),
    };
    let groups = if group_name.is_some() { Vec::new() } else { memberships(login, group) };
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or(if uid == 0 { "/root" } else { "/" }).to_owned();
    Ok(Account { uid, gid, groups, home })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, String> {
    let number = wanted.parse::<u32>().ok();
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&wanted))
        .and_then(|fields| fields.get(2)?.parse().ok())
        .or(number)
        .ok_or_else(|| format!("lookup user: unable to find group {wanted}: no matching entries in group file"))
}

fn memberships(login: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == login)))
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_or_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n";
        let group = "root:x:0:\nann:x:1001:\nwheel:x:10:ann,bob\n";
        let account =
            |uid, gid, groups: &[u32], home: &str| Account { uid, gid, groups: groups.to_vec(), home: home.into() };
        for (user, expected) in [
            ("root", Ok(account(0, 0, &[], "/root"))),
            ("", Ok(account(0, 0, &[], "/root"))),
            ("ann", Ok(account(1000, 1001, &[10], "/home/ann"))),
            ("1000", Ok(account(1000, 1001, &[10], "/home/ann"))),
            ("ann:wheel", Ok(account(1000, 10, &[], "/home/ann"))),
            ("ann:7", Ok(account(1000, 7, &[], "/home/ann"))),
            ("4242", Ok(account(4242, 0, &[], "/"))),
            ("x", Err("lookup user: unable to find user x: no matching entries in passwd file")),
            ("ann:x", Err("lookup user: unable to find group x: no matching entries in group file")),
        ] {
            assert_eq!(parse(user, passwd, group), expected.map_err(str::to_owned), "{user}");
        }
        assert_eq!(parse("root", "", ""), Ok(account(0, 0, &[], "/root")));
    }
}
