//! Commands that look at images and move them: names in skopeo's words, registries as this command line trusts them.

pub mod copy;
mod explain;
pub mod inspect;
mod json;
pub mod pull;
pub mod push;
mod referrers;
mod table;
pub mod tags;
mod transfer;

use std::io::Read;
use std::str::FromStr;
use std::sync::Arc;

use skycap_image::transport::Transport;
use skycap_image::{Artifact, BlobSource, Event, Image, Platform, Progress, Reference, Secret, Watched};
use skycap_registry::{Access, Client, Credentials, Keychain, Mirror, Place};

use super::Context;
use crate::args::{Ends, Login};
use crate::failure::Failure;

/// Passwords beyond this are something else.
const LONGEST_PASSWORD: u64 = 64 * 1024;

/// One end of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Source,
    Destination,
}

/// What the command line says about the registries at one end.
#[derive(Clone, Debug)]
struct Trust {
    /// In place of what the keychain knows.
    credentials: Option<Credentials>,
    /// Take any certificate, and plain HTTP.
    skip_verification: bool,
}

/// Where images are: registries and files.
pub struct Places<'c> {
    context: &'c Context,
    client: Client,
    keychain: Keychain,
    mirror: Option<Mirror>,
    source: Trust,
    destination: Trust,
}

impl<'c> Places<'c> {
    /// Reads credentials; opens no connection.
    pub fn new(login: &Login, ends: &Ends, context: &'c Context) -> Result<Self, Failure> {
        let client = Client::new(context.settings()?, Arc::clone(&context.progress))?.with_stop(context.stop.clone());
        let keychain = match &login.authfile {
            Some(file) => context.with_helpers(Keychain::open_file(file)?),
            None => context.keychain()?,
        };
        let given = given(login)?;
        let trust = |creds: Option<&String>, verify: Option<bool>| -> Result<Trust, Failure> {
            let own = creds.map(|text| basic(text)).transpose()?;
            let verify = verify.unwrap_or(login.tls_verify && !login.insecure);
            Ok(Trust { credentials: own.or_else(|| given.clone()), skip_verification: !verify })
        };
        let mirror = login.mirror.as_ref().map(|registry| {
            let credentials = keychain.credentials(registry)?;
            Ok::<_, Failure>(Mirror { registry: registry.clone(), credentials })
        });
        Ok(Self {
            context,
            client,
            mirror: mirror.transpose()?,
            source: trust(ends.src_creds.as_ref(), ends.src_tls_verify)?,
            destination: trust(ends.dest_creds.as_ref(), ends.dest_tls_verify)?,
            keychain,
        })
    }

    /// The repository of a reference.
    pub fn place(&self, reference: &Reference, end: End) -> Result<Place, Failure> {
        self.place_telling(reference, end, &self.context.progress)
    }

    /// The same, telling somebody else what it does.
    fn place_telling(&self, reference: &Reference, end: End, progress: &Arc<dyn Progress>) -> Result<Place, Failure> {
        let repository = reference.repository.clone();
        let trust = if end == End::Source { &self.source } else { &self.destination };
        if trust.skip_verification {
            let warning = format!("whoever answers as {} is believed: --tls-verify=false", repository.registry());
            progress.event(Event::Warning(&warning));
        }
        let access = Access {
            credentials: match &trust.credentials {
                Some(given) => given.clone(),
                None => self.keychain.credentials(repository.registry())?,
            },
            insecure_plain_http: trust.skip_verification,
            danger_skip_tls_verification: trust.skip_verification,
            push: end == End::Destination,
            mirror: self.mirror.clone().filter(|_| end == End::Source),
            ..Access::default()
        };
        Ok(self.client.with_progress(Arc::clone(progress)).place(repository, access)?)
    }

    /// The artifact of a name, read through what notices Ctrl-C.
    pub fn open(&self, from: &Transport) -> Result<Artifact, Failure> {
        self.open_telling(from, &self.context.progress, None)
    }

    /// The same, telling `progress` what is fetched, and `local` what is read from files.
    fn open_telling(
        &self,
        from: &Transport,
        progress: &Arc<dyn Progress>,
        local: Option<Arc<dyn Progress>>,
    ) -> Result<Artifact, Failure> {
        let Some(reference) = from.reference() else {
            let artifact = from.open().map_err(|error| explain::local(&error, from))?;
            return self.watched(&artifact, local);
        };
        let place = self.place_telling(reference, End::Source, progress)?;
        let raw = place.raw(&reference.name()).map_err(|error| explain::registry(&error, reference, &place))?;
        let opened = Artifact::open(raw, self.stoppable(Arc::new(place.clone()), None));
        opened.map_err(|error| explain::registry(&error, reference, &place))
    }

    fn watched(&self, artifact: &Artifact, progress: Option<Arc<dyn Progress>>) -> Result<Artifact, Failure> {
        let blobs = self.stoppable(Arc::clone(artifact.blobs()), progress);
        Ok(Artifact::open(artifact.raw().clone(), blobs)?)
    }

    /// The same blobs, until Ctrl-C.
    fn stoppable(&self, from: Arc<dyn BlobSource>, progress: Option<Arc<dyn Progress>>) -> Arc<dyn BlobSource> {
        let cancel = self.context.cancel.clone();
        Arc::new(Watched { from, stop: Arc::new(move || cancel.is_cancelled()), progress })
    }
}

/// The credentials that hold for both ends.
fn given(login: &Login) -> Result<Option<Credentials>, Failure> {
    if let Some(text) = &login.creds {
        return basic(text).map(Some);
    }
    let Some(username) = &login.username else { return Ok(None) };
    let mut password = String::new();
    std::io::stdin().lock().take(LONGEST_PASSWORD).read_to_string(&mut password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("--password-stdin: there is no password on standard input"));
    }
    Ok(Some(Credentials::Basic { username: username.clone(), password: Secret::new(password) }))
}

/// The text is not quoted in the error: it may be a password.
fn basic(text: &str) -> Result<Credentials, Failure> {
    match text.split_once(':') {
        Some((username, password)) if !username.is_empty() => {
            Ok(Credentials::Basic { username: username.to_owned(), password: Secret::new(password) })
        }
        _ => {
            Err(Failure::usage("--creds: expected NAME:PASSWORD")
                .with_hint("--username NAME --password-stdin is safer"))
        }
    }
}

/// The image for a platform that somebody asked for; a single one must be for it.
fn image_for(artifact: &Artifact, platform: &Platform, from: &Transport) -> Result<Image, Failure> {
    let image = artifact.for_platform(platform)?;
    let own = image.config().platform();
    let is_known = !own.os.is_empty() && !own.architecture.is_empty();
    if matches!(artifact, Artifact::Image(_)) && is_known && !platform.accepts(&own) {
        return Err(Failure::new(format!("{from} is for {own}, not for {platform}")));
    }
    Ok(image)
}

/// A place as it was written.
fn transport(text: &str) -> Result<Transport, Failure> {
    Transport::from_str(text).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        if let Some(hint) = error.hint() { failure.with_hint(hint) } else { failure }
    })
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let parse = |text: &String| text.parse().map_err(|error| Failure::usage(format!("--platform {text}: {error}")));
    texts.iter().map(parse).collect()
}
