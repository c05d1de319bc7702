//! registry-tag against registries and a copy of Docker Hub's web API.

use serde_json::{Value, json};
use skycap_concourse::Kind;
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::world::{IMAGE, World, settings};

fn tags(world: &World, source: Value) -> Result<Vec<String>, String> {
    let found = world.check(Kind::RegistryTag, &json!({"source": source})).map_err(|failure| failure.message)?;
    Ok(found.as_array().unwrap().iter().filter_map(|version| version["tag"].as_str().map(str::to_owned)).collect())
}

/// Three pages of Docker Hub's list.
fn hub(request: &Request) -> Reply {
    let page = |names: &[&str], next: Option<&str>| {
        let results: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        Reply::status(200).body(json!({"next": next, "results": results}).to_string())
    };
    match (request.path.as_str(), request.query.as_str()) {
        ("/v2/repositories/library/ruby/tags", "page_size=2") => {
            page(&["3.0.0", "latest"], Some("https://hub.docker.com/v2/repositories/library/ruby/tags?page=2"))
        }
        ("/v2/repositories/library/ruby/tags", "page=2") => page(&["2.7.1", "2.6.0"], None),
        ("/v2/repositories/library/ruby/tags/3.0.0", _) => Reply::status(200).body(
            json!({"digest": "sha256:index", "images": [{"os": "linux", "architecture": "none", "digest": "sha256:x"}]})
                .to_string(),
        ),
        _ => Reply::status(404),
    }
}

#[test]
fn docker_hub_is_asked_page_by_page() {
    let scripted = Scripted::start(hub).unwrap();
    let url = format!("http://{}", scripted.address());
    let world = World::with_settings(|_| {
        let mut settings = settings();
        settings.hosts.insert("hub.docker.com".to_owned(), url);
        settings
    });
    let source = |pages: u32| {
        json!({
            "uri": "https://hub.docker.com/v2/repositories/library/ruby", "pages": pages, "tags_per_page": "2",
            "semver": {"matcher": ">= 2.7"},
        })
    };
    assert_eq!(tags(&world, source(3)), Ok(vec!["2.7.1".to_owned(), "3.0.0".to_owned()]));
    assert_eq!(tags(&world, source(1)), Ok(vec!["3.0.0".to_owned()]));
    let version = json!({"tag": "3.0.0"});
    let answer = world.get(Kind::RegistryTag, &json!({"source": source(1), "version": version}), "out/tag").unwrap();
    assert_eq!(
        (world.read("out/tag/tag"), world.read("out/tag/digest")),
        ("3.0.0".to_owned(), "sha256:index".to_owned())
    );
    let metadata = json!([{"name": "tag", "value": "3.0.0"}, {"name": "digest", "value": "sha256:index"}]);
    assert_eq!(answer, json!({"version": version, "metadata": metadata}));
    let missing = json!({"source": source(1), "version": {"tag": "9"}});
    let error = world.get(Kind::RegistryTag, &missing, "out/none").unwrap_err().message;
    let expected = "expected 200 but received 404 from https://hub.docker.com/v2/repositories/library/ruby/tags/9";
    assert_eq!(error, expected);
    assert!(!world.path("out/none/tag").exists());
    let with_user =
        json!({"uri": "https://hub.docker.com/v2/repositories/a/b", "username": "u", "password": "hunter2-p"});
    assert_eq!(tags(&world, with_user), Err("basic auth not supported".to_owned()));
    assert!(world.log.lines().is_empty(), "a success says nothing: {:?}", world.log.lines());
}

#[test]
fn a_registry_is_asked_page_by_page() {
    let world = World::new();
    world.push("app", IMAGE, &["v1", "v2", "v3", "v4"]);
    let uri = format!("http://{}/v2/app", world.server.address());
    let list = |pages: u32| tags(&world, json!({"uri": uri, "tags_per_page": 2, "pages": pages})).unwrap().join(" ");
    assert_eq!((list(1).as_str(), list(2).as_str(), list(9).as_str()), ("v2 v1", "v4 v3 v2 v1", "v4 v3 v2 v1"));
    let (_, digest) = world.push("app", IMAGE, &["v4"]);
    let request = json!({"source": {"uri": uri}, "version": {"tag": "v4"}});
    world.get(Kind::RegistryTag, &request, "out/v4").unwrap();
    assert_eq!(world.read("out/v4/digest"), digest);
    for tag in ["../x", "", "a/b"] {
        let request = json!({"source": {"uri": uri}, "version": {"tag": tag}});
        assert!(world.get(Kind::RegistryTag, &request, "out/bad").is_err(), "{tag}");
    }
    let request = json!({"source": {"uri": uri}});
    assert_eq!(
        world.get(Kind::RegistryTag, &request, "out/bad").unwrap_err().message,
        "mandatory version.tag not found"
    );
}

