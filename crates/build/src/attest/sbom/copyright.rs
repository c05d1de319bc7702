//! Debian's copyright files, where they are made for programs:
//! <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>.

use std::collections::BTreeSet;

/// Where a package has its own.
pub(super) fn path(package: &str) -> String {
    format!("/usr/share/doc/{package}/copyright")
}

/// The licenses of all parts of a package in one expression, in the words of the file; empty if it is prose.
pub(super) fn licenses(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.trim_start().starts_with("Format:") {
        return String::new();
    }
    let names = text.lines().filter_map(|line| line.strip_prefix("License:")).map(str::trim);
    let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
    let is_alone = names.len() == 1;
    let has_choice = |name: &str| name.to_ascii_lowercase().contains(" or ");
    let part = |name: &str| if has_choice(name) && !is_alone { format!("({name})") } else { name.to_owned() };
    names.into_iter().map(part).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licenses_of_all_parts_hold_together() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+\n\n\
                    Files: a\nLicense: Expat or GPL-2+\n\nLicense: GPL-2+\n Text of\n License: no\n\nLicense:\n";
        assert_eq!(licenses(text.as_bytes()), "(Expat or GPL-2+) and GPL-2+");
        assert_eq!(licenses(b"Format: x\nLicense: A or B\n"), "A or B");
        assert_eq!(licenses(b"This package was debianized by ...\nLicense: GPL\n"), "");
        assert_eq!(licenses(b"\xff"), "");
    }
}
