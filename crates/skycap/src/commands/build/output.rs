//! `-o`: Docker's outputs and skopeo's places, read and checked before anything is built.

use std::path::PathBuf;

use skycap_image::suggest::nearest;
use skycap_image::transport::Transport;
use skycap_image::{Compression, Reference};

use super::annotations::{self, Annotation};
use super::flags::argument;
use super::keys::{Field, Fields};
use super::refused::no_daemon;
use crate::args::Build;
use crate::commands::{is_archive_on_stdout, is_stdout};
use crate::failure::Failure;

/// The transports that are files.
const PLACES: [&str; 4] = ["docker-archive:", "oci-archive:", "oci:", "dir:"];
const TYPES: [&str; 7] = ["local", "tar", "oci", "docker", "image", "registry", "cacheonly"];
/// What Docker's daemon, podman and others are called where skopeo reads names.
const ELSEWHERE: [&str; 4] = ["docker:", "docker-daemon:", "containers-storage:", "registry:"];

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A layout, an archive or a directory of blobs.
    Place(Transport),
    /// An archive on standard output.
    Archive(Format),
    /// The files, in a directory.
    Files { dir: PathBuf, delete: bool, split: Option<bool> },
    /// A tar of the files; `None` is standard output.
    FilesTar(Option<PathBuf>),
    /// Registries.
    Push { references: Vec<Reference>, by_digest: bool },
    /// Nowhere: the steps are cached.
    Kept,
}

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Docker,
    Oci,
}

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// As it was written.
    pub text: String,
    pub to: To,
    /// Names beside those of `-t`.
    pub names: Vec<Reference>,
    pub packing: Packing,
    pub annotations: Vec<Annotation>,
}

/// How layers and manifests are to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packing {
    pub compression: Option<Compression>,
    /// Also layers of bases.
    pub force: bool,
    /// OCI's media types, or Docker's.
    pub oci: Option<bool>,
}

impl Output {
    /// Whether the result is written to standard output.
    pub fn is_stdout(&self) -> bool {
        match &self.to {
            To::Archive(_) | To::FilesTar(None) => true,
            To::FilesTar(Some(file)) => is_stdout(file),
            To::Place(place) => is_archive_on_stdout(place),
            _ => false,
        }
    }

    /// Whether it holds the image, not just its files.
    pub fn is_image(&self) -> bool {
        !matches!(self.to, To::Files { .. } | To::FilesTar(_) | To::Kept)
    }
}

/// All outputs that a command line asks for.
pub fn all(arguments: &Build, references: &[Reference]) -> Result<Vec<Output>, Failure> {
    let mut outputs: Vec<Output> =
        arguments.outputs.output.iter().map(|text| parse(text, references)).collect::<Result<_, _>>()?;
    if arguments.outputs.push && !outputs.iter().any(|output| matches!(output.to, To::Push { .. })) {
        let to = To::Push { references: references.to_vec(), by_digest: false };
        outputs.push(Output::new("--push", to));
    }
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Failure::usage("-o: standard output can hold one result"));
    }
    if arguments.reporting.quiet && outputs.iter().any(Output::is_stdout) {
        return Err(Failure::usage("-q and an output on standard output contradict each other: the id would be in it")
            .with_hint("--iidfile FILE writes the id"));
    }
    Ok(outputs)
}

impl Output {
    fn new(text: &str, to: To) -> Self {
        Self { text: text.to_owned(), to, names: Vec::new(), packing: Packing::default(), annotations: Vec::new() }
    }
}

/// Reads one.
pub fn parse(text: &str, references: &[Reference]) -> Result<Output, Failure> {
    let fields = Fields::parse("-o", text)?;
    let Some(first) = fields.list.first() else { return Err(fields.incomplete("it is empty")) };
    let is_place = PLACES.iter().any(|scheme| text.starts_with(scheme)) || text.starts_with("docker://");
    if is_place {
        let place = text.split(',').next().unwrap_or(text);
        let mut keys = Keys::read(&fields, &fields.list[1..], IMAGE_KEYS)?;
        let to = match argument::<Transport>("-o", place)? {
            Transport::Registry(reference) => To::Push { references: vec![reference], by_digest: false },
            place => To::Place(place),
        };
        return Ok(keys.output(text, to));
    }
    if fields.list.len() == 1 && first.value.is_none() {
        return bare(text);
    }
    typed(&fields, text, references)
}

