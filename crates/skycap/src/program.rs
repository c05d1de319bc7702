//! Which program we were started as.
//!
//! `skycap install COMPONENT DIR` writes one binary, `DIR/skycap-COMPONENT`, and a symbolic link to it for each name that
//! Concourse calls: `check -> skycap-registry-image`. The kernel resolves the link, so `/proc/self/exe` tells the component
//! and `argv[0]` the program.

use std::ffi::OsStr;
use std::path::Path;

/// What the name of our executable starts with when it was installed for one component.
pub const PREFIX: &str = "skycap-";

/// A program of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `registry-image` and so on.
    pub component: String,
    /// `check`, `in`, `out` or `build`.
    pub name: String,
}

/// The program, if we were called by one of the names of an installed component.
pub fn detect(executable: Option<&Path>, argv0: Option<&OsStr>) -> Option<Program> {
    let component = executable?.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let name = Path::new(argv0?).file_name()?.to_str()?;
    let known = skycap_concourse::install::component(component)?;
    known.executables.contains(&name).then(|| Program { component: component.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_an_installed_binary_is_its_program() {
        let detect = |executable: &str, argv0: &str| {
            super::detect(Some(Path::new(executable)), Some(OsStr::new(argv0))).map(|p| (p.component, p.name))
        };
        let found = |component: &str, name: &str| Some((component.to_owned(), name.to_owned()));
        assert_eq!(
            detect("/opt/resource/skycap-registry-image", "/opt/resource/check"),
            found("registry-image", "check")
        );
        assert_eq!(detect("/usr/bin/skycap-oci-build", "build"), found("oci-build", "build"));
        assert_eq!(detect("/usr/bin/skycap", "check"), None);
        assert_eq!(detect("/opt/resource/skycap-registry-tag", "/opt/resource/out"), None);
        assert_eq!(detect("/opt/resource/skycap-registry-image", "skycap-registry-image"), None);
    }
}
