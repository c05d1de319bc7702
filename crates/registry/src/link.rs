//! Finds the next page in a `Link` header (RFC 8288), as loosely as registries write it.

use reqwest::header::{HeaderMap, LINK};

/// The target of the first link whose `rel` is `next`, or that has no `rel` at all.
pub(crate) fn next_page(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_in)
}

/// The same in one header's value: the target as it is written, relative or absolute.
pub fn next_in(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let (relation, after) = relation(after);
        let is_next = relation.is_none_or(|text| text.split_ascii_whitespace().any(|r| r.eq_ignore_ascii_case("next")));
        if is_next {
            return Some(target);
        }
        rest = after;
    }
}

/// Reads the parameters behind one target, up to the comma that ends them, and gives the value of `rel`.
fn relation(parameters: &str) -> (Option<String>, &str) {
    let mut quoted = false;
    let end = parameters
        .char_indices()
        .find(|&(_, character)| {
            quoted ^= character == '"';
            character == ',' && !quoted
        })
        .map_or(parameters.len(), |(at, _)| at);
    let value = parameters[..end]
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("rel"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned());
    (value, &parameters[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        for (header, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("<https://r/v2/x?next=a%3Db>; rel=next", Some("https://r/v2/x?next=a%3Db")),
            (r#"<a>; rel="prev", <b>; title="x, <c>"; REL="last next""#, Some("b")),
            ("<only>", Some("only")),
            (r#"<a>; rel="prev""#, None),
            ("nonsense", None),
            ("<unterminated", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, header.parse().unwrap());
            assert_eq!(next_page(&headers), expected, "{header}");
        }
    }
}
