//! A registry with faults on request, images from a text listing, a hermetic world

pub mod listing;
pub mod notary;
pub mod rawtar;
pub mod registry;
pub mod secrets;
