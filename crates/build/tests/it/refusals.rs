//! What is wrong is said, with its line.

use crate::world::World;

pub const TESTS: &[crate::Test] = &[
    ("broken_inputs_are_errors_with_a_line", broken_inputs_are_errors_with_a_line),
    ("what_is_not_supported_is_an_error_with_a_line", what_is_not_supported_is_an_error_with_a_line),
    ("an_ignored_source_is_explained", an_ignored_source_is_explained),
    ("a_pattern_that_matches_nothing_is_told", a_pattern_that_matches_nothing_is_told),
    ("a_source_that_is_not_there_is_guessed", a_source_that_is_not_there_is_guessed),
    ("a_base_that_was_tampered_with_is_refused", a_base_that_was_tampered_with_is_refused),
    ("arguments_that_nothing_asks_for_are_reported", arguments_that_nothing_asks_for_are_reported),
    ("directives_as_build_arguments_are_checked", directives_as_build_arguments_are_checked),
    (
        "images_are_looked_up_together_and_the_first_error_is_told",
        images_are_looked_up_together_and_the_first_error_is_told,
    ),
    ("variables_cannot_take_all_memory", variables_cannot_take_all_memory),
    ("a_chain_of_a_thousand_stages_is_no_matter", a_chain_of_a_thousand_stages_is_no_matter),
    ("a_cancelled_build_says_so", a_cancelled_build_says_so),
];

fn check(cases: &[(&str, &str)]) {
    for (dockerfile, expected) in cases {
        let mut world = World::new();
        world.image(
            "base",
            "layer\n  file etc/passwd 0644 0:0 \"root:x:0:0::/:/bin/sh\\n\"\n  dir dir\n  file file 0644 0:0 \"\"\n",
        );
        world.file("a", "a");
        world.file("d/a", "a");
        let error = world.error(dockerfile);
        assert!(error.contains(expected), "{dockerfile}\nexpected: {expected}\nfound: {error}");
    }
}

fn broken_inputs_are_errors_with_a_line() {
    check(&[
        ("FROM base\nRUNN x\n", "Dockerfile:2: "),
        ("FROM missing\n", "Dockerfile:1: the image missing cannot be had"),
        ("FROM UPPER:x\n", "Dockerfile:1: UPPER:x is no image reference"),
        ("FROM ${NOTHING}\n", "Dockerfile:1: base name (${NOTHING}) should not be blank"),
        ("FROM base\n\nCOPY none /\n", "Dockerfile:3: \"/none\": not found"),
        ("FROM base\nCOPY a d /x\n", "Dockerfile:2: when using COPY with more than one source file"),
        ("FROM base\nCOPY a /dir/../file/x\n", "Dockerfile:2: /file: not a directory"),
        ("FROM base\nCOPY d /file\n", "Dockerfile:2: cannot copy to non-directory: /file"),
        ("FROM base\nCOPY --chown=nobody a /\n", "Dockerfile:2: unable to find user nobody"),
        ("FROM base\nCOPY --chown=0:staff a /\n", "Dockerfile:2: unable to find group staff"),
        ("FROM base\nCOPY --chmod=999 a /\n", "Dockerfile:2: invalid chmod parameter: '999'"),
        ("FROM base\nUSER app\nWORKDIR /x\n", "Dockerfile:3: unable to find user app"),
        ("FROM base\nSTOPSIGNAL SIGNAL\n", "Dockerfile:2: invalid signal: SIGNAL"),
        ("FROM base\nEXPOSE 70000\n", "Dockerfile:2: invalid containerPort: 70000"),
        ("FROM base\nLABEL a=${x:?unset}\n", "Dockerfile:2: "),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nFROM a\n",
            "Dockerfile:2: cannot copy from stage \"b\", it needs to be defined before",
        ),
        ("FROM base\nCOPY --from=7 / /\n", "Dockerfile:2: invalid stage index 7"),
        ("FROM base\nCOPY --from=elsewhere / /\n", "Dockerfile:2: the image elsewhere cannot be had"),
        ("FROM --platform=nonsense base\n", "Dockerfile:1: failed to parse platform nonsense"),
        ("FROM base\nCOPY https://example.org/a /\n", "Dockerfile:2: source can't be a URL for COPY"),
    ]);
}