/// A word: `-` or a directory, as Docker has it.
fn bare(text: &str) -> Result<Output, Failure> {
    if text == "-" {
        return Ok(Output::new(text, To::FilesTar(None)));
    }
    if ELSEWHERE.iter().any(|scheme| text.starts_with(scheme)) || text.contains("://") {
        return Err(Failure::usage(format!("-o {text}: there is no such destination")).with_hint(
            "write to docker-archive:FILE, oci-archive:FILE, oci:DIR or dir:DIR; -t REFERENCE --push pushes",
        ));
    }
    let name = text.to_ascii_lowercase();
    if [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end)) && !PathBuf::from(text).is_dir() {
        return Err(Failure::usage(format!("-o {text}: a bare name is a directory for the image's files, and this looks like an archive"))
            .with_hint(format!("type=tar,dest={text} (files), docker-archive:{text} or oci-archive:{text} (image), or type=local,dest={text}")));
    }
    Ok(Output::new(text, To::Files { dir: text.into(), delete: false, split: None }))
}

/// `type=…,key=value…`
fn typed(fields: &Fields<'_>, text: &str, references: &[Reference]) -> Result<Output, Failure> {
    let Some(kind) = fields.list.iter().find(|field| field.key == "type") else {
        return Err(fields.incomplete("the type is missing").with_hint(format!("type={}", TYPES.join(", type="))));
    };
    let rest: Vec<Field> = fields.list.iter().filter(|field| field.key != "type").cloned().collect();
    match fields.value(kind)? {
        "local" => {
            let mut keys = Keys::read(fields, &rest, &["dest", "mode", "platform-split"])?;
            let dir = keys.dest.take().ok_or_else(|| fields.incomplete("the directory is missing: dest=DIR"))?;
            let to = To::Files { dir: dir.into(), delete: keys.delete, split: keys.split };
            Ok(keys.output(text, to))
        }
        "tar" => {
            let mut keys = Keys::read(fields, &rest, &["dest"])?;
            let to = To::FilesTar(keys.dest.take().filter(|dest| dest != "-").map(PathBuf::from));
            Ok(keys.output(text, to))
        }
        kind @ ("oci" | "docker") => archive(fields, &rest, text, kind == "oci"),
        kind @ ("image" | "registry") => image(fields, &rest, text, kind == "registry", references),
        "cacheonly" => Ok(Keys::read(fields, &rest, &[])?.output(text, To::Kept)),
        other => {
            let failure = fields.wrong(kind, format!("there is no output of type {other:?}"));
            let near = nearest(other, TYPES).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            Err(failure.with_hint(format!("{near}types are {}", TYPES.join(", "))))
        }
    }
}

fn archive(fields: &Fields<'_>, rest: &[Field], text: &str, is_oci: bool) -> Result<Output, Failure> {
    let known: Vec<&str> = IMAGE_KEYS.iter().copied().chain(["dest", "name", "tar"]).collect();
    let mut keys = Keys::read(fields, rest, &known)?;
    let to = match (keys.dest.take(), is_oci, keys.tar) {
        (None, false, _) => return Err(no_daemon("-o type=docker without dest=")),
        (None, true, false) => return Err(fields.incomplete("the directory is missing: dest=DIR")),
        (None, true, true) => To::Archive(Format::Oci),
        (Some(dest), _, true) if dest == "-" => To::Archive(if is_oci { Format::Oci } else { Format::Docker }),
        (Some(dest), true, true) => To::Place(Transport::OciArchive { file: dest.into(), name: None }),
        (Some(dest), true, false) => To::Place(Transport::Layout { dir: dest.into(), name: None }),
        (Some(dest), false, true) => To::Place(Transport::DockerArchive { file: dest.into(), name: None }),
        (Some(_), false, false) => {
            return Err(fields
                .incomplete("what `docker load` reads is an archive")
                .with_hint("type=oci,tar=false,dest=DIR is a directory"));
        }
    };
    Ok(keys.output(text, to))
}

