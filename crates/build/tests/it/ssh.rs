//! `RUN --mount=type=ssh` (section 5 of the language, row ssh): with Debian's own programs on the other side.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use skycap_build::ssh::{KeyError, PrivateKey, SshError, SshSource};

use crate::world::{World, access, chain, list, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[
    ("private_keys_of_every_form_are_read", private_keys_of_every_form_are_read),
    ("a_run_signs_with_keys_that_it_never_sees", a_run_signs_with_keys_that_it_never_sees),
    ("a_running_agent_is_passed_on_for_reading", a_running_agent_is_passed_on_for_reading),
    ("an_agent_is_where_the_mount_says", an_agent_is_where_the_mount_says),
    ("an_agent_that_is_missing", an_agent_that_is_missing),
];

const KINDS: [(&str, &[&str]); 4] = [
    ("ed25519", &[]),
    ("ecdsa-256", &["-t", "ecdsa", "-b", "256"]),
    ("ecdsa-384", &["-t", "ecdsa", "-b", "384"]),
    ("rsa", &["-t", "rsa", "-b", "2048"]),
];

/// Makes a key pair with `ssh-keygen`.
fn generate(directory: &Path, name: &str, arguments: &[&str], passphrase: &str) -> PathBuf {
    let path = directory.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", passphrase, "-C", "a comment", "-f"])
        .arg(&path)
        .args(if arguments.contains(&"-t") { &[][..] } else { &["-t", "ed25519"] })
        .args(arguments)
        .status();
    assert!(made.unwrap().success(), "{name}");
    path
}

fn has(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !Path::new("/usr/bin").join(program).exists());
    if let Some(program) = missing {
        skycap_testkit::skipped!("{test}: {program} is missing (Debian: openssh-client)");
    }
    missing.is_none()
}

fn public(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path.with_extension("pub")).unwrap();
    base64::engine::general_purpose::STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap()
}

