//! The files of some layers or of a directory, as far as the scan looks at them.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use skycap_image::{Digest, Layer};
use skycap_rootfs::{Entry, Kind, LayerIndex, Record, TreePath, View};
use skycap_store::Store;

use crate::context::Context;
use crate::error::Fault;
use crate::files::Files;

/// The longest database that is read.
const LONGEST: u64 = 256 << 20;

/// Where packages are looked for.
pub(super) enum Tree {
    /// The files that layers make together.
    Layers(Box<Layers>),
    /// A directory outside.
    Directory(Context),
}

/// Layers and what they make together.
pub(super) struct Layers {
    all: Vec<Layer>,
    indexes: Vec<Arc<LayerIndex>>,
    view: View,
}

impl Tree {
    /// Lists layers, those that the store knows without reading them.
    pub fn of_layers(store: &Store, layers: Vec<Layer>) -> Result<Self, Fault> {
        layers.iter().try_for_each(Layer::check_is_tar)?;
        let indexes: Vec<Arc<LayerIndex>> =
            layers.iter().map(|layer| store.layer_index(layer)).collect::<Result<_, _>>()?;
        let view = View::new(&indexes)?;
        Ok(Self::Layers(Box::new(Layers { all: layers, indexes, view })))
    }

    /// Where a path leads, if that is a regular file.
    pub fn file(&self, path: &str) -> Result<Option<TreePath>, Fault> {
        let Some(path) = self.resolve(path) else { return Ok(None) };
        let entry = match self {
            Self::Layers(layers) => layers.view.lookup(&path).cloned(),
            Self::Directory(context) => context.find(&path)?,
        };
        Ok(entry.filter(Entry::is_file).map(|_| path))
    }

    /// The regular files in a directory, sorted.
    pub fn files(&self, directory: &str) -> Result<Vec<TreePath>, Fault> {
        let Some(directory) = self.resolve(directory) else { return Ok(Vec::new()) };
        let children = match self {
            Self::Layers(layers) => layers.view.list(&directory)?,
            Self::Directory(context) => match context.find(&directory)? {
                Some(Entry { kind: Kind::Directory, .. }) => context.list(&directory)?,
                _ => Vec::new(),
            },
        };
        let files = children.into_iter().filter(|(_, entry)| entry.is_file());
        Ok(files.map(|(name, _)| directory.join(&name)).collect::<Result<_, _>>()?)
    }

    /// Where a path leads; one that leads in circles or through a file leads nowhere.
    fn resolve(&self, path: &str) -> Option<TreePath> {
        match self {
            Self::Layers(layers) => layers.view.resolve(Path::new(path), true).ok(),
            Self::Directory(context) => {
                context.resolve(&TreePath::parse(path.trim_start_matches('/').as_bytes()).ok()?).ok()
            }
        }
    }

    /// A file's content.
    pub fn read(&self, path: &TreePath) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Layers(layers) => Ok(layers.view.read(path, &layers.all, LONGEST)?),
            Self::Directory(context) => {
                let mut content = Vec::new();
                context.file(path)?.take(LONGEST + 1).read_to_end(&mut content)?;
                let is_too_long = content.len() as u64 > LONGEST;
                if is_too_long { Err(format!("{path} has more than {LONGEST} bytes").into()) } else { Ok(content) }
            }
        }
    }

    /// Visits the content of files that are not too long, each layer being read at most once.
    pub fn visit(
        &self,
        paths: &[TreePath],
        longest: u64,
        visit: &mut dyn FnMut(&TreePath, Vec<u8>),
    ) -> Result<(), Fault> {
        match self {
            Self::Layers(layers) => {
                let is_short = |path: &&TreePath| match layers.view.lookup(path).map(|entry| &entry.kind) {
                    Some(Kind::File { size }) => *size <= longest,
                    _ => false,
                };
                let short: Vec<TreePath> = paths.iter().filter(is_short).cloned().collect();
                layers.view.contents(&short, &layers.all, &mut |names, _, data| {
                    let mut content = Vec::new();
                    data.read_to_end(&mut content)?;
                    for name in names {
                        visit(name, content.clone());
                    }
                    Ok(())
                })?;
            }
            Self::Directory(_) => {
                for path in paths {
                    let content = self.read(path)?;
                    if content.len() as u64 <= longest {
                        visit(path, content);
                    }
                }
            }
        }
        Ok(())
    }

    /// The layer that a file is from, counted from the lowest.
    pub fn layer_of(&self, path: &TreePath) -> Option<usize> {
        match self {
            Self::Layers(layers) => layers.view.layer_of(path),
            Self::Directory(_) => None,
        }
    }

    /// The digest of a layer as stored.
    pub fn digest(&self, layer: usize) -> Option<Digest> {
        match self {
            Self::Layers(layers) => layers.all.get(layer).map(|layer| layer.descriptor.digest),
            Self::Directory(_) => None,
        }
    }

    /// What a file was in the layers below that of now, highest first: the layer and how to read it there.
    pub fn earlier(&self, path: &TreePath) -> Vec<usize> {
        let (Self::Layers(layers), Some(now)) = (self, self.layer_of(path)) else { return Vec::new() };
        let is_it = |(at, record): &(TreePath, Record)| {
            at == path && matches!(record, Record::Entry(entry, _) if entry.is_file())
        };
        let below = layers.indexes.iter().enumerate().take(now).rev();
        below.filter(|(_, index)| index.records().iter().any(is_it)).map(|(number, _)| number).collect()
    }

    /// What a file was in one layer; `None` if that layer alone has no such file.
    pub fn read_in(&self, layer: usize, path: &TreePath) -> Result<Option<Vec<u8>>, Fault> {
        let Self::Layers(layers) = self else { return Ok(None) };
        let (Some(index), Some(layer)) = (layers.indexes.get(layer), layers.all.get(layer)) else { return Ok(None) };
        let alone = View::new(std::slice::from_ref(index))?;
        if !alone.lookup(path).is_some_and(Entry::is_file) {
            return Ok(None);
        }
        Ok(Some(alone.read(path, std::slice::from_ref(layer), LONGEST)?))
    }
}
