//! Manifests and tags as files. A manifest's file begins with one line of JSON, its descriptor, which says what a request's
//! headers said: the bytes that follow need not. A tag's file is such a line alone.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use skycap_image::{Descriptor, Digest};

use super::files::{present, read, remove, replace, sync_directory};
use super::manifests::LARGEST;
use super::names::Smallest;
use super::repository::Repository;
use super::storage::SUBJECT;

/// Tags looked at for a list that begins with the newest.
const NEWEST: usize = 100_000;

impl Repository {
    fn document_path(&self, digest: Digest) -> PathBuf {
        self.at("manifests").join(digest.algorithm().name()).join(digest.hex())
    }

    fn tag_path(&self, tag: &str) -> PathBuf {
        self.tags_directory().join(tag)
    }

    /// What refers to a digest: an empty file each.
    pub fn referrers_directory(&self, subject: Digest) -> PathBuf {
        self.at("referrers").join(file_name(subject))
    }

    /// What a manifest is; `None` if it is not here.
    pub fn record(&self, digest: Digest) -> io::Result<Option<Descriptor>> {
        let path = self.document_path(digest);
        let Some(file) = present(File::open(&path))? else { return Ok(None) };
        let mut line = Vec::new();
        BufReader::new(file).take(LARGEST as u64).read_until(b'\n', &mut line)?;
        parse(&path, &line).map(Some)
    }

    /// What a manifest is, and its bytes.
    pub fn document(&self, digest: Digest) -> io::Result<Option<(Descriptor, Vec<u8>)>> {
        let path = self.document_path(digest);
        let Some(mut bytes) = read(&path)? else { return Ok(None) };
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let record = parse(&path, &bytes[..line])?;
        bytes.drain(..line);
        if bytes.len() as u64 != record.size {
            return Err(damaged(&path, "its length is another"));
        }
        Ok(Some((record, bytes)))
    }

    /// What a tag stands for; `None` if there is no such tag.
    pub fn tag(&self, tag: &str) -> io::Result<Option<Descriptor>> {
        let path = self.tag_path(tag);
        read(&path)?.map(|line| parse(&path, &line)).transpose()
    }

    /// Takes a manifest in, and lists it under its subject. The caller holds a guard and has seen that its parts are here.
    pub fn keep_document(&self, record: &Descriptor, bytes: &[u8], subject: Option<Digest>) -> io::Result<()> {
        if let Some(subject) = subject {
            let directory = self.referrers_directory(subject);
            self.make(&directory)?;
            File::create(directory.join(file_name(record.digest)))?;
            sync_directory(&directory)?;
        }
        let path = self.document_path(record.digest);
        // The same bytes under another media type are another manifest: the last one wins.
        if self.record(record.digest)?.is_some_and(|known| known.media_type == record.media_type) {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.make(parent))?;
        replace(&self.staging, &path, &[&line(record)?, bytes], None)
    }

    /// Lets a tag stand for a manifest that was taken in.
    pub fn set_tag(&self, tag: &str, record: &Descriptor, time: SystemTime) -> io::Result<()> {
        self.make(&self.tags_directory())?;
        // The file's own time makes it possible to list the newest tags without reading all files.
        replace(&self.staging, &self.tag_path(tag), &[&line(record)?], Some(time))
    }

    /// Takes a tag away from its manifest; `false` if there is no such tag.
    pub fn remove_tag(&self, tag: &str) -> io::Result<bool> {
        let _guard = self.removing()?;
        let removed = remove(&self.tag_path(tag))?;
        if removed {
            sync_directory(&self.tags_directory())?;
        }
        Ok(removed)
    }

    /// Removes a manifest with all its tags; `false` if there is no such manifest.
    pub fn remove_document(&self, digest: Digest) -> io::Result<bool> {
        let _guard = self.removing()?;
        self.remove_guarded_document(digest)
    }

    /// The same under a guard that the caller holds. The tags go first: none may stand for nothing.
    pub fn remove_guarded_document(&self, digest: Digest) -> io::Result<bool> {
        let Some(record) = self.record(digest)? else { return Ok(false) };
        let mut untagged = false;
        self.visit_tags(&mut |tag, record| {
            if record.digest == digest {
                untagged |= remove(&self.tag_path(tag))?;
            }
            Ok(())
        })?;
        if untagged {
            sync_directory(&self.tags_directory())?;
        }
        let path = self.document_path(digest);
        let removed = remove(&path)?;
        path.parent().map_or(Ok(()), sync_directory)?;
        if let Some(subject) = record.annotations.get(SUBJECT).and_then(|subject| subject.parse().ok()) {
            // Empty and without a manifest it means nothing; it only takes up space.
            let directory = self.referrers_directory(subject);
            let _ = fs::remove_file(directory.join(file_name(digest)));
            let _ = fs::remove_dir(directory);
        }
        Ok(removed)
    }

    /// Shows every tag with what it stands for, in no order.
    pub fn visit_tags(&self, show: &mut dyn FnMut(&str, &Descriptor) -> io::Result<()>) -> io::Result<()> {
        let Some(entries) = present(fs::read_dir(self.tags_directory()))? else { return Ok(()) };
        for entry in entries {
            if let Ok(tag) = entry?.file_name().into_string()
                && let Some(record) = self.tag(&tag)?
            {
                show(&tag, &record)?;
            }
        }
        Ok(())
    }

    /// Shows the digest of every manifest, in no order.
    pub fn visit_documents(&self, show: &mut dyn FnMut(Digest) -> io::Result<()>) -> io::Result<()> {
        visit_digests(&self.at("manifests"), show)
    }

    /// The tags, the one pushed last first.
    pub fn newest_tags(&self) -> io::Result<Vec<String>> {
        let Some(entries) = present(fs::read_dir(self.tags_directory()))? else { return Ok(Vec::new()) };
        let mut newest = Smallest::new(NEWEST);
        for entry in entries {
            let entry = entry?;
            // One that was removed meanwhile is none.
            let Some(metadata) = present(entry.metadata())? else { continue };
            if let Ok(tag) = entry.file_name().into_string() {
                newest.add((std::cmp::Reverse(metadata.modified()?), tag));
            }
        }
        Ok(newest.into_sorted().into_iter().map(|(_, tag)| tag).collect())
    }
}

/// Shows every digest that names a file below `<directory>/<algorithm>/`.
pub(super) fn visit_digests(directory: &Path, show: &mut dyn FnMut(Digest) -> io::Result<()>) -> io::Result<()> {
    for algorithm in ["sha256", "sha512"] {
        let Some(entries) = present(fs::read_dir(directory.join(algorithm)))? else { continue };
        for entry in entries {
            let name = entry?.file_name();
            if let Ok(digest) = format!("{algorithm}:{}", name.to_string_lossy()).parse() {
                show(digest)?;
            }
        }
    }
    Ok(())
}

/// A digest without a colon, which some tools do not like in names.
pub(super) fn file_name(digest: Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// The digest of such a name.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

fn line(record: &Descriptor) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

fn parse(path: &Path, line: &[u8]) -> io::Result<Descriptor> {
    serde_json::from_slice(line).map_err(|error| damaged(path, &error.to_string()))
}

fn damaged(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {why}", path.display()))
}
