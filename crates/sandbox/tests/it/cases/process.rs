//! How a command starts, speaks and ends.

use std::time::{Duration, Instant};

use skycap_sandbox::{Cancel, Exit, Root, RunError, RunSpec, Rung, Stdin, TerminalSize, User};

use crate::world::{Collected, World, chain, lives};

super::cases! {
    exit_codes_and_signals_are_exact,
    standard_output_and_error_are_apart,
    fifty_megabytes_pass_on_both_streams,
    standard_input_is_empty_or_the_given_bytes,
    the_environment_is_the_given_one,
    signals_umask_and_descriptors_are_the_defaults,
    the_user_is_the_given_one,
    a_command_is_found_on_its_own_path,
    errors_of_exec_tell_what_is_wrong,
    the_directory_must_exist_or_is_made,
    a_terminal_has_its_size_and_name,
    fifty_megabytes_pass_a_terminal,
    a_terminal_reads_its_input_and_then_the_end,
    leftover_processes_are_killed,
    orphans_are_reaped,
    a_cancelled_command_is_asked_to_end,
    a_command_that_ignores_the_request_is_killed,
    a_wish_that_came_before_the_run_counts,
    the_sandbox_dies_with_its_caller,
    eight_runs_at_once_do_not_disturb_each_other,
}

fn exit_codes_and_signals_are_exact(world: &World) {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("exit 255", Exit::Code(255)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("sh -c 'kill -9 $$'; exit $?", Exit::Code(137)),
        ("kill -9 -1; exit 1", Exit::Signal(9)),
    ] {
        // With `-1` the shell itself is spared by the kernel.
        let exit = if script.starts_with("kill -9 -1") { Exit::Code(1) } else { exit };
        assert_eq!(world.run(&world.script(script).0).exit, exit, "{script}");
    }
}

fn standard_output_and_error_are_apart(world: &World) {
    let ran = world.run(&world.script("echo out; echo err >&2; echo more > /dev/stdout").0);
    assert_eq!((ran.stdout().as_str(), ran.stderr().as_str()), ("out\nmore\n", "err\n"));
}

fn fifty_megabytes_pass_on_both_streams(world: &World) {
    let (spec, _) = world.script("head -c 50000000 /dev/zero & head -c 50000000 /dev/zero >&2; wait");
    let ran = world.run(&spec);
    assert_eq!((ran.output.stdout.len(), ran.output.stderr.len()), (50_000_000, 50_000_000));
}

fn standard_input_is_empty_or_the_given_bytes(world: &World) {
    let (spec, _) = world.script("cat | md5sum; cat");
    assert_eq!(world.run(&spec).stdout(), "d41d8cd98f00b204e9800998ecf8427e  -\n");
    let (spec, _) = world.script("cat");
    let bytes: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(world.run_with(&spec, Stdin::Bytes(bytes.clone())).unwrap().output.stdout == bytes);
    // Who does not read is not waited for.
    assert_eq!(world.run_with(&world.script("exit 3").0, Stdin::Bytes(bytes)).unwrap().exit, Exit::Code(3));
}

fn the_environment_is_the_given_one(world: &World) {
    let mut spec = RunSpec::new(world.overlay().0, ["/bin/env"]);
    assert_eq!(world.run(&spec).stdout(), "");
    spec.env = vec![("A".into(), "1 2".into()), ("HOME".into(), "/root".into())];
    assert_eq!(world.run(&spec).stdout(), "A=1 2\nHOME=/root\n");
}

fn signals_umask_and_descriptors_are_the_defaults(world: &World) {
    let text = world.sh("umask; grep -E '^(SigBlk|SigIgn|SigCgt):' /proc/self/status; ls /proc/self/fd");
    // The fourth descriptor is that of the directory itself.
    assert_eq!(
        text,
        "0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n0\n1\n2\n3\n"
    );
}

