//! Runs the `git` program: in an environment of its own, without the user's configuration, without hooks, without ever
//! asking anybody. Secrets reach it by environment and by a file that only we may read, never by its arguments.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use skycap_image::{Event, Secret};
use skycap_store::Temporary;

use super::source::Source;
use crate::files::io_failure;
use crate::{Failure, Host};

/// Variables of the resource's environment that git gets as well.
const PASSED_ON: [&str; 13] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
    "TMPDIR",
];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Everything but `ext` and the like, which run commands that a URL names.
const PROTOCOLS: &str = "file:git:http:https:ssh";
/// What a repository may name as its submodules' addresses.
const SUBMODULE_PROTOCOLS: &str = "git:http:https:ssh";
/// The last lines of what git said, in an error.
const LINES_IN_ERRORS: usize = 12;
/// A list of a million references has less.
const MOST_SAID: u64 = 128 << 20;
/// How long an end or a stop may go unseen.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Git, ready to talk to one source. Its temporary files go when this does.
pub(crate) struct Git<'h> {
    host: &'h Host,
    home: Temporary,
    password: Secret,
    username: Secret,
    ssh: String,
    /// Further variables, and texts that no message may show.
    variables: Vec<(&'static str, String)>,
    hidden: Vec<Secret>,
    protocols_of_submodules: &'static str,
    /// What opens a repository that is not for everybody.
    way_in: &'static str,
}

/// What a command says, up to one byte more than it may. A command that goes on finds nobody at the other end.
fn read(stream: Option<impl Read>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(MOST_SAID + 1).read_to_end(&mut said);
    }
    said
}

impl<'h> Git<'h> {
    /// Writes the configuration and the key.
    pub(crate) fn new(source: &Source, host: &'h Host) -> Result<Self, Failure> {
        let home = Temporary::create(&host.scratch, "skycap-git-");
        let home = home.map_err(|error| Failure::new(error.to_string()))?;
        write_private(&home.path().join(".gitconfig"), &configuration(source, host))?;
        let mut ssh =
            "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
                .to_owned();
        if !source.private_key.is_empty() {
            let path = home.path().join("private-key");
            // ssh refuses a key without a line feed at its end.
            write_private(&path, &format!("{}\n", source.private_key.reveal().trim_end()))?;
            let _ = write!(ssh, " -o IdentitiesOnly=yes -i {}", shell_quoted(&path.display().to_string()));
        }
        if !source.private_key_user.is_empty() {
            let _ = write!(ssh, " -o User={}", shell_quoted(&source.private_key_user));
        }
        Ok(Self {
            host,
            home,
            password: source.password.clone(),
            username: source.username.clone(),
            ssh,
            variables: Vec::new(),
            hidden: Vec::new(),
            protocols_of_submodules: submodule_protocols(host.hosts.values()),
            way_in: "set source.username and source.password, or source.private_key",
        })
    }

    /// Says in errors what opens a repository.
    pub(crate) fn with_way_in(self, way_in: &'static str) -> Self {
        Self { way_in, ..self }
    }

    /// Shows a header to one origin, which cannot pass it on by a redirect. It reaches git by its environment.
    pub(crate) fn with_header(mut self, origin: &str, header: Secret) -> Self {
        let line = format!("Authorization: {}", header.reveal());
        self.variables.extend([
            ("GIT_CONFIG_COUNT", "2".to_owned()),
            ("GIT_CONFIG_KEY_0", format!("http.{origin}.extraHeader")),
            ("GIT_CONFIG_VALUE_0", line),
            ("GIT_CONFIG_KEY_1", "http.followRedirects".to_owned()),
            ("GIT_CONFIG_VALUE_1", "false".to_owned()),
        ]);
        self.hidden.push(header);
        self
    }

    /// Asks an SSH agent, and only that: no other agent, and no key or setting that the user keeps for SSH. Without one
    /// nothing is shown to servers.
    pub(crate) fn with_agent(mut self, socket: Option<&Path>) -> Self {
        self.ssh.push_str(" -F none -o IdentityFile=none");
        self.variables.push(("SSH_AUTH_SOCK", socket.map(|socket| socket.display().to_string()).unwrap_or_default()));
        self
    }

