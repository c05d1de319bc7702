//! The embedded registry against the OCI distribution specification: the requests of its conformance suite, group by group
//! (pull, push, content discovery, content management), with the answers that the suite accepts.

use std::net::SocketAddr;

use serde_json::{Value, json};
use skycap_image::Digest;
use skycap_registry::server::Server;
use tempfile::TempDir;

use crate::support::{Raw, ask, noise, server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const ABSENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A server, and requests to a repository on it.
struct Suite {
    _dir: TempDir,
    server: Server,
}

impl Suite {
    fn new() -> Self {
        let (dir, server) = server();
        Self { _dir: dir, server }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
        ask(self.address(), method, &format!("/v2/{path}"), headers, body)
    }

    fn get(&self, path: &str) -> Raw {
        self.ask("GET", path, &[], b"")
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let answer = self.ask("POST", &format!("conf/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(answer.status, 201);
        digest
    }

    fn put(&self, reference: &str, media_type: &str, document: &Value) -> (Raw, Digest) {
        let bytes = document.to_string();
        let answer =
            self.ask("PUT", &format!("conf/manifests/{reference}"), &[("content-type", media_type)], bytes.as_bytes());
        (answer, Digest::sha256(bytes.as_bytes()))
    }

    fn image(&self, seed: u64) -> Value {
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "x": seed});
        let config = config.to_string();
        let layer = noise(seed, 1000);
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": self.blob(&layer), "size": layer.len()}],
        })
    }
}

/// An error document of the specification, with this code.
#[track_caller]
fn refused(answer: &Raw, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code));
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.json()["errors"][0]["message"].is_string());
}

#[test]
fn pull() {
    let suite = Suite::new();
    let (put, digest) = suite.put("v1", MANIFEST, &suite.image(1));
    assert_eq!(put.status, 201);
    let layer = Digest::sha256(&noise(1, 1000));

    assert_eq!(suite.ask("HEAD", &format!("conf/blobs/{ABSENT}"), &[], b"").status, 404);
    refused(&suite.get(&format!("conf/blobs/{ABSENT}")), 404, "BLOB_UNKNOWN");
    let head = suite.ask("HEAD", &format!("conf/blobs/{layer}"), &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, "1000"));
    assert_eq!(head.header("docker-content-digest"), layer.to_string());
    assert_eq!(suite.get(&format!("conf/blobs/{layer}")).body, noise(1, 1000));

    assert_eq!(suite.ask("HEAD", "conf/manifests/absent", &[], b"").status, 404);
    refused(&suite.get("conf/manifests/absent"), 404, "MANIFEST_UNKNOWN");
    refused(&suite.get(&format!("conf/manifests/{ABSENT}")), 404, "MANIFEST_UNKNOWN");
    refused(&suite.get("other/manifests/v1"), 404, "NAME_UNKNOWN");
    for reference in ["v1".to_owned(), digest.to_string()] {
        let head = suite.ask("HEAD", &format!("conf/manifests/{reference}"), &[], b"");
        let get = suite.get(&format!("conf/manifests/{reference}"));
        for answer in [&head, &get] {
            assert_eq!((answer.status, answer.header("content-type")), (200, MANIFEST));
            assert_eq!(answer.header("docker-content-digest"), digest.to_string());
            assert_eq!(answer.header("content-length"), get.body.len().to_string());
        }
        assert_eq!(Digest::sha256(&get.body), digest);
    }
}

#[test]
fn push_blobs_in_every_way() {
    let suite = Suite::new();
    let bytes = noise(2, 5000);
    let digest = Digest::sha256(&bytes);
    let uploads = "conf/blobs/uploads/";
    let octets = ("content-type", "application/octet-stream");
    let begin = || {
        let answer = suite.ask("POST", uploads, &[("content-length", "0")], b"");
        assert_eq!(answer.status, 202);
        answer.header("location").trim_start_matches("/v2/").to_owned()
    };

    // Streamed: PATCH without a range, then PUT.
    let place = begin();
    let patch = suite.ask("PATCH", &place, &[octets], &bytes);
    assert_eq!((patch.status, patch.header("range")), (202, "0-4999"));
    let put = suite.ask("PUT", &format!("{place}?digest={digest}"), &[], b"");
    assert_eq!((put.status, put.header("location")), (201, format!("/v2/conf/blobs/{digest}").as_str()));
    // At once: POST then PUT, and POST alone.
    assert_eq!(suite.ask("PUT", &format!("{}?digest={digest}", begin()), &[octets], &bytes).status, 201);
    assert_eq!(suite.ask("POST", &format!("{uploads}?digest={digest}"), &[octets], &bytes).status, 201);
    // An empty blob.
    let empty = Digest::sha256(b"");
    assert_eq!(suite.ask("PUT", &format!("{}?digest={empty}", begin()), &[octets], b"").status, 201);
    assert_eq!(suite.get(&format!("conf/blobs/{empty}")).body, b"");
    // Wrong digests.
    refused(&suite.ask("PUT", &format!("{}?digest={ABSENT}", begin()), &[], &bytes), 400, "DIGEST_INVALID");
    refused(&suite.ask("PUT", &begin(), &[], &bytes), 400, "DIGEST_INVALID");
    refused(&suite.ask("PUT", &format!("{}?digest=md5:00", begin()), &[], &bytes), 400, "DIGEST_INVALID");
}