fn image(
    fields: &Fields<'_>,
    rest: &[Field],
    text: &str,
    push: bool,
    references: &[Reference],
) -> Result<Output, Failure> {
    let known: Vec<&str> = IMAGE_KEYS
        .iter()
        .copied()
        .chain(["name", "push", "push-by-digest", "store", "unpack", "name-canonical"])
        .collect();
    let mut keys = Keys::read(fields, rest, &known)?;
    let references = if keys.names.is_empty() { references.to_vec() } else { keys.names.clone() };
    let to = if push || keys.push || keys.by_digest {
        if references.is_empty() {
            return Err(fields
                .incomplete("there is no name to push the image under")
                .with_hint("name=REFERENCE, or -t REFERENCE"));
        }
        To::Push { references, by_digest: keys.by_digest }
    } else {
        To::Kept
    };
    Ok(keys.output(text, to))
}

/// Keys of every output that is an image; the annotations' come on top.
const IMAGE_KEYS: &[&str] =
    &["compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp"];

/// What the fields say.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "as many as there are keys")]
struct Keys {
    dest: Option<String>,
    names: Vec<Reference>,
    packing: Packing,
    annotations: Vec<Annotation>,
    delete: bool,
    split: Option<bool>,
    tar: bool,
    push: bool,
    by_digest: bool,
}

impl Keys {
    fn read(fields: &Fields<'_>, list: &[Field], known: &[&str]) -> Result<Self, Failure> {
        let mut keys = Self { tar: true, ..Self::default() };
        let mut seen: Vec<&str> = Vec::new();
        for field in list {
            if seen.contains(&field.key.as_str()) {
                return Err(fields.wrong(field, format!("{} is there twice", field.key)));
            }
            seen.push(&field.key);
            let is_image = known.contains(&"compression");
            let annotation = annotations::of_key(&field.key, field.value.as_deref().unwrap_or_default());
            if let Some(annotation) = annotation.filter(|_| is_image) {
                keys.annotations.push(annotation.map_err(|what| fields.wrong(field, what))?);
                continue;
            }
            if !known.contains(&field.key.as_str()) {
                return Err(fields.unknown(field, known));
            }
            keys.set(fields, field)?;
        }
        Ok(keys)
    }

