//! What named contexts become: file systems of a graph, and directories outside.

use skycap_image::{Image, ImageConfig, Platform};

use super::{Entry, Planner, Stage};
use crate::error::Fault;
use crate::graph::{Base, ContextId, Copy, From, Node, NodeId, Operation, Source, Wanted};
use crate::named::{self, NamedContext};
use crate::remote::address::{self, Address};

/// What a named context is.
enum Given {
    /// An image, and whether it comes from far away.
    Image(Box<Image>, bool),
    /// Files of a server.
    Tree(NodeId),
    /// A directory.
    Directory(ContextId),
}

impl Planner<'_> {
    /// A context that files are copied from.
    pub(super) fn context(
        &mut self,
        key: &str,
        context: &NamedContext,
        name: &str,
        platform: &Platform,
        line: usize,
    ) -> Result<From, Fault> {
        Ok(match self.given(key, context, platform, line)? {
            Given::Image(image, is_remote) => From::Node(self.other(name, platform, line, Some((*image, is_remote)))),
            Given::Tree(node) => From::Node(node),
            Given::Directory(id) => From::Context(id),
        })
    }

    /// A context that a stage begins with, or that takes its place.
    pub(super) fn on_context(
        &mut self,
        number: usize,
        key: &str,
        context: &NamedContext,
        platform: Platform,
    ) -> Result<Stage, Fault> {
        let line = self.dockerfile.stages[number].from.span.line;
        let name = key.split("::").next().unwrap_or(key);
        let head = match self.given(key, context, &platform, line)? {
            Given::Image(image, is_remote) => return Ok(self.on_image(number, name, platform, &image, is_remote)),
            Given::Tree(node) => node,
            Given::Directory(id) => self.whole(id, name, &platform, line),
        };
        let mut config = ImageConfig::default();
        "/".clone_into(&mut config.config.working_dir);
        let mut stage = self.fresh(head, platform, config);
        stage.entries.push(Entry { created_by: format!("FROM {name}"), node: Some(head) });
        Ok(stage)
    }

    /// The context that takes the place of a whole stage, by the stage's name.
    pub(super) fn replacement(&self, number: usize) -> Option<(String, NamedContext)> {
        let name = self.dockerfile.stages[number].from.value.name.as_deref()?;
        let (key, context) = named::find(&self.request.contexts, name, &self.platform)?;
        Some((key.to_owned(), context.clone()))
    }

    fn given(&mut self, key: &str, context: &NamedContext, platform: &Platform, line: usize) -> Result<Given, Fault> {
        match context {
            NamedContext::Image(artifact) => Ok(Given::Image(Box::new(artifact.for_platform(platform)?), false)),
            NamedContext::Reference(reference) => {
                Ok(Given::Image(Box::new(self.images.image(&reference.to_string(), platform)?), true))
            }
            NamedContext::Directory { .. } => Ok(Given::Directory(self.graph.directory(key))),
            NamedContext::Http(url) => {
                let what = Wanted::Http { url: url.clone(), name: "context".to_owned(), checksum: None, unpack: true };
                Ok(Given::Tree(self.fetch(what, line)))
            }
            NamedContext::Git(text) => {
                let Some(Address::Git(address)) = address::parse_context(text)? else {
                    return Err(Fault::new(format!("invalid git context {}", crate::remote::shown(text))));
                };
                let keep_git_dir = address.keep_git_dir.unwrap_or(false);
                Ok(Given::Tree(self.fetch(Wanted::Git { address, keep_git_dir }, line)))
            }
        }
    }

    /// A directory as a file system.
    fn whole(&mut self, id: ContextId, name: &str, platform: &Platform, line: usize) -> NodeId {
        let mut add = |operation, label| self.graph.add(Node { operation, line, label, platform: platform.clone() });
        let parent = add(Operation::Base(Base::default()), format!("FROM {name}"));
        let copy = Copy {
            parent,
            sources: vec![Source::plain(From::Context(id), "/")],
            documents: Vec::new(),
            destination: "/".to_owned(),
            into_directory: true,
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            link: false,
            parents: false,
        };
        add(Operation::Copy(copy), format!("[context {name}] load"))
    }
}
