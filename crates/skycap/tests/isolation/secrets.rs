//! A secret through every door, beside a step that looks everywhere; and a search through all that is left.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use skycap_image::{Compression, compress};

use crate::grounds::Rung;
use crate::stood::Place;
use crate::workers::command;

/// What a step can read of processes and files that are not its own. It looks for itself, too.
const LOOK: &str = r"for p in /proc/[0-9]*; do \
      for f in environ cmdline maps auxv; do cat $p/$f; done; \
      cat $p/root/run/secrets/* $p/root/opt/deep/er $p/root/etc/kept $p/cwd/run/secrets/*; \
      for f in $p/fd/* $p/task/*/fd/*; do l=$(readlink $f); echo $l; case $l in /found*|/later*) ;; *) test -f $f && cat $f;; esac; done; for t in $p/task/*; do cat $t/environ $t/cmdline; done; \
    done; cat /run/secrets/* /proc/keys /proc/key-users; find / -path /proc -prune -o -path /sys -prune -o -type f -print | grep -v -e ^/found -e ^/later | xargs grep -l hunt[e]r2 | sed 's/^/holds /'";

const DOCKERFILE: &str = r#"FROM base AS holder
RUN echo kept > /etc/kept
RUN --mount=type=secret,id=token,required --mount=type=secret,id=token,target=/etc/kept --mount=type=secret,id=token,target=/opt/deep/er,mode=0440,uid=UID \
    --mount=type=secret,id=other,env=TOKEN --mount=type=secret,id=lines,target=/run/secrets/lines,env=LINES --mount=type=cache,target=/meet,id=meet \
    test "$(cat /run/secrets/token)" = "$TOKEN" && cat /etc/kept /opt/deep/er /run/secrets/lines && echo "a $TOKEN b" && echo "$LINES" >&2 && \
    i=0; while [ $i -lt ${#TOKEN} ]; do printf %s "$(printf %s "$TOKEN" | cut -c$((i+1)))"; i=$((i+1)); done; echo; \
    stat -c '%a %u' /run/secrets/token /opt/deep/er > /fs; grep -c '^tmpfs /run/secrets/token ' /proc/mounts >> /fs; ulimit -c; \
    exec 3< /run/secrets/token; sh -c 'sleep 20; true' "$TOKEN" & \
    mkdir /meet/busy; i=0; while [ ! -e /meet/over ] && [ $i -lt WAIT ]; do sleep 0.05; i=$((i+1)); done; rmdir /meet/busy
FROM base AS other
ENV OWN=seen-by-itself
RUN --mount=type=cache,target=/meet,id=meet i=0; while [ ! -e /meet/busy ] && [ $i -lt WAIT ]; do sleep 0.05; i=$((i+1)); done; sleep 0.1; \
    test -e /meet/busy && echo both > /together; { LOOK; } > /found 2> /dev/null; \
    test -e /meet/busy && echo still >> /together; echo > /meet/over
FROM base
COPY --from=holder /fs /etc/kept /opt* /
COPY --from=other /found /tog* /
RUN { LOOK; } > /later 2> /dev/null; ls -a /run /run/secrets /opt > /stubs 2> /dev/null; ls / >> /stubs; true
"#;

/// 64 bytes that nobody has seen before.
fn random() -> String {
    let mut bytes = [0; 42];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    format!("hunter2-{}", URL_SAFE_NO_PAD.encode(bytes)).chars().take(64).collect()
}

pub fn lay(place: &mut Place) {
    let secrets = place.task.join("secrets");
    fs::create_dir_all(&secrets).unwrap();
    let token = random();
    fs::write(secrets.join("token"), &token).unwrap();
    fs::write(secrets.join("lines"), format!("{}\n  {}\n", random(), random())).unwrap();
    // Where they run one after the other, nobody shall wait long for somebody who cannot come.
    let wait = if place.is_serial() { "10" } else { "400" };
    let uid = if place.is(Rung::Single) { "0" } else { "1000" };
    let dockerfile = DOCKERFILE.replace("WAIT", wait).replace("UID", uid).replace("LOOK", LOOK);
    place.add(
        "secrets",
        &dockerfile,
        "store=secrets-store; export TOKEN=$(cat secrets/token)",
        "--secret id=token,src=secrets/token --secret id=other,env=TOKEN --secret id=lines,src=secrets/lines \
         --cache-to type=local,dest=out/secrets-cache,mode=max --attest type=provenance,mode=max --metadata-file out/secrets.json",
    );
}

/// The secrets, line by line.
fn lines(place: &Place) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(place.task.join("secrets").join(name)).unwrap();
    (read("token") + "\n" + &read("lines")).lines().map(|line| line.trim().to_owned()).collect()
}

/// How a text may be written: as it is, in hex, and in base64 at any place of a longer text.
pub fn disguises(secret: &str) -> Vec<Vec<u8>> {
    let hex = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut all = vec![secret.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for shift in 0..3 {
        let shifted = [&b"abc"[..shift], secret.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // The characters at both ends depend on what stands beside.
            all.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
        }
    }
    all
}

/// The files below a directory in which one of these stands, also where it is compressed; how many were read. What `skip` says is not
/// looked at. The looking is done by `grep`, which is fast also where this program is not.
pub fn holders(directory: &Path, disguises: &[Vec<u8>], skip: &dyn Fn(&Path) -> bool) -> (usize, Vec<String>) {
    let unpacked = tempfile::tempdir().unwrap();
    let patterns = unpacked.path().join("patterns");
    fs::write(&patterns, disguises.join(&b"\n"[..])).unwrap();
    let (mut open, mut files) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap).filter(|entry| !skip(&entry.path())) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    let mut grep = command("grep");
    grep.args(["-laF", "-f"]).arg(&patterns).args(&files);
    for (number, file) in files.iter().enumerate() {
        let mut bytes = fs::File::open(file).unwrap();
        let Ok((compression, mut decoder)) = compress::decoder(&mut bytes) else { continue };
        if compression != Compression::None {
            let name = format!("{number}-{}", file.file_name().unwrap().to_string_lossy());
            let mut copy = fs::File::create(unpacked.path().join(&name)).unwrap();
            // What only begins like something compressed is read as far as it goes.
            let _ = std::io::copy(&mut decoder, &mut copy);
            grep.arg(unpacked.path().join(&name));
        }
    }
    let found = grep.output().unwrap();
    assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    (files.len(), String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    // The first byte is looked for first: most files hold it rarely.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == part[0]) {
        if rest[at..].starts_with(part) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// S01: every file of the ground but the one that it came from: images, caches, logs, temporary files, home, the container.
pub fn s01_a_secret_is_nowhere_afterwards(place: &Place) {
    place.built("secrets");
    let disguises: Vec<_> = lines(place).iter().flat_map(|line| disguises(line)).collect();
    // Other builds know nothing of it.
    let others = [place.task.join("store"), place.task.join("store-2"), place.task.join("secrets")];
    let (read, found) = holders(place.all(), &disguises, &|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_other = path.parent() == Some(&place.task.join("out")) && !name.starts_with("secrets");
        is_other || others.iter().any(|other| other == path)
    });
    assert!(read > 30, "only {read} files were there to be read");
    assert!(found.is_empty(), "{found:?}");
}

/// S03: neither beside it nor after it; in a takeover, and where `/proc` shows everybody, never beside it.
pub fn s03_no_step_sees_the_secret_of_another(place: &Place) {
    let files = place.built("secrets");
    let secrets = lines(place);
    for name in ["found", "later"] {
        let (_, found) = &files.0[name];
        assert!(!secrets.iter().any(|secret| contains(found, secret.as_bytes())), "{name} holds a secret");
        let text = String::from_utf8_lossy(found);
        // Root finds what the builder works on, in the one directory where it is put aside.
        let own = |line: &str| place.is(Rung::Takeover) && line.starts_with("holds /.skycap-");
        let holding: Vec<&str> = text.lines().filter(|line| line.starts_with("holds ") && !own(line)).collect();
        assert!(holding.is_empty(), "{name}: {holding:?}");
    }
    assert!(files.text("found").contains("seen-by-itself"), "nothing could be read");
    assert_eq!(files.has("together"), !place.is_serial(), "whether both ran at once");
    if !place.is_serial() {
        assert_eq!(files.text("together"), "both\nstill\n");
    }
    // S01: mount points are gone, and what they covered is back.
    assert_eq!(files.text("kept"), "kept\n");
    assert!(!files.text("stubs").contains("secrets") && !files.has("run/secrets") && !files.has("deep"));
    let owner = if place.is(Rung::Single) { 0 } else { 1000 };
    let in_memory = u8::from(!place.is(Rung::Takeover));
    assert_eq!(files.text("fs"), format!("400 0\n440 {owner}\n{in_memory}\n"));
}

/// S08: whole, line by line, and a byte at a time.
pub fn s08_a_secret_that_is_printed_is_masked(place: &Place) {
    let log = place.log("secrets");
    let secrets = lines(place);
    assert!(!secrets.iter().any(|secret| log.contains(secret)));
    assert!(log.contains("a *** b") && log.matches("***").count() >= 4, "{log}");
}
