//! What an image must contain so that Concourse finds us: data for the installation of a drop-in replacement.

/// A component that can be installed into an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Component {
    /// What users call it.
    pub name: &'static str,
    /// Where Concourse looks: the directory of its executables.
    pub directory: &'static str,
    /// The names that Concourse calls; each is the one binary under that name.
    pub executables: &'static [&'static str],
}

/// Every component. `git` is missing on purpose: it only serves pipelines that run here.
pub const COMPONENTS: [Component; 3] = [
    Component { name: "registry-image", directory: "/opt/resource", executables: &["check", "in", "out"] },
    Component { name: "registry-tag", directory: "/opt/resource", executables: &["check", "in"] },
    Component { name: "oci-build", directory: "/usr/bin", executables: &["build", "task"] },
];

/// The component of that name.
pub fn component(name: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|component| component.name == name)
}
