//! Platforms, in Go's names (`linux/amd64`, `linux/arm/v7`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The `platform` object of a descriptor, and what users ask for (OCI image-spec, image-index.md).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Platform {
    /// Go's GOARCH: amd64, arm64, 386 …
    #[serde(default)]
    pub architecture: String,
    /// Go's GOOS: linux, windows …
    #[serde(default)]
    pub os: String,
    /// The Windows build, for example.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The processor's variant: v6, v7, v8 …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: expected OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// A platform without a variant.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.to_owned(), architecture: architecture.to_owned(), ..Self::default() }
    }

    /// The one this program was built for, in Go's names.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture)
    }

    /// The same platform with the spellings that mean the same folded together: `x86_64` is `amd64`, `aarch64` and
    /// `arm64/v8` are `arm64`, `armhf` is `arm/v7`, a bare `arm` is `arm/v7` (containerd's `platforms.Normalize`).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let variant = self.variant.as_deref().filter(|v| !v.is_empty());
        let (architecture, variant) = match (self.architecture.to_ascii_lowercase().as_str(), variant) {
            ("i386", _) => ("386".to_owned(), None),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64".to_owned(), v.filter(|v| *v != "v1")),
            ("aarch64" | "arm64", v) => ("arm64".to_owned(), v.filter(|v| *v != "8" && *v != "v8")),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm".to_owned(), Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm".to_owned(), Some("v6")),
            ("arm", Some("5")) => ("arm".to_owned(), Some("v5")),
            ("arm", Some("8")) => ("arm".to_owned(), Some("v8")),
            (other, v) => (other.to_owned(), v),
        };
        let os = if self.os.eq_ignore_ascii_case("macos") { "darwin".to_owned() } else { self.os.to_ascii_lowercase() };
        Self { architecture, os, variant: variant.map(str::to_owned), ..self.clone() }
    }

    /// Whether an image for `offered` serves a user who asked for `self`. A variant that was not asked for does not count.
    pub fn accepts(&self, offered: &Self) -> bool {
        let (wanted, offered) = (self.normalized(), offered.normalized());
        wanted.os == offered.os
            && wanted.architecture == offered.architecture
            && (self.variant.is_none() || wanted.variant == offered.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_deref().filter(|v| !v.is_empty()).map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let well_formed = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(well_formed) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture)),
            [os, architecture, variant] => {
                Ok(Self { variant: Some(variant.to_owned()), ..Self::new(os, architecture) })
            }
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_accept_each_other() {
        for (wanted, offered, expected) in [
            ("linux/amd64", "linux/x86_64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/amd64", "windows/amd64", false),
        ] {
            let (a, b): (Platform, Platform) = (wanted.parse().unwrap(), offered.parse().unwrap());
            assert_eq!(a.accepts(&b), expected, "{wanted} {offered}");
        }
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/amd 64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
