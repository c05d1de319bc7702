//! A package, as a package manager's database tells of it.

use super::super::purl::purl;
use super::os_release::OsRelease;

/// Which package manager it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manager {
    Dpkg,
    Apk,
    Rpm,
}

/// A package that is installed. What a database does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub name: String,
    /// With everything that the manager counts to it: `1:2.3-4`.
    pub version: String,
    pub architecture: String,
    /// Who maintains or packs it: `Name <address>`.
    pub maintainer: String,
    /// Who sells or distributes it.
    pub vendor: String,
    /// The license as the database words it.
    pub license: String,
    pub homepage: String,
    /// One line.
    pub summary: String,
    /// What it was built from: a source package's name, with `@version` where that differs.
    pub source: String,
    /// Of an rpm, which is not part of its version in a package URL.
    pub epoch: String,
    /// Digests of the package file: SPDX's name of the function, hexadecimal digits.
    pub checksums: Vec<(&'static str, String)>,
}

impl Manager {
    /// What a package URL calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Dpkg => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
        }
    }

    /// What people call its database.
    pub fn database(self) -> &'static str {
        match self {
            Self::Dpkg => "DPKG DB",
            Self::Apk => "APK DB",
            Self::Rpm => "RPM DB",
        }
    }

    /// Whose packages these are if the system does not say.
    fn namespace(self) -> &'static str {
        match self {
            Self::Dpkg => "debian",
            Self::Apk => "alpine",
            Self::Rpm => "",
        }
    }
}

impl Package {
    /// Its package URL in a system.
    pub fn purl(&self, manager: Manager, system: Option<&OsRelease>) -> String {
        let namespace = system.map_or(manager.namespace(), |system| system.id.as_str());
        let namespace: Vec<&str> = Some(namespace).filter(|name| !name.is_empty()).into_iter().collect();
        let distro = system.map(OsRelease::distro).unwrap_or_default();
        let qualifiers = [
            ("arch", self.architecture.as_str()),
            ("distro", &distro),
            ("epoch", &self.epoch),
            ("upstream", &self.source),
        ];
        purl(manager.kind(), &namespace, &self.name, &self.version, &qualifiers)
    }
}
