//! Lists of tags, however they come.

use skycap_image::{Artifact, ImageSink};
use skycap_testkit::registry::{Reply, Scripted};

use crate::support::{client, image, place, server, tag};

/// A registry that answers its ping, and its list with the replies in turn (the last one for ever).
fn listing(replies: &'static [(&'static str, &'static str)]) -> (Scripted, Result<Vec<String>, String>) {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let scripted = Scripted::start(move |request| {
        if request.path == "/v2/" {
            return Reply::status(200);
        }
        let at = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(replies.len() - 1);
        let (link, body) = replies[at];
        let reply = Reply::status(200).body(body);
        if link.is_empty() { reply } else { reply.header("link", link) }
    })
    .unwrap();
    let tags = place(&client(), scripted.address(), "aa").tags().map_err(|error| error.to_string());
    (scripted, tags)
}

#[test]
fn r67_pages_are_followed() {
    let (scripted, tags) = listing(&[
        (r#"</v2/aa/tags/list?last=b%3D&n=2>; rel="next""#, r#"{"tags":["a","b"]}"#),
        ("<?last=d>; rel=next", r#"{"tags":["c","d"]}"#),
        ("", r#"{"tags":["e"]}"#),
    ]);
    assert_eq!(tags.unwrap(), ["a", "b", "c", "d", "e"]);
    let queries: Vec<String> = scripted.requests().into_iter().skip(1).map(|request| request.query).collect();
    assert_eq!(queries, ["n=1000", "last=b%3D&n=2", "last=d"]);
}

#[test]
fn r67_a_link_to_another_host_is_refused() {
    let (_, tags) = listing(&[("<http://localhost:1/v2/aa/tags/list>; rel=\"next\"", r#"{"tags":["a"]}"#)]);
    assert!(tags.unwrap_err().ends_with("the link to the next page leads elsewhere"));
}

#[test]
fn r66_odd_lists_are_read() {
    let (_, tags) = listing(&[("", r#"{"name":"a","tags":null}"#)]);
    assert!(tags.unwrap().is_empty());
    let (_, tags) = listing(&[("", r#"{"name":"a"}"#)]);
    assert!(tags.unwrap().is_empty());
    let (_, tags) = listing(&[("", r#"{"tags":["b",null,"a","b","sha256:00","-x","a b"]}"#)]);
    assert_eq!(tags.unwrap(), ["b", "a"]);
    for body in ["", "[]", r#"{"tags":"a"}"#, r#"{"tags":[1]}"#] {
        let leaked: &'static str = String::leak(body.to_owned());
        let (_, tags) = listing(Vec::leak(vec![("", leaked)]));
        assert!(tags.unwrap_err().contains("is not a list of tags"), "{body}");
    }
}

#[test]
fn r68_a_list_without_end_ends() {
    let (scripted, tags) = listing(&[("</v2/aa/tags/list?n=1000>; rel=next", r#"{"tags":["a"]}"#)]);
    assert!(tags.unwrap_err().contains("does not end"));
    assert!(scripted.requests().len() < 6);
    let (_, tags) = listing(&[
        ("</1>; rel=next", r#"{"tags":["a"]}"#),
        ("</2>; rel=next", r#"{"tags":["a"]}"#),
        ("</3>; rel=next", r#"{"tags":["a"]}"#),
        ("</4>; rel=next", r#"{"tags":["a"]}"#),
        ("</5>; rel=next", r#"{"tags":["a"]}"#),
        ("</6>; rel=next", r#"{"tags":["a"]}"#),
    ]);
    assert!(tags.unwrap_err().contains("does not end"));
}

#[test]
fn r69_a_page_size_that_is_refused_is_given_up() {
    let scripted = Scripted::start(|request| match (request.path.as_str(), request.query.as_str()) {
        ("/v2/", _) => Reply::status(200),
        (_, "") => Reply::status(200).body(r#"{"tags":["a"]}"#),
        _ => Reply::status(400),
    })
    .unwrap();
    assert_eq!(place(&client(), scripted.address(), "aa").tags().unwrap(), ["a"]);
}

#[test]
fn r70_a_page_that_fails_once_is_asked_for_again() {
    let scripted = Scripted::start(|request| match request.query.as_str() {
        "n=1000" => Reply::status(200).header("link", "</v2/aa/tags/list?last=a>; rel=next").body(r#"{"tags":["a"]}"#),
        "last=a" if request.seen == 1 => Reply::status(500),
        "last=a" => Reply::status(200).body(r#"{"tags":["b"]}"#),
        _ => Reply::status(200),
    })
    .unwrap();
    assert_eq!(place(&client(), scripted.address(), "aa").tags().unwrap(), ["a", "b"]);
    assert_eq!(scripted.requests().len(), 4);
}

#[test]
fn the_embedded_registry_pages_its_lists() {
    let (_dir, server) = server();
    let client = client();
    let image = Artifact::Image(image("amd64", &[]));
    place(&client, server.address(), "a/b").put(&image, &["1", "2", "3", "B", "a"].map(tag)).unwrap();
    place(&client, server.address(), "aa").put(&image, &[tag("1")]).unwrap();
    let get = |path: &str| {
        let url = format!("http://{}{path}", server.address());
        let answer = client.get(&url, &[], &skycap_registry::Credentials::Anonymous).unwrap();
        let link = answer.header("link").map(str::to_owned);
        (answer.status, serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap(), link)
    };
    let next = "</v2/a/b/tags/list?last=2&n=2>; rel=\"next\"".to_owned();
    assert_eq!(get("/v2/a/b/tags/list?n=2"), (200, serde_json::json!({"name":"a/b","tags":["1","2"]}), Some(next)));
    assert_eq!(get("/v2/a/b/tags/list?n=3&last=2").1["tags"], serde_json::json!(["3", "B", "a"]));
    assert_eq!(get("/v2/a/b/tags/list?n=0").1["tags"], serde_json::json!([]));
    assert_eq!(get("/v2/a/b/tags/list?n=x").0, 400);
    assert_eq!(get("/v2/_catalog").1, serde_json::json!({"repositories":["a/b","aa"]}));
    assert_eq!(get("/v2/_catalog?n=1").2.unwrap(), "</v2/_catalog?last=a%2Fb&n=1>; rel=\"next\"");
}