    fn set(&mut self, fields: &Fields<'_>, field: &Field) -> Result<(), Failure> {
        match field.key.as_str() {
            "dest" => self.dest = Some(fields.value(field)?.to_owned()),
            "name" => {
                let read = |name: &str| name.parse().map_err(|error| fields.wrong(field, format!("{name}: {error}")));
                self.names = fields.value(field)?.split(',').map(read).collect::<Result<_, _>>()?;
            }
            "mode" => match fields.value(field)? {
                "copy" => {}
                "delete" => self.delete = true,
                _ => return Err(fields.wrong(field, "mode is copy or delete")),
            },
            "platform-split" => self.split = Some(fields.flag(field)?),
            "tar" => self.tar = fields.flag(field)?,
            "push" => self.push = fields.flag(field)?,
            "push-by-digest" => self.by_digest = fields.flag(field)?,
            "compression" => self.packing.compression = Some(compression(fields, field)?),
            "compression-level" => {
                return Err(fields
                    .wrong(field, "levels cannot be chosen: the same layer is to have the same bytes everywhere")
                    .with_hint("compression=zstd is smaller and faster than gzip"));
            }
            "force-compression" => self.packing.force = fields.flag(field)?,
            "oci-mediatypes" => self.packing.oci = Some(fields.flag(field)?),
            // What a build with a SOURCE_DATE_EPOCH does anyway.
            "rewrite-timestamp" if fields.flag(field)? => {}
            "rewrite-timestamp" => {
                return Err(fields.wrong(field, "with a SOURCE_DATE_EPOCH no file of a new layer is newer than that"));
            }
            _ if fields.flag(field)? => {
                return Err(
                    fields.wrong(field, format!("{}: there is no store of images that it would be about", field.key))
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn output(&mut self, text: &str, to: To) -> Output {
        let (names, annotations) = (std::mem::take(&mut self.names), std::mem::take(&mut self.annotations));
        Output { text: text.to_owned(), to, names, packing: self.packing, annotations }
    }
}

fn compression(fields: &Fields<'_>, field: &Field) -> Result<Compression, Failure> {
    match fields.value(field)? {
        "uncompressed" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "estargz" => Err(fields
            .wrong(field, "estargz is not written")
            .with_hint("zstd and gzip are read by every lazy puller too, but as a whole")),
        _ => Err(fields.wrong(field, "compression is uncompressed, gzip or zstd")),
    }
}

/// What all outputs of one build agree on.
pub fn agreed(outputs: &[Output]) -> Result<Packing, Failure> {
    let images: Vec<&Output> = outputs.iter().filter(|output| output.is_image()).collect();
    let Some(first) = images.first() else { return Ok(Packing::default()) };
    match images.iter().find(|other| other.packing != first.packing || other.annotations != first.annotations) {
        Some(other) => Err(Failure::usage(format!(
            "-o {} and -o {}: all outputs of one build are the same image, with the same compression, media types and annotations",
            first.text, other.text
        ))
        .with_hint("build twice: the second build takes every step from the cache")),
        None => Ok(first.packing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> To {
        parse(text, &["r.example/app:1".parse().unwrap()])
            .unwrap_or_else(|failure| panic!("{text}: {}", failure.message))
            .to
    }

    #[test]
    fn outputs_are_docker_s_and_skopeo_s() {
        let files = |dir: &str| To::Files { dir: dir.into(), delete: false, split: None };
        let place = |text: &str| To::Place(text.parse().unwrap());
        let push = |by_digest| To::Push { references: vec!["r.example/app:1".parse().unwrap()], by_digest };
        for (text, expected) in [
            ("out", files("out")),
            ("./a=b", To::Kept),
            ("-", To::FilesTar(None)),
            ("type=local,dest=out", files("out")),
            (
                "type=local,dest=out,mode=delete,platform-split=false",
                To::Files { dir: "out".into(), delete: true, split: Some(false) },
            ),
            ("type=tar", To::FilesTar(None)),
            ("type=tar,dest=x.tar", To::FilesTar(Some("x.tar".into()))),
            ("type=oci", To::Archive(Format::Oci)),
            ("type=oci,dest=x.tar", place("oci-archive:x.tar")),
            ("type=oci,dest=x,tar=false", place("oci:x")),
            ("type=docker,dest=-", To::Archive(Format::Docker)),
            ("type=docker,dest=x.tar,name=app:1", place("docker-archive:x.tar")),
            ("type=image", To::Kept),
            ("type=image,name=r.example/app:1,push=true", push(false)),
            ("type=registry", push(false)),
            ("type=image,push-by-digest=true", push(true)),
            ("type=cacheonly", To::Kept),
            ("oci:a/b", place("oci:a/b")),
            ("dir:x,compression=zstd", place("dir:x")),
            ("docker-archive:x.tar", place("docker-archive:x.tar")),
            ("docker://r.example/app:1", push(false)),
        ] {
            if text != "./a=b" {
                assert_eq!(to(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_output_says_why() {
        for (text, part) in [
            ("", "empty"),
            ("oci:", "path is missing"),
            ("x.tar", "looks like an archive"),
            ("docker:foo", "no such destination"),
            ("dest=x", "type is missing"),
            ("type=locl,dest=x", "no output of type"),
            ("type=local", "dest=DIR"),
            ("type=local,dest=x,compression=gzip", "no key \"compression\""),
            ("type=docker", "no daemon"),
            ("type=docker,dest=x,tar=false", "docker load"),
            ("type=oci,dest=x,compresion=gzip", "no key \"compresion\""),
            ("type=oci,dest=x,compression=lzma", "uncompressed, gzip or zstd"),
            ("type=oci,dest=x,compression=estargz", "estargz"),
            ("type=oci,dest=x,compression-level=9", "levels"),
            ("type=oci,dest=x,dest=y", "twice"),
            ("type=oci,dest=x,tar=perhaps", "true or false"),
            ("type=oci,dest=x,annotation-x.a=b", "annotations belong to"),
            ("type=image,store=true", "no store of images"),
            ("type=local,dest=x,mode=move", "copy or delete"),
        ] {
            let failure = parse(text, &[]).unwrap_err();
            assert!(failure.code == 2 && failure.message.contains(part), "{text}: {}", failure.message);
        }
        let failure = parse("type=registry", &[]).unwrap_err();
        assert!(failure.message.contains("no name"), "{}", failure.message);
    }

    #[test]
    fn outputs_of_one_build_agree() {
        let outputs = |texts: [&str; 2]| texts.map(|text| parse(text, &[]).unwrap());
        assert!(agreed(&outputs(["oci:a,compression=zstd", "oci:b"])).is_err());
        assert!(agreed(&outputs(["oci:a,compression=zstd", "out"])).is_ok());
        assert!(agreed(&outputs(["oci:a", "oci:b,annotation.a=b"])).is_err());
    }
}
