//! The server's side of Notary: documents by role, published together.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use skycap_image::{Digest, Kind, Progress, Repository, SourceError};
use url::Url;

use super::documents::Key;
use super::{ContentTrust, default_server};
use crate::Settings;
use crate::client::Client;
use crate::error::Failure;
use crate::origin::Origin;
use crate::retry::retried;
use crate::session::{Ask, Pass, Session, join};
use crate::trust::Trust;

/// Documents beyond this are refused.
const LARGEST: usize = 8 * 1024 * 1024;
/// Stands between the documents of a publication; no document of TUF holds it.
const BOUNDARY: &str = "skycap-5fb93bc9c1b344f1a2ca";

/// The documents of one repository on a server.
pub(super) struct Server {
    client: Client,
    session: Arc<Session>,
    gun: String,
    scope: String,
}

impl Server {
    /// Opens no connection yet.
    pub fn connect(
        trust: &ContentTrust,
        settings: &Settings,
        progress: &Arc<dyn Progress>,
        repository: &Repository,
        gun: &str,
    ) -> Result<Self, SourceError> {
        let named = trust.server.clone().unwrap_or_else(|| default_server(repository));
        let url = Url::parse(&named).ok().filter(|url| url.scheme() == "https" && url.host_str().is_some());
        let mut url = url.ok_or_else(|| {
            SourceError::new(Kind::Other, format!("the Notary server {named:?} is not a URL that begins with https://"))
        })?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let settings = Settings { client_certificate: trust.client_certificate.clone(), ..settings.clone() };
        let client = Client::new(settings, Arc::clone(progress))?;
        let origin = client.answering(&url).map_or(Origin::Named { https: url, http: None }, Origin::Told);
        let session = client.inner.session(origin, trust.credentials.clone(), &[], Trust::Certificates)?;
        let scope = format!("repository:{gun}:{}", trust.actions);
        Ok(Self { client, session, gun: gun.to_owned(), scope })
    }

    /// The repository's name.
    pub fn gun(&self) -> &str {
        &self.gun
    }

    /// A role's document, the current one or that of a digest.
    pub fn get(&self, role: &str, digest: Option<&Digest>) -> Result<Option<Bytes>, SourceError> {
        let name = digest.map_or_else(|| format!("{role}.json"), |digest| format!("{role}.{}.json", digest.hex()));
        match self.send(&Method::GET, &name, None) {
            Ok(body) => Ok(Some(body)),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The public key that the server signs a role with.
    pub fn key(&self, role: &str) -> Result<Key, SourceError> {
        let body = self.send(&Method::GET, &format!("{role}.key"), None)?;
        Key::read(&body)
    }

    /// Publishes documents, all or none.
    pub fn publish(&self, documents: &[(String, Vec<u8>)]) -> Result<(), SourceError> {
        let mut body = Vec::new();
        for (role, document) in documents {
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{role}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(document);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.send(&Method::POST, "", Some(&body.into())).map(drop).map_err(|failure| {
            let hint = if failure.what.contains("snapshot") {
                " (if the snapshot key is yours, hand it to the server: notary key rotate GUN snapshot -r)"
            } else {
                ""
            };
            SourceError::from(Failure { what: format!("{}{hint}", failure.what), ..failure })
        })
    }

    fn send(&self, method: &Method, name: &str, body: Option<&Bytes>) -> Result<Bytes, Failure> {
        let retries = self.client.inner.settings.retries;
        let sent = retried(retries, &*self.client.progress, || self.send_once(method, name, body));
        self.client.inner.block_on(sent)
    }

    async fn send_once(&self, method: &Method, name: &str, body: Option<&Bytes>) -> Result<Bytes, Failure> {
        let pinged = self.session.pinged().await?;
        let mut ask = Ask::get(join(&pinged.base, &format!("v2/{}/_trust/tuf/{name}", self.gun))?);
        ask.method = method.clone();
        ask.body = body.cloned();
        if body.is_some() {
            let value = HeaderValue::from_str(&format!("multipart/form-data; boundary={BOUNDARY}"));
            ask.headers.extend(value.ok().map(|value| (CONTENT_TYPE, value)));
        }
        let value = self.session.authorization(&pinged, std::slice::from_ref(&self.scope), None).await?;
        let pass = value.map(|value| Pass { origin: pinged.base.clone(), value });
        let response = self.session.follow(&pinged.base, ask, pass.as_ref()).await?.response;
        if response.status().is_success() {
            self.session.transport.read(method, response, LARGEST).await
        } else {
            Err(self.session.failure(method, response).await)
        }
    }
}