#[test]
fn push_blobs_in_pieces() {
    let suite = Suite::new();
    let bytes = noise(3, 5000);
    let digest = Digest::sha256(&bytes);
    let place = suite.ask("POST", "conf/blobs/uploads/", &[], b"").header("location").replace("/v2/", "");
    let patch = |range: &str, bytes: &[u8]| suite.ask("PATCH", &place, &[("content-range", range)], bytes);
    refused(&patch("3000-4999", &bytes[3000..]), 416, "BLOB_UPLOAD_INVALID");
    assert_eq!(patch("0-2999", &bytes[..3000]).header("range"), "0-2999");
    refused(&patch("0-2999", &bytes[..3000]), 416, "BLOB_UPLOAD_INVALID");
    refused(&patch("3000-3999", &bytes[3000..]), 400, "SIZE_INVALID");
    refused(&patch("18446744073709551615-0", b""), 416, "BLOB_UPLOAD_INVALID");
    let status = suite.get(&place);
    assert_eq!((status.status, status.header("range")), (204, "0-2999"));
    let last = format!("{place}?digest={digest}");
    refused(&suite.ask("PUT", &last, &[("content-range", "0-2999")], &bytes[..3000]), 416, "BLOB_UPLOAD_INVALID");
    assert_eq!(suite.ask("PUT", &last, &[("content-range", "3000-4999")], &bytes[3000..]).status, 201);
    refused(&suite.get(&place), 404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(suite.get(&format!("conf/blobs/{digest}")).body, bytes);
}

#[test]
fn push_by_mounting() {
    let suite = Suite::new();
    let digest = suite.blob(b"shared");
    let mounted = suite.ask("POST", &format!("other/blobs/uploads/?mount={digest}&from=conf"), &[], b"");
    assert_eq!((mounted.status, mounted.header("location")), (201, format!("/v2/other/blobs/{digest}").as_str()));
    assert_eq!(suite.get(&format!("other/blobs/{digest}")).body, b"shared");
    for query in
        [format!("mount={ABSENT}&from=conf"), format!("mount={digest}&from=nowhere"), format!("mount={digest}")]
    {
        let answer = suite.ask("POST", &format!("third/blobs/uploads/?{query}"), &[], b"");
        assert!(answer.status == 202 && answer.header("location").starts_with("/v2/third/blobs/uploads/"), "{query}");
    }
    refused(&suite.ask("POST", "third/blobs/uploads/?mount=x&from=conf", &[], b""), 400, "DIGEST_INVALID");
}

#[test]
fn push_manifests() {
    let suite = Suite::new();
    let image = suite.image(4);
    for reference in ["v1".to_owned(), Digest::sha256(image.to_string().as_bytes()).to_string()] {
        let (put, digest) = suite.put(&reference, MANIFEST, &image);
        assert_eq!((put.status, put.header("location")), (201, format!("/v2/conf/manifests/{digest}").as_str()));
        assert_eq!(put.header("docker-content-digest"), digest.to_string());
    }
    let mut without_layers = image.clone();
    without_layers["layers"] = json!([]);
    assert_eq!(suite.put("none", MANIFEST, &without_layers).0.status, 201);
    let mut custom = image.clone();
    custom["annotations"] = json!({"a": "b"});
    custom["unknown"] = json!({"kept": true});
    let (_, digest) = suite.put("custom", MANIFEST, &custom);
    assert_eq!(suite.get(&format!("conf/manifests/{digest}")).body, custom.to_string().as_bytes(), "byte for byte");
    let mut foreign = image.clone();
    foreign["layers"][0] = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": ABSENT, "size": 1,
        "urls": ["https://elsewhere.example/layer"],
    });
    assert_eq!(suite.put("foreign", MANIFEST, &foreign).0.status, 201, "what cannot be pushed need not be here");
    let mut sparse = image.clone();
    sparse["layers"][0]["digest"] = json!(ABSENT);
    refused(&suite.put("sparse", MANIFEST, &sparse).0, 400, "MANIFEST_BLOB_UNKNOWN");
    // An index, and an index of indexes.
    let child = Digest::sha256(image.to_string().as_bytes());
    let index = |child: Digest, media_type: &str, size: usize| {
        json!({"schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": media_type, "digest": child, "size": size}]})
    };
    let inner = index(child, MANIFEST, image.to_string().len());
    let (put, digest) = suite.put("index", INDEX, &inner);
    assert_eq!(put.status, 201);
    assert_eq!(suite.put("nested", INDEX, &index(digest, INDEX, inner.to_string().len())).0.status, 201);
    refused(&suite.put("lost", INDEX, &index(ABSENT.parse().unwrap(), MANIFEST, 1)).0, 400, "MANIFEST_BLOB_UNKNOWN");
    // A digest of the other kind.
    let long = sha512(image.to_string().as_bytes());
    assert_eq!(suite.put(&long, MANIFEST, &image).0.header("docker-content-digest"), long);
    assert_eq!(suite.get(&format!("conf/manifests/{long}")).body, image.to_string().as_bytes());
    // Nonsense.
    for (reference, body, code) in [
        ("v1", "{", "MANIFEST_INVALID"),
        ("v1", "[]", "MANIFEST_INVALID"),
        (ABSENT, "{}", "MANIFEST_INVALID"),
        (".hidden", "{}", "TAG_INVALID"),
        (&"t".repeat(129), "{}", "TAG_INVALID"),
    ] {
        let headers = [("content-type", MANIFEST)];
        refused(&suite.ask("PUT", &format!("conf/manifests/{reference}"), &headers, body.as_bytes()), 400, code);
    }
    assert_eq!(suite.put(&"t".repeat(128), MANIFEST, &image).0.status, 201);
}

