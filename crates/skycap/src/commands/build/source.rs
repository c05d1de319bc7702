//! What is built: the context and its Dockerfile.

use std::fs;
use std::io::{self, Read, Seek};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use skycap_build::attest::Material;
use skycap_build::dockerfile;
use skycap_build::ignore::Ignore;
use skycap_build::remote::{LARGEST_DOCKERFILE, main_context, unpack_context};
use skycap_build::{Request, World};
use skycap_image::suggest::nearest;
use skycap_sandbox::Cancel;
use skycap_store::{Store, Temporary};

use super::flags::{is_git, is_http};
use super::stdin::Input;
use crate::commands::Context;
use crate::failure::Failure;

/// How much of standard input tells a tar from a Dockerfile.
const HEAD: usize = 512;

/// What is built.
pub struct Source {
    pub context: PathBuf,
    pub ignore: Ignore,
    pub dockerfile: Vec<u8>,
    /// What errors call it.
    pub name: String,
    /// Where it was fetched, and the time that it has there.
    origin: Option<(Material, Option<i64>)>,
    /// An empty context, or one that was unpacked, lives as long as this.
    _kept: Option<Temporary>,
}

impl Source {
    /// Reads a context in the forms that Docker takes. The request lends what servers are shown.
    pub fn read(
        context: &str,
        file: Option<&str>,
        request: &Request,
        world: &World<'_>,
        on: &Context,
    ) -> Result<Self, Failure> {
        if context == "-" {
            return Self::from_stdin(file, world.store, on);
        }
        if Path::new(context).is_dir() || !(is_git(context) || is_http(context)) {
            return Self::from_directory(Path::new(context), file, &on.cancel);
        }
        let kept = Temporary::create(&on.world.scratch, "skycap-context-")?;
        match main_context(context, request, world, kept.path())? {
            Some(fetched) => {
                let origin = Some((fetched.material, fetched.time));
                match fetched.dockerfile {
                    Some(_) if file.is_some_and(|file| file != "-") => {
                        Err(Failure::usage(format!("-f with the context {context}: it is a Dockerfile itself")))
                    }
                    Some(dockerfile) => Ok(Self { origin, ..Self::bare(fetched.directory, dockerfile, kept) }),
                    None => Ok(Self { origin, ..Self::unpacked(fetched.directory, file, kept, &on.cancel)? }),
                }
            }
            None => Self::from_directory(Path::new(context), file, &on.cancel),
        }
    }

    /// A request for this.
    pub fn fill(&self, request: Request) -> Request {
        let (origin, time) = self.origin.clone().unzip();
        Request {
            context: self.context.clone(),
            ignore: self.ignore.clone(),
            dockerfile: self.dockerfile.clone(),
            dockerfile_name: self.name.clone(),
            context_origin: origin,
            context_time: time.flatten(),
            ..request
        }
    }

    fn bare(context: PathBuf, dockerfile: Vec<u8>, kept: Temporary) -> Self {
        let name = "Dockerfile".to_owned();
        Self { context, ignore: Ignore::default(), dockerfile, name, origin: None, _kept: Some(kept) }
    }

    /// A tree that somebody else made: no ignore file counts, as in `BuildKit`, and its Dockerfile is no link to elsewhere.
    fn unpacked(context: PathBuf, file: Option<&str>, kept: Temporary, cancel: &Cancel) -> Result<Self, Failure> {
        if file == Some("-") {
            let dockerfile = read_whole(Input(cancel), "standard input")?;
            return Ok(Self::bare(context, dockerfile, kept));
        }
        let path = file.map_or_else(|| default_dockerfile(&context), |file| context.join(file));
        let name = path.strip_prefix(&context).unwrap_or(&path).display().to_string();
        let missing = |why: &str| {
            Failure::new(format!("cannot read {name} of the context: {why}"))
                .with_hint("-f FILE names another, as it is in the context")
        };
        let real = path.canonicalize().map_err(|error| missing(&error.to_string()))?;
        if !real.starts_with(context.canonicalize()?) {
            return Err(missing("it leads out of the context"));
        }
        let dockerfile = open(&real, None)?;
        Ok(Self { name, ..Self::bare(context, dockerfile, kept) })
    }

