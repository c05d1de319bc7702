//! Maps of user and group ids: read, planned and compared as plain values.

use serde::{Deserialize, Serialize};

/// A run of ids: `count` ids from `inside` on are those from `outside` on in the parent namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

/// The ids of a user namespace, as in `/proc/PID/uid_map`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct IdMap(pub(crate) Vec<Extent>);

impl IdMap {
    /// Reads the kernel's text; lines that are none are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let extents = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Extent { inside: next()?, outside: next()?, count: next()? })
        });
        let mut extents: Vec<_> = extents.filter(|extent| extent.count > 0).collect();
        extents.sort_by_key(|extent| extent.inside);
        Self(extents)
    }

    /// One id.
    pub(crate) fn single(outside: u32) -> Self {
        Self(vec![Extent { inside: 0, outside, count: 1 }])
    }

    /// `outside` as root, then ranges of further ids one after the other.
    pub(crate) fn with_ranges(outside: u32, ranges: &[(u32, u32)]) -> Self {
        let mut map = Self::single(outside);
        let mut inside = 1_u32;
        for &(start, count) in ranges {
            // Ids end at 2^32 - 2.
            let count = count.min(u32::MAX - inside);
            if count > 0 {
                map.0.push(Extent { inside, outside: start, count });
                inside += count;
            }
        }
        map
    }

    /// The text that is written to the kernel.
    pub(crate) fn lines(&self) -> String {
        let line = |extent: &Extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count);
        self.0.iter().map(line).collect()
    }

    /// Whether `id` exists inside.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.0.iter().any(|extent| id.checked_sub(extent.inside).is_some_and(|offset| offset < extent.count))
    }

    /// Whether root is this id outside.
    pub(crate) fn root_is_from(&self, outside: u32) -> bool {
        self.0.iter().any(|extent| extent.inside == 0 && extent.outside == outside)
    }

    /// The map of a child namespace in which every id is the same as in this one. The kernel wants each line to lie
    /// within one line of ours.
    pub(crate) fn identity(&self) -> Self {
        Self(self.0.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect())
    }

    /// The highest id such that all from 0 to it exist inside.
    pub(crate) fn top(&self) -> u32 {
        let mut next = 0_u32;
        for extent in &self.0 {
            if extent.inside != next {
                break;
            }
            next = next.saturating_add(extent.count);
        }
        next.saturating_sub(1)
    }

    /// The ids from 1 to `top - 1` as they are.
    fn middle(&self, top: u32) -> impl Iterator<Item = Extent> {
        self.0.iter().filter_map(move |extent| {
            let first = extent.inside.max(1);
            let end = extent.inside.saturating_add(extent.count).min(top);
            (first < end).then(|| Extent { inside: first, outside: first, count: end - first })
        })
    }

    /// Two maps, one inside the other, after which root is root as before, but the inner map reads `0 <top> 1`: the outer
    /// one calls our root the highest id, and the inner one calls that root. None if there is one id only.
    pub(crate) fn root_is_highest(&self) -> Option<(Self, Self)> {
        let top = self.top();
        if top == 0 {
            return None;
        }
        let outer = std::iter::once(Extent { inside: top, outside: 0, count: 1 }).chain(self.middle(top)).collect();
        let inner = std::iter::once(Extent { inside: 0, outside: top, count: 1 }).chain(self.middle(top)).collect();
        Some((Self(outer), Self(inner)))
    }
}

/// The ranges (first id, count) that `/etc/subuid` or `/etc/subgid` gives to a user, who is named or numbered there.
pub(crate) fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            (Some(owner) == name || owner == number).then_some(())?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (range.1 > 0).then_some(range)
        })
        .collect()
}

/// The name of a user id in the text of `/etc/passwd`.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONCOURSE: &str = "         0 4294967294          1\n         1          1 4294967293\n";

    #[test]
    fn an_identity_map_keeps_the_lines_of_the_parent() {
        let host = IdMap::parse("         0          0 4294967295\n");
        assert_eq!(host.identity().lines(), "0 0 4294967295\n");
        assert_eq!(IdMap::parse(CONCOURSE).identity().lines(), "0 0 1\n1 1 4294967293\n");
        assert_eq!(IdMap::parse("junk\n0 1000 1\n").identity().lines(), "0 0 1\n");
    }

    #[test]
    fn root_becomes_the_highest_id_and_root_again() {
        let (outer, inner) = IdMap::parse("0 0 4294967295").root_is_highest().unwrap();
        assert_eq!(outer.lines(), "4294967294 0 1\n1 1 4294967293\n");
        assert_eq!(inner.lines(), "0 4294967294 1\n1 1 4294967293\n");
        let (outer, inner) = IdMap::parse(CONCOURSE).root_is_highest().unwrap();
        assert_eq!(outer.lines(), "4294967293 0 1\n1 1 4294967292\n");
        assert_eq!(inner.lines(), "0 4294967293 1\n1 1 4294967292\n");
        let (outer, inner) = IdMap::parse("0 1000 1\n1 100000 65536\n").root_is_highest().unwrap();
        assert_eq!(outer.lines(), "65536 0 1\n1 1 65535\n");
        assert_eq!(inner.lines(), "0 65536 1\n1 1 65535\n");
        assert_eq!(IdMap::single(7).root_is_highest(), None);
    }

    #[test]
    fn ids_are_found_in_a_map() {
        let map = IdMap::with_ranges(1000, &[(100_000, 10), (0, 0), (500_000, 5)]);
        assert_eq!(map.lines(), "0 1000 1\n1 100000 10\n11 500000 5\n");
        assert_eq!(map.top(), 15);
        for (id, there) in [(0, true), (5, true), (15, true), (16, false), (u32::MAX, false)] {
            assert_eq!(map.has(id), there, "{id}");
        }
    }

    #[test]
    fn subordinate_ids_belong_to_a_name_or_a_number() {
        let text = "# comment\nanna:100000:65536\nbert:200000:65536\n1000:300000:10\nanna:x:1\nanna:1:0\nanna:400000:5";
        assert_eq!(subordinate(text, Some("anna"), 1000), [(100_000, 65_536), (300_000, 10), (400_000, 5)]);
        assert_eq!(subordinate(text, None, 1000), [(300_000, 10)]);
        assert_eq!(subordinate(text, Some("carl"), 1), []);
    }

    #[test]
    fn a_name_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("anna"));
        assert_eq!(user_name(passwd, 100), None);
    }
}
