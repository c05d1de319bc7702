//! `ADD` of git repositories, and who may see them.

use super::*;

/// Section 4, ADD of git: every way to say what is wanted.
#[test]
fn trees_of_repositories_are_added() {
    if !has_git("trees_of_repositories_are_added") {
        return;
    }
    let place = Place::new();
    let first: &[(&str, &str)] = &[("a", "1"), ("sub/b", "b")];
    let ids = place.repository("r.git", &[first, &[("a", "2")]]);
    let url = "https://git.example/r.git";
    let of = |a: &str| format!("file a 0644 0:0 {a}\ndirectory sub 0755 0:0\nfile sub/b 0644 0:0 b\n");
    for (line, expected) in [
        (format!("ADD {url} /"), of("2")),
        (format!("ADD {url}#main /"), of("2")),
        (format!("ADD {url}#v1 /"), of("1")),
        (format!("ADD {url}?tag=v1 /"), of("1")),
        (format!("ADD {url}?branch=main /"), of("2")),
        (format!("ADD {url}?ref=refs/tags/v1 /"), of("1")),
        (format!("ADD {url}#{} /", ids[0]), of("1")),
        (format!("ADD {url}?checksum={} /", ids[0]), of("1")),
        (format!("ADD --checksum={} {url}#v1 /", ids[0]), of("1")),
        (format!("ADD --checksum={} {url}#v1 /", &ids[0][..9]), of("1")),
        (format!("ADD {url}?ref=main&commit={}&fetch-by-commit=true /", ids[0]), of("1")),
        (format!("ADD {url}#v1:sub /"), "file b 0644 0:0 b\n".to_owned()),
        (format!("ADD {url}?subdir=sub&ref=v1 /"), "file b 0644 0:0 b\n".to_owned()),
        ("ADD git@git.example:r.git#v1:sub /to".to_owned(), "directory to 0755 0:0\nfile to/b 0644 0:0 b\n".to_owned()),
        (format!("ADD --keep-git-dir=false {url}#:sub /"), "file b 0644 0:0 b\n".to_owned()),
        (format!("ADD --exclude=a {url} /"), "directory sub 0755 0:0\nfile sub/b 0644 0:0 b\n".to_owned()),
        (format!("ADD --chmod=600 --chown=7 {url}#:sub /x/"), "directory x 0755 7:7\nfile x/b 0600 7:7 b\n".to_owned()),
    ] {
        assert_eq!(place.layers(&line), [expected], "{line}");
    }
    for (line, expected) in [
        (format!("ADD {url}#v9 /"), "does not contain ref v9"),
        (format!("ADD --checksum={} {url}#main /", ids[0]), "expected checksum to match"),
        (format!("ADD {url}#{} /", "1".repeat(40)), "1111"),
        (format!("ADD {url}#:none /"), "has no directory \"none\""),
        (format!("ADD {url}#:a /"), "has no directory \"a\""),
        (format!("ADD {url}#:.git /"), "has no directory \".git\""),
        (format!("ADD --keep-git-dir=true {url}?keep-git-dir=false /"), "inconsistent keep-git-dir configuration"),
        (format!("ADD --checksum={} {url}?checksum={} /", ids[0], ids[1]), "checksum mismatch"),
        ("ADD https://git.example/none.git /".to_owned(), "cannot look up https://git.example/none.git"),
    ] {
        let error = place.error(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

/// Section 4: `mtime=commit`; otherwise files have the time of all files of a context.
#[test]
fn files_of_a_repository_may_have_its_time() {
    if !has_git("files_of_a_repository_may_have_its_time") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let line = "ADD https://git.example/r.git?mtime=commit /";
    assert_eq!(place.layers(line), ["file a 0644 0:0 @1700000000 1\n"]);
}

/// Section 11: the commit counts; a branch that moved is another source, and one that did not is not fetched.
#[test]
fn a_commit_that_is_known_is_cached() {
    if !has_git("a_commit_that_is_known_is_cached") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let line = "ADD https://git.example/r.git#main /";
    assert_eq!(place.outcome(line), Outcome::Done);
    assert_eq!(place.outcome(line), Outcome::Cached);
    place.repository("r.git", &[]);
    fs::write(place.path("srv/r.git/a"), "2").unwrap();
    git(&place.path("srv/r.git"), &["commit", "--quiet", "-a", "-m", "y"]);
    assert_eq!(place.outcome(line), Outcome::Done);
    assert_eq!(place.layers(line), ["file a 0644 0:0 2\n"]);
}

/// Section 3, `--keep-git-dir`: what is kept is the same every time, and a repository.
#[test]
fn a_kept_git_directory_is_the_same_every_time() {
    if !has_git("a_kept_git_directory_is_the_same_every_time") {
        return;
    }
    let digests: Vec<Digest> = (0..2)
        .map(|_| {
            let place = Place::new();
            place.repository("module.git", &[&[("m", "m")]]);
            let ids = place.repository("r.git", &[&[("a", "1")], &[("a", "2")]]);
            add_submodule(&place);
            let line = "ADD --keep-git-dir https://git.example/r.git /";
            let layers = place.layers(line);
            assert!(layers[0].contains("file .git/HEAD 0644"), "{layers:?}");
            assert!(!layers[0].contains(".git/logs") && !ids.is_empty(), "{layers:?}");
            place.build(&format!("FROM scratch\n{line}\n")).unwrap().image.layers()[0].diff_id
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

fn add_submodule(place: &Place) {
    let path = place.path("srv/r.git");
    fs::write(path.join(".gitmodules"), "[submodule \"m\"]\n\tpath = m\n\turl = https://git.example/module.git\n")
        .unwrap();
    let id = git(&place.path("srv/module.git"), &["rev-parse", "HEAD"]);
    git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},m")]);
    git(&path, &["add", ".gitmodules"]);
    git(&path, &["commit", "--quiet", "-m", "module"]);
}

/// Section 4: submodules are filled unless told otherwise, and their `.git` is dropped as well.
#[test]
fn submodules_are_filled() {
    if !has_git("submodules_are_filled") {
        return;
    }
    let place = Place::new();
    place.repository("module.git", &[&[("in", "m")]]);
    place.repository("r.git", &[&[("a", "1")]]);
    add_submodule(&place);
    let filled = place.layers("ADD --exclude=.gitmodules https://git.example/r.git /");
    assert_eq!(filled, ["file a 0644 0:0 1\ndirectory m 0755 0:0\nfile m/in 0644 0:0 m\n"]);
    let empty = place.layers("ADD --exclude=.gitmodules https://git.example/r.git?submodules=false /");
    assert_eq!(empty, ["file a 0644 0:0 1\ndirectory m 0755 0:0\n"]);
}

/// S24, M42: what a repository or an address could abuse.
#[test]
fn hostile_repositories_and_addresses_run_nothing() {
    if !has_git("hostile_repositories_and_addresses_run_nothing") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let path = place.path("srv/r.git");
    std::os::unix::fs::symlink("/etc", path.join("out")).unwrap();
    std::os::unix::fs::symlink("..", path.join("up")).unwrap();
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "-m", "links"]);
    let canary = place.path("canary");
    let upload = format!("ADD https://git.example/r.git#--upload-pack=touch${{IFS}}{} /", canary.display());
    for (line, expected) in [
        ("ADD https://git.example/r.git#:out /", "has no directory \"out\""),
        ("ADD https://git.example/r.git#:up/r.git /", "has no directory"),
        ("ADD https://git.example/r.git#:../../../etc /", "has no directory"),
        ("ADD ssh://-oProxyCommand=touch/r.git /", "cannot look up"),
        ("ADD --keep-git-dir https://git.example/r.git#:out /", "has no directory \"out\""),
        (upload.as_str(), "is no name of a branch"),
    ] {
        let error = place.error(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    // A path, not a repository: nothing outside the context is looked at.
    for line in ["ADD file:///etc/passwd /", "ADD ext::touch /"] {
        assert!(place.error(line).contains("not found"), "{line}");
    }
    // Links are content; they are copied as links.
    let added = place.layers("ADD https://git.example/r.git /");
    assert_eq!(added, ["file a 0644 0:0 1\nsymlink out 0777 0:0 -> /etc\nsymlink up 0777 0:0 -> ..\n"]);
    assert!(!canary.exists());
}

/// S24: a submodule cannot name a directory of this machine, nor a program.
#[test]
fn submodules_cannot_name_what_is_on_this_machine() {
    if !has_git("submodules_cannot_name_what_is_on_this_machine") {
        return;
    }
    for form in ["file://REPO", "REPO", "ext::sh -c 'touch canary'"] {
        let mut place = Place::new();
        place.repository("r.git", &[&[("a", "1")]]);
        place.repository("private.git", &[&[("a", "1")]]);
        let path = place.path("srv/r.git");
        let url = form.replace("REPO", &place.path("srv/private.git").display().to_string());
        fs::write(path.join(".gitmodules"), format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n")).unwrap();
        git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{},m", "1".repeat(40))]);
        git(&path, &["add", ".gitmodules"]);
        git(&path, &["commit", "--quiet", "-m", "module"]);
        let web = backend(place.path("srv"), None);
        place.hosts.clear();
        let error = place.error(&format!("ADD {}/r.git /", web.url()));
        assert!(error.contains("not allowed") || error.contains("transport"), "{url}: {error}");
    }
}

/// A git server over HTTP; with an authorization that it wants.
fn backend(root: PathBuf, wanted: Option<&'static str>) -> Web {
    Web::start(move |question| {
        if let Some(wanted) = wanted
            && question.header("authorization") != Some(wanted)
        {
            return Answer::status(401).with("WWW-Authenticate", "Basic realm=\"git\"");
        }
        serve_git(&root, question)
    })
    .unwrap()
}

fn serve_git(root: &Path, question: &Question) -> Answer {
    let (path, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", PATH)
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &question.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", question.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", question.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", question.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", question.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&question.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|part| part == b"\r\n\r\n").unwrap_or(0);
    let mut answer = Answer::ok(&output[(end + 4).min(output.len())..]);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => answer.status = status[..3].parse().unwrap_or(500),
            Some((name, value)) => answer = answer.with(name, value),
            None => {}
        }
    }
    answer
}

/// Section 4: `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER`, for all hosts or for one.
#[test]
fn private_repositories_are_asked_with_the_request_s_secrets() {
    if !has_git("private_repositories_are_asked_with_the_request_s_secrets") {
        return;
    }
    let mut place = Place::new();
    let ids = place.repository("r.git", &[&[("a", "1")], &[("a", "2")]]);
    place.hosts.clear();
    // `x-access-token:hunter2-token`
    let token = "Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi10b2tlbg==";
    for (name, value, wanted) in
        [("GIT_AUTH_TOKEN", "hunter2-token", token), ("GIT_AUTH_HEADER", "hunter2 header", "hunter2 header")]
    {
        let web = backend(place.path("srv"), Some(wanted));
        let line = format!("ADD {}/r.git#{} /", web.url(), ids[0]);
        place.secrets.clear();
        place.no_cache = true;
        let error = place.error(&line);
        assert!(error.contains("cannot check out") && error.contains("needs the secret GIT_AUTH_TOKEN"), "{error}");
        for name in [name.to_owned(), format!("{name}.127.0.0.1"), format!("{name}.{}", web.authority())] {
            place.secrets = BTreeMap::from([(name, SecretBytes::new(value))]);
            assert_eq!(place.layers(&line), ["file a 0644 0:0 1\n"]);
            assert_eq!(place.layers(&format!("ADD {}/r.git#main /", web.url())), ["file a 0644 0:0 2\n"]);
        }
        place.secrets = BTreeMap::from([(format!("{name}.elsewhere"), SecretBytes::new(value))]);
        assert!(place.error(&line).contains("cannot check out"));
    }
}

/// R33: a server that leads elsewhere does not get there with the header.
#[test]
fn a_header_for_git_follows_no_redirect() {
    if !has_git("a_header_for_git_follows_no_redirect") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    place.hosts.clear();
    let elsewhere = backend(place.path("srv"), None);
    let target = elsewhere.url();
    let web = Web::start(move |question| Answer::status(301).with("Location", &format!("{target}{}", question.target)));
    let web = web.unwrap();
    place.secrets = BTreeMap::from([("GIT_AUTH_HEADER".to_owned(), SecretBytes::new("hunter2 header"))]);
    place.error(&format!("ADD {}/r.git /", web.url()));
    assert!(elsewhere.asked().is_empty());
    place.secrets = BTreeMap::from([("GIT_AUTH_TOKEN".to_owned(), SecretBytes::new("hunter2-token"))]);
    assert_eq!(place.layers(&format!("ADD {}/r.git /", web.url())), ["file a 0644 0:0 1\n"]);
    assert!(elsewhere.asked().iter().all(|question| question.header("authorization").is_none()));
}

/// Section 4: git over SSH asks the request's agent, and nobody else; a machine without git says so.
#[test]
fn ssh_asks_the_agent_that_was_given() {
    use std::os::unix::fs::PermissionsExt as _;
    if !has_git("ssh_asks_the_agent_that_was_given") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    place.hosts.clear();
    let (tools, log) = (place.path("tools"), place.path("log"));
    fs::create_dir(&tools).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$SSH_AUTH_SOCK\" >> {}\n\
         case \"$*\" in *BatchMode=yes*\\ -F\\ none\\ -o\\ IdentityFile=none*) ;; *) exit 1 ;; esac\n\
         eval last=\\${{$#}}\ncd {}\nexec sh -c \"$last\"\n",
        log.display(),
        place.path("srv").display()
    );
    fs::write(tools.join("ssh"), script).unwrap();
    fs::set_permissions(tools.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    place.tools = Some(format!("{}:{}", tools.display(), PATH));
    place.ssh = BTreeMap::from([("default".to_owned(), SshSource::Agent("/run/agent.sock".into()))]);
    assert_eq!(place.layers("ADD git@git.example:r.git#main /"), ["file a 0644 0:0 1\n"]);
    let asked = fs::read_to_string(&log).unwrap();
    assert!(asked.lines().all(|line| line == "/run/agent.sock") && asked.lines().count() > 1, "{asked}");
    fs::remove_file(&log).unwrap();
    (place.ssh, place.no_cache) = (BTreeMap::new(), true);
    place.layers("ADD git@git.example:r.git#main /");
    let asked = fs::read_to_string(&log).unwrap();
    assert!(asked.lines().all(str::is_empty) && asked.lines().count() > 1, "the user's own agent was asked: {asked}");
    place.tools = Some(tools.display().to_string());
    let error = place.error("ADD https://git.example/other.git /");
    assert!(error.contains("cannot run git") && error.contains("install it"), "{error}");
}
