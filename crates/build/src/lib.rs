//! How does a Dockerfile become an image?
