//! What images say of themselves: lists of packages, and how they came to be.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use skycap_build::attest::{self, Attest, Material, Mode, Provenance, Sbom, Version};
use skycap_build::remote::{GitAsk, GitCheckout, GitCommit, GitTree, HttpAnswer, HttpAsk, Remote, Validators};
use skycap_build::{Built, Request};
use skycap_image::layout::Layout;
use skycap_image::{Artifact, ImageSink as _, Index, Name, Platform, Reference, SecretBytes, SourceError};

use crate::world::World;

pub const TESTS: &[crate::Test] = &[
    ("an_image_without_wishes_stays_an_image", an_image_without_wishes_stays_an_image),
    ("every_package_database_is_listed", every_package_database_is_listed),
    ("a_package_is_of_the_layer_that_brought_it", a_package_is_of_the_layer_that_brought_it),
    ("stages_and_the_context_are_listed_where_asked", stages_and_the_context_are_listed_where_asked),
    ("a_damaged_database_is_named", a_damaged_database_is_named),
    ("provenance_tells_how_and_from_what", provenance_tells_how_and_from_what),
    ("what_servers_gave_is_among_the_materials", what_servers_gave_is_among_the_materials),
    ("the_least_provenance_tells_no_values", the_least_provenance_tells_no_values),
    ("no_secret_is_ever_told", no_secret_is_ever_told),
    ("the_same_build_is_attested_in_the_same_bytes", the_same_build_is_attested_in_the_same_bytes),
    ("platforms_have_attestations_of_their_own", platforms_have_attestations_of_their_own),
    ("docker_media_types_and_attestations_exclude_each_other", docker_media_types_and_attestations_exclude_each_other),
    ("this_machines_packages_are_all_listed", this_machines_packages_are_all_listed),
    ("spdx_tools_find_nothing_wrong", spdx_tools_find_nothing_wrong),
    ("skopeo_carries_attestations_along", skopeo_carries_attestations_along),
];

const DEBIAN: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u4\nArchitecture: amd64\n\
    Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>\nSource: glibc\nHomepage: https://www.gnu.org/software/libc/libc.html\n\
    Description: GNU C Library\n";
const ALPINE: &str = "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nU:https://musl.libc.org/\nT:the musl c library\no:musl\nm:Timo <t@example.org>\n";

fn wanted() -> Attest {
    Attest { sbom: Some(Sbom::default()), provenance: Some(Provenance::default()) }
}

fn attesting(world: &World, dockerfile: &str, attest: Attest) -> Request {
    let mut request = world.request(dockerfile);
    request.attest = attest;
    request.platforms = vec![Platform::new("linux", "amd64")];
    request
}

/// The predicates of what is said about an image, each with its type.
fn predicates(world: &World, request: &Request, built: &Built) -> Vec<(String, Value)> {
    let attestations = attest::attest(request, &world.store(), built, &[]).unwrap();
    let read = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    attestations
        .into_iter()
        .map(|attestation| {
            let statement = read(&attestation.statement);
            assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
            assert_eq!(statement["predicateType"], attestation.predicate_type.as_str());
            assert_eq!(statement["subject"][0]["name"], "_");
            assert_eq!(statement["subject"][0]["digest"]["sha256"], built.image.descriptor().digest.hex());
            (attestation.predicate_type, statement["predicate"].clone())
        })
        .collect()
}

fn index(world: &World, request: &Request, names: &[Reference]) -> Index {
    let built = world.build(request).unwrap_or_else(|error| panic!("{error}"));
    let built: Vec<&Built> = built.iter().collect();
    match attest::artifact(request, &world.store(), &built, names).unwrap() {
        Artifact::Index(index) => index,
        Artifact::Image(_) => panic!("an index"),
    }
}

/// The packages of a document with their package URLs and comments, without what describes the image.
fn packages(document: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = document["packages"].as_array().unwrap().iter();
    let list = list.filter(|package| package["SPDXID"].as_str().unwrap().starts_with("SPDXRef-Package-"));
    list.map(|p| (text(&p["name"]), text(&p["externalRefs"][0]["referenceLocator"]), text(&p["comment"]))).collect()
}

