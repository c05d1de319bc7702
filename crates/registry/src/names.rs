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

    use skycap_image::{Kind, Silent, SourceError};

    use super::*;
    use crate::{Access, Client, Retries, Settings};

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

    /// What names come to, in turn; the last for ever. It counts who asks.
    struct Book(Mutex<(Vec<Entry>, usize)>);

    #[derive(Clone)]
    enum Entry {
        Addresses(Vec<SocketAddr>),
        Error(&'static str),
        Slow(Duration, Vec<SocketAddr>),
    }

    impl Names for Book {
        fn find(&self, _: String) -> Found {
            let (entries, asked) = &mut *self.0.lock().unwrap();
            *asked += 1;
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

    /// The tags of a registry whose name is looked up in the book, and how often it was.
    fn tags(book: Vec<Entry>) -> (usize, Result<Vec<String>, SourceError>) {
        let retries = Retries { first: Duration::from_millis(1), attempts: 3, ..Retries::default() };
        let hosts = [("registry.example".to_owned(), "http://registry.example".to_owned())].into();
        let settings = Settings { hosts, stall: Duration::from_millis(700), retries, ..Settings::default() };
        let book = Arc::new(Book(Mutex::new((book, 0))));
        let client = Client::with_names(settings, Arc::new(Silent), Arc::clone(&book) as Arc<dyn Names>).unwrap();
        let place = client.place("registry.example/app".parse().unwrap(), Access::default()).unwrap();
        let tags = place.tags();
        let asked = book.0.lock().unwrap().1;
        (asked, tags)
    }

    /// A registry, and an address at which nobody listens.
    fn good_and_dead() -> (SocketAddr, SocketAddr) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let good = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1000]);
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{{\"tags\":[\"1\"]}}").as_bytes());
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
            let (asked, tags) = tags(vec![Error(text)]);
            let text = tags.unwrap_err().to_string();
            assert!(asked == 1 && text.contains("no such host") && !text.contains("tried"), "{asked}: {text}");
        }
        for text in ["Temporary failure in name resolution", "Try again"] {
            // One for the ping, which fails once, and one for the list.
            let (asked, found) = tags(vec![Error(text), Addresses(vec![good])]);
            assert_eq!((asked, found.unwrap()), (3, vec!["1".to_owned()]), "{text}");
            let (asked, found) = tags(vec![Error(text)]);
            let error = found.unwrap_err();
            assert!(error.kind == Kind::Transient && error.to_string().contains("(tried 3 times)"), "{error}");
            assert_eq!(asked, 3);
        }
        let slow = |time| Slow(Duration::from_millis(time), vec![good]);
        for entry in [Addresses(vec![dead, good]), Addresses(vec![dead_v6, good]), slow(300)] {
            assert_eq!(tags(vec![entry]).1.unwrap(), ["1"]);
        }
        let (asked, found) = tags(vec![slow(30_000)]);
        let error = found.unwrap_err();
        assert!(asked == 3 && error.kind == Kind::Transient, "{asked}: {error}");
    }
}
