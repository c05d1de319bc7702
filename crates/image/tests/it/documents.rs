//! What manifests, indexes and configs may look like. Each test names the rows of the fault catalogue that it proves.

use std::fmt::Write as _;
use std::sync::Arc;

use skycap_image::{
    Artifact, BlobSource, Descriptor, Digest, Image, ImageConfig, ImageSink, ImageSource, Index, Kind, MediaType,
    Memory, Name, Platform, RawManifest, SourceError,
};
use skycap_testkit::listing::image;

const OCI: &str = "application/vnd.oci.image";

/// A manifest with this config and these layers, opened.
fn open_with(config: &[u8], layers: &str) -> Result<Artifact, SourceError> {
    let memory = Memory::default();
    let config = memory.add(MediaType::OciConfig, config);
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI}.config.v1+json","digest":"{}","size":{}}},"layers":[{layers}]}}"#,
        config.digest, config.size
    );
    Artifact::open(RawManifest::new(MediaType::OciManifest, text.into()), Arc::new(memory))
}

fn open(media_type: MediaType, document: impl Into<Vec<u8>>) -> Result<Artifact, SourceError> {
    Artifact::open(RawManifest::new(media_type, document.into()), Arc::new(Memory::default()))
}

/// The error with its causes.
fn refusal(outcome: Result<Artifact, SourceError>) -> String {
    let Err(error) = outcome else { panic!("accepted") };
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    text
}

fn layer(media_type: &str, more: &str) -> String {
    let digest = Digest::sha256(b"layer");
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":5{more}}}"#)
}

fn config(diff_ids: usize) -> String {
    let ids = vec![format!("\"{}\"", Digest::sha256(b"layer")); diff_ids].join(",");
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#)
}

/// R50, M23: 4 MiB must work; beyond the limit nothing is read.
#[test]
fn r50_documents_of_four_mebibytes_work_and_larger_ones_are_refused() {
    let padded = |bytes: usize| {
        let text = config(1);
        let label = "x".repeat(bytes - text.len() - 20);
        text.replacen('{', &format!(r#"{{"author":"{label}","#), 1)
    };
    let four = open_with(padded(4 << 20).as_bytes(), &layer(&format!("{OCI}.layer.v1.tar"), "")).unwrap();
    let Artifact::Image(four) = four else { panic!("an image") };
    assert_eq!(four.layers().len(), 1);
    let text = refusal(open_with(padded(9 << 20).as_bytes(), ""));
    assert!(text.contains("more than 8388608"), "{text}");
    let manifest = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"endless"), u64::MAX);
    let error = skycap_image::BlobSource::manifest(&Memory::default(), &manifest).unwrap_err();
    assert!(error.to_string().contains("more than 8388608"), "{error}");
}

