//! dpkg's database: `/var/lib/dpkg/status`, and the files of `status.d` that images without dpkg have.

use std::collections::BTreeMap;

use super::package::Package;

/// Reads a database. A package that was removed or never came is left out.
pub(super) fn parse(bytes: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(bytes);
    paragraphs(&text).iter().filter_map(package).collect()
}

/// The fields of each paragraph; of a value of several lines, the first.
fn paragraphs(text: &str) -> Vec<BTreeMap<String, &str>> {
    let mut paragraphs = Vec::new();
    let mut current = BTreeMap::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            paragraphs.push(std::mem::take(&mut current));
        } else if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t', '#'])) {
            current.entry(name.trim().to_ascii_lowercase()).or_insert(value.trim());
        }
    }
    paragraphs.push(current);
    paragraphs
}

fn package(fields: &BTreeMap<String, &str>) -> Option<Package> {
    let field = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
    let status = fields.get("status").map(|status| status.split_whitespace().last().unwrap_or_default());
    let is_there = status.is_none_or(|status| !matches!(status, "not-installed" | "config-files"));
    let (name, version) = (field("package"), field("version"));
    if !is_there || name.is_empty() || version.is_empty() {
        return None;
    }
    let source = fields.get("source").copied().unwrap_or_default();
    let source = match source.split_once('(') {
        Some((name, version)) => format!("{}@{}", name.trim(), version.trim_end_matches(')').trim()),
        None => source.to_owned(),
    };
    Some(Package {
        name,
        version,
        architecture: field("architecture"),
        maintainer: field("maintainer"),
        homepage: field("homepage"),
        summary: field("description"),
        source,
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_listed() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nMaintainer: M <m@x>\n\
                    Source: src (2-2)\nDescription: first\n second\n Version: no\n\n\
                    Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: half\nStatus: install ok half-configured\nVersion: 2\nSource: other\n\n\
                    Package: distroless\nVersion: 3\n\n\nPackage: no-version\n\nnothing\n\x00: \n";
        let packages = parse(text.as_bytes());
        let names: Vec<_> = packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.source.as_str())).collect();
        assert_eq!(names, [("a", "1:2-3", "src@2-2"), ("half", "2", "other"), ("distroless", "3", "")]);
        assert_eq!((packages[0].summary.as_str(), packages[0].maintainer.as_str()), ("first", "M <m@x>"));
    }
}
