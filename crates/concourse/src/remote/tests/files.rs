//! `ADD` of files that servers hold.

use super::*;

/// Section 4, ADD over http(s): the name is the last part of the path, mode 0600, the time is the server's.
#[test]
fn a_file_of_a_server_is_added_as_buildkit_does() {
    let (place, web) = (Place::new(), Web::start(files).unwrap());
    let url = web.url();
    for (line, expected) in [
        (format!("ADD {url}/dir/file.txt /to/"), "directory to 0755 0:0\nfile to/file.txt 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/dir/file.txt?x=y#z /name"), "file name 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/ /"), "file __unnamed__ 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/bare /"), "file bare 0600 0:0 @0 bare\n"),
        (format!("ADD --chmod=u+x,go=r {url}/bare /"), "file bare 0744 0:0 @0 bare\n"),
        (format!("ADD --chown=5:6 {url}/bare /"), "file bare 0600 5:6 @0 bare\n"),
        (format!("ADD --link {url}/bare /a/"), "directory a 0755 0:0\nfile a/bare 0600 0:0 @0 bare\n"),
        (format!("ARG U={url}\nADD $U/bare /"), "file bare 0600 0:0 @0 bare\n"),
        (format!("ADD --unpack {url}/a.tar /"), "directory in 0755 0:0\nfile in/x 0644 0:0 @0 x\n"),
        (format!("ADD --unpack {url}/bare /"), "file bare 0600 0:0 @0 bare\n"),
    ] {
        assert_eq!(place.layers(&line), [expected], "{line}");
    }
    let whole = place.layers(&format!("ADD {url}/a.tar /"));
    assert!(whole[0].starts_with("file a.tar 0600 0:0 @0"), "a remote archive is not unpacked unasked: {whole:?}");
    let copied = place.layers(&format!("ADD --unpack=false {url}/a.tar /"));
    assert_eq!(copied, whole);
}

/// Section 11: the content counts. A server that can say that nothing changed is asked for that only.
#[test]
fn a_file_that_did_not_change_is_cached() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let place = Place::new();
    let web = Web::start(move |question| {
        let version = now.load(Ordering::Relaxed);
        match question.target.as_str() {
            "/tagged" if question.header("if-none-match") == Some(&format!("\"{version}\"")) => Answer::status(304),
            "/tagged" => Answer::ok(format!("v{version}")).with("ETag", &format!("\"{version}\"")),
            "/dated" if question.header("if-modified-since") == Some(MODIFIED) => Answer::status(304),
            "/dated" => Answer::ok("dated").with("Last-Modified", MODIFIED),
            _ => Answer::ok("plain"),
        }
    });
    let web = web.unwrap();
    for name in ["tagged", "dated", "plain"] {
        let line = format!("ADD {}/{name} /", web.url());
        assert_eq!(place.outcome(&line), Outcome::Done, "{name}");
        assert_eq!(place.outcome(&line), Outcome::Cached, "{name}");
    }
    let line = format!("ADD {}/tagged /", web.url());
    web.forget();
    assert_eq!(place.outcome(&line), Outcome::Cached);
    let asked = web.asked();
    assert_eq!((asked.len(), asked[0].header("if-none-match")), (1, Some("\"1\"")));
    version.store(2, Ordering::Relaxed);
    assert_eq!(place.outcome(&line), Outcome::Done);
    assert!(place.layers(&line)[0].ends_with("v2\n"));
    assert_eq!(place.outcome(&line), Outcome::Cached);
}