fn sha512(bytes: &[u8]) -> String {
    let mut hasher = skycap_image::Hasher::new(skycap_image::Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish().to_string()
}

#[test]
fn content_discovery_of_tags() {
    let suite = Suite::new();
    refused(&suite.get("conf/tags/list"), 404, "NAME_UNKNOWN");
    let image = suite.image(5);
    for tag in ["b", "A", "10", "9", "c"] {
        assert_eq!(suite.put(tag, MANIFEST, &image).0.status, 201);
    }
    let list = |query: &str| {
        let answer = suite.get(&format!("conf/tags/list{query}"));
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("conf")));
        (answer.json()["tags"].clone(), answer.header("link").to_owned())
    };
    assert_eq!(list(""), (json!(["10", "9", "A", "b", "c"]), String::new()), "in the order of their bytes");
    assert_eq!(list("?n=0"), (json!([]), String::new()));
    assert_eq!(list("?n=2"), (json!(["10", "9"]), "</v2/conf/tags/list?last=9&n=2>; rel=\"next\"".into()));
    assert_eq!(list("?n=2&last=9"), (json!(["A", "b"]), "</v2/conf/tags/list?last=b&n=2>; rel=\"next\"".into()));
    assert_eq!(list("?n=2&last=b"), (json!(["c"]), String::new()));
    assert_eq!(list("?last=95"), (json!(["A", "b", "c"]), String::new()), "behind a tag that is not there");
    assert_eq!(list("?n=99999999999"), list(""));
    for n in ["-1", "x", "", "99999999999999999999999"] {
        refused(&suite.get(&format!("conf/tags/list?n={n}")), 400, "PAGINATION_NUMBER_INVALID");
    }
    let catalog = suite.get("_catalog?n=1").json();
    assert_eq!(catalog, json!({"repositories": ["conf"]}));
}

