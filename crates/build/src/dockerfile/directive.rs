//! What the directives `syntax` and `check` may say. Build arguments can say the same in their place.

/// A directive that asks for what there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What is wrong.
    pub what: String,
    /// What the user can do.
    pub hint: &'static str,
}

/// Takes the image of a frontend if it is a release of BuildKit's own, from wherever it is mirrored. Whatever the release,
/// the language here is the newest.
pub(crate) fn syntax(value: &str) -> Result<(), Refused> {
    let image = value.trim().split(' ').next().unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    if matches!(name.split(':').next(), Some("dockerfile" | "dockerfile-upstream")) {
        return Ok(());
    }
    let what = format!("the frontend {value} cannot be run here: only the Dockerfile language itself is read");
    Err(Refused { what, hint: "remove it if the file is an ordinary Dockerfile" })
}

/// Takes options of BuildKit's linter that are met without one: nothing is checked, so whatever is skipped, and nothing
/// that it finds is an error unless that is asked for.
pub(crate) fn check(value: &str) -> Result<(), Refused> {
    let refuse = |what: String| Err(Refused { what, hint: "remove it; skip=... and error=false may stay" });
    for option in value.split(';') {
        match option.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("skip", _) | ("error", "0" | "f" | "F" | "false" | "FALSE" | "False")) => {}
            Some(("error" | "experimental", _)) => {
                return refuse(format!("{:?} asks for a linter, and there is none here", option.trim()));
            }
            _ => return refuse(format!("invalid check option {:?}", option.trim())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dockerfile_frontend_is_known() {
        for (value, known) in [
            ("docker/dockerfile", true),
            ("docker/dockerfile:1.7-labs@sha256:00", true),
            ("registry:5000/mirror/dockerfile-upstream:master", true),
            ("docker.io/docker/dockerfile:1 cmdline", true),
            ("dockerfile/frontend", false),
            ("ghcr.io/x/yaml-frontend:1", false),
            ("", false),
        ] {
            assert_eq!(syntax(value).is_ok(), known, "{value}");
        }
    }

    #[test]
    fn of_the_linter_only_what_switches_it_off_is_taken() {
        for (value, taken) in [
            ("skip=all", true),
            ("skip=StageNameCasing,FromAsCasing", true),
            ("skip=all; error = false", true),
            ("error=true", false),
            ("skip=all;error=1", false),
            ("error=maybe", false),
            ("experimental=all", false),
            ("skip", false),
            ("", false),
        ] {
            assert_eq!(check(value).is_ok(), taken, "{value}");
        }
    }
}
