//! From names to addresses: the system's way, and on top of it what may be connected to.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::guard::{Refused, is_private};

/// Finds the addresses of a name.
pub(crate) trait Names: Send + Sync {
    /// All of them, in the order in which they should be tried.
    fn find(&self, name: String) -> Found;
}

/// Addresses to come.
pub(crate) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// As the C library has it.
pub(crate) struct System;

impl Names for System {
    fn find(&self, name: String) -> Found {
        Box::pin(async move { Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect()) })
    }
}

/// Takes every address.
pub(crate) struct AnyNames {
    pub names: Arc<dyn Names>,
}

impl Resolve for AnyNames {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.names.find(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

/// Refuses names of private addresses.
pub(crate) struct PublicNames {
    /// Names that may be private: the proxies.
    pub exempt: Arc<BTreeSet<String>>,
    pub names: Arc<dyn Names>,
}

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.exempt.contains(name.as_str());
        let found = self.names.find(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = found.await?;
            match addresses.iter().find(|address| is_private(address.ip())) {
                Some(private) if !exempt => {
                    Err(Refused { name: name.as_str().to_owned(), address: private.ip() }.into())
                }
                _ => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_resolve_to_private_addresses_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let resolve = |exempt: &[&str]| {
            let exempt = exempt.iter().map(|name| (*name).to_owned()).collect();
            let names = PublicNames { exempt: Arc::new(exempt), names: Arc::new(System) };
            runtime.block_on(names.resolve("localhost".parse().unwrap())).map(Iterator::count)
        };
        let error = resolve(&[]).unwrap_err().to_string();
        assert!(error.contains("refused: localhost is the private address"), "{error}");
        assert!(resolve(&["localhost"]).is_ok());
    }
}
