//! Fewer platforms than an artifact has.

use std::sync::Arc;

use crate::{Artifact, Index, MediaType, Platform, SourceError};

impl Artifact {
    /// The artifact for some platforms: for one, its image as it is; for several, a new index with the images that serve
    /// them, as they are, in the order in which they were asked for. What else an index lists (attestations) is left out.
    pub fn for_platforms(&self, platforms: &[Platform]) -> Result<Self, SourceError> {
        let index = match (self, platforms) {
            (Self::Image(_), _) | (_, []) => return Ok(self.clone()),
            (Self::Index(_), [one]) => return self.for_platform(one).map(Self::Image),
            (Self::Index(index), _) => index,
        };
        let mut chosen: Vec<crate::Descriptor> = Vec::new();
        for platform in platforms {
            let image = self.for_platform(platform)?;
            let listed = index.manifests().iter().find(|child| child.digest == image.descriptor().digest);
            let found = listed.cloned().unwrap_or_else(|| image.descriptor().clone().with_platform(platform.clone()));
            if !chosen.contains(&found) {
                chosen.push(found);
            }
        }
        let docker = index.raw().descriptor.media_type == MediaType::DockerManifestList;
        Index::assemble(chosen, docker, Arc::clone(index.blobs())).map(Self::Index)
    }
}
