//! The logins of clouds against stand-ins of their token services, which check what they are sent.

#![allow(clippy::unwrap_used, clippy::format_collect, reason = "a test may fail loudly")]

mod acr;
mod ecr;
mod google;
mod sigv4;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skycap_image::Silent;
use skycap_registry::cloud::Surroundings;
use skycap_registry::{Client, Credentials, Retries, Settings};
use skycap_testkit::registry::{Reply, Request, Scripted};

/// A server that answers for many hosts.
struct Cloud {
    server: Scripted,
    client: Client,
}

impl Cloud {
    /// `answer` sees the host that was asked for in the `host` header.
    fn new(hosts: &[&str], answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let server = Scripted::start(answer).unwrap();
        let hosts = hosts.iter().map(|host| ((*host).to_owned(), format!("http://{}", server.address()))).collect();
        let retries = Retries { first: Duration::from_millis(5), attempts: 3, ..Retries::default() };
        let settings = Settings { hosts, retries, ..Settings::default() };
        Self { client: Client::new(settings, Arc::new(Silent)).unwrap(), server }
    }

    fn asked(&self) -> Vec<String> {
        let line =
            |request: &Request| format!("{} {}{}", request.method, request.header("host").unwrap(), request.path);
        self.server.requests().iter().map(line).collect()
    }
}

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let environment: BTreeMap<_, _> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Surroundings { environment }
}

fn user_and_password(credentials: &Credentials) -> (&str, &str) {
    match credentials {
        Credentials::Basic { username, password } => (username, password.reveal()),
        other => panic!("{other:?}"),
    }
}

/// The fields of a form or a query.
fn fields(text: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

fn json(text: impl Into<String>) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(text.into())
}