fn what_is_not_supported_is_an_error_with_a_line() {
    check(&[
        ("FROM base\nADD https://example.org/a /\n", "Dockerfile:2: cannot fetch https://example.org/a"),
        ("FROM base\nADD git@example.org:a/b.git /\n", "Dockerfile:2: cannot look up git@example.org:a/b.git"),
        ("FROM base\nADD --keep-git-dir=true a /\n", "Dockerfile:2: ADD --keep-git-dir"),
        ("FROM base\nRUN --security=insecure x\n", "Dockerfile:2: security.insecure is not allowed"),
    ]);
    let world = World::new();
    let mut request = world.request("FROM scratch\nCOPY . /\n");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "context".to_owned());
    let error = world.build(&request).err().unwrap();
    assert!(error.to_string().contains("SOURCE_DATE_EPOCH: the build context is a directory"), "{error}");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "soon".to_owned());
    let error = world.build(&request).err().unwrap();
    assert!(error.to_string().contains("invalid SOURCE_DATE_EPOCH: soon"), "{error}");
    request.build_args.clear();
    request.targets = vec![Some("nowhere".to_owned())];
    let error = world.build(&request).err().unwrap();
    assert!(error.to_string().contains("target stage \"nowhere\" could not be found"), "{error}");
}

fn an_ignored_source_is_explained() {
    let world = World::new();
    world.file("secret.txt", "x");
    let mut request = world.request("FROM scratch\nCOPY secret.txt /\n");
    request.ignore = skycap_build::ignore::Ignore::parse(b"secret*\n").unwrap();
    let error = world.build(&request).err().unwrap();
    assert_eq!(error.to_string(), "Dockerfile:2: \"/secret.txt\": not found");
    let hint = error.hint().unwrap().to_owned();
    assert!(hint.contains(".dockerignore") && hint.contains("\"secret*\"; a line !secret.txt"), "{hint}");
    // The same for a directory that is hidden as a whole, and for what a RUN mounts.
    world.file("node_modules/a/index.js", "x");
    for instruction in ["COPY node_modules/a /", "RUN --mount=source=node_modules,target=/m true"] {
        let mut request = world.request(&format!("FROM scratch\n{instruction}\n"));
        request.ignore = skycap_build::ignore::Ignore::parse(b"**/node_modules\n").unwrap();
        let error = world.build(&request).err().unwrap();
        assert!(error.hint().is_some_and(|hint| hint.contains("**/node_modules")), "{error}: {:?}", error.hint());
    }
}

fn a_pattern_that_matches_nothing_is_told() {
    let world = World::new();
    world.file("app.jar", "x");
    let warnings = |dockerfile: &str| {
        world.build(&world.request(dockerfile)).map(drop).unwrap();
        let lines = world.log.lines.lock().unwrap().clone();
        lines.into_iter().filter(|line| line.contains("matches")).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("FROM scratch\nCOPY *.jar *.war /\n"),
        ["Dockerfile:2: nothing in the build context matches *.war"]
    );
    assert!(warnings("FROM scratch\nCOPY app.ja? /\n").is_empty());
}

fn a_source_that_is_not_there_is_guessed() {
    let world = World::new();
    world.file("app/requirements.txt", "x");
    for (dockerfile, expected) in [
        ("FROM scratch\nCOPY requirements.txt /\n", "there is app/requirements.txt"),
        ("FROM scratch\nADD app/requirement.txt /\n", "did you mean app/requirements.txt?"),
        ("FROM scratch AS one\nCOPY app /app\nFROM scratch\nCOPY --from=one /ap /\n", "did you mean app?"),
        ("FROM scratch\nCOPY ../shared /\n", "--build-context"),
    ] {
        let error = world.build(&world.request(dockerfile)).err().unwrap();
        assert!(error.to_string().contains("not found"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(expected)), "{error}: {:?}", error.hint());
    }
}

/// A blob source that gives other bytes than were asked for.
struct Tampered(std::sync::Arc<dyn skycap_image::BlobSource>);

