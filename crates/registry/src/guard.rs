//! Where a registry may send us, and what we carry there.
//!
//! A registry chooses URLs that we then open: redirects, upload locations, the realm of its tokens. Three rules hold for
//! all of them: credentials stay with the registry's own origin (scheme, host and port); HTTPS never leads to HTTP; and a
//! registry on the internet cannot make us talk to addresses that only our side of the network reaches. The last one
//! holds for names as well: those are resolved by [`PublicNames`](crate::names::PublicNames), which refuses private answers, so there is no gap
//! between checking an address and using it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skycap_image::Kind;
use url::{Host, Url};

use crate::error::{Failure, shown};

/// How to go to a URL that a registry chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// It is the registry itself: credentials may go there.
    Home,
    /// Somewhere else: no credentials.
    Elsewhere,
    /// Somewhere else, and only if it is on the internet: no credentials.
    PublicOnly,
}

/// Judges a URL that the registry at `home` sent us to from `from`.
pub(crate) fn judge(home: &Url, home_is_private: bool, from: &Url, to: &Url) -> Result<Route, Failure> {
    let refuse = |why: &str| refused(from, to, why);
    if !matches!(to.scheme(), "http" | "https") {
        return Err(refuse("only http and https are followed"));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(refuse("it holds a user name or password"));
    }
    if to.origin() == home.origin() {
        return Ok(Route::Home);
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(refuse("it leaves https for http"));
    }
    if home_is_private {
        return Ok(Route::Elsewhere);
    }
    match literal(to) {
        Some(address) if is_private(address) => Err(refuse("a public registry may not lead to a private address")),
        Some(_) => Ok(Route::Elsewhere),
        None => Ok(Route::PublicOnly),
    }
}

/// The error for a way that is not gone.
pub(crate) fn refused(from: &Url, to: &Url, why: &str) -> Failure {
    Failure::lasting(Kind::Denied, format!("{} leads to {}: refused: {why}", shown(from), shown(to)))
}

/// The address that a URL names directly. The URL parser has already read octal, hexadecimal and decimal forms.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Loopback, link-local, private, shared and unspecified addresses, also where an IPv6 address wraps one.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    first == 0 || shared || address.is_loopback() || address.is_private() || address.is_link_local()
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let wrapped = address.to_ipv4_mapped().or_else(|| match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    });
    address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || wrapped.is_some_and(is_private_v4)
}

/// A name that resolves to a private address although only public ones are wanted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub name: String,
    pub address: IpAddr,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address } = self;
        write!(f, "refused: {name} is the private address {address}, and a public registry may not lead there")
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    /// R36.
    #[test]
    fn private_addresses_are_known_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "0.0.0.0",
            "100.100.100.200",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
        ] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(literal(&url).is_some_and(is_private), "{host}");
        }
        for host in ["8.8.8.8", "[2001:4860:4860::8888]", "172.32.0.1", "100.128.0.1"] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(literal(&url).is_some_and(|address| !is_private(address)), "{host}");
        }
    }

    /// R34, R35, R36.
    #[test]
    fn every_hop_is_judged() {
        use Route::{Elsewhere, Home, PublicOnly};
        let judged = |home: &str, private: bool, to: &str| {
            let home = Url::parse(home).unwrap();
            judge(&home, private, &home, &Url::parse(to).unwrap()).ok()
        };
        for (home, private, to, expected) in [
            ("https://r.io/", false, "https://r.io/x", Some(Home)),
            ("https://r.io/", false, "https://r.io:443/x", Some(Home)),
            ("https://r.io/", false, "https://r.io:444/x", Some(PublicOnly)),
            ("https://r.io/", false, "https://cdn.io/x", Some(PublicOnly)),
            ("https://r.io/", false, "https://8.8.8.8/x", Some(Elsewhere)),
            ("https://r.io/", false, "https://10.0.0.1/x", None),
            ("https://r.io/", true, "https://10.0.0.1/x", Some(Elsewhere)),
            ("https://r.io/", true, "http://r.io/x", None),
            ("http://r.lan/", true, "http://s3.lan/x", Some(Elsewhere)),
            ("https://r.io/", false, "ftp://r.io/x", None),
            ("https://r.io/", false, "file:///etc/passwd", None),
            ("https://r.io/", false, "https://u:p@r.io/x", None),
        ] {
            assert_eq!(judged(home, private, to), expected, "{home} -> {to}");
        }
    }
}