fn private_keys_of_every_form_are_read() {
    if !has("private_keys_of_every_form_are_read", &["ssh-keygen"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (name, arguments) in KINDS {
        let path = generate(directory.path(), name, arguments, "");
        let expected = public(&path);
        for form in ["", "PEM", "PKCS8"] {
            if name == "ed25519" && !form.is_empty() {
                continue;
            }
            if !form.is_empty() {
                let mut change = Command::new("ssh-keygen");
                change.args(["-q", "-p", "-N", "", "-m", form, "-f"]).arg(&path).stdout(Stdio::null());
                assert!(change.status().unwrap().success());
            }
            let text = fs::read(&path).unwrap();
            let key = PrivateKey::parse(&text).unwrap_or_else(|error| panic!("{name} {form}: {error}"));
            assert_eq!(key.public(), expected, "{name} {form}");
            assert_eq!(key.comment(), if form.is_empty() { "a comment" } else { "" });
            assert!(!format!("{key:?}").contains("BEGIN") && format!("{key:?}").contains("***"));
            count += 1;
            // No damage is believed or makes trouble.
            for at in (0..text.len()).step_by(7) {
                let mut damaged = text.clone();
                damaged[at] ^= 1;
                let _ = PrivateKey::parse(&damaged);
                let _ = PrivateKey::parse(&text[..at]);
            }
        }
    }
    assert_eq!(count, 10);
    // What OpenSSL writes: ed25519 in PKCS#8.
    let pem = directory.path().join("openssl");
    let openssl = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&pem).output();
    if openssl.is_ok_and(|output| output.status.success()) {
        PrivateKey::parse(&fs::read(&pem).unwrap()).unwrap();
    }
    let error = |path: &Path| match SshSource::open(&[path.to_owned()]) {
        Err(SshError::Key { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    for (name, arguments) in [("locked", &[][..]), ("locked-pem", &["-t", "rsa", "-m", "PEM"])] {
        let locked = generate(directory.path(), name, arguments, "hunter2hunter2");
        assert_eq!(error(&locked), KeyError::Encrypted, "{name}");
        assert!(error(&locked).hint().unwrap().contains("ssh-add"));
    }
    let odd = generate(directory.path(), "p521", &["-t", "ecdsa", "-b", "521"], "");
    assert_eq!(error(&odd), KeyError::Kind("ecdsa-sha2-nistp521".to_owned()));
    let weak = generate(directory.path(), "weak", &["-t", "rsa", "-b", "1024"], "");
    assert!(matches!(error(&weak), KeyError::Rejected(_)));
    assert_eq!(error(&weak.with_extension("pub")), KeyError::Unknown);
    assert!(matches!(SshSource::open(&[]), Err(SshError::Nothing)));
    assert!(matches!(SshSource::open(&["/none".into()]), Err(SshError::Unreadable { .. })));
}

/// Puts programs of this machine, with the libraries that they need, into the context at `tools`.
fn take_programs(world: &World, programs: &[&str]) {
    let root = world.context().join("tools");
    let copy = |from: &str| {
        let to = root.join(from.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for program in programs {
        let program = format!("/usr/bin/{program}");
        copy(&program);
        let listed = Command::new("ldd").arg(&program).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(library);
        }
    }
}

fn world(test: &str) -> Option<World> {
    let mut world = World::new();
    with_shell(&mut world, test)?;
    if !has(test, &["ssh-keygen", "ssh-add", "ssh-agent"]) {
        return None;
    }
    take_programs(&world, &["ssh-add", "ssh-keygen"]);
    Some(world)
}

const TOOLS: &str = "FROM shell AS tools\nCOPY tools /\nRUN echo data > /data\n";

fn a_run_signs_with_keys_that_it_never_sees() {
    let Some(world) = world("a_run_signs_with_keys_that_it_never_sees") else { return };
    let keys = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        KINDS.iter().map(|(name, arguments)| generate(keys.path(), name, arguments, "")).collect();
    let mut signers = String::new();
    for path in &paths {
        let text = fs::read_to_string(path.with_extension("pub")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let _ = write!(signers, "{name} {text}");
        world.file(&format!("public/{name}.pub"), &text);
    }
    world.file("public/signers", &signers);
    let mut dockerfile = TOOLS.to_owned()
        + "FROM tools\nCOPY --chmod=600 public /public\n\
           RUN --mount=type=ssh echo $SSH_AUTH_SOCK && stat -c %a:%u:%g $SSH_AUTH_SOCK && ssh-add -l\n";
    for (name, _) in KINDS {
        let _ = writeln!(
            dockerfile,
            "RUN --mount=type=ssh --mount=type=tmpfs,target=/t cp /data /t && cp /public/{name}.pub /t/key.pub && \
             ssh-keygen -Y sign -f /t/key.pub -n file /t/data && \
             ssh-keygen -Y verify -f /public/signers -I {name} -n file -s /t/data.sig < /t/data"
        );
    }
    let mut request = world.request(&dockerfile);
    request.ssh.insert("default".to_owned(), SshSource::open(&paths).unwrap());
    let built = world.built_as(&request);
    let output = world.output();
    assert!(output.starts_with("/run/buildkit/ssh_agent.0\n600:0:0\n"), "{output}");
    assert_eq!(output.matches(" a comment (").count(), KINDS.len(), "{output}");
    for (name, _) in KINDS {
        assert!(output.contains(&format!("Good \"file\" signature for {name}")), "{name}: {output}");
    }
    // Neither the socket nor its directories stay, and no key is in the image or the store.
    for layer in built.image.layers().iter().skip(4) {
        assert_eq!(list(layer), "", "a RUN left something");
    }
    assert!(built.image.config().config.env.iter().flatten().all(|line| !line.starts_with("SSH_AUTH_SOCK")));
    // The keys are no part of a step.
    request.ssh.insert("default".to_owned(), SshSource::open(&paths[..1]).unwrap());
    assert!(outcomes(&world.built_as(&request)).iter().all(|outcome| outcome.ends_with("cached")));
}

/// An agent of OpenSSH that ends with this.
struct Agent(Child);

impl Agent {
    fn start(socket: &Path) -> Self {
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(socket).stdout(Stdio::null()).spawn().unwrap();
        for _ in 0..200 {
            if socket.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn add(socket: &Path, arguments: &[&str]) -> String {
    let output = Command::new("ssh-add").env("SSH_AUTH_SOCK", socket).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn a_running_agent_is_passed_on_for_reading() {
    let Some(world) = world("a_running_agent_is_passed_on_for_reading") else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    let _agent = Agent::start(&socket);
    let key = generate(directory.path(), "key", &[], "");
    add(&socket, &[key.to_str().unwrap()]);
    let mut request = world.request(
        &(TOOLS.to_owned()
            + "RUN --mount=type=ssh ssh-add -l && ! ssh-add -D 2>/dev/null && ! ssh-add -x < /dev/null 2>/dev/null && echo kept\n"),
    );
    request.ssh.insert("default".to_owned(), SshSource::open(std::slice::from_ref(&socket)).unwrap());
    world.built_as(&request);
    let listed = add(&socket, &["-l"]);
    assert!(listed.contains("a comment"), "{listed}");
    assert_eq!(world.output(), listed + "kept\n");
    let two = [socket, key];
    assert!(matches!(SshSource::open(&two), Err(SshError::SeveralSockets)));
    assert!(matches!(SshSource::open(&[two[1].clone(), two[0].clone()]), Err(SshError::SeveralSockets)));
}

fn an_agent_is_where_the_mount_says() {
    let Some(world) = world("an_agent_is_where_the_mount_says") else { return };
    let directory = tempfile::tempdir().unwrap();
    let one = generate(directory.path(), "one", &[], "");
    let two = generate(directory.path(), "two", KINDS[1].1, "");
    let mut request = world.request(
        &(TOOLS.to_owned()
            + "WORKDIR /w\n\
               RUN --mount=type=ssh,id=one --mount=type=ssh,id=two,target=sock,mode=0666,uid=1000,gid=77 \
               echo $SSH_AUTH_SOCK && ssh-add -l | grep -c ED25519 && stat -c %a /w/sock && SSH_AUTH_SOCK=/w/sock ssh-add -l | grep -c ECDSA\n\
               RUN --mount=type=ssh,id=two --mount=type=ssh,id=one echo $SSH_AUTH_SOCK && ls /run/buildkit\n\
               ENV SSH_AUTH_SOCK=/w/mine\n\
               RUN --mount=type=ssh,id=one echo $SSH_AUTH_SOCK\n"),
    );
    request.ssh.insert("one".to_owned(), SshSource::open(&[one]).unwrap());
    request.ssh.insert("two".to_owned(), SshSource::open(&[two]).unwrap());
    world.built_as(&request);
    let expected =
        "/run/buildkit/ssh_agent.0\n1\n666\n1\n/run/buildkit/ssh_agent.0\nssh_agent.0\nssh_agent.1\n/w/mine\n";
    assert_eq!(world.output(), expected);
    if matches!(access(), skycap_build::SandboxAccess::Available(sandbox) if sandbox.owners_kept()) {
        let by_user = "RUN --mount=type=ssh,id=one,uid=1000 stat -c %a:%u:%g $SSH_AUTH_SOCK && ssh-add -l | grep -c ED25519\n\
                       RUN --mount=type=ssh,id=one ! ssh-add -l 2>/dev/null\n";
        request.dockerfile = (TOOLS.to_owned() + "USER app\n" + by_user).into_bytes();
        world.built_as(&request);
        assert_eq!(world.output(), "600:1000:0\n1\n");
    }
}

fn an_agent_that_is_missing() {
    let mut world = World::new();
    if with_shell(&mut world, "an_agent_that_is_missing").is_none() {
        return;
    }
    world.built("FROM shell\nRUN --mount=type=ssh test ! -e /run/buildkit && echo $SSH_AUTH_SOCK\n");
    assert_eq!(world.output(), "/run/buildkit/ssh_agent.0\n");
    for (flags, id) in [("required", "default"), ("required=true,id=other", "other")] {
        let error = world.error(&format!("FROM shell\nRUN --mount=type=ssh,{flags} true\n"));
        assert!(error.starts_with(&format!("Dockerfile:2: unset ssh forward key {id}")), "{error}");
        assert!(error.contains("hint: hand an agent or keys to the build: --ssh"), "{error}");
    }
    // An agent that went away is a program's problem, not the builder's.
    let mut request = world.request("FROM shell\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\n");
    request.ssh.insert("default".to_owned(), SshSource::Agent("/nonexistent/agent".into()));
    world.build(&request).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let error = world.error("FROM shell\nRUN --mount=type=ssh,source=/x true\n");
    assert!(error.contains("ssh does not support source"), "{error}");
}
