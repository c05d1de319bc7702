//! Contexts and times that come from elsewhere.

use super::*;

/// Section 9: a named context of every kind, for `FROM`, `COPY --from` and in the place of a stage.
#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    if !has_git("named_contexts_take_the_place_of_stages_and_images") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "git")]]);
    let web = Web::start(files).unwrap();
    let directory = place.path("other");
    fs::create_dir(&directory).unwrap();
    for (name, content) in [("a", "dir"), ("hidden", "x")] {
        fs::write(directory.join(name), content).unwrap();
    }
    let ignore = skycap_build::ignore::Ignore::parse(b"hidden\n").unwrap();
    place.contexts = BTreeMap::from([
        ("repo".to_owned(), NamedContext::Git("https://git.example/r.git#main".to_owned())),
        ("dir".to_owned(), NamedContext::Directory { path: directory, ignore }),
        ("tar".to_owned(), NamedContext::Http(format!("{}/a.tar", web.url()))),
        ("file".to_owned(), NamedContext::Http(format!("{}/bare", web.url()))),
        ("stage::linux/none".to_owned(), NamedContext::Git("https://git.example/none.git".to_owned())),
        ("alpine".to_owned(), NamedContext::Git("https://git.example/r.git".to_owned())),
        ("scratch".to_owned(), NamedContext::Git("https://git.example/none.git".to_owned())),
    ]);
    for (dockerfile, expected) in [
        ("FROM scratch\nCOPY --from=repo /a /\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM scratch\nCOPY --from=dir . /d/\n", vec!["directory d 0755 0:0\nfile d/a 0644 0:0 dir\n"]),
        ("FROM scratch\nCOPY --from=tar /in/x /\n", vec!["file x 0644 0:0 @0 x\n"]),
        ("FROM scratch\nCOPY --from=file /context /\n", vec!["file context 0600 0:0 @0 bare\n"]),
        ("FROM repo\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM dir\nCOPY --from=dir a /b\n", vec!["file a 0644 0:0 dir\n", "file b 0644 0:0 dir\n"]),
        ("FROM docker.io/library/alpine:latest\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM nothing AS repo\nRUN false\nFROM repo\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM nothing AS repo\nRUN false\nFROM scratch\nCOPY --from=0 a /\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM scratch AS stage\nCOPY --from=dir a /\nFROM stage\n", vec!["file a 0644 0:0 dir\n"]),
    ] {
        let built = place.build(dockerfile).unwrap_or_else(|error| panic!("{dockerfile}: {error}"));
        let layers: Vec<String> = built.image.layers().iter().map(list).collect();
        assert_eq!(layers, expected, "{dockerfile}");
        let told = built.image.config().history.iter().filter(|line| !line.empty_layer).count();
        assert_eq!(told, layers.len(), "{dockerfile}");
    }
    let error = place.build("FROM scratch\nCOPY --from=dir hidden /\n").err().unwrap();
    assert!(error.contains("\"/hidden\": not found"), "{error}");
}

