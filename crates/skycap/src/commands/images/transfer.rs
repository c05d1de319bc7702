//! One artifact to one or several places.

use std::sync::Arc;
use std::time::Instant;

use skycap_image::transport::Transport;
use skycap_image::{
    Artifact, Compression, Event, ImageSink, Name, Platform, Progress, Reference, Repack, Repository, repack,
};
use skycap_store::Temporary;

use super::referrers::Referrer;
use super::{End, Places, explain, referrers};
use crate::args::{Changes, Compress};
use crate::commands::{Context, is_archive_on_stdout, print, threads};
use crate::failure::Failure;
use crate::report::Notices;

/// What is to be moved.
pub struct Transfer {
    pub source: Transport,
    pub destinations: Vec<Transport>,
    platforms: Platforms,
    referrers: bool,
    packing: Packing,
}

/// Which images of an index.
enum Platforms {
    AsItIs,
    These(Vec<Platform>),
}

/// What becomes of layers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// They stay, but for those of a docker-archive on their way to a registry: it has no manifest that would change.
    Usual,
    /// As they are, even those.
    Kept,
    /// Those that are not compressed.
    Bare(Compression),
    /// All.
    All(Compression),
}

impl Transfer {
    /// Checks what was asked for. Nothing is opened yet.
    pub fn new(source: Transport, destinations: Vec<Transport>, changes: &Changes) -> Result<Self, Failure> {
        for destination in &destinations {
            destination.check_writable()?;
        }
        if let Some(place) = destinations.iter().find(|place| is_archive_on_stdout(place))
            && rustix::termios::isatty(std::io::stdout())
        {
            return Err(Failure::usage(format!("{place}: standard output is a terminal"))
                .with_hint("redirect it to a file or a program"));
        }
        let platforms = platforms(&changes.platform)?;
        if matches!(platforms, Platforms::AsItIs)
            && !changes.platform.is_empty()
            && let Some(archive) = destinations.iter().find(|place| matches!(place, Transport::DockerArchive { .. }))
        {
            return Err(Failure::usage(format!("{archive}: a docker-archive cannot hold all platforms"))
                .with_hint("oci-archive: can, or choose one with --platform"));
        }
        let packing = packing(changes);
        if changes.referrers && !matches!(packing, Packing::Usual | Packing::Kept) {
            return Err(Failure::usage("--referrers with --compress: what refers to the image names its old digest"));
        }
        if changes.referrers
            && let Some(place) = destinations.iter().find(|place| !holds_referrers(place))
        {
            return Err(Failure::usage(format!("{place}: an archive cannot say what refers to an image"))
                .with_hint("registries and layouts can: docker://, oci:"));
        }
        Ok(Self { source, destinations, platforms, referrers: changes.referrers, packing })
    }

    /// Copies, prints the digest that the destinations have, and says what was done.
    pub fn run(&self, places: &Places<'_>, context: &Context) -> Result<(), Failure> {
        let started = Instant::now();
        let progress = &context.progress;
        let to_registry = self.destinations.iter().any(|place| place.reference().is_some());
        let from_registry = self.source.reference().is_some();
        // Every layer is told once: by whoever sends it to a registry, else by whoever fetches it, else by its reader.
        let quiet: Arc<dyn Progress> = Arc::new(Notices(Arc::clone(progress)));
        let fetching = if to_registry { &quiet } else { progress };
        let reading = (!from_registry && !to_registry).then(|| Arc::clone(progress));
        let source = places.open_telling(&self.source, fetching, reading)?;
        let chosen = self.choose(&source, progress)?;
        let scratch = Temporary::create(&context.world.scratch, "skycap-copy-")?;
        let artifact = self.packed(&chosen, scratch.path(), &**progress)?;
        self.tell_digests([&source, &chosen, &artifact], &**progress);
        let referring = if self.referrers { referrers::all(&chosen, &self.source, places)? } else { Vec::new() };
        for (repository, references) in self.repositories() {
            push(&artifact, &referring, &repository, &references, places)?;
        }
        let stdout_is_taken = self.destinations.iter().any(is_archive_on_stdout);
        for place in self.destinations.iter().filter(|place| place.reference().is_none()) {
            place.write(&artifact)?;
            if let Transport::Layout { dir, .. } = place {
                write_referrers(dir, &referring)?;
            }
        }
        context.summarise(started.elapsed(), None);
        let digest = artifact.descriptor().digest;
        if stdout_is_taken {
            context.say(&digest.to_string());
            return Ok(());
        }
        print(&format!("{digest}\n"))
    }

    /// Says why the digest is another than the source's, or why it is not.
    fn tell_digests(&self, [source, chosen, packed]: [&Artifact; 3], progress: &dyn Progress) {
        let digests = [source, chosen, packed].map(|artifact| artifact.descriptor().digest);
        let note = if digests[1] != digests[2] {
            Some(format!("other layers, another digest: {} becomes {}", digests[1], digests[2]))
        } else if matches!(self.packing, Packing::Bare(_)) {
            Some("no layer had to be compressed; --recompress takes those that are compressed otherwise".to_owned())
        } else if digests[0] != digests[1] && matches!(chosen, Artifact::Index(_)) {
            Some(format!("fewer platforms, another digest: {} becomes {}", digests[0], digests[1]))
        } else {
            None
        };
        if let Some(note) = note {
            progress.event(Event::Note(&note));
        }
    }

