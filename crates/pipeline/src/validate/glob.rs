//! Globs for job names: groups use `gobwas/glob`, `passed` uses `path.Match`. Job names are short and hold no slashes, so
//! one matcher serves both.

use regex::Regex;

/// A text that is no glob.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid glob expression '{0}'")]
pub struct InvalidGlob(pub String);

/// A matcher for `*`, `?`, `[a-z]`, `[!a]`, `{a,b}` and `\` before any of these.
pub fn glob(pattern: &str) -> Result<impl Fn(&str) -> bool + use<>, InvalidGlob> {
    let invalid = || InvalidGlob(pattern.to_owned());
    let regex = translate(pattern).ok_or_else(invalid)?;
    let regex = Regex::new(&regex).map_err(|_| invalid())?;
    Ok(move |name: &str| regex.is_match(name))
}

fn translate(pattern: &str) -> Option<String> {
    let mut regex = String::from("^(?s:");
    let mut depth = 0usize;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '\\' => regex.push_str(&regex::escape(&rest.next()?.to_string())),
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            '[' => {
                let inside: String = rest.by_ref().take_while(|c| *c != ']').collect();
                let (negated, inside) = match inside.strip_prefix(['!', '^']) {
                    Some(inside) => ("^", inside.to_owned()),
                    None => ("", inside),
                };
                if inside.is_empty() {
                    return None;
                }
                let inside = inside.replace('\\', "\\\\").replace('[', "\\[");
                regex.extend(["[", negated, inside.as_str(), "]"]);
            }
            other => regex.push_str(&regex::escape(&other.to_string())),
        }
    }
    (depth == 0).then(|| regex + ")$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("build", "build", true),
            ("build", "rebuild", false),
            ("build-*", "build-a", true),
            ("b?", "bc", true),
            ("b?", "b", false),
            ("[a-c]x", "bx", true),
            ("[!a]x", "ax", false),
            ("{unit,it}-test", "it-test", true),
            ("a.b", "axb", false),
            ("a\\*", "a*", true),
        ] {
            assert_eq!(glob(pattern).unwrap()(name), expected, "{pattern} {name}");
        }
        for broken in ["[", "{a", "[]", "a\\"] {
            assert!(glob(broken).is_err(), "{broken}");
        }
    }
}
