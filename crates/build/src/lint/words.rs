//! What is wrong with a name, a variable or a port, told by the words alone. The planner asks these, since it knows the
//! words after expansion.

use skycap_image::suggest;

use crate::ignore::Ignore;

/// Parts of a name that say that it holds a secret.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Parts of a name that say that it does not after all.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// `SecretsUsedInArgOrEnv`, of an argument or a variable.
pub(crate) fn secret(instruction: &str, name: &str) -> Option<String> {
    let has = |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| word.eq_ignore_ascii_case(part)));
    let message = || format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
    (has(&SECRET) && !has(&HARMLESS)).then(message)
}

/// `UndefinedVar`, with the variables that there are.
pub(crate) fn undefined<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let guess = suggest::nearest(name, known).map(|known| format!(" (did you mean ${known}?)"));
    format!("Usage of undefined variable '${name}'{}", guess.unwrap_or_default())
}

/// `ExposeProtoCasing`, of a port as `EXPOSE` has it.
pub(crate) fn protocol_casing(port: &str) -> Option<String> {
    let (_, protocol) = port.rsplit(':').next()?.split_once('/')?;
    let is_wrong = protocol != protocol.to_lowercase();
    is_wrong.then(|| format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase"))
}

/// `ExposeInvalidFormat`, of a port as `EXPOSE` has it.
pub(crate) fn host_port(port: &str) -> Option<String> {
    let (host, _) = port.rsplit_once(':')?;
    let message = || format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
    host.contains(|c| c != ':').then(message)
}

/// `CopyIgnoredFile`, of a source in the context. As in BuildKit, an ignore file that takes something back is not judged.
pub(crate) fn ignored(ignore: &Ignore, instruction: &str, source: &str) -> Option<String> {
    let parts = source.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.collect::<Vec<_>>().join("/");
    let is_left_out = match path.as_str() {
        "" => ignore.leaves_out_everything(),
        path => ignore.matches(path.as_bytes()),
    };
    if !is_left_out || ignore.takes_back() {
        return None;
    }
    let verb = if instruction == "ADD" { "Add" } else { "Copy" };
    let shown = if path.is_empty() { "." } else { path.as_str() };
    Some(format!("Attempting to {verb} file {shown:?} that is excluded by .dockerignore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_it_holds_a_secret() {
        for name in
            ["api_key", "DATABASE_PASSWORD", "GITHUB_TOKEN", "secret_MESSAGE", "AUTH", "git_key", "APIKEY", "x_pword"]
        {
            assert!(secret("ARG", name).is_some(), "{name}");
        }
        for name in
            ["AUTHOR", "tokenize", "PUBLIC_KEY", "key_file", "TOKEN_VERSION", "APIKEYS", "MONKEY", "", "SECRET-X"]
        {
            assert!(secret("ENV", name).is_none(), "{name}");
        }
    }

    #[test]
    fn what_is_left_out_should_not_be_copied() {
        for (patterns, source, expected) in [
            ("docs", "docs", true),
            ("docs", "./docs/a", true),
            ("docs", "/docs", true),
            ("docs", "src", false),
            ("docs\n!docs/a", "docs/b", false),
            ("*", ".", true),
            ("**/*", "/", true),
            ("docs", ".", false),
            ("*.md", "*.md", true),
            ("", "docs", false),
        ] {
            let ignore = Ignore::parse(patterns.as_bytes()).unwrap();
            assert_eq!(ignored(&ignore, "COPY", source).is_some(), expected, "{patterns:?} {source}");
        }
    }

    #[test]
    fn a_port_is_a_port_and_a_protocol() {
        for (port, casing, format) in [
            ("80", false, false),
            ("80/tcp", false, false),
            ("80/TCP", true, false),
            ("8080:80", false, true),
            ("127.0.0.1:80:80/Udp", true, true),
            ("[::1]:80:80", false, true),
            (":80", false, false),
        ] {
            assert_eq!((protocol_casing(port).is_some(), host_port(port).is_some()), (casing, format), "{port}");
        }
    }
}
