//! What would Concourse do with this pipeline, here?
