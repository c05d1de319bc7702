//! What the directives `syntax` and `check` may say. Build arguments can say the same in their place.

/// A directive that asks for what there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What is wrong.
    pub what: String,
    /// What the user can do.
    pub hint: &'static str,
}

/// Takes the image of a frontend if it is a release of BuildKit's own, from wherever it is mirrored: `docker/dockerfile` or
/// `docker/dockerfile-upstream` in any registry. Whatever the release, the language here is the newest.
pub(crate) fn syntax(value: &str) -> Result<(), Refused> {
    let image = value.trim().split(' ').next().unwrap_or_default();
    let mut parts = image.split('@').next().unwrap_or_default().rsplit('/');
    let name = parts.next().and_then(|name| name.split(':').next());
    if matches!((name, parts.next()), (Some("dockerfile" | "dockerfile-upstream"), Some("docker"))) {
        return Ok(());
    }
    let what = format!("the frontend {value} cannot be run here: only the Dockerfile language itself is read");
    Err(Refused { what, hint: "remove it if the file is an ordinary Dockerfile" })
}

/// What `check` says: `skip=A,B|all;error=BOOL;experimental=A,B|all`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checks {
    /// Rules that are silent.
    pub skip: Names,
    /// Rules that must be asked for and are.
    pub experimental: Names,
    /// Whether a finding is an error.
    pub error: bool,
}

/// Some names, or all there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    /// Every one.
    All,
    /// These.
    Some(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            text => Self::Some(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    /// Whether a name is among them.
    pub fn hold(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|known| known == name),
        }
    }

    fn with(self, more: Self) -> Self {
        match (self, more) {
            (Self::Some(names), Self::Some(more)) => Self::Some([names, more].concat()),
            _ => Self::All,
        }
    }
}

impl Checks {
    /// Reads the value of `check`.
    pub fn parse(value: &str) -> Result<Self, Refused> {
        let refuse = |what: String| Refused { what, hint: "it is skip=RULE,RULE;error=true;experimental=RULE" };
        let mut checks = Self::default();
        if value.trim().is_empty() {
            return Ok(checks);
        }
        for option in value.split(';') {
            let invalid = |option: &str| refuse(format!("invalid check option {option:?}"));
            let (key, value) = option.split_once('=').ok_or_else(|| invalid(option))?;
            match key.trim() {
                "skip" => checks.skip = Names::parse(value),
                "experimental" => checks.experimental = Names::parse(value),
                "error" => {
                    let value = value.trim();
                    checks.error = go_bool(value).ok_or_else(|| {
                        let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
                        refuse(format!("failed to parse check option {option:?}: {why}"))
                    })?;
                }
                key => return Err(invalid(key)),
            }
        }
        Ok(checks)
    }

    /// These and those that a comment above an instruction adds.
    pub fn with(self, more: Self) -> Self {
        Self {
            skip: self.skip.with(more.skip),
            experimental: self.experimental.with(more.experimental),
            error: self.error || more.error,
        }
    }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dockerfile_frontend_is_known() {
        for (value, known) in [
            ("docker/dockerfile", true),
            ("docker/dockerfile:1.7-labs@sha256:00", true),
            ("registry:5000/mirror/docker/dockerfile-upstream:master-labs", true),
            ("docker/dockerfile:labs", true),
            ("someone/dockerfile:1", false),
            ("dockerfile:1", false),
            ("docker.io/docker/dockerfile:1 cmdline", true),
            ("dockerfile/frontend", false),
            ("ghcr.io/x/yaml-frontend:1", false),
            ("", false),
        ] {
            assert_eq!(syntax(value).is_ok(), known, "{value}");
        }
    }

    #[test]
    fn checks_are_read_as_buildkit_reads_them() {
        let some = |names: &[&str]| Names::Some(names.iter().map(|name| (*name).to_owned()).collect());
        let checks = |skip, error, experimental| Checks { skip, experimental, error };
        for (value, expected) in [
            ("", Checks::default()),
            ("skip=all", checks(Names::All, false, some(&[]))),
            ("skip=A, B", checks(some(&["A", "B"]), false, some(&[]))),
            ("skip=A; error = true ;experimental=all", checks(some(&["A"]), true, Names::All)),
            ("error=0;experimental=C", checks(some(&[]), false, some(&["C"]))),
        ] {
            assert_eq!(Checks::parse(value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn anything_else_is_named() {
        for (value, message) in [
            ("skip", "invalid check option \"skip\""),
            ("skip=all;", "invalid check option \"\""),
            ("loud=true", "invalid check option \"loud\""),
            (
                "error=maybe",
                "failed to parse check option \"error=maybe\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(Checks::parse(value).unwrap_err().what, message);
        }
    }
}
