//! What must not be told: the values of secrets, and credentials in addresses.

use skycap_image::SecretBytes;

use crate::remote::without_users;

/// What stands where something was taken out.
const HIDDEN: &str = "***";
/// Shorter secrets are found everywhere by chance, and protect nothing.
const SHORTEST: usize = 4;

/// Takes secrets out of texts.
pub(crate) struct Redact<'a> {
    /// Longest first: one may hold another.
    values: Vec<&'a str>,
}

impl<'a> Redact<'a> {
    /// Takes out these, wherever they stand.
    pub fn new(secrets: impl Iterator<Item = &'a SecretBytes>) -> Self {
        let texts = secrets.filter_map(|secret| std::str::from_utf8(secret.reveal()).ok());
        let lines = texts.flat_map(|text| [text, text.trim()]);
        let mut values: Vec<&str> = lines.filter(|value| value.len() >= SHORTEST).collect();
        values.sort_by_key(|value| (std::cmp::Reverse(value.len()), *value));
        values.dedup();
        Self { values }
    }

    /// The text without secrets and without the credentials of any address in it.
    pub fn text(&self, text: &str) -> String {
        let text = self.values.iter().fold(text.to_owned(), |text, value| text.replace(value, HIDDEN));
        without_users(&text)
    }
}

/// An address without user name, password and query: queries carry tokens.
pub(crate) fn without_credentials(url: &str) -> String {
    let url = without_users(url);
    let (before, fragment) = url.split_once('#').map_or((url.as_str(), None), |(url, rest)| (url, Some(rest)));
    let before = if before.contains("://") { before.split('?').next().unwrap_or_default() } else { before };
    fragment.map_or_else(|| before.to_owned(), |fragment| format!("{before}#{fragment}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S01, S06
    #[test]
    fn secrets_and_credentials_leave_texts() {
        let secrets = [SecretBytes::new("hunter2-long\n"), SecretBytes::new("hunter2"), SecretBytes::new("abc")];
        let redact = Redact::new(secrets.iter());
        for (text, expected) in [
            ("TOKEN=hunter2 x", "TOKEN=*** x"),
            ("a hunter2-long b", "a *** b"),
            ("abc stays", "abc stays"),
            ("curl https://me:pass@host/x && ls", "curl https://host/x && ls"),
            ("http://u@h https://v:w@i:1/", "http://h https://i:1/"),
            ("ssh://git@host/x", "ssh://git@host/x"),
            ("ssh://git:pw@host/x", "ssh://host/x"),
            ("mail me@example.org", "mail me@example.org"),
        ] {
            assert_eq!(redact.text(text), expected);
        }
    }
}
