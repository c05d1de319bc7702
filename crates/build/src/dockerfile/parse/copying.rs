//! `COPY` and `ADD`.

use crate::dockerfile::error::ParseError;
use crate::dockerfile::expand::expand;
use crate::dockerfile::flags::Takes;
use crate::dockerfile::instruction::{Add, Copy, Instruction};
use crate::dockerfile::statement::Statement;

pub(super) fn copy(s: &Statement<'_>) -> Result<Instruction, ParseError> {
    let (sources, documents, destination) = s.sources()?;
    let mut flags = s.flags(&[
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("from", Takes::Value),
        ("link", Takes::Switch),
        ("parents", Takes::Switch),
        ("exclude", Takes::Values),
    ])?;
    // As in BuildKit, one that is empty says nothing.
    let from = flags.value("from").filter(|from| !from.value.is_empty());
    if let Some(from) = from.as_ref().filter(|from| !is_plain(&from.value, s.escape)) {
        let what = "variable expansion is not supported for --from";
        let mut error = s.error_in(from, format!("{what}, {WORKAROUND}"));
        error.hint =
            Some("before the first FROM: ARG NAME=…, then FROM ${NAME} AS source and COPY --from=source".to_owned());
        return Err(error);
    }
    Ok(Instruction::Copy(Copy {
        from,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link"),
        parents: flags.switch("parents"),
        exclude: flags.values("exclude"),
        sources,
        documents,
        destination,
    }))
}

/// What BuildKit says to do where a name does not expand.
const WORKAROUND: &str = "define a new stage with FROM using ARG from global scope as a workaround";

/// Whether nothing in a text means anything to the expander.
fn is_plain(text: &str, escape: char) -> bool {
    expand(text, escape, &|_| None).is_ok_and(|expanded| expanded == text)
}

pub(super) fn add(s: &Statement<'_>) -> Result<Instruction, ParseError> {
    let (sources, documents, destination) = s.sources()?;
    let mut flags = s.flags(&[
        ("chown", Takes::Value),
        ("chmod", Takes::Value),
        ("link", Takes::Switch),
        ("exclude", Takes::Values),
        ("checksum", Takes::Value),
        ("keep-git-dir", Takes::Switch),
        ("unpack", Takes::Switch),
    ])?;
    Ok(Instruction::Add(Add {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link"),
        exclude: flags.values("exclude"),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        sources,
        documents,
        destination,
    }))
}
