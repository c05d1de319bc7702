//! The places to stand on: each is this program, started again with other rights.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};
use skycap_sandbox::Rung;

const NOBODY: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";

/// The highest id that Concourse's map gives to root.
const CONCOURSE_ROOT: u32 = 4_294_967_294;

type Ground = (&'static str, fn(&Bench) -> Result<Command, String>);

const GROUNDS: &[Ground] = &[
    ("as_we_are", as_we_are),
    ("user_with_subordinate_ids", user_with_subordinate_ids),
    ("user_with_one_id", user_with_one_id),
    ("user_with_one_id_and_a_masked_proc", user_with_one_id_and_a_masked_proc),
    ("root_of_one_id", root_of_one_id),
    ("user_who_is_root_of_one_id", user_who_is_root_of_one_id),
    ("root_without_capabilities", root_without_capabilities),
    ("root_in_a_chroot", root_in_a_chroot),
    ("user_in_a_chroot", user_in_a_chroot),
    ("privileged_task", privileged_task),
    ("privileged_task_on_a_fuse_only_worker", privileged_task_on_a_fuse_only_worker),
    ("task_on_a_fuse_only_worker", task_on_a_fuse_only_worker),
    ("task_with_a_masked_proc", task_with_a_masked_proc),
    ("task_that_is_refused", task_that_is_refused),
];

/// What refuses the strongest rung to most.
const NOT_PRIVILEGED: &str = "privileged: CAP_SYS_ADMIN is not held";

/// What a ground needs to be made.
struct Bench<'a> {
    /// A directory of its own.
    directory: PathBuf,
    busybox: PathBuf,
    filters: &'a [&'a str],
}