/// R51: a config that is not JSON, that has no rootfs, or that counts other layers.
#[test]
fn r51_a_config_must_fit_its_manifest() {
    let one = layer(&format!("{OCI}.layer.v1.tar+gzip"), "");
    for (config, text) in [
        ("not JSON".to_owned(), "does not parse"),
        (r#"{"os":"linux"}"#.to_owned(), "has 1 layers but its config lists 0 diff IDs"),
        (r#"{"rootfs":null}"#.to_owned(), "has 1 layers but its config lists 0 diff IDs"),
        (config(2), "has 1 layers but its config lists 2 diff IDs"),
        (r#"{"rootfs":{"diff_ids":["sha256:zz"]}}"#.to_owned(), "invalid digest"),
        (r#"{"rootfs":{"diff_ids":[1]}}"#.to_owned(), "does not parse"),
    ] {
        let found = refusal(open_with(config.as_bytes(), &one));
        assert!(found.contains(text), "{config}: {found}");
    }
}

/// R52: JSON that is deep, long, ambiguous or no JSON at all is refused in bounded time and memory, or makes no difference.
#[test]
fn r52_strange_json_is_refused_or_bounded() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let manifest = |inner: &str| format!(r#"{{"schemaVersion":2,{inner}}}"#);
    let descriptor = |size: &str| format!(r#"{{"digest":"{}","size":{size}}}"#, Digest::sha256(b"x"));
    for document in [
        deep.clone().into_bytes(),
        manifest(&format!(r#""config":{deep}"#)).into_bytes(),
        manifest(r#""config":{},"config":{}"#).into_bytes(),
        manifest(r#""layers":[],"layers":[]"#).into_bytes(),
        manifest(&format!(r#""config":{},"layers":NaN"#, descriptor("1"))).into_bytes(),
        [&b"\xef\xbb\xbf"[..], manifest("").as_bytes()].concat(),
        manifest("\"annotations\":{\"a\":\"\u{1}\"}").into_bytes(),
        [&br#"{"schemaVersion":2,"annotations":{"a":""#[..], b"\xff\xfe", br#""}}"#].concat(),
        manifest(&format!(r#""config":{}"#, descriptor("-1"))).into_bytes(),
        manifest(&format!(r#""config":{}"#, descriptor("1.5"))).into_bytes(),
        manifest(&format!(r#""config":{}"#, descriptor("99999999999999999999999"))).into_bytes(),
        b"".to_vec(),
        b"null".to_vec(),
        b"<html>".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&document[..document.len().min(80)]).into_owned();
        assert!(open(MediaType::OciManifest, document).is_err(), "{shown}");
    }
    // As deep, but where nobody looks.
    let ignored = open(MediaType::OciIndex, manifest(&format!(r#""manifests":[],"extra":{deep}"#)));
    assert!(ignored.is_ok() || refusal(ignored).contains("recursion"));
    // 10^6 layers do not fit into a document; as many as fit are counted against the config.
    let one = layer(&format!("{OCI}.layer.v1.tar"), "");
    let many = vec![one; 50_000].join(",");
    assert!(refusal(open_with(config(1).as_bytes(), &many)).contains("has 50000 layers"));
    let manifest = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"x"), 130_000_000);
    assert!(skycap_image::BlobSource::manifest(&Memory::default(), &manifest).is_err());
}

/// R49: a size of 2^63 allocates nothing.
#[test]
fn r49_huge_sizes_allocate_nothing() {
    for size in ["9223372036854775808", "18446744073709551615"] {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI}.config.v1+json","digest":"{}","size":{size}}}}}"#,
            Digest::sha256(b"x")
        );
        let found = refusal(open(MediaType::OciManifest, text));
        assert!(found.contains("claims"), "{found}");
    }
}

/// R54, R55, M28: what a document says that it is decides, together with what led to it.
#[test]
fn r54_r55_a_document_is_what_it_says_or_nothing() {
    for (media_type, document, text) in [
        (
            MediaType::OciIndex,
            r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(),
            "both a manifest and an index",
        ),
        (MediaType::OciManifest, r#"{"schemaVersion":2,"Manifests":[],"layers":[]}"#.to_owned(), "spells a field"),
        (MediaType::OciIndex, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}.manifest.v1+json"}}"#), "announced as"),
        (MediaType::OciManifest, format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}.index.v1+json"}}"#), "announced as"),
    ] {
        let found = refusal(open(media_type, document));
        assert!(found.contains(text), "{found}");
    }
    let stated = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}.index.v1+json","manifests":[]}}"#);
    for media_type in ["", "application/json"] {
        assert!(matches!(open(MediaType::from(media_type), stated.clone()), Ok(Artifact::Index(_))));
    }
}

/// An image below `depth` indexes.
fn nested(depth: usize) -> Artifact {
    let memory = Memory::default();
    let image = Artifact::Image(image("layer\nfile a 0644 0:0 \"a\"\n"));
    let mut descriptor = memory.put(&image, &[]).unwrap().with_platform(Platform::new("linux", "amd64"));
    let mut artifact = image;
    for _ in 0..depth {
        let index = Index::assemble(vec![descriptor], false, Arc::new(memory.clone())).unwrap();
        descriptor = memory.add(MediaType::OciIndex, index.raw().bytes.clone());
        artifact = Artifact::Index(index);
    }
    artifact
}

/// R56: five indexes deep works, everywhere; six and a thousand are errors.
#[test]
fn r56_indexes_are_nested_five_deep_at_most() {
    let platform = Platform::new("linux", "amd64");
    for depth in [1, 3, 5] {
        let artifact = nested(depth);
        assert!(artifact.for_platform(&platform).is_ok(), "{depth}");
        let copy = Memory::default();
        let put = copy.put(&artifact, &[]).unwrap();
        assert!(copy.get(&Name::Digest(put.digest)).unwrap().for_platform(&platform).is_ok(), "{depth}");
    }
    for depth in [6, 1000] {
        let artifact = nested(depth);
        let Err(error) = artifact.for_platform(&platform) else { panic!("{depth}") };
        assert!(error.to_string().contains("nested more than 5 deep"), "{error}");
        assert!(Memory::default().put(&artifact, &[]).is_err(), "{depth}");
    }
}

/// R57: which child serves a platform.
#[test]
fn r57_the_child_for_a_platform_is_chosen_as_containerd_does() {
    let child = |text: &str, number: usize| {
        let descriptor = Descriptor::of(MediaType::OciManifest, number.to_string().as_bytes());
        if text.is_empty() { descriptor } else { descriptor.with_platform(text.parse().unwrap()) }
    };
    for (offered, wanted, chosen) in [
        (&["linux/arm/v6", "linux/arm/v7"][..], "linux/arm", Some(1)),
        (&["linux/arm/v6"], "linux/arm", Some(0)),
        (&["linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", Some(0)),
        (&["linux/arm64/v8"], "linux/arm64", Some(0)),
        (&["linux/arm64"], "linux/arm64/v8", Some(0)),
        (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some(1)),
        (&["windows/amd64", "linux/amd64"], "linux/amd64", Some(1)),
        (&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
        (&["linux/arm64", ""], "linux/amd64", Some(1)),
        (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
        (&["linux/s390x", "unknown/unknown"], "linux/amd64", None),
    ] {
        let children: Vec<_> = offered.iter().enumerate().map(|(number, text)| child(text, number)).collect();
        let index = Index::assemble(children.clone(), false, Arc::new(Memory::default())).unwrap();
        let found = index.find(&wanted.parse().unwrap());
        assert_eq!(found, chosen.map(|number: usize| &children[number]), "{wanted} of {offered:?}");
        if chosen.is_none() {
            let Err(error) = Artifact::Index(index).for_platform(&wanted.parse().unwrap()) else { panic!("{wanted}") };
            assert_eq!(error.kind, Kind::NotFound);
            assert!(error.to_string().ends_with("it offers linux/s390x"), "{error}");
        }
    }
}

/// R57: children that do not say what they are for, also indexes, are looked at, and not without end.
#[test]
fn r57_a_child_that_does_not_say_what_it_is_for_is_looked_at() {
    let memory = Arc::new(Memory::default());
    let single = |architecture: &str| {
        let config = ImageConfig { architecture: architecture.into(), os: "linux".into(), ..ImageConfig::default() };
        let image = Image::assemble(&config, vec![], false, Arc::clone(&memory) as Arc<dyn BlobSource>).unwrap();
        memory.put(&Artifact::Image(image), &[]).unwrap()
    };
    let index = |children: &[Descriptor]| {
        Index::assemble(children.to_vec(), false, Arc::clone(&memory) as Arc<dyn BlobSource>).unwrap()
    };
    let nested = |children: &[Descriptor]| memory.put(&Artifact::Index(index(children)), &[]).unwrap();
    let (arm, amd, s390x) = (single("arm64"), single("amd64"), single("s390x"));
    let absent = Descriptor::of(MediaType::OciManifest, b"absent");
    let below = nested(&[nested(std::slice::from_ref(&amd)), nested(std::slice::from_ref(&s390x))]);
    let named = nested(&[amd.clone().with_platform("linux/amd64".parse().unwrap())]);
    let many: Vec<Descriptor> = (0..100).map(|_| arm.clone()).chain([s390x.clone()]).collect();
    for (children, wanted, chosen) in [
        (vec![arm.clone(), amd.clone()], "linux/amd64", Ok(&amd)),
        (vec![arm.clone(), amd.clone()], "linux/arm64", Ok(&arm)),
        (vec![absent, below.clone(), arm.clone()], "linux/s390x", Ok(&s390x)),
        (vec![arm.clone(), below.clone()], "linux/amd64", Ok(&amd)),
        // Nothing fits better than the first one.
        (vec![arm.clone()], "linux/amd64", Ok(&arm)),
        (vec![arm.clone(), below], "linux/riscv64", Err("it offers linux/arm64, linux/amd64, linux/s390x")),
        (vec![named, arm.clone()], "linux/riscv64", Err("it offers linux/amd64, linux/arm64")),
        (many, "linux/s390x", Err("it offers linux/arm64")),
    ] {
        let found = Artifact::Index(index(&children)).for_platform(&wanted.parse().unwrap());
        match (found.map(|image| image.descriptor().digest), chosen) {
            (Ok(found), Ok(chosen)) => assert_eq!(found, chosen.digest, "{wanted}"),
            (Err(error), Err(text)) => assert!(error.to_string().ends_with(text), "{error}"),
            (found, chosen) => panic!("{wanted}: {found:?} for {chosen:?}"),
        }
    }
}

/// R58: artifacts that are no images open and can be copied; they have no layers to unpack.
#[test]
fn r58_artifacts_open_and_are_copied() {
    let memory = Memory::default();
    memory.add(MediaType::OciEmpty, &b"{}"[..]);
    memory.add(MediaType::from("text/plain"), &b"hello"[..]);
    let subject = Digest::sha256(b"subject");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}.manifest.v1+json","artifactType":"application/x","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2,"data":"e30="}},"layers":[{{"mediaType":"text/plain","digest":"{}","size":5,"data":"aGVsbG8="}}],"subject":{{"mediaType":"{OCI}.manifest.v1+json","digest":"{subject}","size":7}}}}"#,
        Digest::sha256(b"{}"),
        Digest::sha256(b"hello")
    );
    let raw = RawManifest::new(MediaType::OciManifest, text.clone().into());
    let artifact = Artifact::open(raw, Arc::new(memory)).unwrap();
    let Artifact::Image(image) = &artifact else { panic!("a manifest") };
    assert!(image.layers().is_empty());
    assert_eq!(image.manifest().subject.as_ref().unwrap().digest, subject);
    let copy = Memory::default();
    let put = copy.put(&artifact, &[]).unwrap();
    assert_eq!(copy.get(&Name::Digest(put.digest)).unwrap().raw().bytes, text.as_bytes());

    // What a descriptor brings along is what its digest says, or the document is refused; nobody has to be asked for it.
    assert!(open(MediaType::OciManifest, text.clone()).is_ok());
    for (good, bad) in [("e30=", "e31="), ("aGVsbG8=", "aGVsbG9="), ("aGVsbG8=", "aGVsbA=="), ("e30=", "!")] {
        let found = refusal(open(MediaType::OciManifest, text.replace(good, bad)));
        assert!(found.contains("brings along is wrong"), "{bad}: {found}");
    }
}

/// R59: no layers, the same layer twice, an empty layer.
#[test]
fn r59_images_without_layers_and_with_the_same_one_twice() {
    for listing in ["env A=b\n", "layer\nfile a 0644 0:0 \"a\"\nlayer\nfile a 0644 0:0 \"a\"\n", "layer\n"] {
        let image = image(listing);
        let copy = Memory::default();
        let put = copy.put(&Artifact::Image(image.clone()), &[]).unwrap();
        let Artifact::Image(read) = copy.get(&Name::Digest(put.digest)).unwrap() else { panic!("an image") };
        assert_eq!(read.layers().len(), image.layers().len(), "{listing}");
        for layer in read.layers() {
            layer.check_is_tar().unwrap();
            layer.open().unwrap().finish().unwrap();
        }
    }
}

/// R60: a foreign layer stays where its addresses say, and nobody asks for it; without addresses it is a layer like others.
#[test]
fn r60_foreign_layers_are_left_where_they_are() {
    let foreign = format!("{OCI}.layer.nondistributable.v1.tar+gzip");
    let away = open_with(config(1).as_bytes(), &layer(&foreign, r#","urls":["https://example.invalid/x"]"#)).unwrap();
    let copy = Memory::default();
    let put = copy.put(&away, &[]).unwrap();
    assert!(copy.get(&Name::Digest(put.digest)).is_ok());
    let here = open_with(config(1).as_bytes(), &layer(&foreign, "")).unwrap();
    let Err(error) = Memory::default().put(&here, &[]) else { panic!("the layer is missing") };
    assert_eq!(error.kind, Kind::NotFound);
}

/// R61: schema 1 is named, by its type and by its content.
#[test]
fn r61_schema_1_is_named() {
    let old = r#"{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}"#;
    for media_type in
        [MediaType::DockerManifestV1, MediaType::DockerManifestV1Signed, MediaType::default(), MediaType::OciManifest]
    {
        let found = refusal(open(media_type, old));
        assert!(found.contains("Docker manifest of schema 1"), "{found}");
    }
    let found = refusal(open(MediaType::OciManifest, r#"{"schemaVersion":3,"layers":[]}"#));
    assert!(found.contains("unknown schema version 3"), "{found}");
}

/// R62: a layer of an unknown type is named by whoever wants to unpack it, and copied by whoever does not.
#[test]
fn r62_layers_of_unknown_types_are_named() {
    for (media_type, is_known) in [
        (format!("{OCI}.layer.v1.tar"), true),
        (format!("{OCI}.layer.v1.tar+gzip"), true),
        (format!("{OCI}.layer.v1.tar+zstd"), true),
        (format!("{OCI}.layer.nondistributable.v1.tar+gzip"), true),
        (format!("{OCI}.layer.nondistributable.v1.tar+zstd"), true),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(), true),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned(), true),
        (String::new(), true),
        (format!("{OCI}.layer.v1.tar+gzip+encrypted"), false),
        (format!("{OCI}.layer.v1.tar+br"), false),
        ("application/vnd.wasm.content.layer.v1+wasm".to_owned(), false),
        ("application/vnd.in-toto+json".to_owned(), false),
    ] {
        let Artifact::Image(image) = open_with(config(1).as_bytes(), &layer(&media_type, "")).unwrap() else {
            panic!()
        };
        let checked = image.layers()[0].check_is_tar();
        assert_eq!(checked.is_ok(), is_known, "{media_type}");
        if let Err(error) = checked {
            assert!(error.to_string().contains(&media_type), "{error}");
        }
    }
}

/// R63: the bytes of a layer decide how it is unpacked, whatever its media type promises.
#[test]
fn r63_the_bytes_decide_how_a_layer_is_packed() {
    use skycap_image::Compression;
    use skycap_image::compress::{LayerEncoder, decoder};
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut encoder = LayerEncoder::new(Vec::new(), compression, false, 1).unwrap();
        std::io::Write::write_all(&mut encoder, &[b'x'; 5000]).unwrap();
        let (packed, bytes) = encoder.finish().unwrap();
        let memory = Memory::default();
        for stated in [MediaType::OciLayer, MediaType::OciLayerGzip, MediaType::OciLayerZstd] {
            let descriptor = memory.add(stated, bytes.clone());
            let mut out = Vec::new();
            let blob = skycap_image::BlobSource::open(&memory, &descriptor).unwrap();
            let (found, mut reader) = decoder(blob).unwrap();
            std::io::Read::read_to_end(&mut reader, &mut out).unwrap();
            assert_eq!((found, Digest::sha256(&out)), (compression, packed.diff_id));
        }
    }
}

/// R88, M29: no digest that is not exactly one reaches a path or a URL.
#[test]
fn r88_only_well_formed_digests_are_digests() {
    let hex = "ab".repeat(32);
    for text in [
        "sha256:..".to_owned(),
        "sha256:../../x".to_owned(),
        format!("sha256:{}", "AB".repeat(32)),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{hex}\n"),
        format!(" sha256:{hex}"),
        format!("sha1:{}", "ab".repeat(20)),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256+b64:{hex}"),
        hex.clone(),
        "sha256:".to_owned(),
        String::new(),
    ] {
        assert!(text.parse::<Digest>().is_err(), "{text:?}");
        let layer = format!(r#"{{"mediaType":"{OCI}.layer.v1.tar","digest":{text:?},"size":5}}"#);
        assert!(open_with(config(1).as_bytes(), &layer).is_err(), "{text:?}");
    }
    assert!(format!("sha512:{hex}{hex}").parse::<Digest>().is_ok());
}