#[test]
fn credentials_go_to_the_registry_and_nowhere_else() {
    let world = World::new();
    let elsewhere = Scripted::start(|_| Reply::status(200).body(r#"{"tags":["1"]}"#)).unwrap();
    let target = format!("{}/elsewhere", elsewhere.url().replace("127.0.0.1", "localhost"));
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/v2/moved/tags/list" => Reply::status(307).header("location", target.clone()),
        _ => Reply::status(200).body(r#"{"tags":null}"#),
    })
    .unwrap();
    let source = |path: &str| json!({"uri": format!("{}/v2/{path}", scripted.url()), "username": "un", "password": "hunter2-pw"});
    assert_eq!(tags(&world, source("none")), Ok(Vec::new()));
    assert_eq!(scripted.requests()[0].header("authorization"), Some("Basic dW46aHVudGVyMi1wdw=="));
    assert_eq!(scripted.requests()[0].query, "n=25");
    assert_eq!(tags(&world, source("moved")), Ok(vec!["1".to_owned()]));
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_private_registry_may_lead_to_its_neighbour_and_errors_hide_signatures() {
    let world = World::new();
    let neighbour = Scripted::start(|request| match request.query.as_str() {
        "signature=secret" => Reply::status(200).body(r#"{"tags":["1"]}"#),
        _ => Reply::status(403),
    })
    .unwrap();
    let target = neighbour.url();
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/v2/moved/tags/list" => Reply::status(302).header("location", format!("{target}/x?signature=secret")),
        "/v2/expired/tags/list" => Reply::status(302).header("location", format!("{target}/x?expired=secret")),
        "/v2/next/tags/list" => {
            Reply::status(200).body(r#"{"tags":["1"]}"#).header("link", format!("<{target}/x?k=secret>; rel=next"))
        }
        "/v2/ftp/tags/list" => Reply::status(302).header("location", "ftp://there/x?signature=secret"),
        _ => Reply::status(404),
    })
    .unwrap();
    let base = scripted.url().replace("127.0.0.1", "localhost");
    let list = |path: &str| tags(&world, json!({"uri": format!("{base}/v2/{path}"), "pages": 3}));
    assert_eq!(list("moved"), Ok(vec!["1".to_owned()]));
    for path in ["expired", "next", "ftp"] {
        let error = list(path).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn registries_that_want_a_token_get_one() {
    let world = World::new();
    world.push("app", IMAGE, &["v1", "v2"]);
    let scripted = Scripted::in_front_of(world.server.address(), |request| {
        if request.path == "/token" {
            return Reply::status(200).body(r#"{"token":"hunter2-t"}"#);
        }
        if request.header("authorization") == Some("Bearer hunter2-t") {
            return Reply::forward();
        }
        let host = request.header("host").unwrap_or_default();
        Reply::status(401).header("www-authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"r\""))
    })
    .unwrap();
    let uri = format!("{}/v2/app", scripted.url());
    assert_eq!(tags(&world, json!({"uri": uri})), Ok(vec!["v2".to_owned(), "v1".to_owned()]));
    let request = json!({"source": {"uri": uri}, "version": {"tag": "v1"}});
    world.get(Kind::RegistryTag, &request, "out/token").unwrap();
    assert!(world.read("out/token/digest").starts_with("sha256:"));
}

#[test]
fn it_cannot_be_put() {
    let world = World::new();
    let answer = skycap_concourse::resource(Kind::RegistryTag).put(b"{}", &world.path("src"), &world.host);
    assert_eq!(answer.unwrap_err().message, "a registry-tag resource cannot be put");
}
