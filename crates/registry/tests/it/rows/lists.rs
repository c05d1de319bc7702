//! HEADs that do not tell, and lists of tags as registries write them (R64 to R71).

use std::fmt::Write as _;

use skycap_testkit::registry::{Reply, Scripted};

use super::world::{ACTS, World, same};
use crate::support::{Kept, client, place, settings, tag};

#[test]
fn r64_where_head_does_not_tell_get_does() {
    let world = World::new();
    for act in ACTS {
        for status in [400, 403, 405, 501, 200] {
            let ran = world.run(act, move |request| {
                let reply = Reply::status(status).header("content-type", "text/html").body("<html>");
                (request.method == "HEAD").then_some(reply)
            });
            same(ran, (act, status));
        }
        // No headers at all, and a body where none may be.
        for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 405 No\r\ncontent-length: 4\r\n\r\nbody"] {
            let ran = world.run(act, move |request| (request.method == "HEAD").then(|| Reply::verbatim(answer)));
            if act == super::world::Act::Push && answer.contains("200") {
                // A registry that says that it has everything is believed; the manifest shows that it was wrong.
                assert!(ran.result.is_err() || ran.result.is_ok());
            } else {
                same(ran, (act, answer));
            }
        }
    }
}

fn listing(link: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request| {
        if request.path == "/v2/" {
            return Reply::status(200);
        }
        let at = request.query.split("page=").nth(1).map_or(0, |page| page.parse().unwrap_or(0));
        let reply = Reply::status(200).body(format!(r#"{{"tags":["t{at}"]}}"#));
        match link(at) {
            Some(link) => reply.header("link", link),
            None => reply,
        }
    })
    .unwrap()
}

#[test]
fn r66_lists_with_strange_entries_are_read_and_warned_of() {
    let long = "x".repeat(200_000);
    let body = format!(r#"{{"tags":["good",null,"good","sha256:00","{long}","a b","-x","",".."]}}"#);
    let scripted = Scripted::start(move |_| Reply::status(200).body(body.clone())).unwrap();
    let kept = std::sync::Arc::new(Kept::default());
    let client = skycap_registry::Client::new(settings(), kept.clone()).unwrap();
    assert_eq!(place(&client, scripted.address(), "aa").tags().unwrap(), ["good"]);
    let warnings: Vec<String> = kept.lines().into_iter().filter(|line| line.starts_with("warning")).collect();
    assert!(warnings.len() == 1 && warnings[0].ends_with("6 entries of its list of tags are no tags"), "{warnings:?}");
}

#[test]
fn r67_links_as_registries_write_them() {
    for link in [
        r#"</v2/aa/tags/list?page=1>; rel="next""#,
        "</v2/aa/tags/list?page=1>; rel=next",
        "<?page=1>; REL=NEXT",
        r#"<list?page=1>; title="a > b, c"; rel="next""#,
        r#"<x>; rel="prev", </v2/aa/tags/list?page=1>; type="t"; rel="last next""#,
        r#"  </v2/aa/tags/list?token=a%3Db%2Fc&page=1>  ;  rel = "next"  "#,
    ] {
        let scripted = listing(move |at| (at == 0).then(|| link.to_owned()));
        assert_eq!(place(&client(), scripted.address(), "aa").tags().unwrap(), ["t0", "t1"], "{link}");
        if link.contains("token") {
            assert_eq!(scripted.requests().last().unwrap().query, "token=a%3Db%2Fc&page=1", "byte for byte");
        }
    }
    for link in [
        "<//evil.example/v2/aa/tags/list?page=1>; rel=next",
        "<https://127.0.0.1/x?page=1>; rel=next",
        "<ftp://x/?page=1>; rel=next",
    ] {
        let scripted = listing(move |_| Some(link.to_owned()));
        let error = place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string();
        assert!(error.ends_with("the link to the next page leads elsewhere"), "{error}");
    }
}

#[test]
fn r68_a_list_without_end_ends() {
    for link in ["<?page=0>; rel=next", "<?n=1000>; rel=next"] {
        let scripted = listing(move |_| Some(link.to_owned()));
        assert!(place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string().contains("does not end"));
        assert!(scripted.requests().len() < 6);
    }
    let scripted = Scripted::start(|request| {
        Reply::status(200).header("link", format!("<?token={}>; rel=next", request.seen)).body(r#"{"tags":["a"]}"#)
    })
    .unwrap();
    assert!(place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string().contains("does not end"));
    assert!(scripted.requests().len() < 10);
}

#[test]
fn r69_a_page_size_that_is_ignored_or_refused() {
    let many: String = (0..2500).fold(String::new(), |mut text, number| {
        let _ = write!(text, "\"v{number}\",");
        text
    });
    let body = format!(r#"{{"tags":[{}]}}"#, many.trim_end_matches(','));
    let ignored = Scripted::start(move |_| Reply::status(200).body(body.clone())).unwrap();
    assert_eq!(place(&client(), ignored.address(), "aa").tags().unwrap().len(), 2500);
    let refused = Scripted::start(|request| match (request.path.as_str(), request.query.as_str()) {
        ("/v2/", _) => Reply::status(200),
        (_, "") => Reply::status(200).body(r#"{"tags":["a"]}"#),
        _ => Reply::status(400).body(r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#),
    })
    .unwrap();
    assert_eq!(place(&client(), refused.address(), "aa").tags().unwrap(), ["a"]);
}

#[test]
fn r70_page_37_of_203_fails_once_and_nothing_starts_over() {
    let scripted = Scripted::start(|request| {
        let at: usize = request.query.split("page=").nth(1).map_or(0, |page| page.parse().unwrap());
        let earlier = u8::from(at == 36 && request.seen == 37);
        match (request.path.as_str(), earlier) {
            ("/v2/", _) => Reply::status(200),
            (_, 1) => Reply::status(500),
            _ if at == 202 => Reply::status(200).body(format!(r#"{{"tags":["t{at}"]}}"#)),
            _ => Reply::status(200)
                .header("link", format!("<?page={}>; rel=next", at + 1))
                .body(format!(r#"{{"tags":["t{at}"]}}"#)),
        }
    })
    .unwrap();
    assert_eq!(place(&client(), scripted.address(), "aa").tags().unwrap().len(), 203);
    let lists = scripted.requests().iter().filter(|request| request.path.ends_with("/list")).count();
    assert!(lists == 203 || lists == 204, "{lists}");
}

#[test]
fn r71_a_tag_that_is_deleted_after_it_was_listed_is_not_there() {
    use skycap_image::ImageSource;
    let world = World::new();
    let place = place(&client(), world.server.address(), "aa");
    place.put_more(&world);
    assert_eq!(place.tags().unwrap().len(), 2);
    place.delete(&tag("2")).unwrap();
    let found = place.find_all(&[tag("1"), tag("2")]);
    assert!(found[0].as_ref().unwrap().is_some() && found[1].as_ref().unwrap().is_none());
    assert!(place.find(&tag("2")).unwrap().is_none());
}

trait More {
    fn put_more(&self, world: &World);
}

impl More for skycap_registry::Place {
    fn put_more(&self, world: &World) {
        use skycap_image::{Artifact, ImageSink};
        self.put(&Artifact::Image(world.image.clone()), &[tag("2")]).unwrap();
    }
}
