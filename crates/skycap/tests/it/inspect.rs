//! `skycap inspect` and `skycap tags`.

use serde_json::{Value, json};
use skycap_image::Digest;

use crate::copy::{INDEX, layout};
use crate::world::{World, peer, registry, run};

#[test]
fn people_read_what_an_image_is() {
    let world = World::new();
    let listing = r#"
        entrypoint /bin/app --serve
        cmd now
        env PATH=/bin
        user app:app
        workdir /srv
        expose 80/tcp
        volume /data
        label org.example.name=demo
        annotation note=kept
        created 2024-01-02T03:04:05Z
        layer
          file a 0644 0:0 "a"
        layer zstd
          file b 0644 0:0 "b"
        layer none
          file c 0644 0:0 "c"
    "#;
    let digest = layout(&world, "app", listing, "1");
    let shown = run(world.skycap(["inspect", "oci:app:1"])).ok();
    let manifest: Value =
        serde_json::from_str(&run(world.skycap(["inspect", "--raw", "oci:app:1"])).ok().stdout).unwrap();
    let layer = |at: usize| manifest["layers"][at]["digest"].as_str().unwrap().to_owned();
    let size = |at: usize| manifest["layers"][at]["size"].as_u64().unwrap();
    let total = size(0) + size(1) + size(2);
    let total = if total < 1000 { format!("{total} B") } else { format!("{}.{} kB", total / 1000, total % 1000 / 100) };
    let kb = |bytes: u64| {
        if bytes < 1000 { format!("{bytes} B") } else { format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100) }
    };
    let rows = [(0, "gzip"), (1, "zstd"), (2, "not compressed")];
    let width = rows.iter().map(|(at, _)| kb(size(*at)).len()).max().unwrap();
    let layers: Vec<String> =
        rows.iter().map(|(at, how)| format!("{}  {:<width$}  {how}", layer(*at), kb(size(*at)))).collect();
    let expected = format!(
        "Name:        oci:app:1\n\
         Digest:      {digest}\n\
         Type:        OCI image\n\
         Platform:    linux/amd64\n\
         Created:     2024-01-02T03:04:05Z\n\
         Size:        {total} in 3 layers\n\
         Layers:      {}\n\
         \x20            {}\n\
         \x20            {}\n\
         Entrypoint:  [\"/bin/app\",\"--serve\"]\n\
         Cmd:         [\"now\"]\n\
         User:        app:app\n\
         Directory:   /srv\n\
         Ports:       80/tcp\n\
         Volumes:     /data\n\
         Env:         PATH=/bin\n\
         Labels:      org.example.name=demo\n\
         Annotations: note=kept\n",
        layers[0], layers[1], layers[2]
    );
    assert_eq!(shown.stdout, expected);
    assert_eq!(shown.stderr, "");
}

#[test]
fn an_index_is_shown_with_its_platforms_and_one_image() {
    let world = World::new();
    layout(&world, "app", INDEX, "1");
    let shown = run(world.skycap(["inspect", "oci:app:1", "--platform", "linux/arm64"])).ok().stdout;
    for text in [
        "Type:        OCI index\n",
        "Platforms:   linux/amd64  sha256:",
        "linux/arm64  sha256:",
        "\nlinux/arm64\nDigest: ",
    ] {
        assert!(shown.contains(text), "{text:?} in\n{shown}");
    }
    run(world.skycap(["inspect", "oci:app:1", "--platform", "linux/s390x"]))
        .fails(1, "it offers linux/amd64, linux/arm64");
    run(world.skycap(["inspect", "oci:app:1", "--platform", "s390x"])).fails(2, "expected OS/ARCHITECTURE");
}

#[test]
fn raw_and_config_are_the_stored_bytes() {
    let world = World::new();
    let digest = layout(&world, "app", "layer\n file a 0644 0:0 \"a\"\n", "1");
    let raw = run(world.skycap(["inspect", "--raw", "oci:app:1"])).ok().stdout;
    assert_eq!(Digest::sha256(raw.as_bytes()).to_string(), digest);
    let config = run(world.skycap(["inspect", "--config", "oci:app:1"])).ok().stdout;
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(json!(Digest::sha256(config.as_bytes()).to_string()), manifest["config"]["digest"]);
}

#[test]
fn what_an_image_says_cannot_move_the_cursor() {
    let world = World::new();
    layout(&world, "app", "label \"evil\\x1b[2Jkey\"=\"two\\nlines\"\nlayer\n file a 0644 0:0 \"a\"\n", "1");
    let shown = run(world.skycap(["inspect", "oci:app:1"])).ok().stdout;
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains("\\u{1b}[2J"), "{shown:?}");
}

#[test]
fn json_has_the_keys_and_values_of_skopeo() {
    let test = "json_has_the_keys_and_values_of_skopeo";
    let world = World::new();
    if peer(test, "skopeo").is_none() {
        return;
    }
    layout(&world, "app", INDEX, "1");
    let policy = world.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let mut command = world.command("skopeo");
    command.arg("--policy").arg(policy).args(["inspect", "oci:app:1"]);
    let theirs = run(command).ok().json();
    let ours = run(world.skycap(["inspect", "--json", "oci:app:1"])).ok().json();
    for (key, value) in theirs.as_object().unwrap() {
        // skopeo's layouts have no name, its labels and variables are never null, and tags are `skycap tags`.
        match key.as_str() {
            "Name" | "RepoTags" | "DockerVersion" => {}
            "Labels" | "Env" | "LayersData" | "Created" if value.is_null() => assert!(ours[key].is_null(), "{key}"),
            _ => assert_eq!(&ours[key], value, "{key}"),
        }
    }
    assert_eq!(ours["Platforms"][1]["Platform"], json!("linux/arm64"));
}

#[test]
fn tags_are_sorted_filtered_and_resolved() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let app = format!("{}/app", server.address());
    let digest = layout(&world, "app", INDEX, "1");
    let names: Vec<String> =
        ["1.9", "1.10", "1.10-rc1", "latest", "2.0"].iter().map(|tag| format!("{app}:{tag}")).collect();
    let arguments: Vec<&str> = ["copy", "oci:app:1"].into_iter().chain(names.iter().map(String::as_str)).collect();
    run(world.skycap(arguments)).ok();
    let tags = |more: &[&str]| run(world.skycap([&["tags", &app], more].concat())).ok().stdout;
    assert_eq!(tags(&["--sort", "version"]), "latest\n1.9\n1.10-rc1\n1.10\n2.0\n");
    assert_eq!(tags(&["--sort", "name", "--filter", r"^1\.\d+$"]), "1.10\n1.9\n");
    assert_eq!(tags(&["--digests", "--filter", "^2"]), format!("2.0  {digest}\n"));
    let document: Value = serde_json::from_str(&tags(&["--json", "--digests", "--filter", "^2"])).unwrap();
    assert_eq!(document, json!({"Repository": app, "Tags": ["2.0"], "Digests": {"2.0": digest}}));
    assert_eq!(run(world.skycap(["tags", "oci:app"])).ok().stdout, "1\n");
}
