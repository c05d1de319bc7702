//! Reads `WWW-Authenticate` the way registries write it, which is not always the way RFC 9110 does: parameters are
//! separated by commas or only by spaces, values may lack their quotes, schemes come in any case.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants to know who we are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The URL that gives tokens.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
}

/// The first challenge that we can meet.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(challenges).next()
}

/// The challenges in one header's value that we can meet, in its order.
pub fn challenges(header: &str) -> Vec<Challenge> {
    let known = |(scheme, parameters): (String, Parameters)| {
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                get("realm").map(|realm| Challenge::Bearer { realm, service: get("service"), scope: get("scope") })
            }
            _ => None,
        }
    };
    parse(header).into_iter().filter_map(known).collect()
}

type Parameters = Vec<(String, String)>;

/// Scheme and parameter names in lower case.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t', '=']);
        if rest.is_empty() {
            return challenges;
        }
        let end = rest.find([',', ' ', '\t', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            challenges.push((word, Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = parse_value(value.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = challenges.last_mut() {
            parameters.push((word, value));
        }
        rest = after;
    }
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, header.parse().unwrap());
        challenge(&headers)
    }

    #[allow(clippy::unnecessary_wraps, reason = "it stands in a table beside None")]
    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn the_forms_that_registries_write_are_read() {
        let scope = Some("repository:a/b:pull,push");
        for (header, expected) in [
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push""#,
                bearer("https://a/t", Some("s"), scope),
            ),
            (r#"bearer  realm = "https://a/t" , service="s""#, bearer("https://a/t", Some("s"), None)),
            ("BEARER realm=https://a/t?x=1 service=s", bearer("https://a/t?x=1", Some("s"), None)),
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic)),
            (r#"Negotiate YWJj==, Bearer realm="https://a/t""#, bearer("https://a/t", None, None)),
            (r#"Digest realm="a", nonce="b, Bearer c", Basic realm="r""#, Some(Challenge::Basic)),
            (r#"Bearer realm="https://a/\"t",x-unknown=1"#, bearer("https://a/\"t", None, None)),
            (r#"Bearer service="s""#, None),
            (r#"Bearer realm="https://a/t"#, bearer("https://a/t", None, None)),
            ("", None),
            (",,,===", None),
        ] {
            assert_eq!(read(header), expected, "{header}");
        }
    }

    #[test]
    fn the_first_of_two_challenges_wins() {
        assert_eq!(read(r#"Basic realm="r", Bearer realm="https://a/t""#), Some(Challenge::Basic));
        assert_eq!(read(r#"Bearer realm="https://a/t", Basic realm="r""#), bearer("https://a/t", None, None));
    }
}
