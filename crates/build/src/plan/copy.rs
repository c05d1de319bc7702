//! `COPY` and `ADD`.

use super::instruction::clean;
use super::stage::Numbering;
use super::{Planner, Stage};
use crate::dockerfile::{self, Document, Expander, Spanned};
use crate::error::Fault;
use crate::graph::{Copy, From, Operation};
use crate::mode::Chmod;

/// What `COPY` and `ADD` have in common, still as written.
struct Parts<'a> {
    name: &'static str,
    chown: Option<&'a Spanned<String>>,
    chmod: Option<&'a Spanned<String>>,
    link: Option<&'a Spanned<bool>>,
    exclude: &'a [Spanned<String>],
    parents: bool,
    sources: &'a [String],
    documents: &'a [Document],
    destination: &'a str,
    from: From,
    unpack: bool,
}

impl Planner<'_> {
    /// `COPY`
    pub(super) fn copy(
        &mut self,
        number: usize,
        stage: &mut Stage,
        copy: &dockerfile::Copy,
        line: usize,
        text: &str,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        let from = match &copy.from {
            Some(name) => self.source(&name.value, number, stage, line)?,
            None => From::Context,
        };
        let parts = Parts {
            name: "COPY",
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link.as_ref(),
            exclude: &copy.exclude,
            parents: copy.parents.as_ref().is_some_and(|flag| flag.value),
            sources: &copy.sources,
            documents: &copy.documents,
            destination: &copy.destination,
            from,
            unpack: false,
        };
        self.put(stage, &parts, line, text, numbering)
    }

    /// `ADD`
    pub(super) fn add(
        &mut self,
        stage: &mut Stage,
        add: &dockerfile::Add,
        line: usize,
        text: &str,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        if add.checksum.is_some() {
            return Err(Fault::new("ADD --checksum needs an http(s) or git source, which cannot be fetched yet"));
        }
        if add.keep_git_dir.is_some() {
            return Err(Fault::new("ADD --keep-git-dir needs a git source, which cannot be fetched yet"));
        }
        let parts = Parts {
            name: "ADD",
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link.as_ref(),
            exclude: &add.exclude,
            parents: false,
            sources: &add.sources,
            documents: &add.documents,
            destination: &add.destination,
            from: From::Context,
            unpack: add.unpack.as_ref().is_none_or(|flag| flag.value),
        };
        self.put(stage, &parts, line, text, numbering)
    }

    fn put(
        &mut self,
        stage: &mut Stage,
        parts: &Parts<'_>,
        line: usize,
        text: &str,
        numbering: &mut Numbering,
    ) -> Result<(), Fault> {
        let chown = self.flag(stage, parts.chown)?.filter(|owner| !owner.is_empty());
        let chmod = self.flag(stage, parts.chmod)?.filter(|mode| !mode.is_empty());
        let chmod = chmod.map(|text| Chmod::parse(&text)).transpose()?;
        let mut sources = Vec::new();
        for source in parts.sources {
            sources.push(self.expand(stage, source)?);
        }
        for source in &sources {
            check_local(parts.name, source)?;
        }
        let destination = self.expand(stage, parts.destination)?;
        let into_directory = destination.is_empty()
            || destination.ends_with('/')
            || destination == "."
            || destination.ends_with("/.")
            || destination == ".."
            || destination.ends_with("/..");
        if sources.len() + parts.documents.len() > 1 && !into_directory {
            return Err(Fault::new(format!(
                "when using {} with more than one source file, the destination must be a directory and end with a /",
                parts.name
            )));
        }
        let documents = documents(stage, parts.documents)?;
        self.hold(documents.iter().map(|(_, content)| content.len()).sum())?;
        let by = created_by(parts, chown.as_deref(), chmod.as_ref(), &sources, &documents, &destination);
        // BuildKit takes the plain copy whenever there is a --chmod.
        let link = parts.link.is_some_and(|flag| flag.value) && chmod.is_none();
        let operation = Operation::Copy(Copy {
            parent: stage.head,
            from: parts.from,
            sources,
            documents,
            destination: clean(&stage.config.config.working_dir, &destination),
            into_directory,
            chown,
            chmod,
            exclude: parts.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            unpack: parts.unpack,
            link,
            parents: parts.parents,
        });
        let label = numbering.label(text);
        self.layer(stage, operation, line, label, by);
        Ok(())
    }

    fn flag(&self, stage: &Stage, flag: Option<&Spanned<String>>) -> Result<Option<String>, Fault> {
        flag.map(|flag| self.expand(stage, &flag.value)).transpose()
    }
}

/// The content of heredocs. Their escape character is the backslash, whatever the Dockerfile's is.
fn documents(stage: &Stage, documents: &[Document]) -> Result<Vec<(String, String)>, Fault> {
    let lookup = |name: &str| stage.variables.get(name).map(str::to_owned);
    let expander = Expander::new('\\', &lookup).keeping_quotes();
    let content = |document: &Document| -> Result<String, Fault> {
        Ok(if document.expands { expander.run(&document.content)?.word } else { document.content.clone() })
    };
    documents.iter().map(|document| Ok((document.name.clone(), content(document)?))).collect()
}

/// What history says. `--link`, `--from` and `--exclude` do not appear in it.
fn created_by(
    parts: &Parts<'_>,
    chown: Option<&str>,
    chmod: Option<&Chmod>,
    sources: &[String],
    documents: &[(String, String)],
    destination: &str,
) -> String {
    let mut words = vec![parts.name.to_owned()];
    words.extend(parts.parents.then(|| "--parents".to_owned()));
    words.extend(chown.map(|owner| format!("--chown={owner}")));
    words.extend(chmod.map(|mode| format!("--chmod={}", mode.text())));
    words.extend(sources.iter().cloned());
    words.extend(documents.iter().map(|(name, _)| format!("<<{name}")));
    words.push(destination.to_owned());
    format!("{} # buildkit", words.join(" "))
}

/// Sources that are not paths.
fn check_local(instruction: &str, source: &str) -> Result<(), Fault> {
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let is_git = ["git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme))
        || (source.starts_with("git@") && source.contains(':'))
        || (is_url && source.split(['#', '?']).next().is_some_and(|address| address.rsplit('.').next() == Some("git")));
    let kind = match (is_git, is_url) {
        (true, _) => "a git ref",
        (false, true) => "a URL",
        (false, false) => return Ok(()),
    };
    if instruction == "COPY" {
        return Err(Fault::new(format!("source can't be {kind} for COPY")));
    }
    Err(Fault::new(format!("ADD cannot fetch {source} yet: its source is {kind}"))
        .with_hint("fetch it before the build (in Concourse: as an input) and ADD it from the context"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_are_local() {
        for (source, local) in [
            ("a/b", true),
            ("git", true),
            ("github.com/a/b", true),
            ("https://a/b.tgz", false),
            ("https://a/b.git#v1", false),
            ("git@a:b", false),
            ("git://a/b", false),
        ] {
            assert_eq!(check_local("ADD", source).is_ok(), local, "{source}");
        }
    }
}
