//! Removing what nothing refers to. Whoever pushes meanwhile loses nothing: a repository is closed for the time of its own
//! collection, and what was asked for or brought lately is spared, because a manifest that needs it may be on its way.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use skycap_image::{Descriptor, Digest};

use super::documents::visit_digests;
use super::manifests::parts;
use super::repository::Repository;
use super::route::RepositoryName;
use super::storage::{PUSHED, Storage};
use super::uploads::remove_older;

/// What to remove.
#[derive(Clone, Copy, Debug)]
pub struct Collect {
    /// Spare what was pushed, or asked for by somebody who pushes, less than this ago.
    pub older_than: Duration,
    /// Remove manifests, too, that no tag leads to: neither by itself, nor through an index, nor as what it refers to.
    pub untagged: bool,
}

impl Default for Collect {
    fn default() -> Self {
        Self { older_than: Duration::from_hours(24), untagged: false }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that no tag led to.
    pub manifests: usize,
    /// Blobs of no manifest.
    pub blobs: usize,
    /// Uploads that nobody went on with.
    pub uploads: usize,
    /// Bytes of blobs that are free now: one that another repository has as well frees nothing.
    pub bytes: u64,
}

/// Removes from the registry in a directory what nothing refers to. It may be served meanwhile. A manifest that cannot be
/// read is an error: what it refers to is unknown, so nothing in its repository is removed.
pub fn collect(dir: &Path, what: Collect) -> io::Result<Collected> {
    let storage = Storage::open(dir)?;
    let mut collected = Collected::default();
    (_, collected.uploads) = remove_older(&storage.staging(), what.older_than)?;
    storage.visit(&mut |name| {
        let Some(name) = RepositoryName::parse(name) else { return Ok(()) };
        let repository = storage.repository(&name);
        let _guard = repository.removing()?;
        let mut known = Known::of(&repository)?;
        if what.untagged {
            collected.manifests += known.remove_untagged(&repository, what.older_than)?;
        }
        let needed: HashSet<Digest> = known.0.values().flat_map(|manifest| manifest.blobs.iter().copied()).collect();
        remove_blobs(&repository, &needed, what.older_than, &mut collected)
    })?;
    Ok(collected)
}

/// The manifests of a repository.
struct Known(HashMap<Digest, Links>);

struct Links {
    record: Descriptor,
    blobs: Vec<Digest>,
    children: Vec<Digest>,
    subject: Option<Digest>,
}

impl Known {
    fn of(repository: &Repository) -> io::Result<Self> {
        let mut known = HashMap::new();
        repository.visit_documents(&mut |digest| {
            let Some((record, bytes)) = repository.document(digest)? else { return Ok(()) };
            let parts = parts(&record, &bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("manifest {digest} is damaged")))?;
            let digests = |descriptors: &[Descriptor]| descriptors.iter().map(|part| part.digest).collect();
            let (blobs, children) = (digests(&parts.blobs), digests(&parts.children));
            known.insert(
                digest,
                Links { record, blobs, children, subject: parts.subject.map(|subject| subject.digest) },
            );
            Ok(())
        })?;
        Ok(Self(known))
    }

    fn remove_untagged(&mut self, repository: &Repository, older_than: Duration) -> io::Result<usize> {
        let mut roots = Vec::new();
        repository.visit_tags(&mut |_, record| {
            roots.push(record.digest);
            Ok(())
        })?;
        roots.extend(self.0.iter().filter(|(_, links)| !is_old(&links.record, older_than)).map(|(digest, _)| *digest));
        let reached = self.reached(roots);
        let lost: Vec<Digest> = self.0.keys().copied().filter(|digest| !reached.contains(digest)).collect();
        for digest in &lost {
            repository.remove_guarded_document(*digest)?;
            self.0.remove(digest);
        }
        Ok(lost.len())
    }

    /// The manifests that these lead to: their children, and what refers to them.
    fn reached(&self, mut waiting: Vec<Digest>) -> HashSet<Digest> {
        let mut referring: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for (digest, links) in &self.0 {
            if let Some(subject) = links.subject {
                referring.entry(subject).or_default().push(*digest);
            }
        }
        let mut reached = HashSet::new();
        while let Some(digest) = waiting.pop() {
            if reached.insert(digest) {
                waiting.extend(self.0.get(&digest).into_iter().flat_map(|links| links.children.iter().copied()));
                waiting.extend(referring.get(&digest).into_iter().flatten().copied());
            }
        }
        reached
    }
}

fn is_old(record: &Descriptor, older_than: Duration) -> bool {
    let pushed = record.annotations.get(PUSHED).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let age = pushed.map(|pushed| SystemTime::now().duration_since(pushed.into()));
    age.is_some_and(|age| age.is_ok_and(|age| age >= older_than))
}

fn remove_blobs(
    repository: &Repository,
    needed: &HashSet<Digest>,
    older_than: Duration,
    collected: &mut Collected,
) -> io::Result<()> {
    visit_digests(&repository.at("blobs"), &mut |digest| {
        let path = repository.blob(digest);
        let metadata = fs::metadata(&path)?;
        // The time of the last change counts, which a new link sets as well: a blob that was mounted is as good as new.
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
        let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age >= older_than);
        if !needed.contains(&digest) && old {
            fs::remove_file(&path)?;
            collected.blobs += 1;
            collected.bytes += if metadata.nlink() == 1 { metadata.len() } else { 0 };
        }
        Ok(())
    })
}
