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
    use std::sync::Mutex;
    use std::time::Duration;

    use reqwest::{Method, Request};
    use url::Url;

    use super::*;
    use crate::Settings;
    use crate::error::Failure;
    use crate::guard::Route;
    use crate::transport::{Lane, Transport};
    use crate::trust::Trust;

    /// R36.
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

    /// What names come to, in turn; the last for ever.
    struct Book(Mutex<Vec<Entry>>);

    #[derive(Clone)]
    enum Entry {
        Addresses(Vec<SocketAddr>),
        Error(&'static str),
        Slow(Duration, Vec<SocketAddr>),
    }

    impl Names for Book {
        fn find(&self, _: String) -> Found {
            let mut entries = self.0.lock().unwrap();
            let entry = if entries.len() > 1 { entries.remove(0) } else { entries[0].clone() };
            Box::pin(async move {
                match entry {
                    Entry::Addresses(addresses) => Ok(addresses),
                    Entry::Error(text) => {
                        Err(io::Error::other(format!("failed to lookup address information: {text}")))
                    }
                    Entry::Slow(time, addresses) => {
                        tokio::time::sleep(time).await;
                        Ok(addresses)
                    }
                }
            })
        }
    }

    /// Asks a registry whose name is looked up in the book, up to three times; how often, and how it ended.
    fn asked(book: Vec<Entry>) -> (u32, Result<u16, Failure>) {
        let settings = Settings { stall: Duration::from_millis(700), ..Settings::default() };
        let names: Arc<dyn Names> = Arc::new(Book(Mutex::new(book)));
        let roots = rustls::RootCertStore::empty();
        let transport = Transport::with_names(&settings, roots, &[], Trust::Certificates, &names).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tries = 0;
            loop {
                tries += 1;
                let request = Request::new(Method::GET, Url::parse("http://registry.example/v2/").unwrap());
                match transport.send(Route::Home, Lane::Small, request).await {
                    Ok(response) => return (tries, Ok(response.status().as_u16())),
                    Err(failure) if failure.passing && tries < 3 => {}
                    Err(failure) => return (tries, Err(failure)),
                }
            }
        })
    }

    /// A server that says 200 to everybody, and an address at which nobody listens.
    fn good_and_dead() -> (SocketAddr, SocketAddr) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let good = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1000]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        (good, dead)
    }

    /// R82.
    #[test]
    fn names_that_are_unknown_slow_or_half_dead() {
        use Entry::{Addresses, Error, Slow};
        let (good, dead) = good_and_dead();
        let dead_v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, dead.port()));
        let unknown = ["Name or service not known", "Name does not resolve", "No address associated with hostname"];
        for text in unknown {
            let (tries, answer) = asked(vec![Error(text)]);
            let failure = answer.unwrap_err();
            assert!(tries == 1 && failure.what.contains("no such host"), "{tries}: {}", failure.what);
        }
        for text in ["Temporary failure in name resolution", "Try again"] {
            let (tries, answer) = asked(vec![Error(text), Addresses(vec![good])]);
            assert_eq!((tries, answer.unwrap()), (2, 200), "{text}");
            assert!(asked(vec![Error(text)]).1.unwrap_err().passing);
        }
        assert_eq!(asked(vec![Addresses(vec![dead, good])]).1.unwrap(), 200);
        assert_eq!(asked(vec![Addresses(vec![dead_v6, good])]).1.unwrap(), 200);
        assert_eq!(asked(vec![Slow(Duration::from_millis(300), vec![good])]).1.unwrap(), 200);
        let (tries, answer) = asked(vec![Slow(Duration::from_secs(30), vec![good])]);
        let failure = answer.unwrap_err();
        assert!(tries == 3 && failure.passing, "{}", failure.what);
    }
}