/// Runs the suite on every ground, several at once.
pub fn all(filters: &[&str]) -> ExitCode {
    let named = |name: &str| GROUNDS.iter().any(|(ground, _)| *ground == name);
    let grounds: Vec<&str> = filters.iter().copied().filter(|filter| named(filter)).collect();
    let cases: Vec<&str> = filters.iter().copied().filter(|filter| !named(filter)).collect();
    let Some(busybox) = find("busybox") else {
        skycap_testkit::skipped!("it: there is no static busybox");
        return ExitCode::SUCCESS;
    };
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let wanted = GROUNDS.iter().filter(|(name, _)| grounds.is_empty() || grounds.contains(name));
    // All are made before one is started: a program that is being written cannot be executed, and a fork in another thread
    // holds it open for a moment.
    let made: Vec<_> = wanted
        .map(|(name, make)| {
            let directory = temporary.path().join(name);
            (name, prepare(*make, &Bench { directory, busybox: busybox.clone(), filters: &cases }))
        })
        .collect();
    let failed = std::thread::scope(|scope| {
        let running: Vec<_> = made.into_iter().map(|(name, command)| scope.spawn(|| ground(name, command))).collect();
        running.into_iter().fold(false, |failed, thread| failed | !thread.join().unwrap_or(false))
    });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Makes one ground; why it cannot be had here otherwise.
fn prepare(make: fn(&Bench) -> Result<Command, String>, bench: &Bench) -> Result<Command, String> {
    fs::create_dir_all(bench.directory.join("scratch")).unwrap();
    fs::copy("/proc/self/exe", bench.program()).unwrap();
    make(bench)
}

/// Runs one ground to its end; whether all was well.
fn ground(name: &str, command: Result<Command, String>) -> bool {
    let mut command = match command {
        Ok(command) => command,
        Err(why) => {
            skycap_testkit::skipped!("{name}: {why}");
            return true;
        }
    };
    let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{name}: {}\n  {}", output.status, text.trim_end().replace('\n', "\n  "));
    output.status.success()
}

impl Bench<'_> {
    fn program(&self) -> PathBuf {
        self.directory.join("it")
    }

    /// The arguments of a suite that must stand on `rung`.
    fn suite(&self, rung: Rung, scratch: &Path, busybox: &Path) -> Vec<String> {
        let mut args = vec!["suite".to_owned(), format!("{rung:?}")];
        args.extend([scratch, busybox].map(|path| path.to_str().unwrap().to_owned()));
        args.extend(self.filters.iter().map(|filter| (*filter).to_owned()));
        args
    }

    /// The suite as another user, in a mount namespace with `/etc/passwd` and the subordinate ids of our choice.
    fn as_user(&self, uid: u32, passwd: &str, subordinate: &str, rung: Rung) -> Result<Command, String> {
        self.as_user_within("true", &[], uid, passwd, subordinate, rung)
    }

    /// The same, after something that root does, and started by another program.
    fn as_user_within(
        &self,
        before: &str,
        starter: &[&str],
        uid: u32,
        passwd: &str,
        subordinate: &str,
        rung: Rung,
    ) -> Result<Command, String> {
        need_root()?;
        for tool in ["unshare", "setpriv", "mount"] {
            find(tool).ok_or_else(|| format!("there is no {tool}"))?;
        }
        fs::write(self.directory.join("passwd"), passwd).unwrap();
        fs::write(self.directory.join("ids"), subordinate).unwrap();
        let scratch = self.directory.join("scratch");
        chown(&scratch, Some(uid), Some(uid)).unwrap();
        let script = format!(
            "mount --bind passwd /etc/passwd && mount --bind ids /etc/subuid && mount --bind ids /etc/subgid && {before} && \
             exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups \"$@\""
        );
        for file in ["/etc/subuid", "/etc/subgid"] {
            if !Path::new(file).exists() {
                return Err(format!("there is no {file}"));
            }
        }
        let mut command = Command::new("unshare");
        command.current_dir(&self.directory).args(["-m", "sh", "-c", &script, &uid.to_string()]).args(starter);
        command.arg(self.program()).args(self.suite(rung, &scratch, &self.busybox));
        Ok(command)
    }

    /// A command in a container that `runc` makes from one of Concourse's configurations.
    fn in_runc(&self, config: &str, args: Vec<String>, change: impl FnOnce(&mut Value)) -> Result<Command, String> {
        need_root()?;
        find("runc").ok_or("there is no runc")?;
        let root = self.directory.join("rootfs");
        for name in ["dev", "proc", "sys", "etc", "tmp", "scratch"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(self.program(), root.join("it")).unwrap();
        fs::copy(&self.busybox, root.join("busybox")).unwrap();
        fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/concourse").join(config);
        let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let scratch = self.directory.join("scratch");
        if !config["linux"]["uidMappings"].is_null() {
            chown(&scratch, Some(CONCOURSE_ROOT), Some(CONCOURSE_ROOT)).unwrap();
        }
        let mut all = vec!["/it".to_owned()];
        all.extend(args);
        config["process"]["args"] = json!(all);
        config["process"]["env"] = json!(["PATH=/", "RUST_BACKTRACE=0"]);
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/scratch" {
                mount["source"] = json!(scratch);
            }
        }
        // Control groups are no part of this, and differ between machines.
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
        linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
        change(&mut config);
        fs::write(self.directory.join("config.json"), config.to_string()).unwrap();
        let name = format!("sandbox-test-{}-{}", std::process::id(), self.directory.file_name().unwrap().display());
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(self.directory.join("state"))
            .args(["run", "--bundle"])
            .arg(&self.directory)
            .arg(name);
        Ok(command)
    }

    fn suite_in_runc(&self, config: &str, rung: Rung, change: impl FnOnce(&mut Value)) -> Result<Command, String> {
        self.in_runc(config, self.suite(rung, Path::new("/scratch"), Path::new("/busybox")), change)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn need_root() -> Result<(), String> {
    let capabilities = rustix::thread::capabilities(None).unwrap().effective;
    if rustix::process::geteuid().is_root() && capabilities.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
        Ok(())
    } else {
        Err("we are not root with CAP_SYS_ADMIN".to_owned())
    }
}

fn as_we_are(bench: &Bench) -> Result<Command, String> {
    let answers = skycap_sandbox::probe();
    let rung = answers.iter().find(|(_, answer)| answer.is_ok()).map(|(rung, _)| *rung);
    let rung = rung.ok_or_else(|| format!("every rung is refused: {answers:?}"))?;
    let mut command = Command::new(bench.program());
    command.args(bench.suite(rung, &bench.directory.join("scratch"), &bench.busybox));
    Ok(command)
}

fn user_with_subordinate_ids(bench: &Bench) -> Result<Command, String> {
    find("newuidmap").ok_or("there is no newuidmap")?;
    let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:54321:54321::/:/bin/sh\n";
    bench.as_user(54321, passwd, "bert:1:2\nanna:600100000:65536\n", Rung::SubordinateIds)
}

fn user_with_one_id(bench: &Bench) -> Result<Command, String> {
    bench.as_user(65534, NOBODY, "", Rung::SingleId)
}

