//! What the name of a layer's entry means (OCI image-spec, layer.md, "Whiteouts").

use crate::{Fault, InvalidPath, TreePath};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS kept at the root of its layers, and old Docker versions pushed along.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk"];

/// What an entry is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A file of this path.
    Plain(TreePath),
    /// This path of lower layers is hidden.
    Whiteout(TreePath),
    /// The content of this directory of lower layers is hidden.
    Opaque(TreePath),
    /// Nothing: left-overs of AUFS.
    Ignored,
}

/// A name that means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadName {
    Path(InvalidPath),
    Marker,
}

impl BadName {
    pub(crate) fn fault(self, name: &[u8]) -> Fault {
        match self {
            Self::Path(error) => Fault::Name(error),
            Self::Marker => {
                let what = "what follows .wh. is not the name of a file".to_owned();
                Fault::Entry { path: name.escape_ascii().to_string(), what }
            }
        }
    }
}

/// Reads a name. Only whole markers are markers: what is left after `.wh.` must be a plain name, and a marker cannot be a
/// directory in the middle of a path.
pub(crate) fn name(bytes: &[u8]) -> Result<Name, BadName> {
    let path = TreePath::parse(bytes).map_err(BadName::Path)?;
    if path.components().next().is_some_and(|first| AUFS.contains(&first)) {
        return Ok(Name::Ignored);
    }
    let Some((parent, last)) = path.split() else { return Ok(Name::Plain(path)) };
    let parent = TreePath::parse(parent).map_err(BadName::Path)?;
    if parent.components().any(|component| component.starts_with(WHITEOUT)) {
        return Err(BadName::Marker);
    }
    if last == OPAQUE {
        return Ok(Name::Opaque(parent));
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Name::Plain(path)),
        Some(b"" | b"." | b"..") => Err(BadName::Marker),
        Some(rest) if rest.starts_with(WHITEOUT) => Err(BadName::Marker),
        Some(rest) => parent.join(rest).map(Name::Whiteout).map_err(BadName::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_can_be_hidden() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        let climbs = |name: &str| Err(BadName::Path(InvalidPath::Climbs(name.into())));
        for (text, expected) in [
            ("a", Ok(Name::Plain(path("a")))),
            ("./", Ok(Name::Plain(path("")))),
            (".wh.a", Ok(Name::Whiteout(path("a")))),
            ("/d/.wh.a", Ok(Name::Whiteout(path("d/a")))),
            ("d/.wh.a/", Ok(Name::Whiteout(path("d/a")))),
            (".wh..a", Ok(Name::Whiteout(path(".a")))),
            (".wh....", Ok(Name::Whiteout(path("...")))),
            (".wh", Ok(Name::Plain(path(".wh")))),
            ("a.wh.b", Ok(Name::Plain(path("a.wh.b")))),
            (".wh..wh..opq", Ok(Name::Opaque(path("")))),
            ("d/.wh..wh..opq", Ok(Name::Opaque(path("d")))),
            (".wh..wh.plnk/1.2", Ok(Name::Ignored)),
            (".wh.", Err(BadName::Marker)),
            ("d/.wh.", Err(BadName::Marker)),
            (".wh..", Err(BadName::Marker)),
            (".wh...", Err(BadName::Marker)),
            ("d/.wh...", Err(BadName::Marker)),
            (".wh..wh.x", Err(BadName::Marker)),
            (".wh..wh..opq/x", Err(BadName::Marker)),
            (".wh.a/b", Err(BadName::Marker)),
            ("../.wh.a", climbs("../.wh.a")),
            (".wh.a/../../b", climbs(".wh.a/../../b")),
        ] {
            assert_eq!(name(text.as_bytes()), expected, "{text}");
        }
    }
}