/// Section 6: `SOURCE_DATE_EPOCH` names a stage or a context at a server.
#[test]
fn the_epoch_is_that_of_a_source() {
    if !has_git("the_epoch_is_that_of_a_source") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let web = Web::start(files).unwrap();
    let file = format!("{}/dir/file.txt", web.url());
    place.contexts = BTreeMap::from([
        ("repo".to_owned(), NamedContext::Git("https://git.example/r.git".to_owned())),
        ("page".to_owned(), NamedContext::Http(file.clone())),
        ("timeless".to_owned(), NamedContext::Http(format!("{}/bare", web.url()))),
    ]);
    let stages = format!(
        "ARG U={file}\nFROM scratch AS src\nARG U\nADD ${{U}} /\nFROM scratch AS tree\nADD https://git.example/r.git /\n\
         FROM scratch AS two\nADD {file} /\nADD {file} /\nFROM scratch AS other\nADD {file} /\nCOPY x /\n\
         FROM scratch AS local\nADD x /\nFROM src AS based\nADD {file} /\nFROM scratch\nARG SOURCE_DATE_EPOCH\n\
         LABEL t=$SOURCE_DATE_EPOCH\n"
    );
    for (name, expected) in [
        ("repo", Ok("1700000000")),
        ("page", Ok("784111777")),
        ("src", Ok("784111777")),
        ("SRC", Ok("784111777")),
        ("tree", Ok("1700000000")),
        ("5", Ok("5")),
        ("timeless", Err("does not say when it changed")),
        ("two", Err("Dockerfile:7: SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")),
        ("other", Err("unsupported COPY instruction")),
        ("local", Err("must be a single HTTP(S) or Git ADD")),
        ("based", Err("must use FROM scratch")),
        ("nobody", Err("invalid SOURCE_DATE_EPOCH: nobody")),
        ("context", Err("the build context is a directory")),
    ] {
        place.build_args = BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), name.to_owned())]);
        match (place.build(&stages), expected) {
            (Ok(built), Ok(seconds)) => {
                assert_eq!(built.image.config().config.labels["t"], seconds, "{name}");
                let time: i64 = seconds.parse().unwrap();
                let created = built.image.config().created.clone().unwrap_or_default();
                assert_eq!(created.parse::<jiff::Timestamp>().unwrap().as_second(), time, "{name}");
            }
            (Err(error), Err(why)) => assert!(error.contains(why), "{name}: {error}"),
            (Ok(_), Err(why)) => panic!("{name} was taken, not {why}"),
            (Err(error), Ok(_)) => panic!("{name}: {error}"),
        }
    }
}

/// Section 9: a main context that is a repository, an archive or a Dockerfile at a URL, or an archive from elsewhere.
#[test]
fn main_contexts_are_fetched() {
    if !has_git("main_contexts_are_fetched") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("Dockerfile", "FROM scratch\n"), ("sub/Dockerfile", "FROM scratch\n")]]);
    let packed = archive(&[("Dockerfile", "FROM scratch\n"), ("../../out", "x")]);
    let sound = archive(&[("Dockerfile", "FROM scratch\n")]);
    let web = Web::start(move |question| match question.target.as_str() {
        "/a.tar" => Answer::ok(sound.clone()).with("Last-Modified", MODIFIED),
        "/hostile.tar" => Answer::ok(packed.clone()),
        "/Dockerfile" => Answer::ok("FROM scratch\n"),
        _ => Answer::status(404),
    });
    let web = web.unwrap();
    let names = |directory: &Path| {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for (address, kept, expected, time) in [
        ("https://git.example/r.git".to_owned(), "", vec!["Dockerfile", "sub"], Some(1_700_000_000)),
        ("https://git.example/r.git#main:sub".to_owned(), "", vec!["Dockerfile"], Some(1_700_000_000)),
        ("https://git.example/r.git".to_owned(), "1", vec![".git", "Dockerfile", "sub"], Some(1_700_000_000)),
        (format!("{}/a.tar", web.url()), "", vec!["Dockerfile"], Some(784_111_777)),
        (format!("{}/Dockerfile", web.url()), "", vec!["context"], None),
    ] {
        place.build_args = BTreeMap::from([("BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned(), kept.to_owned())]);
        let found = place.main_context(&address).unwrap().unwrap();
        assert_eq!((names(&found.directory), found.time), (expected.iter().map(ToString::to_string).collect(), time));
        assert_eq!(found.dockerfile.is_some(), address.ends_with("/Dockerfile"), "{address}");
    }
    assert!(place.main_context("some/directory").unwrap().is_none());
    for (address, why) in [
        (format!("{}/hostile.tar", web.url()), "out"),
        (format!("{}/none", web.url()), "404"),
        ("https://git.example/r.git#:none".to_owned(), "has no directory"),
    ] {
        let error = place.main_context(&address).err().unwrap();
        assert!(error.contains(why), "{address}: {error}");
    }
    place.build_args = BTreeMap::from([("BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned(), "maybe".to_owned())]);
    assert!(place.main_context("https://git.example/r.git").err().unwrap().contains("neither true nor false"));
}
