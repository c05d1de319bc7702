//! check against the embedded registry: the cases beside the code say what comes out, these say that it is asked for.

use serde_json::json;
use skycap_concourse::Kind;
use skycap_testkit::registry::{Reply, Scripted};

use crate::world::{IMAGE, World, settings};

const OTHER: &str = "created 2020-01-01T00:00:00Z\nlayer\n file a \"b\"";

#[test]
fn every_mode_works_over_the_protocol() {
    let world = World::new();
    let (_, new) = world.push("app", IMAGE, &["1.1.0", "1.1", "latest"]);
    let (_, old) = world.push("app", OTHER, &["1.0.0", "nightly"]);
    let check = |source: serde_json::Value| {
        let mut source = source;
        source["repository"] = json!(world.name("app"));
        world.check(Kind::RegistryImage, &json!({"source": source})).map_err(|failure| failure.message)
    };
    let version = |tag: &str, digest: &str| json!({"tag": tag, "digest": digest});
    assert_eq!(check(json!({"tag": "nightly"})), Ok(json!([version("nightly", &old)])));
    assert_eq!(check(json!({"tag": "nope"})), Ok(json!([])));
    assert_eq!(check(json!({})), Ok(json!([version("1.0.0", &old), version("1.1.0", &new)])));
    let by_age = check(json!({"tag_regex": "^(latest|nightly)$", "created_at_sort": true}));
    assert_eq!(by_age, Ok(json!([version("nightly", &old), version("latest", &new)])));
    let nowhere = json!({"source": {"repository": world.name("nowhere")}});
    let error = world.check(Kind::RegistryImage, &nowhere).unwrap_err().message;
    assert!(
        error.starts_with(&format!("checking origin {} failed: list repository tags: ", world.name("nowhere"))),
        "{error}"
    );
}

#[test]
fn tag_mode_asks_exactly_what_it_needs() {
    let world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let (_, old) = world.push("app", OTHER, &["old"]);
    let scripted = Scripted::in_front_of(world.server.address(), |_| Reply::forward()).unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address()), "tag": "1"});
    let version = json!({"tag": "1", "digest": old});
    let found = world.check(Kind::RegistryImage, &json!({"source": source, "version": version})).unwrap();
    assert_eq!(found, json!([{"tag": "1", "digest": old}, {"tag": "1", "digest": digest}]));
    let manifests = format!("HEAD /v2/app/manifests/{old}");
    assert_eq!(scripted.lines(), ["GET /v2/", "HEAD /v2/app/manifests/1", &manifests]);
}

#[test]
fn a_mirror_is_asked_first_and_may_fail() {
    let world = World::with_settings(|address| {
        let mut settings = settings();
        settings.hosts.insert("index.docker.io".to_owned(), format!("http://{address}"));
        settings
    });
    let (_, digest) = world.push("library/app", IMAGE, &["1"]);
    let broken = Scripted::start(|_| Reply::status(403)).unwrap();
    let source = |mirror: &str| json!({"repository": "app", "tag": "1", "registry_mirror": {"host": mirror}});
    let expected = json!([{"tag": "1", "digest": digest}]);
    let mirror = broken.address().to_string();
    let found = world.check(Kind::RegistryImage, &json!({"source": source(&mirror)})).unwrap();
    assert_eq!(found, expected);
    assert!(world.log.has(&format!("checking mirror {mirror}/library/app failed: ")), "{:?}", world.log.lines());
    let good = world.server.address().to_string();
    assert_eq!(world.check(Kind::RegistryImage, &json!({"source": source(&good)})).unwrap(), expected);
    let error = world.check(Kind::RegistryImage, &json!({"source": source("https://m")})).unwrap_err();
    assert!(error.message.starts_with("failed to resolve mirror: parse mirror registry: "), "{}", error.message);
}
