//! What people see of a build: a table on a terminal, lines elsewhere.

use crate::build::{build, context, with_shell};
use crate::progress::{Terminal, lines, on};
use crate::world::{World, run};

const TALKATIVE: &str = "\
FROM shell AS one
RUN for i in 1 2 3 4 5 6 7 8 9; do echo \"one says $i\"; sleep 0.1; done
FROM shell AS two
RUN echo \"two says hello\"; sleep 1
FROM shell
COPY --from=one /bin/sh /1
COPY --from=two /bin/sh /2
RUN echo the end; false
";

#[test]
fn a_log_has_each_line_with_its_step_and_time() {
    const TEST: &str = "a_log_has_each_line_with_its_step_and_time";
    let Some(world) = with_shell(TEST, TALKATIVE) else { return };
    let ran = build(&world, ["context"]).fails(1, "exited with code 1");
    let text = &ran.stderr;
    let number = |label: &str| {
        let line = text.lines().find(|line| line.starts_with('#') && line.contains(label));
        line.unwrap_or_else(|| panic!("{label}: {text}")).split(' ').next().unwrap().to_owned()
    };
    let (one, two, last) = (number("[one 1/1] RUN"), number("[two 1/1] RUN"), number("/3] RUN echo the end"));
    let of =
        |number: &str| text.lines().filter_map(|line| line.strip_prefix(&format!("{number} "))).collect::<Vec<_>>();
    let said =
        of(&one).into_iter().filter_map(|line| line.split_once(' ')).filter(|(_, said)| said.starts_with("one says"));
    let times: Vec<f64> = said.map(|(time, _)| time.parse().unwrap()).collect();
    assert!(times.len() == 9 && times.is_sorted() && times[8] > 0.7, "{times:?}");
    assert!(
        of(&one).last().unwrap().starts_with("DONE 0.") || of(&one).last().unwrap().starts_with("DONE 1."),
        "{text}"
    );
    assert!(of(&two).iter().any(|line| line.ends_with(" two says hello")), "{text}");
    assert!(of(&last).last().unwrap().starts_with("ERROR 0."), "{text}");
    assert!(text.contains("------\n > [stage-3 3/3] RUN echo the end; false:\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\r'));
    let again = build(&world, ["context"]).fails(1, "");
    assert!(again.stderr.contains(" CACHED\n"), "{}", again.stderr);
}

fn on_terminal(world: &World, size: (u16, u16), arguments: &[&str], meanwhile: impl FnOnce(&Terminal)) -> String {
    let command = world.skycap(["build"].iter().chain(arguments).chain(&["context"]));
    on(Terminal::new(size.0, size.1), command, meanwhile).1
}

/// What is on the screen at the end: what was written after everything was cleared for the last time.
fn last_screen(text: &str) -> Vec<String> {
    lines(text.rsplit("\x1b[J").next().unwrap())
}

#[test]
fn a_terminal_shows_a_table_with_windows_that_collapse() {
    const TEST: &str = "a_terminal_shows_a_table_with_windows_that_collapse";
    let Some(world) = with_shell(TEST, TALKATIVE) else { return };
    let text = on_terminal(&world, (80, 24), &[], |_| {});
    let frames: Vec<Vec<String>> = text.split("\x1b[J").map(lines).collect();
    let shows = |frame: &Vec<String>, what: &str| frame.iter().any(|line| line.contains(what));
    assert!(
        frames.iter().any(|frame| shows(frame, " => => # one says 5") && shows(frame, " => => # two says hello")),
        "{text}"
    );
    let windows = frames.iter().map(|frame| frame.iter().filter(|line| line.starts_with(" => => # one")).count()).max();
    assert_eq!(windows, Some(6), "{text}");
    let end = last_screen(&text);
    assert!(end[0].starts_with("[+] Building ") && end[0].ends_with("(7/7) ERROR"), "{end:#?}");
    assert!(end.iter().any(|line| line.starts_with(" => [one 1/1] RUN") && line.ends_with('s')), "{end:#?}");
    assert!(end.iter().any(|line| line.starts_with(" => ERROR [stage-3 3/3] RUN echo the end")), "{end:#?}");
    assert!(!end.iter().any(|line| line.contains("one says") && line.starts_with(" => => #")), "{end:#?}");
    assert!(end.iter().any(|line| line.ends_with(" the end")), "{end:#?}");
    let cached = last_screen(&on_terminal(&world, (80, 24), &["--target", "one"], |_| {}));
    assert!(
        cached[0].ends_with("FINISHED") && cached.iter().any(|line| line.starts_with(" => CACHED [one 1/1]")),
        "{cached:#?}"
    );
}

#[test]
fn the_table_fits_every_terminal_also_when_it_changes() {
    const TEST: &str = "the_table_fits_every_terminal_also_when_it_changes";
    let Some(world) = with_shell(TEST, TALKATIVE) else { return };
    for (columns, rows) in [(30, 6), (12, 3), (200, 60)] {
        let text = on_terminal(&world, (columns, rows), &["--no-cache", "--target", "one"], |_| {});
        // Up to the final table: everything that was redrawn.
        let frames: Vec<&str> = text.split("\x1b[J").collect();
        for frame in &frames[..frames.len() - 1] {
            let drawn: Vec<String> =
                lines(frame).into_iter().filter(|line| line.starts_with(" =>") || line.starts_with("[+]")).collect();
            let widest = drawn.iter().map(|line| line.chars().count()).max().unwrap_or_default();
            assert!(widest < usize::from(columns) && drawn.len() < usize::from(rows), "{columns}x{rows}: {drawn:#?}");
        }
    }
    let text = on_terminal(&world, (100, 24), &["--no-cache"], |terminal| {
        std::thread::sleep(std::time::Duration::from_millis(600));
        terminal.resize(40, 24);
    });
    let end = last_screen(&text);
    assert!(end[0].starts_with("[+] Building"), "{end:#?}");
    let table = end.iter().filter(|line| line.starts_with(" =>"));
    assert!(table.map(|line| line.chars().count()).all(|width| width < 40), "{end:#?}");
}

#[test]
fn colours_and_the_table_are_for_those_who_want_them() {
    let world = context();
    let coloured = on_terminal(&world, (80, 24), &[], |_| {});
    assert!(coloured.contains("\x1b[36m"), "{coloured}");
    let mut command = world.skycap(["build", "context"]);
    command.env("NO_COLOR", "1");
    let plain = on(Terminal::new(80, 24), command, |_| {}).1;
    assert!(!plain.contains("\x1b[36m") && plain.contains("[+] Building"), "{plain}");
    let mut command = world.skycap(["build", "context"]);
    command.env("CI", "true");
    let lines = on(Terminal::new(80, 24), command, |_| {}).1;
    assert!(lines.contains("#1 ") && !lines.contains("[+] Building"), "{lines}");
    let mut command = world.skycap(["build", "context"]);
    command.env("BUILDKIT_PROGRESS", "plain");
    let lines = on(Terminal::new(80, 24), command, |_| {}).1;
    assert!(lines.contains("#1 ") && !lines.contains("[+] Building"), "{lines}");
    let quiet = on_terminal(&world, (80, 24), &["--progress=quiet"], |_| {});
    assert!(!quiet.contains("COPY"), "{quiet}");
}

#[test]
fn events_are_json_for_programs() {
    let world = context();
    let ran = build(&world, ["--progress=rawjson", "context"]).ok();
    let events: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let vertexes = || events.iter().filter_map(|event| event["vertexes"][0].as_object());
    assert!(
        vertexes().any(|vertex| vertex["name"].as_str().unwrap().contains("COPY") && vertex.contains_key("completed")),
        "{}",
        ran.stderr
    );
    assert!(run(world.skycap(["build", "--progress=fancy", "context"])).stderr.contains("rawjson"));
}
