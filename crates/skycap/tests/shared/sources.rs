//! `sources.txt`: the inputs of a put.
//!
//! ```text
//! directory a/b
//! file a/tags "1.0 2.0\n"
//! link a/b ../c
//! docker-archive LABEL image/image.tar [bare] [NAME…]   # a listing follows, indented; `bare` keeps layers uncompressed
//! oci-archive LABEL image/image.tar [NAME…]             # as skycap writes it; `plain` leaves out what docker load reads
//! flat-archive LABEL image/image.tar [NAME…]            # as a get in the format `oci` writes it
//! layout LABEL image/oci [marked TEXT]                  # `marked` adds a file single-image-digest
//! blob-of LABEL image/oci                               # the manifest of LABEL as a blob of that layout
//! remove a/b
//! remove-blob image/oci DIGEST
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Compression, Image, Memory, archive};
use skycap_testkit::listing::{self, Style};

use crate::names::Names;
use crate::state::words;

/// Makes them below a directory.
pub fn make(text: &str, directory: &Path, names: &mut Names) {
    let mut lines = text.lines().peekable();
    let mut known: BTreeMap<String, Artifact> = BTreeMap::new();
    while let Some(line) = lines.next() {
        let words = words(line);
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let at = |path: &str| {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        match &texts[..] {
            [] => {}
            ["directory", path] => fs::create_dir_all(at(path)).unwrap(),
            ["file", path, content] => fs::write(at(path), names.fill(content)).unwrap(),
            ["link", path, target] => symlink(target, at(path)).unwrap(),
            ["remove", path] => fs::remove_file(at(path)).unwrap(),
            ["remove-blob", layout, digest] => {
                let digest = names.fill(digest);
                fs::remove_file(at(layout).join("blobs/sha256").join(digest.trim_start_matches("sha256:"))).unwrap();
            }
            ["blob-of", label, layout] => {
                let raw = known[*label].raw();
                fs::write(at(layout).join("blobs/sha256").join(raw.descriptor.digest.hex()), &raw.bytes).unwrap();
            }
            [kind @ ("docker-archive" | "oci-archive" | "flat-archive" | "layout"), label, path, more @ ..] => {
                let mut listing = String::new();
                while let Some(line) = lines.next_if(|line| line.starts_with(' ') || line.trim().is_empty()) {
                    listing.extend([line, "\n"]);
                }
                let compression = if more.contains(&"bare") { Compression::None } else { Compression::Gzip };
                let style = Style { docker: *kind == "docker-archive", compression };
                let artifact = listing::artifact(&Memory::default(), &listing, style);
                names.add_artifact(label, &artifact);
                write(kind, &artifact, &at(path), more, names);
                known.insert((*label).to_owned(), artifact);
            }
            _ => panic!("sources.txt: {line}"),
        }
    }
}

fn write(kind: &str, artifact: &Artifact, path: &Path, more: &[&str], names: &mut Names) {
    let tags: Vec<String> =
        more.iter().filter(|word| **word != "bare" && **word != "plain").map(|word| (*word).to_owned()).collect();
    match kind {
        "docker-archive" => drop(archive::write_docker(image(artifact), &tags, File::create(path).unwrap()).unwrap()),
        "flat-archive" => {
            drop(archive::write_docker_flat(image(artifact), &tags, File::create(path).unwrap()).unwrap());
        }
        "oci-archive" => {
            drop(archive::write_oci(artifact, &tags, File::create(path).unwrap()).unwrap());
            if more.contains(&"plain") {
                without_manifest_json(path);
            }
        }
        _ => {
            Layout::create_as(path, artifact).unwrap();
            let index = fs::read(path.join("index.json")).unwrap();
            let name = format!("digest:index-of-{}", path.file_name().unwrap().to_str().unwrap());
            names.add_digest(&name, skycap_image::Digest::sha256(&index));
            if let ["marked", text] = more {
                fs::write(path.join("single-image-digest"), names.fill(text)).unwrap();
            }
        }
    }
}

fn image(artifact: &Artifact) -> &Image {
    match artifact {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an archive of docker save holds one image"),
    }
}

/// The archive again without the member that `docker load` reads.
fn without_manifest_json(path: &Path) {
    use std::io::Read as _;
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut reader = skycap_image::tar::Reader::new(File::open(path).unwrap());
    while let Some(header) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        members.insert(String::from_utf8(header.path.clone()).unwrap(), content);
    }
    let mut writer = skycap_image::tar::Writer::new(File::create(path).unwrap());
    for (name, content) in
        members.iter().filter(|(name, content)| *name != "manifest.json" && !name.ends_with('/') && !content.is_empty())
    {
        writer.append(&skycap_image::tar::Header::file(name.as_str(), content.len() as u64), &content[..]).unwrap();
    }
    writer.finish().unwrap();
}
