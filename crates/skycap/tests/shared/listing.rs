//! What is below a directory, as text.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Names have another order than what they stand for.
pub fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Every entry below a directory: path, mode, and what it holds.
pub fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    list(root, Path::new(""), &mut lines);
    lines.sort();
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

fn list(root: &Path, below: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let relative = below.join(entry.file_name());
        let (path, shown) = (root.join(&relative), relative.display().to_string());
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else if metadata.is_dir() {
            lines.push(format!("{shown}/ {mode:04o}"));
            list(root, &relative, lines);
        } else if !metadata.is_file() {
            lines.push(format!("{shown} {mode:04o} is no file"));
        } else if relative.extension().is_some_and(|extension| extension == "tar") {
            lines.push(format!("{shown} {mode:04o}"));
            lines.extend(
                members(&path)
                    .unwrap_or_default()
                    .into_iter()
                    .enumerate()
                    .map(|(at, line)| format!("{shown} [{at:02}] {line}")),
            );
        } else {
            let links = if metadata.nlink() > 1 { format!(" links {}", metadata.nlink()) } else { String::new() };
            lines.push(format!("{shown} {mode:04o}{links} {}", content(&path)));
        }
    }
}

fn content(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) if text.len() < 2000 => format!("{text:?}"),
        Ok(text) => format!("{} bytes {}", text.len(), skycap_image::Digest::sha256(text.as_bytes())),
        Err(error) => format!("{} bytes {}", error.as_bytes().len(), skycap_image::Digest::sha256(error.as_bytes())),
    }
}

/// The members of an archive in their order; what `docker load` reads, in full.
fn members(path: &Path) -> std::io::Result<Vec<String>> {
    let mut reader = skycap_image::tar::Reader::new(fs::File::open(path).unwrap());
    let mut lines = Vec::new();
    while let Some(header) = reader.next()? {
        let name = String::from_utf8_lossy(&header.path).into_owned();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let shown = if name == "manifest.json" {
            format!("{:?}", String::from_utf8_lossy(&bytes))
        } else {
            skycap_image::Digest::sha256(&bytes).to_string()
        };
        lines.push(format!("{name} {:04o} {shown}", header.mode));
    }
    Ok(lines)
}
