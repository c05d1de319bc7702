//! Which of a request's secrets a server may see. The names are BuildKit's.

use std::collections::BTreeMap;

use skycap_image::SecretBytes;

use super::Authorization;

/// The secrets of a request, by id.
pub(crate) struct Secrets<'s>(pub &'s BTreeMap<String, SecretBytes>);

impl Secrets<'_> {
    /// `HTTP_AUTH_HEADER_<host>`, else `HTTP_AUTH_TOKEN_<host>`: with the port where the URL has one, else without.
    pub fn for_file(&self, url: &str) -> Option<Authorization> {
        let (authority, host) = places(url)?;
        [authority, host]
            .into_iter()
            .find_map(|place| self.either(&format!("HTTP_AUTH_HEADER_{place}"), &format!("HTTP_AUTH_TOKEN_{place}")))
    }

    /// `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_TOKEN.<host>`, else the same without a host; only for http and https.
    pub fn for_repository(&self, url: &str) -> Option<Authorization> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return None;
        }
        let (authority, host) = places(url)?;
        let of = |place: &str| self.either(&format!("GIT_AUTH_HEADER.{place}"), &format!("GIT_AUTH_TOKEN.{place}"));
        of(authority).or_else(|| of(host)).or_else(|| self.either("GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"))
    }

    fn either(&self, header: &str, token: &str) -> Option<Authorization> {
        let get = |name: &str| self.0.get(name)?.text().filter(|secret| !secret.is_empty());
        get(header).map(Authorization::Header).or_else(|| get(token).map(Authorization::Token))
    }
}

/// `host:port` and `host` of a URL.
fn places(url: &str) -> Option<(&str, &str)> {
    let (_, rest) = url.split_once("://")?;
    // Where a browser reads `\` as `/`, what stands behind it names no host.
    let authority = rest.split(['/', '\\', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    Some((authority, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(authorization: Option<Authorization>) -> Option<String> {
        authorization.map(|authorization| match authorization {
            Authorization::Header(secret) => format!("header {}", secret.reveal()),
            Authorization::Token(secret) => format!("token {}", secret.reveal()),
        })
    }

    #[test]
    fn a_secret_is_for_its_own_host() {
        let secrets: BTreeMap<String, SecretBytes> = [
            ("HTTP_AUTH_HEADER_a.com", "hunter2a"),
            ("HTTP_AUTH_TOKEN_a.com", "hunter2b"),
            ("HTTP_AUTH_TOKEN_b.com:81", "hunter2c"),
            ("GIT_AUTH_TOKEN", "hunter2d"),
            ("GIT_AUTH_TOKEN.a.com", "hunter2e"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), SecretBytes::new(value)))
        .collect();
        let secrets = Secrets(&secrets);
        for (url, expected) in [
            ("https://a.com/x", Some("header hunter2a")),
            ("https://a.com:8443/x", Some("header hunter2a")),
            ("https://u@a.com/x", Some("header hunter2a")),
            ("https://b.com:81/x", Some("token hunter2c")),
            ("https://b.com/x", None),
            ("https://a.com.evil/x", None),
            ("https://evil/@a.com/x", None),
            ("https://evil?@a.com", None),
            ("https://evil\\@a.com/x", None),
        ] {
            assert_eq!(text(secrets.for_file(url)).as_deref(), expected, "{url}");
        }
        for (url, expected) in [
            ("https://a.com/x.git", Some("token hunter2e")),
            ("https://b.com/x.git", Some("token hunter2d")),
            ("ssh://git@a.com/x.git", None),
            ("git@a.com:x.git", None),
        ] {
            assert_eq!(text(secrets.for_repository(url)).as_deref(), expected, "{url}");
        }
    }
}