/// Root of somebody else's user namespace, which has one id: all capabilities, and yet owners cannot be kept.
fn root_of_one_id(bench: &Bench) -> Result<Command, String> {
    need_root()?;
    find("unshare").ok_or("there is no unshare")?;
    let mut command = Command::new("unshare");
    command.arg("--map-root-user").arg(bench.program());
    command.args(bench.suite(Rung::SingleId, &bench.directory.join("scratch"), &bench.busybox));
    Ok(command)
}

fn user_who_is_root_of_one_id(bench: &Bench) -> Result<Command, String> {
    bench.as_user_within("true", &["unshare", "--map-root-user"], 65534, NOBODY, "", Rung::SingleId)
}

/// As in a container of Docker's that is run by an ordinary user, without a filter.
fn user_with_one_id_and_a_masked_proc(bench: &Bench) -> Result<Command, String> {
    // What differs there; everything else is shown without the mask.
    const CASES: [&str; 4] = ["s03_", "owners_that", "capabilities_are", "processes_of"];
    let filters = if bench.filters.is_empty() { &CASES[..] } else { bench.filters };
    let bench = Bench { directory: bench.directory.clone(), busybox: bench.busybox.clone(), filters };
    bench.as_user_within("mount --bind /dev/null /proc/interrupts", &[], 65534, NOBODY, "", Rung::SingleId)
}

/// Root without any capability, as in a container that was started with `--cap-drop=all`.
fn root_without_capabilities(bench: &Bench) -> Result<Command, String> {
    need_root()?;
    find("setpriv").ok_or("there is no setpriv")?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(bench.program());
    let parts = [NOT_PRIVILEGED, "nested user namespace: we are not root with CAP_SETUID", "SETFCAP: add them"];
    command.arg("refused").args(parts);
    Ok(command)
}

/// A root directory with this program and `/proc`, not even `/dev/null`. The kernel gives no user namespace there.
fn in_chroot(bench: &Bench, user: &str, parts: &[&str]) -> Result<Command, String> {
    need_root()?;
    for tool in ["unshare", "mount", "chroot"] {
        find(tool).ok_or_else(|| format!("there is no {tool}"))?;
    }
    let root = bench.directory.join("root");
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::copy(bench.program(), root.join("it")).unwrap();
    let script = "mount -t proc proc root/proc && exec chroot --userspec=\"$0\" root /it refused \"$@\"";
    let mut command = Command::new("unshare");
    command.current_dir(&bench.directory).args(["-m", "sh", "-c", script, user]).args(parts);
    command.args(["single id: unshare(CLONE_NEWUSER): EPERM", "chroot: run", "no RUN", "!/proc/self/exe", "!usermod"]);
    Ok(command)
}

fn root_in_a_chroot(bench: &Bench) -> Result<Command, String> {
    let parts = ["privileged: mount(MS_PRIVATE): EINVAL", "nested user namespace: unshare(CLONE_NEWUSER): EPERM"];
    in_chroot(bench, "0:0", &parts)
}

fn user_in_a_chroot(bench: &Bench) -> Result<Command, String> {
    in_chroot(bench, "65534:65534", &[NOT_PRIVILEGED, "subordinate ids: /etc/subuid has no range for 65534"])
}

fn privileged_task(bench: &Bench) -> Result<Command, String> {
    bench.suite_in_runc("privileged.json", Rung::Privileged, |_| ())
}

fn privileged_task_on_a_fuse_only_worker(bench: &Bench) -> Result<Command, String> {
    bench.suite_in_runc("unprivileged-on-fuse-only-worker.json", Rung::Privileged, |config| {
        for set in config["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
            set.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
    })
}

fn task_on_a_fuse_only_worker(bench: &Bench) -> Result<Command, String> {
    bench.suite_in_runc("unprivileged-on-fuse-only-worker.json", Rung::NestedUserNamespace, |_| ())
}

/// As with guardian: parts of `/proc` are covered, so that the kernel refuses a new one.
fn task_with_a_masked_proc(bench: &Bench) -> Result<Command, String> {
    bench.suite_in_runc("unprivileged-on-fuse-only-worker.json", Rung::NestedUserNamespace, |config| {
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys"]);
    })
}

fn task_that_is_refused(bench: &Bench) -> Result<Command, String> {
    let parts =
        ["refused", NOT_PRIVILEGED, "nested user namespace: unshare(CLONE_NEWUSER): EPERM", "fuse-only", "no RUN"];
    bench.in_runc("unprivileged.json", parts.map(str::to_owned).to_vec(), |_| ())
}
