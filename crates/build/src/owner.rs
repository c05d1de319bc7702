//! Users and groups by name: `--chown`, `USER`, and who a RUN is.
//!
//! Names are looked up in the file system that the build made, never in the builder's own. A name that is not there is an
//! error: files of another owner than the one asked for would be a wrong image.

use crate::error::Fault;

/// Reads a small file of the image, by absolute path; nothing if it is not there.
pub(crate) type Read<'r> = dyn Fn(&str) -> Result<Option<Vec<u8>>, Fault> + 'r;

/// Who owns a file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Who a process is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Identity {
    /// The user and group.
    pub owner: Owner,
    /// Further groups, sorted.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// The owner that `--chown` or WORKDIR's `USER` names. A number alone is also the group's number.
pub(crate) fn owner(text: &str, read: &Read<'_>) -> Result<Owner, Fault> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let mut owner = match number(user) {
        Some(number) => Owner { uid: number, gid: number },
        None if user.is_empty() => Owner::default(),
        None => {
            let found = passwd(read)?.into_iter().find(|line| line.name == user).ok_or_else(|| no_user(user))?;
            Owner { uid: found.uid, gid: found.gid }
        }
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        owner.gid = gid(group, read)?;
    }
    Ok(owner)
}

/// The process that `USER` asks for, as runc's `GetExecUser` reads it; an empty text is root.
pub(crate) fn identity(text: &str, read: &Read<'_>) -> Result<Identity, Fault> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let users = passwd(read)?;
    let by_name = users.iter().find(|line| line.name == user);
    let line = by_name.or_else(|| number(user).and_then(|number| users.iter().find(|line| line.uid == number)));
    let mut identity = match (line, number(user)) {
        (Some(line), _) => {
            Identity { owner: Owner { uid: line.uid, gid: line.gid }, groups: Vec::new(), home: line.home.clone() }
        }
        (None, Some(number)) => Identity { owner: Owner { uid: number, gid: 0 }, ..Identity::default() },
        (None, None) => return Err(no_user(user)),
    };
    if identity.home.is_empty() {
        "/".clone_into(&mut identity.home);
    }
    match (group.filter(|group| !group.is_empty()), line) {
        (Some(group), _) => identity.owner.gid = gid(group, read)?,
        (None, Some(line)) => {
            let mine = |group: &Group| group.members.contains(&line.name);
            identity.groups = groups(read)?.into_iter().filter(mine).map(|group| group.gid).collect();
            identity.groups.sort_unstable();
        }
        (None, None) => {}
    }
    Ok(identity)
}

/// Whether finding the owner needs a look into the image.
pub(crate) fn is_numeric(text: &str) -> bool {
    text.split(':').all(|part| part.is_empty() || number(part).is_some())
}

fn gid(group: &str, read: &Read<'_>) -> Result<u32, Fault> {
    if let Some(number) = number(group) {
        return Ok(number);
    }
    let found = groups(read)?.into_iter().find(|line| line.name == group);
    found.map(|line| line.gid).ok_or_else(|| {
        Fault::new(format!("unable to find group {group}: no matching entries in group file"))
            .with_hint("create the group before this instruction, or use its number")
    })
}

fn no_user(user: &str) -> Fault {
    Fault::new(format!("unable to find user {user}: no matching entries in passwd file"))
        .with_hint("create the user before this instruction, or use its number")
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

fn passwd(read: &Read<'_>) -> Result<Vec<User>, Fault> {
    let bytes = read("/etc/passwd")?.unwrap_or_default();
    Ok(lines(&bytes, |fields| {
        Some(User {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: fields.get(5).copied().unwrap_or_default().to_owned(),
        })
    }))
}

fn groups(read: &Read<'_>) -> Result<Vec<Group>, Fault> {
    let bytes = read("/etc/group")?.unwrap_or_default();
    Ok(lines(&bytes, |fields| {
        let members = fields.get(3).copied().unwrap_or_default();
        Some(Group {
            name: (*fields.first()?).to_owned(),
            gid: fields.get(2)?.parse().ok()?,
            members: members.split(',').map(|member| member.trim().to_owned()).collect(),
        })
    }))
}

/// Lines of fields; a line that makes no sense is passed over, as every reader of these files does.
fn lines<T>(bytes: &[u8], parse: impl Fn(&[&str]) -> Option<T>) -> Vec<T> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter_map(|line| parse(&line.trim().split(':').collect::<Vec<_>>())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "the signature of a reader")]
    fn read(path: &str) -> Result<Option<Vec<u8>>, Fault> {
        Ok(match path {
            "/etc/passwd" => Some(b"root:x:0:0:root:/root:/bin/sh\nrubbish\nwww:x:33:34::/var/www:/bin/sh\n".to_vec()),
            "/etc/group" => Some(b"root:x:0:\nweb:x:34:\nssl:x:50:www, root\nadm:x:4:www\n".to_vec()),
            _ => None,
        })
    }

    #[test]
    fn owners_are_found_by_name_and_number() {
        for (text, uid, gid) in [
            ("0", 0, 0),
            ("5", 5, 5),
            ("5:6", 5, 6),
            ("www", 33, 34),
            ("www:ssl", 33, 50),
            ("www:7", 33, 7),
            ("7:web", 7, 34),
            (":web", 0, 34),
        ] {
            assert_eq!(owner(text, &read).unwrap(), Owner { uid, gid }, "{text}");
        }
        assert!(owner("nobody", &read).is_err());
        assert!(owner("www:nogroup", &read).is_err());
        assert!(owner("99999999999", &read).is_err());
    }

    #[test]
    fn a_process_gets_its_groups_and_home() {
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, &[50][..], "/root"),
            ("www", 33, 34, &[4, 50], "/var/www"),
            ("33", 33, 34, &[4, 50], "/var/www"),
            ("www:web", 33, 34, &[], "/var/www"),
            ("1000", 1000, 0, &[], "/"),
            ("1000:1001", 1000, 1001, &[], "/"),
        ] {
            let expected = Identity { owner: Owner { uid, gid }, groups: groups.to_vec(), home: home.to_owned() };
            assert_eq!(identity(text, &read).unwrap(), expected, "{text}");
        }
    }
}