impl skycap_image::BlobSource for Tampered {
    fn open_unverified(
        &self,
        blob: &skycap_image::Descriptor,
    ) -> Result<skycap_image::BlobReader, skycap_image::SourceError> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        self.0.open_unverified(blob)?.read_to_end(&mut bytes)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

fn a_base_that_was_tampered_with_is_refused() {
    let mut world = World::new();
    world.image("base", "layer\n  file srv/a 0644 0:0 \"a\"\n");
    let skycap_image::Artifact::Image(image) = world.images.known["library/base"].clone() else { panic!("an image") };
    let blobs = std::sync::Arc::new(Tampered(std::sync::Arc::clone(image.blobs())));
    let image = skycap_image::Image::from_parts(
        image.raw().clone(),
        image.manifest().clone(),
        image.config_bytes().to_vec(),
        blobs,
    );
    world.images.known.insert("library/base".to_owned(), skycap_image::Artifact::Image(image.unwrap()));
    world.file("a", "a");
    let error = world.error("FROM base\nCOPY a /srv/b\n");
    assert!(error.contains("Dockerfile:2: "), "{error}");
    assert!(error.contains("corrupt") || error.contains("hashes to") || error.contains("malformed"), "{error}");
}

fn arguments_that_nothing_asks_for_are_reported() {
    let world = World::new();
    let mut request = world.request("FROM scratch\nARG USED\nLABEL a=$USED\n");
    for name in ["USED", "UNUSED", "http_proxy", "TARGETARCH", "SOURCE_DATE_EPOCH"] {
        request.build_args.insert(name.to_owned(), "1".to_owned());
    }
    world.built_as(&request);
    let lines = world.log.lines.lock().unwrap().clone();
    assert_eq!(lines, ["no ARG asks for these build arguments: UNUSED (did you mean USED?)"]);
}

fn directives_as_build_arguments_are_checked() {
    let world = World::new();
    let mut request = world.request("FROM scratch\nLABEL a=b\n");
    for (name, value, expected) in [
        ("BUILDKIT_SYNTAX", "docker/dockerfile:1", None),
        ("BUILDKIT_SYNTAX", "", None),
        (
            "BUILDKIT_SYNTAX",
            "example.org/yaml:1",
            Some("BUILDKIT_SYNTAX: the frontend example.org/yaml:1 cannot be run"),
        ),
        ("BUILDKIT_DOCKERFILE_CHECK", "skip=all", None),
        ("BUILDKIT_DOCKERFILE_CHECK", "loud=true", Some("BUILDKIT_DOCKERFILE_CHECK: invalid check option \"loud\"")),
    ] {
        request.build_args = [(name.to_owned(), value.to_owned())].into();
        match (world.build(&request), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
                assert!(error.hint().is_some(), "{error}");
            }
            (built, _) => panic!("{name}={value}: {:?}", built.err()),
        }
    }
}

/// Knows no image, and says so when all that are there to be asked for have been asked for; the first one last.
struct Together {
    asked: std::sync::Mutex<Vec<String>>,
    another: std::sync::Condvar,
    all: usize,
}

impl skycap_image::Resolver for Together {
    fn find(&self, _: &skycap_image::Reference) -> Result<Option<skycap_image::Descriptor>, skycap_image::SourceError> {
        Ok(None)
    }

