//! An image in a registry, and the three things that are done with it, through a script that spoils them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use skycap_image::{Artifact, Image, ImageSink, ImageSource, SourceError};
use skycap_registry::server::Server;
use skycap_registry::{Access, Client, Credentials, Place, Settings};
use skycap_testkit::registry::{Reply, Request, Scripted};
use tempfile::TempDir;

use crate::support::{Kept, client, image, noise, place, read, server, settings, tag};

/// A layer that the client compares before it hands it out, and one that is too large for that.
pub const SMALL: usize = 300_000;
pub const LARGE: usize = 2_200_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Check,
    Pull,
    Push,
}

pub const ACTS: [Act; 3] = [Act::Check, Act::Pull, Act::Push];

/// A registry that holds an image as `aa:1`; what is pushed goes to a repository of its own each time.
pub struct World {
    _dir: TempDir,
    pub server: Server,
    pub image: Image,
    fresh: Image,
    pushes: AtomicUsize,
}

/// What a run came to.
pub struct Ran {
    pub result: Result<(), SourceError>,
    pub scripted: Scripted,
    pub kept: Arc<Kept>,
    pub took: Duration,
}

impl Ran {
    pub fn requests(&self) -> Vec<Request> {
        self.scripted.requests()
    }

    pub fn error(&self) -> &SourceError {
        self.result.as_ref().expect_err("it should have failed")
    }

    pub fn text(&self) -> String {
        self.error().to_string()
    }

    /// The requests of that method whose path ends like this.
    pub fn asked(&self, method: &str, path: &str) -> Vec<Request> {
        let fits = |request: &Request| request.method == method && request.path.ends_with(path);
        self.requests().into_iter().filter(fits).collect()
    }
}

impl World {
    pub fn new() -> Self {
        let (dir, server) = server();
        let image = image("amd64", &[noise(1, SMALL), noise(2, LARGE)]);
        place(&client(), server.address(), "aa").put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
        let fresh = self::image("arm64", &[noise(3, SMALL), noise(4, LARGE)]);
        Self { _dir: dir, server, image, fresh, pushes: AtomicUsize::new(0) }
    }

    /// The end of the path of the large layer that is pulled.
    pub fn large(&self) -> String {
        format!("/blobs/{}", self.image.layers()[1].descriptor.digest)
    }

    pub fn small(&self) -> String {
        format!("/blobs/{}", self.image.layers()[0].descriptor.digest)
    }

    /// Runs with a fault for some requests; the others are served.
    pub fn run(&self, act: Act, fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Ran {
        self.run_as(act, settings(), Credentials::Anonymous, fault)
    }

    pub fn run_with(
        &self,
        act: Act,
        settings: Settings,
        fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Ran {
        self.run_as(act, settings, Credentials::Anonymous, fault)
    }

    pub fn run_as(
        &self,
        act: Act,
        settings: Settings,
        credentials: Credentials,
        fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Ran {
        let forward = move |request: &Request| fault(request).unwrap_or_else(Reply::forward);
        let scripted = Scripted::in_front_of(self.server.address(), forward).unwrap();
        self.run_at(scripted, act, settings, credentials)
    }

    #[allow(clippy::needless_pass_by_value, reason = "a run uses up what it is given")]
    pub fn run_at(&self, scripted: Scripted, act: Act, mut settings: Settings, credentials: Credentials) -> Ran {
        settings.hosts.insert("r.example".to_owned(), scripted.url());
        let kept = Arc::new(Kept::default());
        let client = Client::new(settings, kept.clone()).unwrap();
        let started = Instant::now();
        let open = |path: &str| {
            let access = Access { credentials: credentials.clone(), push: act == Act::Push, ..Access::default() };
            client.place(format!("r.example/{path}").parse().unwrap(), access).unwrap()
        };
        let result = match act {
            Act::Check => self.check(&open("aa")),
            Act::Pull => self.pull(&open("aa")),
            Act::Push => {
                let path = format!("push{}", self.pushes.fetch_add(1, Ordering::SeqCst));
                self.push(&open(&path), &path)
            }
        };
        Ran { result, scripted, kept, took: started.elapsed() }
    }

    fn check(&self, place: &Place) -> Result<(), SourceError> {
        let found = place.find(&tag("1"))?.expect("the tag is there");
        assert_eq!(found.digest, self.image.descriptor().digest);
        assert_eq!(place.tags()?, ["1"]);
        Ok(())
    }

    fn pull(&self, place: &Place) -> Result<(), SourceError> {
        let Artifact::Image(pulled) = place.get(&tag("1"))? else { panic!("an image") };
        assert_eq!(pulled.raw(), self.image.raw());
        assert_eq!(pulled.config_bytes(), self.image.config_bytes());
        for (layer, (seed, length)) in pulled.layers().iter().zip([(1, SMALL), (2, LARGE)]) {
            assert!(read(place, &layer.descriptor)? == noise(seed, length), "other bytes than were pushed");
        }
        Ok(())
    }

    fn push(&self, place: &Place, path: &str) -> Result<(), SourceError> {
        let pushed = place.put(&Artifact::Image(self.fresh.clone()), &[tag("new")])?;
        assert_eq!(pushed, *self.fresh.descriptor());
        let there = self::place(&client(), self.server.address(), path);
        let Artifact::Image(pulled) = there.get(&tag("new"))? else { panic!("an image") };
        assert_eq!(pulled.raw(), self.fresh.raw());
        for (layer, (seed, length)) in pulled.layers().iter().zip([(3, SMALL), (4, LARGE)]) {
            assert!(read(&there, &layer.descriptor)? == noise(seed, length), "other bytes than were pushed");
        }
        Ok(())
    }
}

/// The tags, the manifest and the layers of the world's image, without an error.
pub fn same(ran: Ran, what: impl std::fmt::Debug) -> Ran {
    if let Err(error) = &ran.result {
        panic!("{what:?}: {error}; asked {:?}; told {:?}", ran.scripted.lines(), ran.kept.lines());
    }
    ran
}
