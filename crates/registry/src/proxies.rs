//! Which proxy a URL goes through.

use std::net::IpAddr;

use reqwest::Proxy;
use skycap_image::{Kind, SourceError};
use url::{Host, Url};

use crate::Proxies;

/// One proxy for each scheme that has one.
pub(crate) fn proxies(told: &Proxies) -> Result<Vec<Proxy>, SourceError> {
    let mut proxies = Vec::new();
    for (scheme, url) in [("http", &told.http), ("https", &told.https)] {
        let Some(url) = url.as_deref().filter(|url| !url.is_empty()) else { continue };
        let unusable = || {
            let hint = "expected a URL such as http://proxy:3128";
            SourceError::new(Kind::Other, format!("the proxy for {scheme} is not usable ({hint})"))
        };
        // Checked here, because nobody would hear of it later.
        Proxy::all(url).map_err(|_| unusable())?;
        let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let proxy = Url::parse(&whole).map_err(|_| unusable())?;
        let direct: Vec<Direct> = told.no.as_deref().map(list).unwrap_or_default();
        proxies.push(Proxy::custom(move |asked| {
            let is_direct = direct.iter().any(|entry| entry.covers(asked));
            (asked.scheme() == scheme && !is_direct).then(|| proxy.clone())
        }));
    }
    Ok(proxies)
}

/// What is reached without a proxy: a host or all below a domain, an address, a network, everything; at one port or at any.
#[derive(PartialEq, Eq, Debug)]
struct Direct {
    what: What,
    port: Option<u16>,
}

#[derive(PartialEq, Eq, Debug)]
enum What {
    Everything,
    Domain(String),
    Network(IpAddr, u8),
}

/// Entries that cannot be read cover nothing, as with every other program that reads this list.
fn list(text: &str) -> Vec<Direct> {
    text.split([',', ' ']).filter(|entry| !entry.is_empty()).filter_map(Direct::read).collect()
}

impl Direct {
    fn read(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { what: What::Everything, port: None });
        }
        if let Some((address, length)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = length.parse().ok().filter(|length| *length <= most)?;
            return Some(Self { what: What::Network(address, length), port: None });
        }
        let bare = entry.parse::<IpAddr>().is_ok();
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !bare => (host, Some(port.parse().ok()?)),
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let what = match host.parse::<IpAddr>() {
            Ok(address) => What::Network(address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => What::Domain(host.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase()),
        };
        Some(Self { what, port })
    }

    fn covers(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match (&self.what, url.host()) {
            (What::Everything, _) => true,
            (What::Domain(domain), Some(Host::Domain(host))) => {
                let rest = host.to_ascii_lowercase();
                !domain.is_empty()
                    && rest.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (What::Network(network, length), Some(Host::Ipv4(address))) => within(*network, *length, address.into()),
            (What::Network(network, length), Some(Host::Ipv6(address))) => within(*network, *length, address.into()),
            _ => false,
        }
    }
}

fn within(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let (network, address, bits) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(u32::from(network)), u128::from(u32::from(address)), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (u128::from(network), u128::from(address), 128),
        _ => return false,
    };
    let shift = bits - u32::from(length);
    network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R84.
    #[test]
    fn what_is_reached_directly() {
        for (no, url, expected) in [
            ("r.example", "https://r.example/", true),
            ("r.example", "https://sub.r.example/", true),
            ("r.example", "https://bar.example/", false),
            ("r.example", "https://evilr.example/", false),
            (".r.example", "https://a.r.example/", true),
            ("*.r.example", "https://a.r.example/", true),
            ("R.EXAMPLE", "https://r.example/", true),
            ("r.example:5000", "http://r.example:5000/", true),
            ("r.example:5000", "http://r.example/", false),
            ("r.example:443", "https://r.example/", true),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("0.0.0.0/0", "http://11.1.2.3/", true),
            ("fd00::/8", "http://[fd00::1]/", true),
            ("::1", "http://[::1]:5000/", true),
            ("[::1]:5000", "http://[::1]:5000/", true),
            ("[::1]:5001", "http://[::1]:5000/", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", true),
            ("*", "https://anything/", true),
            ("a, b r.example", "https://r.example/", true),
            ("", "https://r.example/", false),
            ("10.0.0.0/33,r.example:x,:,.", "https://r.example/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(list(no).iter().any(|entry| entry.covers(&url)), expected, "{no} {url}");
        }
    }
}
