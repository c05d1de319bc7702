//! Layers become a directory.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use skycap_image::{Event, Layer, Progress};

use crate::directory::Directory;
use crate::directory::attributes::Attributes;
use crate::directory::handle::{READ, open_child};
use crate::directory::overlay::Overlay;
use crate::directory::top_down::{Skipped, TopDown};
use crate::directory::writers::{Crew, Failure, Writers};
use crate::error::Fault;
use crate::fetch::Fetch;
use crate::read::entries;
use crate::staging::{Stage, at};
use crate::stream::read_layers;
use crate::view::difference::Difference;
use crate::{LayerIndex, Limits, TreePath, UnpackError, View};

/// What becomes of the owners that layers name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    /// Files get them; a process that may not do that fails.
    Keep,
    /// Files belong to the process; the [`View`] knows the real owners.
    Squash,
}

/// Under which names overlayfs keeps its marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts by real root.
    Trusted,
    /// `user.overlay.*`: mounts in a user namespace, with the option `userxattr`.
    User,
}

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// What becomes of owners.
    pub owners: Owners,
    /// How many layers are fetched at once, at least one.
    pub concurrency: usize,
    /// Bounds on what a layer may ask for.
    pub limits: Limits,
    /// Whether success means that the files survive a power cut.
    pub sync: bool,
}

/// Threads that write files, beside the one that names them and the one that inflates.
const WRITERS: usize = 3;
/// How often progress is told and the caller is asked whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// Makes `destination` the tree that the layers describe, lowest first. It must not exist or be empty; it appears whole
/// or not at all.
///
/// Devices that the process may not make become empty files, and extended attributes that it may not set are left out,
/// both with one warning; anything else that cannot be done is an error.
pub fn unpack(
    layers: &[Layer],
    destination: &Path,
    options: &Unpack,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    unpack_until(layers, destination, options, progress, &|| false)
}

