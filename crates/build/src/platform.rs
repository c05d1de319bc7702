//! A platform as `FROM --platform` names it: also by its system or its architecture alone.

use skycap_image::Platform;

/// The systems that Go knows and images are made for.
const SYSTEMS: [&str; 8] = ["darwin", "freebsd", "illumos", "linux", "netbsd", "openbsd", "solaris", "windows"];

/// The architectures that Go knows, in its names.
const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "sparc64", "wasm", "riscv",
];

/// Reads a platform; what is not said is as on this machine.
pub(crate) fn parse(text: &str) -> Result<Platform, String> {
    if text.contains('/') {
        return text.parse::<Platform>().map(|platform| platform.normalized()).map_err(|error| error.to_string());
    }
    let host = Platform::host();
    let word = text.to_ascii_lowercase();
    if SYSTEMS.contains(&word.as_str()) {
        return Ok(Platform { os: word, ..host }.normalized());
    }
    let named = Platform::new(&host.os, &word).normalized();
    if ARCHITECTURES.contains(&named.architecture.as_str()) {
        return Ok(named);
    }
    Err(format!("{text:?}: unknown operating system or architecture: invalid argument"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_platform_is_filled_up() {
        let host = Platform::host().normalized();
        for (text, os, architecture) in [
            ("linux/arm64", "linux", "arm64"),
            ("arm64", host.os.as_str(), "arm64"),
            ("x86_64", host.os.as_str(), "amd64"),
            ("aarch64", host.os.as_str(), "arm64"),
            ("linux", "linux", host.architecture.as_str()),
            ("windows", "windows", host.architecture.as_str()),
        ] {
            let platform = parse(text).unwrap();
            assert_eq!((platform.os.as_str(), platform.architecture.as_str()), (os, architecture), "{text}");
        }
        for text in ["", "nothing", "linux/", "/", "a/b/c/d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
