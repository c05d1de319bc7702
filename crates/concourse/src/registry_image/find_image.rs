//! The one file or directory that `params.image` names: a path or a glob in the notation of Go's `filepath.Glob`.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use skycap_build::glob;

use crate::Failure;
use crate::files::io_failure;
use crate::inputs::Inputs;

/// Finds it below `source`; an absolute path is taken as one below `source` as well.
pub(super) fn find(inputs: &Inputs, image: &str) -> Result<PathBuf, Failure> {
    let parts = parts(image).ok_or_else(|| {
        Failure::new(format!("image {image:?} leads out of the directory of the put"))
            .with_hint("params.image is a path below the put's inputs, such as image/image.tar")
    })?;
    let shown = inputs.directory().join(parts.iter().map(|part| OsStr::from_bytes(part)).collect::<PathBuf>());
    let shown = shown.display();
    if parts.iter().any(|part| glob::matches(part, b"").is_err()) {
        return Err(Failure::new(format!("failed to glob path '{shown}': syntax error in pattern")));
    }
    let mut found = vec![inputs.directory().to_owned()];
    for part in &parts {
        found = step(inputs, &found, part)?;
    }
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => {
            let failure = Failure::new(format!("no files match glob '{shown}'"));
            Err(failure
                .with_hint("params.image is relative to the put's inputs; is the output of the build one of them?"))
        }
        several => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::new(format!("too many files/directories match glob '{shown}': [{}]", names.join(" "))))
        }
    }
}

/// The components, `.` and `..` resolved in the text; none if that leads out.
fn parts(image: &str) -> Option<Vec<Vec<u8>>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for component in Path::new(image).components() {
        match component {
            Component::Normal(part) => parts.push(part.as_bytes().to_vec()),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(parts)
}

/// What a component matches in each directory, sorted.
fn step(inputs: &Inputs, directories: &[PathBuf], part: &[u8]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for directory in directories {
        let Some(directory) = &inputs.find_if_there("params.image", directory)? else { continue };
        if !part.iter().any(|byte| b"*?[\\".contains(byte)) {
            let path = directory.join(OsStr::from_bytes(part));
            if path.symlink_metadata().is_ok() {
                found.push(path);
            }
        } else if directory.is_dir() {
            let entries = directory.read_dir().map_err(|error| io_failure("list", directory, &error))?;
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry.map_err(|error| io_failure("list", directory, &error))?.file_name().into_vec());
            }
            names.retain(|name| glob::matches(part, name).unwrap_or_default());
            names.sort();
            found.extend(names.iter().map(|name| directory.join(OsStr::from_bytes(name))));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Reader;
    use std::fs;

    #[test]
    fn images_are_found_by_path_and_by_glob() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a/b"))?;
        for file in ["a/image.tar", "a/b/one.tar", "a/b/two.tar", "a/b/x[1].tar"] {
            fs::write(at(file), "")?;
        }
        let shown = root.path().display();
        let cases = [
            ("a/image.tar", Ok("a/image.tar".to_owned())),
            ("/a/image.tar", Ok("a/image.tar".to_owned())),
            ("a/./b/../image.tar", Ok("a/image.tar".to_owned())),
            ("a/*.tar", Ok("a/image.tar".to_owned())),
            ("*/b/o?e.tar", Ok("a/b/one.tar".to_owned())),
            ("a/b/[^t]ne.tar", Ok("a/b/one.tar".to_owned())),
            (r"a/b/x\[1].tar", Ok("a/b/x[1].tar".to_owned())),
            ("a/b", Ok("a/b".to_owned())),
            ("", Ok(String::new())),
            ("nope/*.tar", Err(format!("no files match glob '{shown}/nope/*.tar'"))),
            ("a/[", Err(format!("failed to glob path '{shown}/a/[': syntax error in pattern"))),
            (
                "a/b/*o*.tar",
                Err(format!(
                    "too many files/directories match glob '{shown}/a/b/*o*.tar': [{shown}/a/b/one.tar {shown}/a/b/two.tar]"
                )),
            ),
            ("../x", Err("image \"../x\" leads out of the directory of the put".to_owned())),
        ];
        for (image, expected) in cases {
            let found = Inputs::new(Reader::Put, root.path(), None)
                .and_then(|inputs| find(&inputs, image))
                .map_err(|failure| failure.message);
            assert_eq!(found, expected.map(|path| at(&path)), "{image}");
        }
        Ok(())
    }
}