    fn choose(&self, source: &Artifact, progress: &Arc<dyn Progress>) -> Result<Artifact, Failure> {
        let single = self.destinations.iter().any(|place| matches!(place, Transport::DockerArchive { .. }));
        match (&self.platforms, source) {
            (Platforms::These(platforms), _) if single && platforms.len() > 1 => {
                Err(Failure::usage("a docker-archive holds the image of one platform")
                    .with_hint("oci-archive: holds several"))
            }
            (Platforms::These(platforms), Artifact::Image(_)) => {
                for platform in platforms {
                    super::image_for(source, platform, &self.source)?;
                }
                Ok(source.clone())
            }
            (Platforms::These(platforms), _) => Ok(source.for_platforms(platforms)?),
            (Platforms::AsItIs, Artifact::Index(_)) if single => {
                let host = Platform::host();
                let note = format!("a docker-archive holds one image: the one for {host} (--platform chooses)");
                progress.event(Event::Note(&note));
                Ok(source.for_platforms(&[host])?)
            }
            (Platforms::AsItIs, _) => Ok(source.clone()),
        }
    }

    fn packed(
        &self,
        artifact: &Artifact,
        scratch: &std::path::Path,
        progress: &dyn Progress,
    ) -> Result<Artifact, Failure> {
        let from_docker = matches!(self.source, Transport::DockerArchive { .. });
        let to_registry = self.destinations.iter().all(|place| place.reference().is_some());
        let (compression, only_bare) = match self.packing {
            Packing::Usual if from_docker && to_registry => (Compression::Gzip, true),
            Packing::Usual | Packing::Kept => return Ok(artifact.clone()),
            Packing::Bare(compression) => (compression, true),
            Packing::All(compression) => (compression, false),
        };
        let wanted = Repack { compression, only_bare, threads: threads(), scratch };
        Ok(repack(artifact, wanted, progress)?.unwrap_or_else(|| artifact.clone()))
    }

    /// The registries' repositories with the names wanted there, so that each is sent to once.
    fn repositories(&self) -> Vec<(Repository, Vec<&Reference>)> {
        let mut grouped: Vec<(Repository, Vec<&Reference>)> = Vec::new();
        for reference in self.destinations.iter().filter_map(Transport::reference) {
            match grouped.iter_mut().find(|(repository, _)| *repository == reference.repository) {
                Some((_, references)) => references.push(reference),
                None => grouped.push((reference.repository.clone(), vec![reference])),
            }
        }
        grouped
    }
}

fn push(
    artifact: &Artifact,
    referring: &[Referrer],
    repository: &Repository,
    references: &[&Reference],
    places: &Places<'_>,
) -> Result<(), Failure> {
    let Some(first) = references.first() else { return Ok(()) };
    let place = places.place(first, End::Destination)?;
    let explained = |error| explain::registry(&error, first, &place);
    let mut names: Vec<Name> = Vec::new();
    for reference in references {
        if !names.contains(&reference.name()) {
            names.push(reference.name());
        }
    }
    place.put(artifact, &names).map_err(explained)?;
    for referrer in referring {
        place.put(&referrer.artifact, referrer.tag.as_slice()).map_err(explained)?;
    }
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let shown = repository.to_string().replacen("index.docker.io/", "docker.io/", 1);
    let more = if referring.is_empty() { String::new() } else { format!(" with {} referrers", referring.len()) };
    say!("pushed {shown}:{}{more}", names.join(", "));
    Ok(())
}

fn write_referrers(dir: &std::path::Path, referring: &[Referrer]) -> Result<(), Failure> {
    let layout = skycap_image::layout::Layout::open(dir)?;
    for referrer in referring {
        layout.put(&referrer.artifact, referrer.tag.as_slice())?;
    }
    Ok(())
}

fn holds_referrers(place: &Transport) -> bool {
    matches!(place, Transport::Registry(_) | Transport::Layout { .. })
}

fn platforms(texts: &[String]) -> Result<Platforms, Failure> {
    match texts {
        [] => Ok(Platforms::AsItIs),
        [all] if all == "all" => Ok(Platforms::AsItIs),
        several if several.iter().any(|text| text == "all") => {
            Err(Failure::usage("--platform: `all` and a platform contradict each other"))
        }
        several => super::platforms(several).map(Platforms::These),
    }
}

fn packing(changes: &Changes) -> Packing {
    let compression = match changes.compress {
        None => return Packing::Usual,
        Some(Compress::None) if !changes.recompress => return Packing::Kept,
        Some(Compress::None) => Compression::None,
        Some(Compress::Gzip) => Compression::Gzip,
        Some(Compress::Zstd) => Compression::Zstd,
    };
    if changes.recompress { Packing::All(compression) } else { Packing::Bare(compression) }
}