    fn get(&self, reference: &skycap_image::Reference) -> Result<skycap_image::Artifact, skycap_image::SourceError> {
        let name = reference.repository.path().to_owned();
        let mut asked = self.asked.lock().unwrap();
        asked.push(name.clone());
        self.another.notify_all();
        let wait = std::time::Duration::from_secs(10);
        let (asked, waited) = self.another.wait_timeout_while(asked, wait, |asked| asked.len() < self.all).unwrap();
        drop(asked);
        let what = if waited.timed_out() { "nobody asks for another" } else { "nothing is here" };
        if name == "library/first" {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        Err(skycap_image::SourceError::new(skycap_image::Kind::NotFound, what))
    }
}

fn images_are_looked_up_together_and_the_first_error_is_told() {
    let world = World::new();
    let request = world.request(
        "ARG BASE=third\nFROM first AS a\nFROM unneeded\nFROM scratch AS b\nCOPY --from=second / /\n\
         FROM $BASE\nCOPY --from=a /x /\nRUN --mount=from=b true\n",
    );
    let images = Together { asked: std::sync::Mutex::default(), another: std::sync::Condvar::new(), all: 3 };
    let refused = skycap_sandbox::Refused { attempts: Vec::new() };
    let sandbox = skycap_build::SandboxAccess::Refused(&refused);
    // The last stage is planned first, and its base is the first thing in it.
    let store = world.store();
    let world = crate::world::around(&images, &store, sandbox, &skycap_image::Silent);
    let error = skycap_build::build(&request, &world).err().unwrap();
    let error = crate::world::chain(&error);
    assert!(error.starts_with("Dockerfile:6: the image third cannot be had"), "{error}");
    assert!(error.contains("nothing is here"), "{error}");
    let mut asked = images.asked.into_inner().unwrap();
    asked.sort();
    assert_eq!(asked, ["library/first", "library/second", "library/third"]);
}

fn variables_cannot_take_all_memory() {
    let doubling = |keyword: &str, first: &str| {
        let line = |n: u32| format!("{keyword} A{n}=$A{}$A{}\n", n - 1, n - 1);
        format!("{first}{keyword} A0=0123456789\n") + &(1..40).map(line).collect::<String>()
    };
    let too_large = "1048576 bytes";
    let too_many = "the variables of the stage have more than 2097152 bytes";
    let large = "FROM base\nARG A=0123456789abcdef\n".to_owned() + &"ARG A=$A$A$A$A\n".repeat(7) + "ARG B=$A$A$A\n";
    let with = |lines: &str| large.clone() + lines;
    check(&[
        (
            &doubling("ARG", "FROM base\n"),
            &format!("Dockerfile:19: failed to process \"$A16$A16\": its variables expand to more than {too_large}"),
        ),
        (&doubling("ENV", "FROM base\n"), "Dockerfile:19: "),
        (&(doubling("ARG", "") + "FROM base\n"), "Dockerfile:18: "),
        (&with("ENV C=$B D=$B\n"), &format!("Dockerfile:11: with D, {too_many}")),
        (&with("COPY <<D /\n$B$B\nD\n"), "Dockerfile:11: failed to process"),
        (&with(&"LABEL a=$B\n".repeat(1000)), "up to here, the variables of the Dockerfile expand to more than"),
        (&with(&"RUN x\n".repeat(1000)), "up to here, the variables of the Dockerfile expand to more than"),
        (&with(&"COPY <<D /\n$B\nD\n".repeat(1000)), "up to here, the variables of the Dockerfile expand to more than"),
    ]);
}

/// On a thread, where there is less room for calls within calls than in a program's first one.
fn a_chain_of_a_thousand_stages_is_no_matter() {
    let chain = |of: &dyn Fn(usize) -> String| (1..1000).fold("FROM scratch AS s0\n".to_owned(), |all, i| all + &of(i));
    let by_base = chain(&|i| format!("FROM s{} AS s{i}\n", i - 1));
    let by_copy = chain(&|i| format!("FROM scratch AS s{i}\nCOPY --from=s{} none /\n", i - 1));
    let by_trigger =
        chain(&|i| format!("FROM scratch AS t{i}\nONBUILD COPY --from=s{} none /\nFROM t{i} AS s{i}\n", i - 1));
    let world = World::new();
    let build = |dockerfile: &str| {
        let ended =
            std::thread::scope(|scope| scope.spawn(|| world.build(&world.request(dockerfile)).map(drop)).join());
        ended.unwrap().map_err(|error| error.to_string())
    };
    assert_eq!(build(&by_base), Ok(()));
    for dockerfile in [by_copy, by_trigger] {
        let nothing = build(&dockerfile).unwrap_err();
        assert!(nothing.contains("\"/none\": not found"), "{nothing}");
    }
}

fn a_cancelled_build_says_so() {
    let world = World::new();
    world.file("a", "a");
    let request = world.request("FROM scratch\nCOPY a /\n");
    request.cancel.cancel();
    assert!(matches!(world.build(&request), Err(skycap_build::BuildError::Cancelled)));
}