fn the_user_is_the_given_one(world: &World) {
    let (mut spec, _) = world.script("id -u; id -g; id -G; echo open > /dev/stdout");
    spec.user = User { uid: 1000, gid: 1001, groups: vec![1001, 7] };
    let expected = match world.sandbox.rung() {
        Rung::SingleId => "0\n0\n0",
        _ => "1000\n1001\n1001 7",
    };
    let ran = world.run(&spec);
    assert!(ran.stdout().starts_with(expected) && ran.stdout().ends_with("open\n"), "{:?}", ran.output);
    if world.sandbox.owners_kept() {
        let mut spec = spec.clone();
        spec.user.gid = u32::MAX;
        assert!(chain(&world.try_run(&spec).err().unwrap()).contains("4294967295 is no id"));
    }
    if world.sandbox.rung() == Rung::SubordinateIds {
        spec.user.uid = 100_000;
        let text = chain(&world.try_run(&spec).err().expect("no such id"));
        assert!(text.contains("change the user to 100000") && text.contains("/etc/subuid"), "{text}");
    }
}

fn a_command_is_found_on_its_own_path(world: &World) {
    let (root, _) = world.overlay();
    let mut spec = RunSpec::new(root, ["echo", "found"]);
    spec.env.push(("PATH".into(), "/nowhere:/etc/passwd:/bin".into()));
    assert_eq!(world.run(&spec).stdout(), "found\n");
    spec.env.clear();
    assert_eq!(world.run(&spec).stdout(), "found\n", "without PATH the usual one is taken");
    spec.cwd = "/bin".into();
    spec.args[0] = "./echo".into();
    assert_eq!(world.run(&spec).stdout(), "found\n");
}

fn errors_of_exec_tell_what_is_wrong(world: &World) {
    let (root, upper) = world.overlay();
    std::fs::write(upper.join("script"), "#!/nowhere/sh\n").unwrap();
    std::fs::write(upper.join("plain"), "echo\n").unwrap();
    world.run(&RunSpec::new(root.clone(), ["/bin/chmod", "755", "/script", "/plain"]));
    for (command, expected) in [
        ("nothing", "exec nothing: no such file or directory (PATH is /bin:/)"),
        ("/nothing", "exec /nothing: no such file or directory"),
        ("/etc/passwd/x", "exec /etc/passwd/x: no such file or directory"),
        ("/no-program", "exec /no-program: Permission denied"),
        ("no-program", "exec no-program: Permission denied"),
        ("/script", "the interpreter or dynamic loader"),
        ("/plain", "script without a #! line"),
    ] {
        let mut spec = RunSpec::new(root.clone(), [command]);
        spec.env.push(("PATH".into(), "/bin:/".into()));
        let error = world.try_run(&spec).err().expect(command);
        let text = chain(&error);
        assert!(text.contains(expected), "{command}: {text}");
        assert_eq!(matches!(error, RunError::ExecNotFound { .. }), expected.contains("no such file"), "{command}");
    }
    let none: [&str; 0] = [];
    assert!(chain(&world.try_run(&RunSpec::new(root, none)).err().unwrap()).contains("there is no command"));
}

fn the_directory_must_exist_or_is_made(world: &World) {
    let (mut spec, upper) = world.script("pwd");
    spec.cwd = "/a/b".into();
    let text = chain(&world.try_run(&spec).err().expect("it does not exist"));
    assert!(text.contains("/a/b") && text.contains("No such file"), "{text}");
    spec.create_cwd = true;
    assert_eq!(world.run(&spec).stdout(), "/a/b\n");
    assert!(upper.join("a/b").is_dir());
    for number in 3..64 {
        let (mut spec, _) = world.script("pwd");
        spec.cwd = format!("/proc/self/fd/{number}/../..").into();
        assert!(world.try_run(&spec).is_err(), "a descriptor of ours leads outside: {number}");
    }
}

const SIZE: TerminalSize = TerminalSize { rows: 500, columns: 500 };

fn a_terminal_has_its_size_and_name(world: &World) {
    let (mut spec, _) = world.script("stty size; tty; echo err >&2; test -c /dev/console && echo console > /dev/tty");
    spec.terminal = Some(SIZE);
    let ran = world.run(&spec);
    assert_eq!(ran.stdout(), "500 500\r\n/dev/pts/0\r\nerr\r\nconsole\r\n");
    assert_eq!((ran.stderr().as_str(), ran.exit), ("", Exit::Code(0)));
}

fn fifty_megabytes_pass_a_terminal(world: &World) {
    let (mut spec, _) = world.script("yes 1234567 | head -c 50000000; exit 5");
    spec.terminal = Some(SIZE);
    let ran = world.run(&spec);
    assert_eq!((ran.output.stdout.len(), ran.exit), (50_000_000 + 50_000_000 / 8, Exit::Code(5)));
}

