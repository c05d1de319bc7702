//! `os-release`: what system an image is.

/// What an `os-release` file tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OsRelease {
    /// `debian`
    pub id: String,
    /// `12`
    pub version_id: String,
    /// `Debian GNU/Linux 12 (bookworm)`
    pub pretty_name: String,
    /// Where it is at home.
    pub home_url: String,
}

impl OsRelease {
    /// Reads the file; `None` if it does not say what system it is.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut system = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = || unquoted(value.trim());
            match name.trim() {
                "ID" => system.id = value().to_ascii_lowercase(),
                "VERSION_ID" => system.version_id = value(),
                "PRETTY_NAME" => system.pretty_name = value(),
                "HOME_URL" => system.home_url = value(),
                _ => {}
            }
        }
        (!system.id.is_empty()).then_some(system)
    }

    /// `debian-12`
    pub fn distro(&self) -> String {
        let version = self.version_id.as_str();
        if version.is_empty() { self.id.clone() } else { format!("{}-{version}", self.id) }
    }
}

/// A value as the shell reads it.
fn unquoted(value: &str) -> String {
    let is_quoted = |quote| value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote);
    let inside = || value.get(1..value.len() - 1).unwrap_or_default();
    match value {
        _ if is_quoted('\'') => inside().to_owned(),
        _ if is_quoted('"') => unescaped(inside()),
        _ => unescaped(value),
    }
}

fn unescaped(text: &str) -> String {
    let mut escaped = false;
    let keep = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    text.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_says_what_it_is() {
        let text =
            "PRETTY_NAME=\"Alpine \\\"Linux\\\" v3\"\n# ID=no\nID=alpine\nVERSION_ID='3.20.1'\nbroken\nHOME_URL=\n";
        let system = OsRelease::parse(text.as_bytes()).unwrap();
        assert_eq!((system.pretty_name.as_str(), system.distro().as_str()), ("Alpine \"Linux\" v3", "alpine-3.20.1"));
        assert_eq!(OsRelease::parse(b"NAME=x\n\xff=\""), None);
        assert_eq!(OsRelease::parse(b"ID=\"\"\n"), None);
    }
}
