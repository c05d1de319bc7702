//! Docker Hub's list of tags, answered offline.

use serde_json::{Value, json};
use skycap_image::{Artifact, Digest, ImageSink};
use skycap_registry::{Client, Credentials};

use crate::support::{ask, client, image, index, place, server, tag};

fn get(client: &Client, url: &str) -> (u16, Value) {
    let answer = client.get(url, &[], &Credentials::Anonymous).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn tags_come_newest_first_and_page_by_page() {
    let (_dir, server) = server();
    let client = client();
    let place = place(&client, server.address(), "library/app");
    for number in 0..5 {
        place.put(&Artifact::Image(image("amd64", &[vec![number]])), &[tag(&format!("v{number}"))]).unwrap();
    }
    place.put(&Artifact::Image(image("amd64", &[vec![9]])), &[tag("v1")]).unwrap();
    let mut url = format!("http://{}/v2/repositories/library/app/tags?page_size=2", server.address());
    let mut names = Vec::new();
    loop {
        let (status, page) = get(&client, &url);
        assert_eq!((status, &page["count"]), (200, &json!(5)));
        names.extend(page["results"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["v1", "v4", "v3", "v2", "v0"]);
    assert_eq!(get(&client, &format!("http://{}/v2/repositories/library/app/tags?page=9", server.address())).0, 404);
    assert_eq!(get(&client, &format!("http://{}/v2/repositories/library/other/tags", server.address())).0, 404);
}

#[test]
fn a_tag_names_its_platforms() {
    let (_dir, server) = server();
    let client = client();
    let place = place(&client, server.address(), "app");
    let index = index();
    place.put(&index, &[tag("multi")]).unwrap();
    let image = place.put(&Artifact::Image(image("s390x", &[])), &[tag("single")]).unwrap();
    let (_, multi) = get(&client, &format!("http://{}/v2/repositories/app/tags/multi", server.address()));
    let platforms: Vec<(&str, &str)> = multi["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| (image["os"].as_str().unwrap(), image["architecture"].as_str().unwrap()))
        .collect();
    assert_eq!(platforms, [("linux", "amd64"), ("linux", "arm64")]);
    assert_eq!(multi["digest"], json!(index.descriptor().digest));
    assert!(multi["last_updated"].as_str().unwrap().ends_with('Z'));
    let (_, single) = get(&client, &format!("http://{}/v2/repositories/app/tags/single/", server.address()));
    assert_eq!(
        (&single["images"][0]["architecture"], &single["images"][0]["digest"]),
        (&json!("s390x"), &json!(image.digest))
    );
    assert_eq!(get(&client, &format!("http://{}/v2/repositories/app/tags/none", server.address())).0, 404);
}

#[test]
fn a_config_that_is_too_long_to_be_one_is_not_read() {
    let (_dir, server) = server();
    let padding = " ".repeat(9 * 1024 * 1024);
    let config =
        format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[]}}{padding}}}"#);
    let digest = Digest::sha256(config.as_bytes());
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    assert_eq!(ask(server.address(), "POST", &target, &[], config.as_bytes()).status, 201);
    let config_type = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "layers": [],
        "config": {"mediaType": config_type, "digest": digest, "size": config.len()},
    });
    let headers = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let body = manifest.to_string();
    assert_eq!(ask(server.address(), "PUT", "/v2/app/manifests/1", &headers, body.as_bytes()).status, 201);
    let (_, tag) = get(&client(), &format!("http://{}/v2/repositories/app/tags/1", server.address()));
    assert_eq!((&tag["name"], &tag["images"]), (&json!("1"), &json!([])));
}
