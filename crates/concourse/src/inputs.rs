//! What a task or a put may read: the files of its inputs, by the paths that parameters give.
//!
//! In a container of our own `/` is the container, and any path may be followed. In the process of somebody who runs
//! pipelines `/` is their machine; there [`Host::confined_to`](crate::Host::confined_to) draws a line, and the kernel
//! refuses every link and every `..` that leads over it. Files are read through the descriptor that the kernel found.
//! Libraries that want a path get one that is free of links.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Failure;
use crate::files::io_failure;

/// The longest file that a parameter names and that is read as a whole, in bytes.
const LARGEST: u64 = 16 << 20;

/// Who reads inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reader {
    Task,
    Put,
}

/// The files below the directory of a task or of a put.
pub(crate) struct Inputs {
    reader: Reader,
    directory: PathBuf,
    root: Option<Root>,
}

/// What nothing leads out of.
struct Root {
    /// Free of links.
    path: PathBuf,
    opened: OwnedFd,
}

impl Inputs {
    /// The files that are seen from `directory`, which is in `confinement` if there is such a place.
    pub(crate) fn new(reader: Reader, directory: &Path, confinement: Option<&Path>) -> Result<Self, Failure> {
        let Some(root) = confinement else {
            return Ok(Self { reader, directory: directory.to_owned(), root: None });
        };
        let opened = root.canonicalize().and_then(|path| Ok((File::open(&path)?, path)));
        let (opened, path) = opened.map_err(|error| io_failure("open", root, &error))?;
        let below = directory.strip_prefix(root).unwrap_or(directory);
        let whole = Self { reader, directory: path.clone(), root: Some(Root { path, opened: opened.into() }) };
        let directory = whole.find("the working directory", below)?;
        Ok(Self { directory, ..whole })
    }

    /// The directory that paths are relative to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether there is a place that nothing may lead out of.
    pub(crate) fn is_confined(&self) -> bool {
        self.root.is_some()
    }

    /// A path to the file or directory at `path`. `setting` is what named it.
    pub(crate) fn find(&self, setting: &str, path: &Path) -> Result<PathBuf, Failure> {
        self.locate(path).map_err(|error| self.failure(setting, "inspect", path, &error))
    }

    /// Like [`Inputs::find`], and nothing if nothing is there.
    pub(crate) fn find_if_there(&self, setting: &str, path: &Path) -> Result<Option<PathBuf>, Failure> {
        if_there(self.locate(path)).map_err(|error| self.failure(setting, "inspect", path, &error))
    }

    /// A small file's content.
    pub(crate) fn read(&self, setting: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        self.content(path).map_err(|error| self.failure(setting, "read", path, &error))
    }

    /// Like [`Inputs::read`], and nothing if nothing is there.
    pub(crate) fn read_if_there(&self, setting: &str, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        if_there(self.content(path)).map_err(|error| self.failure(setting, "read", path, &error))
    }

    /// A small file's text.
    pub(crate) fn text(&self, setting: &str, path: &Path) -> Result<String, Failure> {
        let text = self.content(path).and_then(|bytes| String::from_utf8(bytes).map_err(not_text));
        text.map_err(|error| self.failure(setting, "read", path, &error))
    }

    /// Makes a file, or empties it.
    pub(crate) fn create(&self, setting: &str, path: &Path) -> Result<File, Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
        let created = match &self.root {
            Some(root) => root.open(&self.directory.join(path), flags).map(File::from),
            None => File::create(self.directory.join(path)),
        };
        created.map_err(|error| self.failure(setting, "write", path, &error))
    }

    /// Makes sure that who opens what is below a directory by path and by itself stays within the line, and is kept
    /// waiting by nothing. `directory` was found here.
    pub(crate) fn check_below(&self, setting: &str, directory: &Path) -> Result<(), Failure> {
        if self.root.is_none() {
            return Ok(());
        }
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            let failed = |error: io::Error| io_failure("list", &directory, &error);
            for entry in directory.read_dir().map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                let path = entry.path();
                if kind.is_dir() {
                    left.push(path);
                } else if !kind.is_file() && self.find_if_there(setting, &path)?.is_some_and(|found| found.is_dir()) {
                    let error = io::Error::other("it is a link to a directory");
                    return Err(self.failure(setting, "use", &path, &error));
                }
            }
        }
        Ok(())
    }

    fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        let path = self.directory.join(path);
        let Some(root) = &self.root else { return path.metadata().map(|_| path) };
        let found = root.open(&path, OFlags::PATH)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::RegularFile | FileType::Directory => root.name_of(&found),
            _ => Err(neither()),
        }
    }

    fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.directory.join(path);
        let Some(root) = &self.root else { return read_small(File::open(path)?) };
        // A pipe would keep us waiting.
        let file = File::from(root.open(&path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if file.metadata()?.is_file() { read_small(file) } else { Err(neither()) }
    }

    fn failure(&self, setting: &str, doing: &str, path: &Path, error: &io::Error) -> Failure {
        let Some(root) = self.root.as_ref().filter(|_| is_outside(error)) else {
            return io_failure(doing, &self.directory.join(path), error);
        };
        let whose = match self.reader {
            Reader::Task => "task's",
            Reader::Put => "put's",
        };
        let way = root.way_out(&self.directory.join(path));
        let way = way.map(|target| format!(" (-> {})", target.display())).unwrap_or_default();
        let shown = path.strip_prefix(&self.directory).unwrap_or(path).display();
        Failure::new(format!("{setting}: {shown} leads outside the {whose} directory{way}"))
    }
}

impl Root {
    /// Opens what is at an absolute path, links followed as long as they stay below.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let below = path.strip_prefix(&self.path).map_err(|_| Errno::XDEV)?;
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        loop {
            match rustix::fs::openat2(&self.opened, below, flags | OFlags::CLOEXEC, mode, resolve) {
                // The kernel asks for another try when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return Ok(answer?),
            }
        }
    }

    /// Where the kernel found something.
    fn name_of(&self, found: &OwnedFd) -> io::Result<PathBuf> {
        let name = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        if name.starts_with(&self.path) { Ok(name) } else { Err(Errno::XDEV.into()) }
    }

    /// The target of the link on a path that leads out, for people.
    fn way_out(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.path).ok()?;
        let mut names = below.ancestors().collect::<Vec<_>>().into_iter().rev();
        let first = names.find(|name| self.open(&self.path.join(name), OFlags::PATH).is_err_and(|e| is_outside(&e)))?;
        fs::read_link(self.path.join(first)).ok()
    }
}

/// Reads a file that is meant to be small.
pub(crate) fn read_small(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

fn is_outside(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn neither() -> io::Error {
    io::Error::other("it is neither a regular file nor a directory")
}

fn not_text(_: std::string::FromUtf8Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8")
}