/// Section 3, `ADD --checksum`.
#[test]
fn a_checksum_is_compared_and_spares_the_question() {
    let (mut place, web) = (Place::new(), Web::start(files).unwrap());
    let url = format!("{}/bare", web.url());
    let (right, wrong) = (Digest::sha256(b"bare"), Digest::sha256(b"other"));
    let error = place.error(&format!("ADD --checksum={wrong} {url} /"));
    assert!(error.contains(&wrong.to_string()) && error.contains(&right.to_string()), "{error}");
    assert!(error.starts_with("Dockerfile:2: digest mismatch"), "{error}");
    let line = format!("ARG C={right}\nADD --checksum=$C {url} /");
    assert_eq!(place.layers(&line), ["file bare 0600 0:0 @0 bare\n"]);
    web.forget();
    assert_eq!(place.outcome(&line), Outcome::Cached);
    assert!(web.asked().is_empty(), "what is known by its digest is not asked for");
    place.no_cache = true;
    assert_eq!(place.outcome(&line), Outcome::Done);
    assert_eq!(web.asked().len(), 1);
    for (line, expected) in [
        (format!("ADD --checksum={right} {url} {url} /"), "checksum can't be specified for multiple sources"),
        (format!("ADD --checksum={right} file /"), "checksum requires HTTP(S) or Git sources"),
        (format!("ADD --checksum=md5:00 {url} /"), "invalid checksum \"md5:00\""),
        (format!("COPY {url} /"), "source can't be a URL for COPY"),
        ("COPY https://h/x.git /".to_owned(), "source can't be a git ref for COPY"),
        ("COPY git@h:x /".to_owned(), "source can't be a git ref for COPY"),
        (format!("ADD {url} {url} /x"), "the destination must be a directory"),
        (format!("ADD {}/none /", web.url()), "404"),
        ("ADD --keep-git-dir dir/none /x".to_owned(), "needs a git source"),
    ] {
        let error = place.error(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

/// Section 4: several sources of one instruction make one layer, wherever they are. S25.
#[test]
fn sources_of_all_kinds_make_one_layer() {
    if !has_git("sources_of_all_kinds_make_one_layer") {
        return;
    }
    let (place, web) = (Place::new(), Web::start(files).unwrap());
    place.file("local", b"local");
    place.file("l.tar", &archive(&[("unpacked", "u")]));
    place.repository("r.git", &[&[("tracked", "t")]]);
    let url = web.url();
    let line = format!("ADD {url}/bare local https://git.example/r.git l.tar <<E /d/\ntext\nE");
    let expected = "directory d 0755 0:0\nfile d/E 0644 0:0 text\\n\nfile d/bare 0600 0:0 @0 bare\n\
                    file d/local 0644 0:0 local\nfile d/tracked 0644 0:0 t\nfile d/unpacked 0644 0:0 @0 u\n";
    assert_eq!(place.layers(&line), [expected]);
    let built = place.build(&format!("FROM scratch\n{line}\n")).unwrap();
    let by = built.image.config().history.last().unwrap().created_by.clone().unwrap_or_default();
    assert_eq!(by, format!("ADD {url}/bare local https://git.example/r.git l.tar <<E /d/ # buildkit"));
}

/// R30 to R33, M33: credentials are for one host, and a redirect does not carry them to another.
#[test]
fn credentials_stay_with_their_host() {
    let elsewhere = Web::start(|_| Answer::ok("moved")).unwrap();
    let target = elsewhere.url();
    let web = Web::start(move |question| match question.header("authorization") {
        Some("Bearer hunter2-token" | "hunter2 header") if question.target == "/moved" => {
            Answer::status(302).with("Location", &format!("{target}/x"))
        }
        Some("Bearer hunter2-token" | "hunter2 header") => Answer::ok("secret"),
        _ => Answer::status(401),
    });
    let web = web.unwrap();
    let mut place = Place::new();
    let error = place.error(&format!("ADD {}/a /", web.url()));
    assert!(error.contains("401") && error.contains("needs the secret HTTP_AUTH_TOKEN_"), "{error}");
    for (name, value) in [("HTTP_AUTH_TOKEN", "hunter2-token"), ("HTTP_AUTH_HEADER", "hunter2 header")] {
        place.secrets = BTreeMap::from([(format!("{name}_{}", web.authority()), SecretBytes::new(value))]);
        assert!(place.layers(&format!("ADD {}/a /", web.url()))[0].ends_with("secret\n"));
        place.secrets = BTreeMap::from([(format!("{name}_127.0.0.1"), SecretBytes::new(value))]);
        let moved = place.layers(&format!("ADD {}/moved /", web.url()));
        assert_eq!(moved, ["file moved 0600 0:0 @0 moved\n"]);
        assert!(elsewhere.asked().iter().all(|question| question.header("authorization").is_none()));
        place.secrets = BTreeMap::from([(format!("{name}_other"), SecretBytes::new(value))]);
        assert!(place.error(&format!("ADD {}/b /", web.url())).contains("401"));
    }
    // A secret in the URL itself is shown to the server and to nobody else.
    let plain = Web::start(|_| Answer::ok("x")).unwrap();
    let built = place.build(&format!("FROM scratch\nADD http://u:hunter2-x@{}/b /\n", plain.authority())).unwrap();
    assert_not_shown_in("the configuration", built.image.config_bytes());
    built.steps.iter().for_each(|step| assert_not_shown_in("a step", step.label.as_bytes()));
    let error = place.error(&format!("ADD http://u:hunter2-x@{}/b?t=hunter2-y /", web.authority()));
    assert!(error.contains("401"), "{error}");
    assert!(web.asked().last().unwrap().header("authorization").is_some_and(|value| value.starts_with("Basic ")));
}

/// R40: a body that breaks off is asked for again; a server that fails for a moment, too.
#[test]
fn what_passes_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let web = Web::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer { cut: Some(3), ..Answer::ok("whole content") },
        1 => Answer::status(503),
        _ => Answer::ok("whole content"),
    });
    let web = web.unwrap();
    assert!(Place::new().layers(&format!("ADD {}/f /", web.url()))[0].ends_with("whole content\n"));
    assert_eq!(tries.load(Ordering::Relaxed), 3);
}