    /// A directory of its own for temporary repositories.
    pub(crate) fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// Runs git in a directory and hands back what it printed, without the line feed at its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, directory: &Path, arguments: &[A]) -> Result<String, Failure> {
        let (success, output, errors) = self.execute(directory, arguments, PROTOCOLS)?;
        if success { Ok(output) } else { Err(self.failure(arguments, &errors)) }
    }

    /// Like [`Git::run`], for addresses that the repository itself names.
    pub(crate) fn run_for_submodules<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
    ) -> Result<String, Failure> {
        let (success, output, errors) = self.execute(directory, arguments, self.protocols_of_submodules)?;
        if success { Ok(output) } else { Err(self.failure(arguments, &errors)) }
    }

    /// Whether git says yes.
    pub(crate) fn test<A: AsRef<OsStr>>(&self, directory: &Path, arguments: &[A]) -> Result<bool, Failure> {
        Ok(self.execute(directory, arguments, PROTOCOLS)?.0)
    }

    fn execute<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        protocols: &str,
    ) -> Result<(bool, String, String), Failure> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(directory).stdin(Stdio::null()).env_clear();
        command.env("PATH", self.host.environment.get("PATH").unwrap_or(DEFAULT_PATH));
        for name in PASSED_ON {
            if let Some(value) = self.host.environment.get(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_SSH_COMMAND", &self.ssh)
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("SKYCAP_GIT_USERNAME", self.username.reveal())
            .env("SKYCAP_GIT_PASSWORD", self.password.reveal())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        let (succeeded, output, errors) = self.answer_of(&mut command)?;
        let errors = self.redacted(&String::from_utf8_lossy(&errors));
        for line in errors.lines().filter(|line| !line.trim().is_empty()) {
            self.host.progress.event(Event::Debug(line));
        }
        let text = String::from_utf8_lossy(&output).trim_end_matches('\n').to_owned();
        Ok((succeeded, text, errors))
    }

    /// Whether a command succeeds, and what it says on both streams. It is ended if it says too much, which a server can make
    /// it do, or if the work is stopped.
    fn answer_of(&self, command: &mut Command) -> Result<(bool, Vec<u8>, Vec<u8>), Failure> {
        let failed = |error: &io::Error| Failure::new(format!("cannot run git: {error}"));
        let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
        let mut child = started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed(&error).with_hint("git repositories need the program git; install it"),
            _ => failed(&error),
        })?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            let output = scope.spawn(|| read(output));
            let errors = scope.spawn(|| read(errors));
            let status = self.wait(&mut child);
            let (output, errors) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
            if [&output, &errors].iter().any(|said| said.len() as u64 > MOST_SAID) {
                return Err(Failure::new(format!("git said more than {MOST_SAID} bytes")));
            }
            Ok((status.map_err(|error| failed(&error))?.success(), output, errors))
        })
    }

    /// Waits for a command, or ends it with all that it has started.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.host.is_stopped() {
                let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
                return child.wait();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn failure<A: AsRef<OsStr>>(&self, arguments: &[A], errors: &str) -> Failure {
        let lines: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES_IN_ERRORS)..).unwrap_or_default().join("\n");
        let command: Vec<String> = arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        let failure = Failure::new(self.redacted(&format!("git {} failed: {last}", command.join(" "))));
        let denied = ["Authentication failed", "could not read Username", "Permission denied (publickey"];
        if denied.iter().any(|text| last.contains(text)) {
            return failure.with_hint(self.way_in);
        }
        failure
    }

    fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.password.is_empty() {
            text = text.replace(self.password.reveal(), "***");
        }
        for secret in self.hidden.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.reveal(), "***");
        }
        // A user is as common a word as `git`; as a part of an address it may be a token.
        if !self.username.is_empty() {
            text = text.replace(&format!("{}@", self.username.reveal()), "***@");
        }
        text
    }
}

/// Directories of this machine are for the repository to name only where they stand for a host.
fn submodule_protocols<'b>(mut bases: impl Iterator<Item = &'b String>) -> &'static str {
    if bases.any(|base| base.starts_with("file:")) { PROTOCOLS } else { SUBMODULE_PROTOCOLS }
}

/// Git's whole configuration.
fn configuration(source: &Source, host: &Host) -> String {
    let mut text = String::from(
        "[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n[gc]\n\tauto = 0\n[core]\n\thooksPath = /dev/null\n\
         [http]\n\tlowSpeedLimit = 100\n\tlowSpeedTime = 60\n[init]\n\tdefaultBranch = main\n",
    );
    if source.skip_ssl_verification {
        text.push_str("[http]\n\tsslVerify = false\n");
    }
    for (name, base) in &host.hosts {
        let base = base.trim_end_matches('/');
        let _ = writeln!(text, "[url {}]", quoted(&format!("{base}/")));
        for address in [
            format!("https://{name}/"),
            format!("http://{name}/"),
            format!("git://{name}/"),
            format!("ssh://git@{name}/"),
            format!("git@{name}:"),
        ] {
            let _ = writeln!(text, "\tinsteadOf = {}", quoted(&address));
        }
    }
    if !source.username.is_empty() || !source.password.is_empty() {
        for origin in origins(source, host) {
            let helper = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$SKYCAP_GIT_USERNAME" "$SKYCAP_GIT_PASSWORD"; }; f"#;
            let _ = writeln!(text, "[credential {}]\n\thelper = {}", quoted(&origin), quoted(helper));
        }
    }
    text
}

/// Who may be told the password: the source's own host, and whoever answers instead of it.
fn origins(source: &Source, host: &Host) -> Vec<String> {
    let Ok(url) = url::Url::parse(&source.uri) else { return Vec::new() };
    let Some(name) = url.host_str() else { return Vec::new() };
    let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let instead = host.hosts.get(&authority).and_then(|base| url::Url::parse(base).ok());
    let instead = instead.filter(|base| matches!(base.scheme(), "http" | "https"));
    [Some(format!("{}://{authority}", url.scheme())), instead.map(|base| base.origin().ascii_serialization())]
        .into_iter()
        .flatten()
        .collect()
}

/// A value or the name of a subsection as git's configuration wants it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn write_private(path: &Path, content: &str) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| {
        drop(fs::remove_file(path));
        io_failure("write", path, &error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_name_directories_only_where_one_stands_for_a_host() {
        let protocols =
            |bases: &[&str]| submodule_protocols(bases.iter().map(ToString::to_string).collect::<Vec<_>>().iter());
        assert_eq!(protocols(&[]), SUBMODULE_PROTOCOLS);
        assert_eq!(protocols(&["http://127.0.0.1:5000"]), SUBMODULE_PROTOCOLS);
        assert_eq!(protocols(&["http://127.0.0.1:5000", "file:///srv/git"]), PROTOCOLS);
    }

    #[test]
    fn texts_are_quoted_for_the_configuration_and_the_shell() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(shell_quoted("it's"), r"'it'\''s'");
    }
}
