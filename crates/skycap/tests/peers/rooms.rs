//! What all peers have in common.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_image::{Artifact, Descriptor, Name, SourceError};
use skycap_registry::{Client, Credentials, Place};
use tempfile::TempDir;

/// Where one artifact (an archive) or many (a registry's repository) can be put and got.
pub trait Room: Send + Sync {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError>;
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError>;
    fn get(&self, name: &Name) -> Result<Artifact, SourceError>;
}

/// A kind of place, and a way to get rooms in it.
pub struct Peer {
    pub name: &'static str,
    /// Whether a manifest keeps its bytes, and an index can be put.
    pub keeps_manifests: bool,
    pub access: Access,
    pub dir: TempDir,
}

/// Gets a peer, or says why it cannot be had here.
pub type Open = fn() -> Result<Peer, String>;

/// How rooms are opened.
pub enum Access {
    Local(fn(&Path) -> Box<dyn Room>),
    Registry(Registry),
}

/// A registry that runs, and who we are there.
#[derive(Clone)]
pub struct Registry {
    pub address: String,
    pub ca: Option<String>,
    pub credentials: Credentials,
    pub client: Client,
    /// Tells what the client did.
    pub events: std::sync::Arc<crate::process::Events>,
    pub tokens: Option<std::sync::Arc<crate::tokens::Tokens>>,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A name that no other test has.
pub fn fresh(stem: &str) -> String {
    format!("{stem}/{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Peer {
    /// A room that nothing was put into.
    pub fn room(&self) -> Box<dyn Room> {
        match &self.access {
            Access::Local(open) => {
                let dir = self.dir.path().join(fresh("room").replace('/', "-"));
                std::fs::create_dir(&dir).unwrap();
                open(&dir)
            }
            Access::Registry(registry) => Box::new(registry.place(&fresh("team/app"))),
        }
    }

    /// What only registries have.
    pub fn registry(&self) -> &Registry {
        match &self.access {
            Access::Registry(registry) => registry,
            Access::Local(_) => panic!("{} is no registry", self.name),
        }
    }
}

impl Registry {
    /// A repository.
    pub fn place(&self, path: &str) -> Place {
        self.place_as(&self.client, path, self.credentials.clone())
    }

    pub fn place_as(&self, client: &Client, path: &str, credentials: Credentials) -> Place {
        let repository = format!("{}/{path}", self.address).parse().unwrap();
        let ca_certs = self.ca.iter().cloned().collect();
        let access = skycap_registry::Access { credentials, push: true, ca_certs, ..Default::default() };
        client.place(repository, access).unwrap()
    }
}

impl Room for Place {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        skycap_image::ImageSink::put(self, artifact, names)
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        skycap_image::ImageSource::find(self, name)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        skycap_image::ImageSource::get(self, name)
    }
}
