//! `BUILD_CONTEXT_<name>`: what a name in the Dockerfile stands for, written as for `--build-context` of buildx.

use std::collections::BTreeMap;
use std::path::Path;

use skycap_build::NamedContext;
use skycap_build::ignore::Ignore;
use skycap_build::remote::is_repository;

use super::at_hand;
use crate::Failure;
use crate::failure::chain;
use crate::inputs::Inputs;

/// Opens every one.
pub(super) fn read(
    contexts: &BTreeMap<String, String>,
    inputs: &Inputs,
) -> Result<BTreeMap<String, NamedContext>, Failure> {
    let one = |(name, value): (&String, &String)| {
        if matches!(name.as_str(), "context" | "scratch") {
            return Err(Failure::new(format!("BUILD_CONTEXT_{name}: this name cannot stand for something else")));
        }
        let found = context(value, inputs).map_err(|failure| failure.during(format_args!("BUILD_CONTEXT_{name}")))?;
        Ok((name.clone(), found))
    };
    contexts.iter().map(one).collect()
}

fn context(value: &str, inputs: &Inputs) -> Result<NamedContext, Failure> {
    if let Some(reference) = value.strip_prefix("docker-image://") {
        let parsed = reference.parse();
        return parsed.map(NamedContext::Reference).map_err(|error| Failure::new(chain(&error)));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        return at_hand::layout(layout, inputs).map(NamedContext::Image);
    }
    if is_repository(value) {
        return Ok(NamedContext::Git(value.to_owned()));
    }
    if value.starts_with("http://") || value.starts_with("https://") {
        return Ok(NamedContext::Http(value.to_owned()));
    }
    if let Some((scheme, _)) = value.split_once("://") {
        return Err(Failure::new(format!("{scheme}:// is not known")).with_hint(
            "it is a directory, docker-image://NAME, oci-layout://DIRECTORY, or the URL of a file or a git repository",
        ));
    }
    directory(value, inputs)
}

fn directory(path: &str, inputs: &Inputs) -> Result<NamedContext, Failure> {
    let found = inputs.find("the directory", Path::new(path))?;
    if !found.is_dir() {
        return Err(Failure::new(format!("{} is no directory", found.display())));
    }
    let ignore = match inputs.read_if_there(".dockerignore", &found.join(".dockerignore"))? {
        Some(bytes) => Ignore::parse(&bytes).map_err(|error| Failure::new(chain(&error)))?,
        None => Ignore::default(),
    };
    Ok(NamedContext::Directory { path: found, ignore })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Reader;

    #[test]
    fn what_a_context_is_shows_at_its_beginning() -> Result<(), Failure> {
        let directory = std::path::Path::new("/proc");
        let inputs = Inputs::new(Reader::Task, directory, None)?;
        let kind = |value: &str| match context(value, &inputs) {
            Ok(NamedContext::Reference(reference)) => format!("image {reference}"),
            Ok(NamedContext::Directory { path, .. }) => format!("directory {}", path.display()),
            Ok(NamedContext::Http(url)) => format!("file {url}"),
            Ok(NamedContext::Git(url)) => format!("git {url}"),
            Ok(NamedContext::Image(_)) => "layout".to_owned(),
            Err(failure) => failure.message,
        };
        for (value, expected) in [
            ("docker-image://r.io/app:1", "image r.io/app:1"),
            ("sys", "directory /proc/sys"),
            ("https://x/a.tar", "file https://x/a.tar"),
            ("https://x/a.git#main:sub", "git https://x/a.git#main:sub"),
            ("git@x:a/b.git", "git git@x:a/b.git"),
            ("ssh://git@x/a", "git ssh://git@x/a"),
            ("version", "/proc/version is no directory"),
            ("ftp://x", "ftp:// is not known"),
        ] {
            assert_eq!(kind(value), expected, "{value}");
        }
        assert!(kind("oci-layout://sys").contains("/proc/sys"), "{}", kind("oci-layout://sys"));
        assert!(kind("nowhere").starts_with("cannot inspect /proc/nowhere"), "{}", kind("nowhere"));
        Ok(())
    }
}