/// The same until `stop` says so, which is asked all the time: then it ends with [`UnpackError::Stopped`] and leaves
/// nothing.
pub fn unpack_until(
    layers: &[Layer],
    destination: &Path,
    options: &Unpack,
    progress: &dyn Progress,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<(), UnpackError> {
    Work { overlay: None, layers, options, progress, stop }.at(destination)
}

/// Applies further layers, lowest first, to a tree that [`unpack`] or this has made and that nobody else sees; the process
/// may read all directories there. What the layers do not describe stays as it is. If it fails, the tree is of no use any more. What is in the way is deleted in the tree's parent directory.
pub fn unpack_onto(
    layers: &[Layer],
    tree: &Path,
    options: &Unpack,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    if layers.is_empty() {
        return Ok(());
    }
    let mut beside = tree.as_os_str().to_owned();
    beside.push("-onto");
    let stage = Stage::create(Path::new(&beside))?;
    let work = Work { overlay: None, layers, options, progress, stop: &|| false };
    let root = crate::directory::open_root(tree).and_then(|root| open_child(root, b".", READ));
    let root = root.map_err(at("open", tree))?;
    work.apply(&stage, root, true)
}

/// Makes `destination` one layer as overlayfs wants it: deleted files are devices 0:0, directories that hide what is below
/// them carry an attribute. `index` is the layer's listing and `below` the view of the layers under it, which is only looked
/// at if the layer [needs it](LayerIndex::needs_below).
///
/// What overlayfs then shows is what [`unpack`] makes of all layers, but for the root itself, which the uppermost directory
/// decides. A hard link to a file of a lower layer is an error, because no directory can hold it.
pub fn unpack_overlay(
    layer: &Layer,
    index: &LayerIndex,
    below: &View,
    destination: &Path,
    options: &Unpack,
    style: OverlayXattrs,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    let difference = Difference::of(index, below);
    let difference = difference.map_err(|(path, what)| {
        Fault::Apply { path, source: io::Error::new(io::ErrorKind::InvalidData, what) }.of(layer)
    })?;
    let layers = std::slice::from_ref(layer);
    Work { overlay: Some((&difference, style)), layers, options, progress, stop: &|| false }.at(destination)
}

/// What is to be unpacked.
struct Work<'w> {
    /// What of the one layer goes to a directory of overlayfs.
    overlay: Option<(&'w Difference, OverlayXattrs)>,
    layers: &'w [Layer],
    options: &'w Unpack,
    progress: &'w dyn Progress,
    stop: &'w (dyn Fn() -> bool + Sync),
}

impl Work<'_> {
    fn at(&self, destination: &Path) -> Result<(), UnpackError> {
        // Before anything is fetched.
        for layer in self.layers {
            layer.check_is_tar().map_err(|source| Fault::Source(source).of(layer))?;
        }
        let mut stage = Stage::create(destination)?;
        let is_history = self.overlay.is_none() && self.layers.len() > 1;
        if !is_history || !self.top_down(&stage)? {
            if is_history {
                self.progress.event(Event::Debug("the order of the layers matters: they are applied in it"));
                stage.restart()?;
            }
            self.in_order(&stage)?;
        }
        stage.commit(self.options.sync)
    }

    /// Writes only the files that win. `false` if the layers have to be applied in order.
    fn top_down(&self, stage: &Stage) -> Result<bool, UnpackError> {
        let layers: Vec<&Layer> = self.layers.iter().rev().collect();
        let mut is_plain = true;
        let result = self.with_crew(stage, &layers, |crew, fetch| {
            let begin = || TopDown::new(stage.root()?, layers.len(), Writers::new(crew));
            let mut tree = begin().map_err(at("prepare", stage.destination()))?;
            let limits = &self.options.limits;
            let read = read_layers(&layers, limits, |each| fetch.feed(each), &|| fetch.stop(), &mut |number, tar| {
                tree.begin_layer(number);
                entries(tar, limits, &mut tree)?;
                tree.end_layer().map_err(|source| Fault::Apply { path: TreePath::root(), source })
            });
            is_plain = !tree.is_not_plain();
            read?;
            let skipped = tree.finish().map_err(at("finish", stage.destination()))?;
            if skipped.files > 0 {
                let Skipped { files, bytes } = skipped;
                let text =
                    format!("{files} files ({bytes} bytes) were not written: higher layers replace or hide them");
                self.progress.event(Event::Debug(&text));
            }
            Ok(())
        });
        match result {
            Err(UnpackError::Layer { fault: Fault::Apply { .. }, .. }) if !is_plain => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn in_order(&self, stage: &Stage) -> Result<(), UnpackError> {
        self.apply(stage, stage.root().map_err(at("prepare", stage.destination()))?, false)
    }

    /// The directory is that of the stage, or one that has files already.
    fn apply(&self, stage: &Stage, root: std::os::fd::OwnedFd, has_files: bool) -> Result<(), UnpackError> {
        let layers: Vec<&Layer> = self.layers.iter().collect();
        self.with_crew(stage, &layers, |crew, fetch| {
            let make = if has_files { Directory::onto } else { Directory::new };
            let begin = || make(root, stage.trash()?, Writers::new(crew));
            let mut tree = begin().map_err(at("prepare", stage.destination()))?;
            if let Some((difference, style)) = self.overlay {
                return self.apart(tree, difference, style, fetch);
            }
            let limits = &self.options.limits;
            read_layers(&layers, limits, |each| fetch.feed(each), &|| fetch.stop(), &mut |number, tar| {
                tree.begin_layer(number);
                entries(tar, limits, &mut tree)?;
                tree.end_layer().map_err(|source| Fault::Apply { path: TreePath::root(), source })
            })?;
            tree.finish().map_err(at("finish", stage.destination()))
        })
    }

    /// The one layer as overlayfs wants it.
    fn apart(
        &self,
        tree: Directory<'_>,
        difference: &Difference,
        style: OverlayXattrs,
        fetch: &std::sync::Arc<Fetch>,
    ) -> Result<(), UnpackError> {
        let Some(layer) = self.layers.first() else { return Ok(()) };
        let failed = |(path, source)| Fault::Apply { path, source }.of(layer);
        let mut tree = Overlay::new(tree, difference).map_err(failed)?;
        let limits = &self.options.limits;
        read_layers(&[layer], limits, |each| fetch.feed(each), &|| fetch.stop(), &mut |_, tar| {
            entries(tar, limits, &mut tree)
        })?;
        tree.finish(style).map_err(failed)
    }

    /// Fetches layers in this order, while threads write files and one tells how far it all is.
    fn with_crew(
        &self,
        stage: &Stage,
        layers: &[&Layer],
        apply: impl FnOnce(&Crew<'_>, &std::sync::Arc<Fetch>) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let owned = layers.iter().copied().cloned().collect();
        let side = stage.side().map_err(at("prepare", stage.destination()))?;
        let fetch = Fetch::start(owned, self.options.concurrency, side);
        let crew = Crew::new(Attributes::new(self.options.owners, self.progress));
        let watch = Watch::default();
        let result = std::thread::scope(|scope| {
            // Whatever happens, also a panic in `apply`, everybody stops.
            let _end = EndOnDrop(|| {
                fetch.stop();
                crew.dismiss();
                watch.end();
            });
            let writers = std::thread::available_parallelism().map_or(1, usize::from).min(WRITERS);
            for _ in 0..writers {
                scope.spawn(|| crew.work());
            }
            scope.spawn(|| self.watch(&watch, &fetch, &crew));
            let result = apply(&crew, &fetch);
            if result.is_err() {
                crew.give_up();
            }
            result
        });
        match (result, crew.failure()) {
            (Ok(()), None) => Ok(()),
            _ if watch.was_stopped() => Err(UnpackError::Stopped),
            (_, Some(Failure { layer, path, source })) => {
                let digest = layers.get(layer).map(|layer| layer.descriptor.digest);
                let fault = Fault::Apply { path, source };
                Err(digest.map_or(UnpackError::Stopped, |digest| UnpackError::Layer { layer: Box::new(digest), fault }))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn watch(&self, watch: &Watch, fetch: &Fetch, crew: &Crew<'_>) {
        let mut tasks = Vec::new();
        loop {
            let has_ended = watch.wait(TICK);
            fetch.report(&mut tasks, self.progress);
            if has_ended {
                return;
            }
            if (self.stop)() {
                watch.stop();
                fetch.stop();
                crew.give_up();
            }
        }
    }
}

/// Whether there is something left to watch.
#[derive(Default)]
struct Watch {
    state: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    has_ended: bool,
    was_stopped: bool,
}

impl Watch {
    fn wait(&self, time: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on = |state: &mut Watched| !state.has_ended;
        let (state, _) = self.changed.wait_timeout_while(state, time, going_on).unwrap_or_else(PoisonError::into_inner);
        state.has_ended
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).was_stopped = true;
    }

    fn was_stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).was_stopped
    }
}

struct EndOnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for EndOnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[cfg(test)]
mod tests;
