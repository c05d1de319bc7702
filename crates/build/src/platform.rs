//! A platform as people name it: also by its system or its architecture alone. What nobody makes images for is a slip of
//! the pen, and is said at once.

use skycap_image::{Platform, suggest};

/// The systems that containerd knows (`platforms.isKnownOS`), and those of WebAssembly.
const SYSTEMS: [&str; 19] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "wasip1",
    "windows",
    "zos",
];

/// The architectures that containerd knows (`platforms.isKnownArch`), and the older name of WebAssembly.
const ARCHITECTURES: [&str; 25] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "wasm32",
];

/// What nearly everybody means.
const USUAL: &str = "linux/amd64 or linux/arm64";

/// Text that names no platform that anybody makes images for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct UnknownPlatform {
    what: String,
    hint: String,
}

impl UnknownPlatform {
    /// What the user can write instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Reads a platform, in the spelling that is usual (`linux/x86_64` is `linux/amd64`); what is not said is as on this machine.
pub fn parse(text: &str) -> Result<Platform, UnknownPlatform> {
    if text.contains('/') {
        let platform = text.parse::<Platform>().map_err(|error| unknown(error.to_string(), text, &[], USUAL))?;
        return check(&platform).map(|()| platform.normalized());
    }
    let host = Platform::host();
    let word = text.to_ascii_lowercase();
    if is_system(&word) {
        return Ok(Platform { os: word, ..host }.normalized());
    }
    let named = Platform::new(&host.os, &word);
    if is_architecture(&named) {
        return Ok(named.normalized());
    }
    let what = format!("{text:?}: unknown operating system or architecture: invalid argument");
    Err(unknown(what, &word, &[&SYSTEMS, &ARCHITECTURES], USUAL))
}

/// Whether images are made for it.
fn check(platform: &Platform) -> Result<(), UnknownPlatform> {
    let (os, architecture) = (&platform.os, &platform.architecture);
    if !is_system(&platform.normalized().os) {
        let what = format!("unknown operating system {os:?} in the platform {platform}");
        return Err(unknown(what, os, &[&SYSTEMS], "linux, windows, freebsd"));
    }
    if !is_architecture(platform) {
        let what = format!("unknown architecture {architecture:?} in the platform {platform}");
        return Err(unknown(
            what,
            architecture,
            &[&ARCHITECTURES],
            "amd64, arm64, arm/v7, 386, ppc64le, s390x, riscv64",
        ));
    }
    Ok(())
}

/// The error about a word, which may be a slip of one of the known ones.
fn unknown(what: String, word: &str, known: &[&[&str]], usual: &str) -> UnknownPlatform {
    let near = suggest::nearest(&word.to_ascii_lowercase(), known.iter().copied().flatten().copied());
    let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    UnknownPlatform { what, hint: format!("{near}images are usually for {usual}") }
}

fn is_system(name: &str) -> bool {
    SYSTEMS.contains(&name)
}

fn is_architecture(platform: &Platform) -> bool {
    ARCHITECTURES.contains(&platform.normalized().architecture.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_platform_is_filled_up() {
        let host = Platform::host().normalized();
        for (text, os, architecture) in [
            ("linux/arm64", "linux", "arm64"),
            ("linux/arm64/v8", "linux", "arm64"),
            ("arm64", host.os.as_str(), "arm64"),
            ("x86_64", host.os.as_str(), "amd64"),
            ("aarch64", host.os.as_str(), "arm64"),
            ("linux", "linux", host.architecture.as_str()),
            ("windows", "windows", host.architecture.as_str()),
            ("macos/aarch64", "darwin", "arm64"),
            ("wasi/wasm", "wasi", "wasm"),
        ] {
            let platform = parse(text).unwrap();
            assert_eq!((platform.os.as_str(), platform.architecture.as_str()), (os, architecture), "{text}");
        }
        for text in ["", "nothing", "linux/", "/", "a/b/c/d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_nobody_makes_images_for_is_a_slip_of_the_pen() {
        for (text, what, hint) in [
            (
                "linux/foo",
                "unknown architecture \"foo\" in the platform linux/foo",
                "images are usually for amd64, arm64",
            ),
            ("linux/amd46", "unknown architecture \"amd46\"", "did you mean amd64? "),
            ("linx/amd64", "unknown operating system \"linx\"", "did you mean linux? "),
            ("amd64/linux", "unknown operating system \"amd64\"", "images are usually for linux"),
            ("amd46", "\"amd46\": unknown operating system or architecture", "did you mean amd64?"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(what), "{text}: {error}");
            assert!(error.hint().starts_with(hint), "{text}: {}", error.hint());
        }
    }
}
