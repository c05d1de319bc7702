//! Programs of other architectures: whether the kernel knows an emulator for them (`binfmt_misc`).

use std::path::{Path, PathBuf};

/// Where the kernel tells.
const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";

/// How programs of an architecture run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Emulator {
    /// The kernel holds the emulator open (flag `F`): it works in any root file system.
    Anywhere,
    /// The kernel looks for this program inside, so it has to be bound there.
    Inside(PathBuf),
}

/// The emulator for an architecture, by its name in images (`arm64`, `s390x`); none if programs of it cannot run.
pub fn emulator(architecture: &str) -> Option<Emulator> {
    find(Path::new(DIRECTORY), architecture)
}

fn find(directory: &Path, architecture: &str) -> Option<Emulator> {
    let machine = machine(architecture)?;
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().filter_map(|path| std::fs::read_to_string(path).ok()).find_map(|text| read(&text, machine))
}

/// Whether an entry is for programs of this machine: the number at offset 18 of an ELF file, which its magic holds.
fn read(text: &str, (number, big_endian): (u16, bool)) -> Option<Emulator> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if !text.lines().any(|line| line == "enabled") || field("offset ").is_some_and(|offset| offset != "0") {
        return None;
    }
    let magic = field("magic ")?;
    let byte = |at: usize| u16::from_str_radix(magic.get(2 * at..2 * at + 2)?, 16).ok();
    let (first, second) = (byte(18)?, byte(19)?);
    let found = if big_endian { first << 8 | second } else { second << 8 | first };
    if !magic.starts_with("7f454c46") || found != number {
        return None;
    }
    if field("flags:").is_some_and(|flags| flags.contains('F')) {
        return Some(Emulator::Anywhere);
    }
    Some(Emulator::Inside(PathBuf::from(field("interpreter ")?)))
}

/// The number of an architecture in ELF files, and whether it is written with its high byte first.
fn machine(architecture: &str) -> Option<(u16, bool)> {
    Some(match architecture {
        "386" => (3, false),
        "amd64" => (62, false),
        "arm" => (40, false),
        "arm64" => (183, false),
        "loong64" => (258, false),
        "mips64le" => (8, false),
        "ppc64le" => (21, false),
        "riscv64" => (243, false),
        "s390x" => (22, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\noffset 0\n\
                         magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn an_entry_is_for_the_machine_that_its_magic_names() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("status", "enabled\n");
        write("python3", "enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic cb0d0d0a\n");
        assert_eq!(find(directory.path(), "arm64"), None);
        write("qemu-aarch64", ARM64);
        assert_eq!(find(directory.path(), "arm64"), Some(Emulator::Anywhere));
        assert_eq!(find(directory.path(), "s390x"), None);
        write("qemu-aarch64", &ARM64.replace("OCF", "OC"));
        assert_eq!(find(directory.path(), "arm64"), Some(Emulator::Inside("/usr/bin/qemu-aarch64".into())));
        write("qemu-aarch64", &ARM64.replace("enabled", "disabled"));
        assert_eq!(find(directory.path(), "arm64"), None);
        write("qemu-s390x", &ARM64.replace("0200b700", "00020016"));
        assert_eq!(find(directory.path(), "s390x"), Some(Emulator::Anywhere));
        assert_eq!(find(Path::new("/does/not/exist"), "arm64"), None);
    }
}
