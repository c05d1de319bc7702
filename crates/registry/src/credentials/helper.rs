//! Credential helpers: programs called `docker-credential-<name>` that are asked `get`, with the host on their input.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use skycap_image::{Kind, Secret, SourceError};

use crate::Credentials;

/// A helper that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Output beyond this is not read.
const LARGEST: u64 = 64 * 1024;
/// Docker Hub's name in helpers.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: Secret,
}

/// Asks a helper; `None` if it knows nothing of the host. Nothing that it prints is ever shown.
pub(crate) fn get(name: &str, search_path: &OsStr, host: &str) -> Result<Option<Credentials>, SourceError> {
    get_within(PATIENCE, name, search_path, host)
}

fn get_within(
    patience: Duration,
    name: &str,
    search_path: &OsStr,
    host: &str,
) -> Result<Option<Credentials>, SourceError> {
    let failed = |why: String| {
        SourceError::new(Kind::Denied, format!("credential helper docker-credential-{name} for {host}: {why}"))
    };
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(failed("not the name of a program".to_owned()));
    }
    let program = find(&format!("docker-credential-{name}"), search_path)
        .ok_or_else(|| failed("not found (install it, or remove it from Docker's configuration)".to_owned()))?;
    let asked = if host == "index.docker.io" { HUB } else { host };
    let (status, output) = run(&program, asked, patience).map_err(|error| failed(error.to_string()))?;
    if !status {
        let text = String::from_utf8_lossy(&output);
        // The helpers' library says so in its output and with a failure.
        if text.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed("it failed (run it by hand to see why)".to_owned()));
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| failed("its answer is not a JSON document".to_owned()))?;
    Ok(match (answer.username.as_str(), answer.secret.is_empty()) {
        (_, true) => None,
        ("<token>", false) => Some(Credentials::IdentityToken(answer.secret)),
        _ => Some(Credentials::Basic { username: answer.username, password: answer.secret }),
    })
}

fn find(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Whether it succeeded, and the beginning of its output.
fn run(program: &Path, input: &str, patience: Duration) -> std::io::Result<(bool, Vec<u8>)> {
    let mut child =
        Command::new(program).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not want to know ends early; its exit status tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = read_output(&mut child);
    let Ok(output) = output.recv_timeout(patience) else {
        child.kill()?;
        child.wait()?;
        return Err(std::io::Error::other(format!("it gave no answer within {} s", patience.as_secs())));
    };
    // Whoever has closed its output but lives on is not waited for.
    for _ in 0..100 {
        if let Some(status) = child.try_wait()? {
            return Ok((status.success(), output));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Err(std::io::Error::other("it does not end"))
}

fn read_output(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = Vec::new();
            let _ = stdout.take(LARGEST).read_to_end(&mut output);
            let _ = sender.send(output);
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A process that another thread starts holds our open files until it runs its program, and a script that is open for
    /// writing does not run.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn ask(script: &str) -> Result<Option<Credentials>, SourceError> {
        ask_within(PATIENCE, script)
    }

    fn ask_within(patience: Duration, script: &str) -> Result<Option<Credentials>, SourceError> {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        get_within(patience, "test", dir.path().as_os_str(), "r.io")
    }

    /// R90.
    #[test]
    fn a_helper_that_hangs_or_prints_without_end_is_left() {
        let started = std::time::Instant::now();
        for (script, text) in [
            ("sleep 60", "no answer within 1 s"),
            ("exec sleep 60", "no answer within 1 s"),
            ("echo hunter2; exec sleep 60 >/dev/null", "it does not end"),
            ("head -c 10000000 /dev/zero", "it failed"),
            ("head -c 10000000 /dev/zero; exit 0", "is not a JSON document"),
            ("exit 1", "it failed"),
        ] {
            let error = ask_within(Duration::from_secs(1), script).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(text) && shown.contains("docker-credential-test"), "{script}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_helper_is_asked_for_the_host() {
        let script = r#"read host; printf '{"Username":"%s-%s","Secret":"pw"}' "$1" "$host""#;
        let expected = Credentials::Basic { username: "get-r.io".into(), password: Secret::new("pw") };
        assert_eq!(ask(script).unwrap(), Some(expected));
        let token = Credentials::IdentityToken(Secret::new("t"));
        assert_eq!(ask(r#"echo '{"Username":"<token>","Secret":"t"}'"#).unwrap(), Some(token));
    }

    #[test]
    fn a_helper_that_knows_nothing_is_no_error_and_a_broken_one_is() {
        assert_eq!(ask("echo credentials not found in native keychain; exit 1").unwrap(), None);
        for script in ["echo hunter2; exit 1", "echo hunter2", "yes hunter2"] {
            let error = ask(script).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("docker-credential-test") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_missing_helper_is_named() {
        let error = get("absent", OsStr::new("/nowhere"), "r.io").unwrap_err().to_string();
        assert!(error.contains("docker-credential-absent for r.io: not found"), "{error}");
        assert!(get("../../bin/sh", OsStr::new("/nowhere"), "r.io").is_err());
    }
}
