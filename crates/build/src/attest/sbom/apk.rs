//! apk's database: lines of a letter, a colon and a value; an empty line ends a package.

use super::package::Package;

/// Reads a database.
pub(super) fn parse(bytes: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(bytes);
    let mut packages = Vec::new();
    let mut current = Package::default();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            let package = std::mem::take(&mut current);
            if !package.name.is_empty() && !package.version.is_empty() {
                packages.push(package);
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let field = match name {
            "P" => &mut current.name,
            "V" => &mut current.version,
            "A" => &mut current.architecture,
            "L" => &mut current.license,
            "T" => &mut current.summary,
            "U" => &mut current.homepage,
            "m" => &mut current.maintainer,
            "o" => &mut current.source,
            _ => continue,
        };
        value.trim().clone_into(field);
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_end_at_an_empty_line_or_at_the_end() {
        let text = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nT:the libc\nU:https://musl.libc.org/\nL:MIT\no:musl\n\
                    m:Timo <t@x>\nF:lib\nR:ld.so\n\nP:nothing\n\n\nP:b\nV:2\nrubbish\n\u{0}";
        let packages = parse(text.as_bytes());
        let names: Vec<_> =
            packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.license.as_str())).collect();
        assert_eq!(names, [("musl", "1.2.5-r0", "MIT"), ("b", "2", "")]);
    }
}