fn an_image_without_wishes_stays_an_image() {
    let world = World::new();
    let request = attesting(&world, "FROM scratch\nLABEL a=b\n", Attest::default());
    let built = world.built_as(&request);
    let artifact = attest::artifact(&request, &world.store(), &[&built], &[]).unwrap();
    assert_eq!(artifact.descriptor(), built.image.descriptor());
}

fn every_package_database_is_listed() {
    let mut world = World::new();
    let rpm = gunzipped("rpmdb.sqlite");
    world.image("base", "layer\n file usr/lib/os-release \"ID=debian\\nVERSION_ID=12\\n\"\n symlink etc/os-release ../usr/lib/os-release\n");
    world.file("status", DEBIAN);
    world.file("distroless", "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n");
    world.file("apk", ALPINE);
    std::fs::write(world.context().join("rpm"), rpm).unwrap();
    let dockerfile = "FROM base\nCOPY status /var/lib/dpkg/status\nCOPY distroless /var/lib/dpkg/status.d/tzdata\n\
        COPY status /var/lib/dpkg/status.d/tzdata.md5sums\nCOPY apk /lib/apk/db/installed\nCOPY rpm /usr/lib/sysimage/rpm/rpmdb.sqlite\nCOPY copyright /usr/share/doc/libc6/copyright\n";
    world.file("copyright", "Format: x\nFiles: *\nLicense: LGPL-2.1+\n\nFiles: b\nLicense: public-domain\n");
    let request = attesting(&world, dockerfile, Attest { provenance: None, ..wanted() });
    let built = world.built_as(&request);
    let [(kind, document)] = &predicates(&world, &request, &built)[..] else { panic!("one statement") };
    assert_eq!(kind, "https://spdx.dev/Document");
    let urls: Vec<String> = packages(document).into_iter().map(|(_, url, _)| url).collect();
    assert_eq!(
        urls,
        [
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc",
            "pkg:deb/debian/tzdata@2024a-0%2Bdeb12u1?arch=all&distro=debian-12",
            "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12&upstream=musl",
            "pkg:rpm/debian/other@1.2-3?arch=noarch&distro=debian-12&upstream=other-1.2-3.src.rpm",
            "pkg:rpm/debian/tiny@1.2-3?arch=noarch&distro=debian-12&epoch=4&upstream=tiny-1.2-3.src.rpm",
        ]
    );
    let of = |name: &str| document["packages"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    let (libc, musl, tiny) = (of("libc6"), of("musl"), of("tiny"));
    assert_eq!(libc["supplier"], "Person: GNU Libc Maintainers (debian-glibc@lists.debian.org)");
    assert_eq!(libc["sourceInfo"], "acquired package info from DPKG DB: /var/lib/dpkg/status");
    assert_eq!(
        (&libc["licenseDeclared"], &musl["licenseDeclared"]),
        (&"LGPL-2.1-or-later AND LicenseRef-public-domain".into(), &"MIT".into())
    );
    assert_eq!(
        (&tiny["supplier"], &tiny["licenseDeclared"]),
        (&"Organization: Example Vendor".into(), &"GPL-2.0-or-later AND MIT".into())
    );
    assert_eq!(of("debian")["primaryPackagePurpose"], "OPERATING_SYSTEM");
    assert_eq!(of("tzdata")["licenseDeclared"], "NOASSERTION");
    let extracted = &document["hasExtractedLicensingInfos"];
    assert_eq!(extracted[0]["extractedText"], "public-domain");
    check_document(document);
}

/// What SPDX 2.3 requires of every document.
fn check_document(document: &Value) {
    assert_eq!((&document["spdxVersion"], &document["dataLicense"]), (&"SPDX-2.3".into(), &"CC0-1.0".into()));
    assert_eq!(document["SPDXID"], "SPDXRef-DOCUMENT");
    assert!(document["documentNamespace"].as_str().unwrap().starts_with("https://"));
    let elements = document["packages"].as_array().unwrap();
    let ids: std::collections::BTreeSet<&str> = elements.iter().map(|e| e["SPDXID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), elements.len(), "ids are unique");
    for element in elements {
        for field in ["name", "downloadLocation", "licenseConcluded", "licenseDeclared", "copyrightText"] {
            assert!(element[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {element}");
        }
        let id = element["SPDXID"].as_str().unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{id}");
    }
    let relationships = document["relationships"].as_array().unwrap();
    assert_eq!(relationships[0]["relationshipType"], "DESCRIBES");
    assert_eq!(relationships.len(), elements.len(), "each element is described or contained");
}

fn a_package_is_of_the_layer_that_brought_it() {
    let mut world = World::new();
    let second = DEBIAN.replace("libc6", "second");
    let (one, two) = (DEBIAN.escape_default().to_string(), format!("{DEBIAN}\n{second}").escape_default().to_string());
    world.image(
        "base",
        &format!(
            "layer\n file var/lib/dpkg/status \"{one}\"\nlayer\n file var/lib/dpkg/status \"{two}\"\nlayer\n file x\n"
        ),
    );
    world.file("status", &format!("{DEBIAN}\n{second}\n{}", DEBIAN.replace("libc6", "third")));
    let request = attesting(&world, "FROM base\nCOPY status /var/lib/dpkg/status\n", wanted());
    let built = world.built_as(&request);
    let document = &predicates(&world, &request, &built)[0].1;
    let layers = &built.image.manifest().layers;
    let expected = [("libc6", 0), ("second", 1), ("third", 3)];
    let expected = expected.map(|(name, layer)| (name.to_owned(), format!("layerID: {}", layers[layer].digest)));
    let found: Vec<_> = packages(document).into_iter().map(|(name, _, comment)| (name, comment)).collect();
    assert_eq!(found, expected);
}

fn stages_and_the_context_are_listed_where_asked() {
    let world = World::new();
    world.file("status", DEBIAN);
    world.file("var/lib/dpkg/status", &DEBIAN.replace("libc6", "in-context"));
    let head = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=false\nFROM scratch AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY status /var/lib/dpkg/status\n\
        FROM scratch AS unused\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n\
        FROM scratch AS quiet\nCOPY status /q\n\
        FROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT\nCOPY --from=tools /var/lib/dpkg/status /a\nCOPY --from=quiet /q /q\n";
    for (argument, expected) in
        [(None, &["sbom", "sbom-tools"][..]), (Some("1"), &["sbom", "sbom-tools", "sbom-context"])]
    {
        let mut request = attesting(&world, head, Attest { provenance: None, ..wanted() });
        request.build_args.extend(argument.map(|value| ("BUILDKIT_SBOM_SCAN_CONTEXT".to_owned(), value.to_owned())));
        // The second time, the stage's layers are known, but nobody would ask for them.
        let built = world.built_as(&request);
        let documents: Vec<Value> =
            predicates(&world, &request, &built).into_iter().map(|(_, document)| document).collect();
        let names: Vec<_> = documents.iter().map(|document| document["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
        let found: Vec<Vec<String>> =
            documents.iter().map(|document| packages(document).into_iter().map(|(name, ..)| name).collect()).collect();
        assert_eq!(found[..2], [vec![], vec!["libc6".to_owned()]]);
        assert!(found.get(2).is_none_or(|names| *names == ["in-context"]));
        documents.iter().for_each(check_document);
    }
}

fn a_damaged_database_is_named() {
    let world = World::new();
    for (path, content, text) in [
        (
            "var/lib/rpm/rpmdb.sqlite",
            "SQLite format 3\0",
            "/var/lib/rpm/rpmdb.sqlite cannot be read: it ends too early",
        ),
        ("var/lib/rpm/Packages.db", "other", "/var/lib/rpm/Packages.db cannot be read: it is no database of rpm"),
        ("usr/share/rpm/Packages", "other", "/usr/share/rpm/Packages cannot be read: it is no hash of Berkeley DB"),
    ] {
        world.file("database", content);
        let request = attesting(&world, &format!("FROM scratch\nCOPY database /{path}\n"), wanted());
        let built = world.built_as(&request);
        let error = attest::attest(&request, &world.store(), &built, &[]).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

fn provenance_tells_how_and_from_what() {
    let mut world = World::new();
    world.image("base", "layer\n file a \"1\"\n");
    world.file("x", "x");
    let dockerfile =
        "FROM base:1 AS one\nARG V\nLABEL v=$V\nCOPY x /x\nFROM base:1\nCOPY --from=one /x /y\nWORKDIR /w\n";
    for version in [Version::V02, Version::V1] {
        let provenance =
            Provenance { version, builder_id: "https://ci.example/1".into(), reproducible: true, mode: Mode::Max };
        let mut request = attesting(&world, dockerfile, Attest { sbom: None, provenance: Some(provenance) });
        request.build_args.insert("V".into(), "7".into());
        request.labels.insert("l".into(), "m".into());
        request.source_date_epoch = Some(1_000_000_000);
        let built = world.built_as(&request);
        let digest = world.images.known["library/base"].descriptor().digest;
        assert_eq!(built.materials.len(), 1);
        let [(kind, predicate)] = &predicates(&world, &request, &built)[..] else { panic!("one statement") };
        assert_eq!(kind, version.predicate_type());
        let at = |v02: &str, v1: &str| {
            predicate.pointer(if version == Version::V02 { v02 } else { v1 }).cloned().unwrap_or_default()
        };
        let material = serde_json::json!([{"uri": "pkg:docker/base@1?platform=linux%2Famd64", "digest": {"sha256": digest.hex()}}]);
        assert_eq!(at("/materials", "/buildDefinition/resolvedDependencies"), material);
        assert_eq!(at("/builder/id", "/runDetails/builder/id"), "https://ci.example/1");
        let parameters = at("/invocation/parameters", "/buildDefinition/externalParameters/request");
        let expected = serde_json::json!({"frontend": "dockerfile.v0", "args": {"build-arg:V": "7", "label:l": "m"},
            "locals": [{"name": "context"}, {"name": "dockerfile"}]});
        assert_eq!(parameters, expected);
        assert_eq!(
            at("/invocation/configSource/entryPoint", "/buildDefinition/externalParameters/configSource/path"),
            "Dockerfile"
        );
        let time = "2001-09-09T01:46:40Z";
        assert_eq!(at("/metadata/buildStartedOn", "/runDetails/metadata/startedOn"), time);
        assert_eq!(at("/metadata/buildFinishedOn", "/runDetails/metadata/finishedOn"), time);
        assert_eq!(at("/metadata/completeness/parameters", "/runDetails/metadata/buildkit_completeness/request"), true);
        assert_eq!(at("/metadata/reproducible", "/runDetails/metadata/buildkit_reproducible"), true);
        let steps = at("/buildConfig/llbDefinition", "/buildDefinition/internalParameters/buildConfig/llbDefinition");
        let kinds: Vec<String> = steps
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["op"]["Op"].as_object().unwrap().keys().next().unwrap().clone())
            .collect();
        assert_eq!(kinds.iter().filter(|kind| *kind == "file").count(), 3, "{kinds:?}");
        assert!(steps[0]["op"]["Op"]["source"]["identifier"].as_str().unwrap().starts_with("pkg:docker/base@1"));
        let metadata = predicate.pointer("/runDetails/metadata/buildkit_metadata");
        let metadata =
            metadata.or_else(|| predicate["metadata"].get("https://mobyproject.org/buildkit@v1#metadata")).unwrap();
        assert_eq!(metadata["source"]["infos"][0]["filename"], "Dockerfile");
        assert!(metadata["source"]["infos"][0]["data"].as_str().unwrap().starts_with("RlJPTSBiYXNl"));
        assert!(metadata["layers"].as_object().is_some_and(|layers| !layers.is_empty()));
    }
}

/// A server that holds one file and one repository.
struct Server;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Remote for Server {
    fn http(&self, _: &HttpAsk<'_>, into: &mut File) -> Result<HttpAnswer, SourceError> {
        into.write_all(b"fetched\n")?;
        Ok(HttpAnswer::Fetched(Validators::default()))
    }

    fn git_commit(&self, _: &GitAsk<'_>) -> Result<GitCommit, SourceError> {
        Ok(GitCommit { commit: COMMIT.to_owned(), tag: None, reference: Some("refs/heads/main".to_owned()) })
    }

    fn git_checkout(&self, _: &GitAsk<'_>, _: &GitCheckout<'_>, into: &Path) -> Result<GitTree, SourceError> {
        std::fs::write(into.join("Dockerfile"), "FROM scratch\n")?;
        Ok(GitTree { time: 1 })
    }
}

/// S06: what was fetched is known by its digest, and by its address without credentials.
fn what_servers_gave_is_among_the_materials() {
    let world = World::new();
    let dockerfile = "FROM scratch\nADD https://me:hunter2@host/file?token=hunter2 /file\nADD https://me:hunter2@host/x.git#main /git\n";
    let mut request = attesting(&world, dockerfile, Attest { sbom: None, ..wanted() });
    request.context_origin = Some(Material::git("https://hunter2@host/main.git#v1", COMMIT));
    let (store, progress) = (world.store(), skycap_image::Silent);
    let around = skycap_build::World {
        resolver: &world.images,
        remote: &Server,
        store: &store,
        sandbox: crate::world::access(),
        progress: &progress,
    };
    let built = skycap_build::build(&request, &around).unwrap_or_else(|error| panic!("{error}")).remove(0);
    let (_, predicate) = predicates(&world, &request, &built).remove(0);
    let definition = &predicate["buildDefinition"];
    let file = skycap_image::Digest::sha256(b"fetched\n").hex();
    let expected = serde_json::json!([
        {"uri": "https://host/file", "digest": {"sha256": file}},
        {"uri": "https://host/main.git#v1", "digest": {"sha1": COMMIT}},
        {"uri": "https://host/x.git#main", "digest": {"sha1": COMMIT}},
    ]);
    assert_eq!(definition["resolvedDependencies"], expected);
    let source = &definition["externalParameters"]["configSource"];
    assert_eq!((&source["uri"], &source["path"]), (&"https://host/main.git#v1".into(), &"Dockerfile".into()));
    let metadata = &predicate["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["resolvedDependencies"], true);
    assert_eq!(metadata["buildkit_hermetic"], true);
    assert!(!predicate.to_string().contains("hunter2"));
}

fn the_least_provenance_tells_no_values() {
    let world = World::new();
    let mut request = attesting(&world, "FROM scratch AS a\nARG V\nLABEL v=$V\n", Attest::default());
    request.attest.provenance = Some(Provenance { mode: Mode::Min, ..Provenance::default() });
    request.build_args.insert("V".into(), "visible".into());
    request.labels.insert("l".into(), "visible".into());
    request.targets = vec![Some("a".into())];
    let built = world.built_as(&request);
    let (_, predicate) = predicates(&world, &request, &built).remove(0);
    let request = &predicate["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"], serde_json::json!({"target": "a"}));
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_metadata"], serde_json::json!({}));
    assert!(!predicate.to_string().contains("visible") && !predicate.to_string().contains("LABEL"));
}

/// S01, S06, M34: by every door.
fn no_secret_is_ever_told() {
    let mut world = World::new();
    world.image("base", "layer\n file a \"1\"\n");
    let dockerfile = "# hunter2-file\nFROM base\nARG A=hunter2-file\nARG URL=https://me:hunter2-url@host/x\nLABEL a=$A u=$URL\nCOPY a$A /\n";
    world.file("ahunter2-file", "x");
    for version in [Version::V02, Version::V1] {
        let provenance = Provenance { version, ..Provenance::default() };
        let mut request = attesting(&world, dockerfile, Attest { provenance: Some(provenance), ..wanted() });
        request.secrets.insert("token".into(), SecretBytes::new("hunter2-file\n"));
        request.build_args.insert("A".into(), "hunter2-file".into());
        request.build_args.insert("http_proxy".into(), "http://me:hunter2-proxy@proxy:1".into());
        request.labels.insert("from".into(), "https://hunter2-label@host/".into());
        let built = world.built_as(&request);
        for (kind, predicate) in predicates(&world, &request, &built) {
            let mut text = predicate.to_string();
            let data = predicate.pointer("/runDetails/metadata/buildkit_metadata/source/infos/0/data");
            let data = data.or_else(|| {
                predicate["metadata"]
                    .get("https://mobyproject.org/buildkit@v1#metadata")?
                    .pointer("/source/infos/0/data")
            });
            text.push_str(&data.and_then(Value::as_str).map(decoded).unwrap_or_default());
            assert!(!text.contains("hunter2"), "{kind}: {text}");
        }
    }
}

fn decoded(base64: &str) -> String {
    let output = Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d", base64]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn the_same_build_is_attested_in_the_same_bytes() {
    let digest = |clean: bool| {
        let world = World::new();
        world.file("status", DEBIAN);
        let dockerfile = "FROM scratch AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY status /var/lib/dpkg/status\n\
            FROM scratch\nCOPY --from=tools /var /var\n";
        let mut request = attesting(&world, dockerfile, wanted());
        request.source_date_epoch = clean.then_some(86_400);
        let first = index(&world, &request, &[]).raw().descriptor.digest;
        std::thread::sleep(std::time::Duration::from_millis(1100));
        request.threads = 1;
        assert_eq!(index(&world, &request, &[]).raw().descriptor.digest, first, "out of the cache");
        first
    };
    assert_eq!(digest(true), digest(true), "with a time of its own");
    digest(false);
}

fn platforms_have_attestations_of_their_own() {
    let world = World::new();
    world.file("status", DEBIAN);
    let mut request = attesting(&world, "FROM scratch\nCOPY status /var/lib/dpkg/status\n", wanted());
    request.platforms.push(Platform::new("linux", "arm64"));
    let index = index(&world, &request, &["registry.example/app:1".parse().unwrap()]);
    let entries = index.manifests();
    let platforms: Vec<String> = entries.iter().map(|entry| entry.platform.clone().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64", "unknown/unknown", "unknown/unknown"]);
    for (image, about) in entries[..2].iter().zip(&entries[2..]) {
        assert_eq!(about.annotations["vnd.docker.reference.digest"], image.digest.to_string());
        let Artifact::Image(manifest) = index.child(about).unwrap() else { panic!("a manifest") };
        let layers = &manifest.manifest().layers;
        let kinds: Vec<&str> =
            layers.iter().map(|layer| layer.annotations["in-toto.io/predicate-type"].as_str()).collect();
        assert_eq!(kinds, ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut manifest.blobs().open(&layers[0]).unwrap(), &mut bytes).unwrap();
        let statement: Value = serde_json::from_slice(&bytes).unwrap();
        let platform = image.platform.clone().unwrap().to_string().replace('/', "%2F");
        let name = format!("pkg:docker/registry.example/app@1?platform={platform}");
        assert_eq!(statement["subject"][0]["name"], name);
    }
}

fn docker_media_types_and_attestations_exclude_each_other() {
    let world = World::new();
    let mut request = attesting(&world, "FROM scratch\n", wanted());
    request.docker_media_types = true;
    let Err(error) = world.build(&request) else { panic!("refused") };
    assert_eq!(error.to_string(), "attestations cannot be kept with Docker's media types");
}

/// A real database: every package that dpkg itself counts as there.
fn this_machines_packages_are_all_listed() {
    let Ok(output) = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version} ${Architecture} ${db:Status-Status}\n"])
        .output()
    else {
        skycap_testkit::skipped!("this_machines_packages_are_all_listed: there is no dpkg-query here");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let there = text.lines().filter(|line| !line.ends_with("not-installed") && !line.ends_with("config-files"));
    let mut expected: Vec<String> = there.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let world = World::new();
    std::fs::copy("/var/lib/dpkg/status", world.context().join("status")).unwrap();
    copyrights(&world, text.lines().filter_map(|line| line.split(' ').next()));
    let dockerfile = "FROM scratch\nCOPY doc /usr/share/doc\nCOPY status /var/lib/dpkg/status\n";
    let request = attesting(&world, dockerfile, wanted());
    let built = world.built_as(&request);
    let document = &predicates(&world, &request, &built)[0].1;
    let mut found: Vec<String> = packages(document).into_iter().map(|(name, ..)| name).collect();
    expected.sort();
    found.sort();
    assert!(!found.is_empty());
    assert_eq!(found, expected);
    check_document(document);
}

/// Puts this machine's copyright files into the context, below `doc`.
fn copyrights<'p>(world: &World, packages: impl Iterator<Item = &'p str>) {
    world.file("doc/README", "");
    for package in packages {
        if let Ok(copyright) = std::fs::read_to_string(format!("/usr/share/doc/{package}/copyright")) {
            world.file(&format!("doc/{package}/copyright"), &copyright);
        }
    }
}

/// SPDX's own validator.
fn spdx_tools_find_nothing_wrong() {
    if Command::new("pyspdxtools").arg("--help").output().map_or(true, |output| !output.status.success()) {
        skycap_testkit::skipped!("spdx_tools_find_nothing_wrong: there is no pyspdxtools here");
        return;
    }
    let world = World::new();
    let status = std::fs::read_to_string("/var/lib/dpkg/status").unwrap_or_else(|_| DEBIAN.to_owned());
    // Its check of relationships takes the square of their number.
    let some: Vec<&str> = status.split("\n\n").take(40).collect();
    world.file("status", &some.join("\n\n"));
    copyrights(&world, some.iter().filter_map(|paragraph| paragraph.lines().next()?.strip_prefix("Package: ")));
    world.file(
        "apk",
        &(ALPINE.to_owned() + "\nP:odd\nV:1\nL:custom (see \"LICENSE\")\nm:Some (Odd) Body <x\nU:not an address\n"),
    );
    std::fs::write(world.context().join("rpm"), gunzipped("rpmdb.sqlite")).unwrap();
    let dockerfile = "FROM scratch\nCOPY status /var/lib/dpkg/status\nCOPY apk /lib/apk/db/installed\nCOPY rpm /var/lib/rpm/rpmdb.sqlite\nCOPY doc /usr/share/doc\n";
    let request = attesting(&world, dockerfile, wanted());
    let built = world.built_as(&request);
    let path = world.path().join("sbom.spdx.json");
    std::fs::write(&path, predicates(&world, &request, &built)[0].1.to_string()).unwrap();
    let output = Command::new("pyspdxtools").arg("--infile").arg(&path).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// From a layout into another one, and nothing is lost.
fn skopeo_carries_attestations_along() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        skycap_testkit::skipped!("skopeo_carries_attestations_along: there is no skopeo here");
        return;
    }
    let world = World::new();
    world.file("status", DEBIAN);
    let mut request = attesting(&world, "FROM scratch\nCOPY status /var/lib/dpkg/status\n", wanted());
    request.platforms.push(Platform::new("linux", "arm64"));
    let index = index(&world, &request, &[]);
    let digest = index.raw().descriptor.digest;
    let (from, to) = (world.path().join("from"), world.path().join("to"));
    Layout::create(&from).unwrap().put(&Artifact::Index(index), &[Name::Tag("1".into())]).unwrap();
    let place = |path: &std::path::Path| format!("oci:{}:1", path.display());
    let mut command = Command::new("skopeo");
    command.env("TMPDIR", world.path()).env("HOME", world.path());
    let output = command.args(["--insecure-policy", "copy", "--all", &place(&from), &place(&to)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let layout = Layout::open(&to).unwrap();
    let Artifact::Index(copied) = skycap_image::ImageSource::get(&layout, &Name::Tag("1".into())).unwrap() else {
        panic!("an index")
    };
    assert_eq!(copied.raw().descriptor.digest, digest);
    for entry in copied.manifests() {
        let Artifact::Image(image) = copied.child(entry).unwrap() else { panic!("a manifest") };
        image.manifest().layers.iter().for_each(|layer| image.blobs().open(layer).unwrap().finish().unwrap());
    }
}

fn gunzipped(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/packages/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let (_, mut decoder) = skycap_image::compress::decoder(std::fs::File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}