fn a_terminal_reads_its_input_and_then_the_end(world: &World) {
    let (mut spec, _) = world.script("stty -echo; read line; echo \"<$line>\"; cat");
    spec.terminal = Some(SIZE);
    let ran = world.run_with(&spec, Stdin::Bytes(b"hello\n".to_vec())).unwrap();
    assert!(ran.stdout().ends_with("<hello>\r\n"), "{:?}", ran.output);
    spec.args[2] = "cat; echo end".into();
    assert_eq!(world.run(&spec).stdout(), "end\r\n");
}

/// A number of seconds that no other test sleeps.
fn long(number: u32) -> String {
    (900_000_000 + 10 * std::process::id() + number).to_string()
}

fn leftover_processes_are_killed(world: &World) {
    let start = Instant::now();
    let [one, two, three] = [1, 2, 3].map(long);
    let script = format!("sleep {one} & setsid sleep {two} & (trap '' TERM HUP; sleep {three}) & echo ok");
    let ran = world.run(&world.script(&script).0);
    assert_eq!((ran.stdout().as_str(), ran.exit), ("ok\n", Exit::Code(0)));
    assert!(start.elapsed() < Duration::from_mins(1));
    for argument in [one, two, three] {
        assert!(!lives(&argument), "sleep {argument} is left");
    }
}

fn orphans_are_reaped(world: &World) {
    let text = world.sh(
        "i=0; while [ $i -lt 20 ]; do (true & true) & i=$((i+1)); done; wait; sleep 0.3; ps -o stat | grep -c Z; true",
    );
    assert_eq!(text, "0\n");
}

fn cancel_after(delay: Duration) -> Cancel {
    let cancel = Cancel::new();
    let remote = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        remote.cancel();
    });
    cancel
}

fn a_cancelled_command_is_asked_to_end(world: &World) {
    let (mut spec, _) = world.script("trap 'echo asked; exit 3' TERM; sleep 86404 & wait");
    spec.grace = Duration::from_mins(1);
    let mut output = Collected::default();
    let start = Instant::now();
    let exit = world.sandbox.run(&spec, Stdin::Empty, &mut output, &cancel_after(Duration::from_millis(300)));
    assert_eq!((exit.unwrap(), output.stdout.as_slice()), (Exit::Code(3), &b"asked\n"[..]));
    assert!(start.elapsed() < Duration::from_mins(1));
}

fn a_command_that_ignores_the_request_is_killed(world: &World) {
    let (spec, _) = world.script("trap '' TERM; sleep 86405; sleep 86406; sleep 86407");
    let start = Instant::now();
    let cancel = cancel_after(Duration::from_millis(300));
    let exit = world.sandbox.run(&spec, Stdin::Empty, &mut Collected::default(), &cancel).unwrap();
    assert_eq!(exit, Exit::Signal(9));
    assert!((Duration::from_secs(1)..Duration::from_mins(1)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

fn a_wish_that_came_before_the_run_counts(world: &World) {
    let cancel = Cancel::new();
    cancel.cancel();
    let (spec, _) = world.script("sleep 86408");
    let exit = world.sandbox.run(&spec, Stdin::Empty, &mut Collected::default(), &cancel).unwrap();
    assert_eq!(exit, Exit::Signal(15));
}

/// K10
fn the_sandbox_dies_with_its_caller(world: &World) {
    let scratch = world.directory();
    let (one, two) = (long(4), long(5));
    let mut victim = std::process::Command::new("/proc/self/exe")
        .args(["victim".as_ref(), scratch.as_os_str(), world.busybox.as_os_str()])
        .args([&one, &two])
        .spawn()
        .unwrap();
    let until = |what: &str, wanted: bool| {
        let start = Instant::now();
        while lives(&one) != wanted || lives(&two) != wanted {
            assert!(start.elapsed() < Duration::from_mins(1), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("it never started", true);
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("it goes on without its caller", false);
}

fn eight_runs_at_once_do_not_disturb_each_other(world: &World) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..5 {
                    let text = format!("{number}.{round}");
                    assert_eq!(world.sh(&format!("echo {text} > /f; cat /f")), format!("{text}\n"));
                }
            });
        }
    });
    // A root of one's own may also be a plain directory.
    let directory = world.directory();
    let root = Root::Directory(directory);
    assert!(matches!(world.try_run(&RunSpec::new(root, ["x"])), Err(RunError::ExecNotFound { .. })));
}
