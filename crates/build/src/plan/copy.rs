//! `COPY` and `ADD`.

use super::instruction::clean;
use super::stage::Numbering;
use super::{Planner, Stage};
use crate::dockerfile::{self, Document, Expander, Spanned};
use crate::error::Fault;
use crate::graph::{ContextId, Copy, Fetch, From, Node, NodeId, Operation, Source, Wanted};
use crate::lint::{Rule, words};
use crate::mode::Chmod;
use crate::remote;
use crate::remote::address::{self, Address, GitAddress};

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
    /// What only `ADD` says.
    add: Option<&'a dockerfile::Add>,
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
            None => From::Context(ContextId::MAIN),
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
            add: None,
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
            from: From::Context(ContextId::MAIN),
            add: Some(add),
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
        let from = self.origins(stage, parts, &sources, line)?;
        for (source, origin) in sources.iter().zip(&from) {
            if origin.from == From::Context(ContextId::MAIN)
                && let Some(message) = words::ignored(&self.request.ignore, parts.name, source)
            {
                self.lint.here(Rule::CopyIgnoredFile, message, source);
            }
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
        let documents = self.documents(stage, parts.documents)?;
        self.hold(documents.iter().map(|(_, content)| content.len()).sum())?;
        let by = created_by(parts, chown.as_deref(), chmod.as_ref(), &sources, &documents, &destination);
        // BuildKit takes the plain copy whenever there is a --chmod.
        let link = parts.link.is_some_and(|flag| flag.value) && chmod.is_none();
        let operation = Operation::Copy(Copy {
            parent: stage.head,
            sources: from,
            documents,
            destination: clean(&stage.config.config.working_dir, &destination),
            into_directory,
            chown,
            chmod,
            exclude: parts.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            link,
            parents: parts.parents,
        });
        let label = numbering.label(&remote::without_users(text));
        self.layer(stage, operation, line, label, by);
        Ok(())
    }

    /// Where each source is, and what becomes of it.
    fn origins(
        &mut self,
        stage: &Stage,
        parts: &Parts<'_>,
        sources: &[String],
        line: usize,
    ) -> Result<Vec<Source>, Fault> {
        let known_git = parts.add.is_some_and(|add| add.keep_git_dir.is_some());
        let parsed = sources.iter().map(|source| address::parse(source, known_git));
        let parsed = parsed.collect::<Result<Vec<Option<Address>>, Fault>>()?;
        let checksum = self.flag(stage, parts.add.and_then(|add| add.checksum.as_ref()))?.filter(|c| !c.is_empty());
        if checksum.is_some() {
            match &parsed[..] {
                [Some(_)] if parts.documents.is_empty() => {}
                [_] => return Err(Fault::new("checksum requires HTTP(S) or Git sources")),
                _ => return Err(Fault::new("checksum can't be specified for multiple sources")),
            }
        }
        let unpack = parts.add.map(|add| add.unpack.as_ref().map(|flag| flag.value));
        if parts.add.is_some_and(|add| add.keep_git_dir.as_ref().is_some_and(|flag| flag.value))
            && !parsed.iter().any(|address| matches!(address, Some(Address::Git(_))))
        {
            return Err(Fault::new("ADD --keep-git-dir needs a git source"));
        }
        let pairs = sources.iter().zip(parsed).map(|(source, address)| match (address, parts.add) {
            (None, _) => Ok(Source {
                unpack: unpack.is_some_and(|flag| flag.unwrap_or(true)),
                ..Source::plain(parts.from, source)
            }),
            (Some(Address::Http(_)), None) => Err(Fault::new("source can't be a URL for COPY")),
            (Some(Address::Git(_)), None) => Err(Fault::new("source can't be a git ref for COPY")),
            (Some(Address::Http(url)), Some(_)) => {
                let wanted = file(url, checksum.as_deref())?;
                let unpack = unpack.flatten().unwrap_or(false);
                let name = address::file_name(source);
                Ok(Source { from: self.fetched(wanted, line), path: name, is_exact: true, unpack })
            }
            (Some(Address::Git(address)), Some(add)) => {
                let keep = add.keep_git_dir.as_ref().map(|flag| flag.value);
                let wanted = tree(address, checksum.as_deref(), keep)?;
                Ok(Source { from: self.fetched(wanted, line), path: String::new(), is_exact: true, unpack: false })
            }
        });
        pairs.collect()
    }

    /// The node of what a server holds; what is wanted twice is fetched once.
    pub(super) fn fetched(&mut self, what: Wanted, line: usize) -> From {
        From::Node(self.fetch(what, line))
    }

    /// The same as a number.
    pub(super) fn fetch(&mut self, what: Wanted, line: usize) -> NodeId {
        if let Some(node) = self.fetches.get(&what) {
            return *node;
        }
        let label = match &what {
            Wanted::Http { url, .. } => format!("fetch {}", remote::shown(url)),
            Wanted::Git { address, .. } => format!("fetch {}", address.shown()),
        };
        let operation = Operation::Fetch(Fetch { what: what.clone(), found: None });
        let node = self.graph.add(Node { operation, line, label, platform: self.platform.clone() });
        self.fetches.insert(what, node);
        node
    }

    fn flag(&self, stage: &Stage, flag: Option<&Spanned<String>>) -> Result<Option<String>, Fault> {
        flag.map(|flag| self.expand(stage, &flag.value)).transpose()
    }

    /// The content of heredocs. Their escape character is the backslash, whatever the Dockerfile's is.
    fn documents(&self, stage: &Stage, documents: &[Document]) -> Result<Vec<(String, String)>, Fault> {
        let lookup = |name: &str| stage.variables.get(name).map(str::to_owned);
        let expander = Expander::new('\\', &lookup).keeping_quotes();
        let content = |document: &Document| -> Result<String, Fault> {
            if !document.expands {
                return Ok(document.content.clone());
            }
            Ok(self.look_up_all(stage, &expander, &document.content)?.word)
        };
        documents.iter().map(|document| Ok((document.name.clone(), content(document)?))).collect()
    }
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
    words.extend(sources.iter().map(|source| remote::without_users(source)));
    words.extend(documents.iter().map(|(name, _)| format!("<<{name}")));
    words.push(destination.to_owned());
    format!("{} # buildkit", words.join(" "))
}

/// A file of `ADD`.
pub(super) fn file(url: String, checksum: Option<&str>) -> Result<Wanted, Fault> {
    let invalid = |error| Fault::caused(format!("invalid checksum {:?}", checksum.unwrap_or_default()), error);
    let checksum = checksum.map(str::parse).transpose().map_err(invalid)?;
    let name = address::file_name(&url);
    Ok(Wanted::Http { url, name, checksum, unpack: false })
}

/// A tree of `ADD`, with what the flags say besides the address.
pub(super) fn tree(mut address: GitAddress, checksum: Option<&str>, keep: Option<bool>) -> Result<Wanted, Fault> {
    if let (Some(flag), Some(query)) = (keep, address.keep_git_dir)
        && flag != query
    {
        return Err(Fault::new("inconsistent keep-git-dir configuration"));
    }
    if let Some(checksum) = checksum {
        address::check_commit(checksum)?;
        match &address.checksum {
            Some(query) if query != checksum => {
                return Err(Fault::new(format!("checksum mismatch {checksum:?} != {query:?}")));
            }
            _ => address.checksum = Some(checksum.to_owned()),
        }
    }
    let keep_git_dir = keep.or(address.keep_git_dir).unwrap_or(false);
    Ok(Wanted::Git { address, keep_git_dir })
}