#[test]
fn content_discovery_of_referrers() {
    let suite = Suite::new();
    let (_, subject) = suite.put("v1", MANIFEST, &suite.image(6));
    suite.blob(b"{}");
    let artifact = |kind: &str, subject: &Value, number: usize| {
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": {"mediaType": EMPTY, "digest": Digest::sha256(b"{}"), "size": 2},
            "layers": [{"mediaType": EMPTY, "digest": Digest::sha256(b"{}"), "size": 2}],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}, "annotations": {"number": number.to_string()},
        })
    };
    let list = |path: &str| {
        let answer = suite.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, INDEX), "{path}");
        assert_eq!(answer.json()["mediaType"], INDEX);
        let entries = answer.json()["manifests"].as_array().unwrap().clone();
        (entries, answer.header("link").to_owned(), answer.header("oci-filters-applied").to_owned())
    };
    let path = format!("conf/referrers/{subject}");
    assert_eq!(list(&path).0.len(), 0);
    assert_eq!(
        list(&format!("nowhere/referrers/{ABSENT}")).0.len(),
        0,
        "never 404: that means there is no such interface"
    );
    refused(&suite.get("conf/referrers/sha256:x"), 400, "DIGEST_INVALID");

    let mut pushed = Vec::new();
    for number in 0..5 {
        let kind = if number < 3 { "x/signature" } else { "x/sbom" };
        let document = artifact(kind, &json!(subject), number);
        let digest = Digest::sha256(document.to_string().as_bytes());
        let (put, _) = suite.put(&digest.to_string(), MANIFEST, &document);
        assert_eq!((put.status, put.header("oci-subject")), (201, subject.to_string().as_str()));
        pushed.push(digest);
    }
    // An index can refer, too, and a subject may come later than what refers to it.
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "artifactType": "x/index", "manifests": [],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}});
    assert_eq!(suite.put("refers", INDEX, &index).0.header("oci-subject"), subject.to_string());
    let early = artifact("x/early", &json!(ABSENT), 0);
    assert_eq!(suite.put("early", MANIFEST, &early).0.header("oci-subject"), ABSENT);
    assert_eq!(list(&format!("conf/referrers/{ABSENT}")).0[0]["artifactType"], "x/early");

    let (all, link, filters) = list(&path);
    assert_eq!((all.len(), link.as_str(), filters.as_str()), (6, "", ""));
    let first = all.iter().find(|entry| entry["digest"] == pushed[0].to_string()).unwrap();
    assert_eq!(first["annotations"], json!({"number": "0"}));
    let (filtered, _, filters) = list(&format!("{path}?artifactType=x%2Fsbom"));
    assert_eq!((filtered.len(), filters.as_str()), (2, "artifactType"));
    // Page by page.
    let mut found = Vec::new();
    let mut next = format!("{path}?n=4");
    loop {
        let (entries, link, _) = list(&next);
        found.extend(entries.iter().map(|entry| entry["digest"].clone()));
        let Some(target) = link.strip_prefix("</v2/").and_then(|link| link.split_once('>')) else { break };
        next = target.0.to_owned();
    }
    found.sort_by_key(ToString::to_string);
    found.dedup();
    assert_eq!(found.len(), 6);
    assert_eq!(suite.ask("DELETE", &format!("conf/manifests/{}", pushed[0]), &[], b"").status, 202);
    assert_eq!(list(&path).0.len(), 5);
}

#[test]
fn content_management() {
    let suite = Suite::new();
    let image = suite.image(7);
    let (_, digest) = suite.put("v1", MANIFEST, &image);
    suite.put("v2", MANIFEST, &image);
    suite.put("v3", MANIFEST, &image);
    let delete = |path: &str| suite.ask("DELETE", path, &[], b"");
    assert_eq!(delete("conf/manifests/v1").status, 202);
    refused(&suite.get("conf/manifests/v1"), 404, "MANIFEST_UNKNOWN");
    refused(&delete("conf/manifests/v1"), 404, "MANIFEST_UNKNOWN");
    assert_eq!(suite.get("conf/manifests/v2").status, 200);
    assert_eq!(delete(&format!("conf/manifests/{digest}")).status, 202);
    refused(&suite.get(&format!("conf/manifests/{digest}")), 404, "MANIFEST_UNKNOWN");
    assert_eq!(suite.get("conf/tags/list").json()["tags"], json!([]), "a tag never stands for nothing");
    refused(&delete("nowhere/manifests/v1"), 404, "NAME_UNKNOWN");
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(delete(&format!("conf/blobs/{layer}")).status, 202);
    refused(&suite.get(&format!("conf/blobs/{layer}")), 404, "BLOB_UNKNOWN");
    refused(&delete(&format!("conf/blobs/{layer}")), 404, "BLOB_UNKNOWN");
    refused(&delete("conf/tags/list"), 405, "UNSUPPORTED");
    for (method, path) in [("PUT", "conf/blobs/uploads/"), ("POST", "conf/manifests/v1"), ("PATCH", "_catalog")] {
        refused(&suite.ask(method, path, &[], b""), 405, "UNSUPPORTED");
    }
}
