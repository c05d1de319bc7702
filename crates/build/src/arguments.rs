//! Build arguments that mean something to the builder itself. Every one is honoured or refused by its name; what else
//! begins with `BUILDKIT_` is an argument like others.

use crate::error::BuildError;
use crate::request::Request;

/// Arguments that nobody need declare. `BUILDKIT_BUILD_NAME` is what BuildKit calls a build in its list of builds, and this
/// builder keeps none.
const NAMES: [&str; 11] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    INLINE_CACHE,
    MULTI_PLATFORM,
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "SOURCE_DATE_EPOCH",
];
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// Whether an argument is one of them.
pub(crate) fn is_built_in(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether the image is to hold what a later build needs to know of its steps.
pub(crate) fn wants_inline_cache(request: &Request) -> bool {
    truth(request, INLINE_CACHE) == Some(true)
}

/// What cannot be done is said before anything is done.
pub(crate) fn check(request: &Request) -> Result<(), BuildError> {
    let several = request.platforms.len() > 1;
    let refused = |what: &str, hint: &str| {
        Err(BuildError::Request {
            what: format!("build argument {MULTI_PLATFORM}: {what}"),
            hint: Some(hint.to_owned()),
        })
    };
    match truth(request, MULTI_PLATFORM) {
        Some(true) if !several => refused("one platform gives an image, not an index", "ask for several platforms"),
        Some(false) if several => refused("several platforms give an index", "ask for one platform"),
        _ => Ok(()),
    }
}

fn truth(request: &Request, name: &str) -> Option<bool> {
    match request.build_args.get(name).map(String::as_str)? {
        "1" | "true" | "TRUE" | "True" | "t" | "T" => Some(true),
        "0" | "false" | "FALSE" | "False" | "f" | "F" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_platforms_are_an_index_and_one_is_an_image() {
        let platforms = |count: usize| vec!["linux/amd64".parse().unwrap(); count];
        for (value, count, sound) in
            [("1", 1, false), ("true", 2, true), ("0", 1, true), ("false", 2, false), ("", 2, true), ("", 0, true)]
        {
            let mut request = Request { platforms: platforms(count), ..Request::new("/", "") };
            request.build_args.insert(MULTI_PLATFORM.to_owned(), value.to_owned());
            assert_eq!(check(&request).is_ok(), sound, "{value:?} for {count}");
        }
    }

    #[test]
    fn what_only_looks_like_one_of_them_is_none() {
        assert!(is_built_in("BUILDKIT_SYNTAX") && is_built_in("SOURCE_DATE_EPOCH"));
        assert!(!is_built_in("BUILDKIT_SYNTAKS") && !is_built_in("BUILDKIT_"));
    }
}
