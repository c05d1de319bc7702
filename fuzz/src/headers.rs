//! What a registry says in its headers: WWW-Authenticate, Link, Content-Range, Range, Retry-After, Warning.
//!
//! - What was understood, written in the plainest way, is understood the same.
//! - A range never ends before it begins or beyond its total.

use skycap_registry::parse::{Challenge, challenges, content_range, link_next, retry_after, upload_range, warning};

/// See the module.
pub fn headers(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let found = challenges(text);
    assert!(found.len() <= text.len());
    let printed: Vec<String> = found.iter().map(print).collect();
    assert_eq!(challenges(&printed.join(", ")), found, "{printed:?}");
    if let Some(target) = link_next(text) {
        assert!(text.contains(target) && !target.contains('>'));
        assert_eq!(link_next(&format!("<{target}>; rel=\"next\"")), Some(target));
    }
    if let Some((start, end, total)) = content_range(text) {
        assert!(start <= end && total.is_none_or(|total| end < total));
        let total = total.map_or("*".to_owned(), |total| total.to_string());
        assert_eq!(content_range(&format!("bytes {start}-{end}/{total}")), content_range(text));
    }
    if let Some(have) = upload_range(text).filter(|&have| have > 1) {
        assert_eq!(upload_range(&format!("0-{}", have - 1)), Some(have));
    }
    if let Some(wait) = retry_after(text).filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())) {
        assert_eq!(retry_after(&wait.as_secs().to_string()), Some(wait));
    }
    if let Some(said) = warning(text) {
        let quoted = said.replace('\\', "\\\\").replace('"', "\\\"");
        assert_eq!(warning(&format!("299 - \"{quoted}\"")), Some(said));
    }
}

fn print(challenge: &Challenge) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match challenge {
        Challenge::Basic => "Basic".to_owned(),
        Challenge::Bearer { realm, service, scope } => {
            let optional = |name: &str, value: &Option<String>| {
                value.as_ref().map(|value| format!(",{name}={}", quote(value))).unwrap_or_default()
            };
            format!("Bearer realm={}{}{}", quote(realm), optional("service", service), optional("scope", scope))
        }
    }
}