    /// The lines of stages, by their names or numbers.
    pub fn lines_of(&self, stages: &[String]) -> Result<Vec<RangeInclusive<usize>>, Failure> {
        if stages.is_empty() {
            return Ok(Vec::new());
        }
        let Ok(parsed) = dockerfile::parse(&self.dockerfile, &self.name) else { return Ok(Vec::new()) };
        let lines = |wanted: &String| {
            let is_meant = |(number, stage): (usize, &dockerfile::Stage)| {
                stage.from.value.name.as_deref() == Some(&wanted.to_lowercase()) || number.to_string() == *wanted
            };
            let number = parsed.stages.iter().enumerate().position(is_meant).ok_or_else(|| {
                let failure = Failure::usage(format!("--no-cache-filter {wanted}: there is no such stage"));
                let names = parsed.stages.iter().filter_map(|stage| stage.from.value.name.as_deref());
                match nearest(wanted, names) {
                    Some(near) => failure.with_hint(format!("did you mean {near}?")),
                    None => failure.with_hint("`--call targets` lists the stages"),
                }
            })?;
            let begin = |number: usize| parsed.stages.get(number).map(|stage: &dockerfile::Stage| stage.from.span.line);
            Ok(begin(number).unwrap_or(1)..=begin(number + 1).map_or(usize::MAX, |next| next - 1))
        };
        stages.iter().map(lines).collect()
    }

    fn from_directory(context: &Path, file: Option<&str>, cancel: &Cancel) -> Result<Self, Failure> {
        match fs::metadata(context) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Failure::new(format!("the context {} is no directory", context.display()))
                    .with_hint(format!("if it is the Dockerfile: -f {} DIRECTORY", context.display())));
            }
            Err(error) => {
                return Err(Failure::because(format!("cannot read the context {}", context.display()), &error));
            }
        }
        let (path, dockerfile) = match file {
            Some("-") => (None, read_whole(Input(cancel), "standard input")?),
            Some(file) => {
                let path = PathBuf::from(file);
                let bytes = open(&path, Some(context))?;
                (Some(path), bytes)
            }
            None => {
                let path = default_dockerfile(context);
                let bytes = open(&path, None)?;
                (Some(path), bytes)
            }
        };
        // A Dockerfile from elsewhere has no ignore file of its own.
        let ignore = Ignore::for_dockerfile(context, path.as_deref().unwrap_or(&context.join("")))?;
        let name = path.map_or_else(|| "Dockerfile".to_owned(), |path| shown(&path));
        Ok(Self { context: context.to_owned(), ignore, dockerfile, name, origin: None, _kept: None })
    }

    /// A Dockerfile without a context, or a tar of a context.
    fn from_stdin(file: Option<&str>, store: &Store, on: &Context) -> Result<Self, Failure> {
        let mut input = Input(&on.cancel);
        let mut head = Vec::new();
        (&mut input).take(HEAD as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Err(Failure::usage("the context `-` is standard input, and nothing came"));
        }
        let kept = Temporary::create(&on.world.scratch, "skycap-context-")?;
        if is_archive(&head) {
            let mut archive = tempfile::tempfile_in(kept.path())?;
            io::copy(&mut io::Cursor::new(head).chain(input), &mut archive)?;
            archive.rewind()?;
            let directory = kept.path().join("context");
            unpack_context(&mut archive, store, &directory, &on.cancel)?;
            return Self::unpacked(directory, file, kept, &on.cancel);
        }
        if let Some(file) = file {
            return Err(Failure::usage(format!(
                "-f {file}: standard input is no tar, so there is nothing to look for it in"
            ))
            .with_hint("`skycap build -` alone takes the Dockerfile itself from standard input"));
        }
        let dockerfile = read_whole(io::Cursor::new(head).chain(input), "standard input")?;
        let context = kept.path().join("context");
        fs::create_dir(&context)?;
        Ok(Self::bare(context, dockerfile, kept))
    }
}

/// `Dockerfile`, or `dockerfile` where only that is there.
fn default_dockerfile(context: &Path) -> PathBuf {
    let path = context.join("Dockerfile");
    let lower = context.join("dockerfile");
    if !path.exists() && lower.exists() { lower } else { path }
}

fn open(path: &Path, context: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let file = fs::File::open(path).map_err(|error| {
        let failure = Failure::because(format!("cannot read {}", shown(path)), &error);
        let inside = context.map(|context| context.join(path)).filter(|path| path.is_file());
        match inside {
            Some(inside) => {
                failure.with_hint(format!("-f is relative to the current directory: -f {}", shown(&inside)))
            }
            None => failure.with_hint("-f FILE names another Dockerfile"),
        }
    })?;
    read_whole(file, &shown(path))
}

fn read_whole(from: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::because(format!("cannot read {name}"), &error))?;
    if bytes.len() as u64 > LARGEST_DOCKERFILE {
        return Err(Failure::new(format!("{name} has more than {LARGEST_DOCKERFILE} bytes: that is no Dockerfile")));
    }
    Ok(bytes)
}

/// Paths as people wrote them: `.` joined to a name is the name.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// By the first bytes: tar, gzip, bzip2, xz or zstd.
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [&[0x1f, 0x8b, 8], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}
