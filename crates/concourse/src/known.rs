//! Which images of other people do what this program does itself.

use skycap_image::Repository;

/// A resource type that is built in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `registry-image`: checks, downloads and pushes images.
    RegistryImage,
    /// `registry-tag`: follows the tags of a repository.
    RegistryTag,
    /// `git`: follows the commits of a branch.
    Git,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::RegistryImage, Self::RegistryTag, Self::Git];

    /// The name of the base resource type that a worker would ship (`registry-tag` is never shipped).
    pub fn name(self) -> &'static str {
        match self {
            Self::RegistryImage => "registry-image",
            Self::RegistryTag => "registry-tag",
            Self::Git => "git",
        }
    }

    /// The kind of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an image of somebody else is to us.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Known {
    /// The image of a resource type that is built in.
    Resource(Kind),
    /// The image of the oci-build task (`run: path: build`).
    OciBuildTask,
}

/// The last two components of their repositories.
const IMAGES: [(&str, Known); 6] = [
    ("concourse/registry-image-resource", Known::Resource(Kind::RegistryImage)),
    ("tlwr/registry-tag-resource", Known::Resource(Kind::RegistryTag)),
    ("concourse/git-resource", Known::Resource(Kind::Git)),
    ("concourse/oci-build-task", Known::OciBuildTask),
    ("vito/oci-build-task", Known::OciBuildTask),
    ("jprelph/oci-build-task", Known::OciBuildTask),
];

/// Whether an image of that repository, whatever its tag, need not be downloaded because we do its work ourselves.
///
/// The registry does not matter and neither does what stands before the last two components: companies keep copies of
/// these images under `harbor.corp/dockerhub/vito/oci-build-task` and the like.
pub fn known_image(repository: &Repository) -> Option<Known> {
    let is =
        |known: &str| repository.path().strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    IMAGES.iter().find(|(path, _)| is(path)).map(|(_, known)| *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_wherever_they_are_kept() -> Result<(), skycap_image::InvalidReference> {
        let cases = [
            ("tlwr/registry-tag-resource", Some(Known::Resource(Kind::RegistryTag))),
            ("docker.io/vito/oci-build-task", Some(Known::OciBuildTask)),
            ("concourse/git-resource", Some(Known::Resource(Kind::Git))),
            ("ghcr.io/concourse/git-resource", Some(Known::Resource(Kind::Git))),
            ("harbor.corp/dockerhub/vito/oci-build-task", Some(Known::OciBuildTask)),
            ("somebody/oci-build-task", None),
            ("xvito/oci-build-task", None),
            ("busybox", None),
        ];
        for (name, expected) in cases {
            assert_eq!(known_image(&name.parse()?), expected, "{name}");
        }
        Ok(())
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::of_name("docker-image"), None);
    }
}
