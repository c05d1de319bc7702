//! The table: pure, from a board and the size of a terminal to lines that are narrower than it.

use std::time::{Duration, Instant};

use super::super::{Style, bar_line};
use super::board::{Board, State, Step};
use super::text::{cut, plain, width};

/// How many lines of a running step's output are shown at most, and how many bars.
const WINDOW: usize = 6;
const BARS: usize = 8;

/// What a table is drawn for.
#[derive(Clone, Copy)]
pub struct Frame {
    pub now: Instant,
    pub elapsed: Duration,
    pub columns: usize,
    /// `None`: all of it, for the last time.
    pub rows: Option<usize>,
    pub style: Style,
    /// `FINISHED` or `ERROR` at the end.
    pub end: &'static str,
}

/// Everything that is to be seen now.
pub fn draw(board: &Board, frame: &Frame) -> Vec<String> {
    let room = frame.columns.saturating_sub(1);
    let mut lines = vec![header(board, frame, room)];
    let bars = if frame.rows.is_some() { bars(board, frame) } else { Vec::new() };
    let left = frame.rows.map(|rows| rows.saturating_sub(2 + bars.len()).max(1));
    lines.extend(steps(board, frame, room, left));
    lines.extend(bars);
    lines
}

fn header(board: &Board, frame: &Frame, room: usize) -> String {
    let counts = format!("({}/{})", board.ended(), board.total());
    let line = format!("[+] Building {} {counts} {}", seconds(frame.elapsed), frame.end);
    let line = cut(line.trim_end(), room);
    match frame.end {
        "" => line,
        "FINISHED" => frame.style.hint(&line),
        _ => frame.style.error(&line),
    }
}

/// Where there is no room for all, steps that ended are left out first, then lines of output, then what began last.
fn steps(board: &Board, frame: &Frame, room: usize, left: Option<usize>) -> Vec<String> {
    let is_running = |step: &&Step| step.state == State::Running;
    let running = board.steps.iter().filter(is_running).count();
    let left = left.unwrap_or(usize::MAX);
    let for_windows = left.saturating_sub(running);
    let window = if frame.rows.is_some() { for_windows.checked_div(running).unwrap_or(0).min(WINDOW) } else { 0 };
    let windows: usize = board.steps.iter().filter(is_running).map(|step| step.output.len().min(window)).sum();
    let mut for_ended = left.saturating_sub(running + windows);
    let ended = board.steps.len() - running;
    let mut hidden = ended.saturating_sub(for_ended);
    for_ended = for_ended.min(ended);
    let mut lines = Vec::new();
    for step in &board.steps {
        if step.state != State::Running {
            if hidden > 0 {
                hidden -= 1;
                continue;
            }
            for_ended = for_ended.saturating_sub(1);
        }
        if lines.len() >= left {
            break;
        }
        lines.push(line(step, frame, room));
        if step.state == State::Running {
            let skip = step.output.len().saturating_sub(window);
            let shown = step.output.iter().skip(skip).map(|(_, text)| cut(&format!(" => => # {}", plain(text)), room));
            lines.extend(shown.map(|text| frame.style.faint(&text)));
        }
    }
    lines
}

/// ` => CACHED [2/4] RUN make                1.2s`
fn line(step: &Step, frame: &Frame, room: usize) -> String {
    let (mark, time) = match step.state {
        State::Cached => ("CACHED ", "0.0s".to_owned()),
        State::Failed(time) => ("ERROR ", seconds(time)),
        State::Cancelled(time) => ("CANCELED ", seconds(time)),
        State::Done(time) => ("", seconds(time)),
        State::Running => ("", seconds(step.time(frame.now))),
    };
    let text = format!(" => {mark}{}", step.label);
    let line = match room.checked_sub(time.len() + 1) {
        Some(left) if left >= 8 => {
            let text = cut(&text, left);
            format!("{text}{}{time}", " ".repeat(room - width(&text) - time.len()))
        }
        _ => cut(&text, room),
    };
    match step.state {
        State::Running => line,
        State::Done(_) | State::Cached => frame.style.hint(&line),
        State::Failed(_) => frame.style.error(&line),
        State::Cancelled(_) => frame.style.warning(&line),
    }
}

fn bars(board: &Board, frame: &Frame) -> Vec<String> {
    let most = frame.rows.map_or(BARS, |rows| BARS.min(rows.saturating_sub(4) / 2)).max(1);
    let draw = |transfer: &super::board::Transfer| {
        bar_line::transfer(&transfer.label, transfer.done, transfer.total, transfer.speed.rate(), frame.columns)
    };
    let mut lines: Vec<String> = board.transfers.values().take(most).map(draw).collect();
    let under_way = board.transfers.len();
    if under_way > 0 && under_way as u64 + board.transferred > 1 {
        let hidden = under_way.saturating_sub(most);
        let more = if hidden == 0 { String::new() } else { format!(" ({hidden} not shown)") };
        let text = format!("{} done, {under_way} under way{more}", board.transferred);
        lines.push(bar_line::total(&text, board.bytes, board.speed.rate(), frame.columns));
    }
    lines
}

/// What a step that failed printed last.
pub fn failure(board: &Board) -> Vec<String> {
    let Some(step) = board.failed().filter(|step| !step.output.is_empty()) else { return Vec::new() };
    let output = step.output.iter().map(|(time, text)| format!("{} {}", stamp(*time), plain(text)));
    let rule = || "------".to_owned();
    [rule(), format!(" > {}:", step.label)].into_iter().chain(output).chain([rule()]).collect()
}

/// `0.31`, for a line of output.
pub fn stamp(time: Duration) -> String {
    let digits = if time.as_secs() < 10 { 3 } else { 2 };
    format!("{:.digits$}", time.as_secs_f64())
}

/// `1.2s`
pub fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::board;
    use super::*;
    use skycap_image::Event;

    fn frame(now: Instant, columns: usize, rows: Option<usize>) -> Frame {
        Frame { now, elapsed: Duration::from_millis(1234), columns, rows, style: Style::new(false), end: "" }
    }

    fn started(id: u64, label: &str) -> Event<'_> {
        Event::Started { id, label, total: None }
    }

    const DONE: fn(u64) -> Event<'static> = |id| Event::Finished { id, outcome: "done" };

    #[test]
    fn steps_stand_in_their_order_with_state_and_time() {
        let (board, now) = board(&[
            Event::Expected { steps: 4 },
            started(1, "[1/3] FROM alpine"),
            DONE(1),
            started(2, "[2/3] COPY . ."),
            Event::Finished { id: 2, outcome: "cached" },
            started(3, "[3/3] RUN make"),
            Event::Output { id: 3, bytes: b"cc a.c\ncc\tb.c\n" },
            Event::Started { id: 4, label: "pull layer 0123456789ab", total: Some(1000) },
            Event::Advanced { id: 4, bytes: 500 },
        ]);
        let expected = [
            "[+] Building 1.2s (2/4)",
            " => [1/3] FROM alpine            0.1s",
            " => CACHED [2/3] COPY . .        0.0s",
            " => [3/3] RUN make               0.4s",
            " => => # cc a.c",
            " => => # cc      b.c",
            "  pull layer 0123456789ab  50%",
        ];
        assert_eq!(draw(&board, &frame(now, 38, Some(24))), expected);
    }

    #[test]
    fn a_low_terminal_shows_what_runs_and_every_line_fits() {
        let mut events: Vec<Event<'_>> = Vec::new();
        for id in 0..20 {
            events.extend([started(id, "[build 1/20] RUN a rather long command with 日本語 in it"), DONE(id)]);
        }
        events.push(started(50, "[build 2/20] RUN one"));
        events.push(started(51, "[build 3/20] RUN two"));
        let many = b"a line of output\n".repeat(30);
        events.push(Event::Output { id: 50, bytes: &many });
        let (board, now) = board(&events);
        for rows in 2..40 {
            for columns in [1, 2, 9, 20, 40, 80, 200] {
                let lines = draw(&board, &frame(now, columns, Some(rows)));
                assert!(lines.len() < rows.max(3), "{rows}: {lines:#?}");
                assert!(lines.iter().all(|line| width(line) < columns), "{columns}: {lines:#?}");
            }
        }
        let lines = draw(&board, &frame(now, 80, Some(12)));
        assert!(lines.iter().any(|line| line.contains("RUN two")), "{lines:#?}");
        assert_eq!(draw(&board, &frame(now, 80, None)).len(), 23);
    }

    #[test]
    fn a_step_that_failed_shows_what_it_said() {
        let (board, _) = board(&[
            started(1, "[2/2] RUN false"),
            Event::Output { id: 1, bytes: b"no such thing\n" },
            Event::Finished { id: 1, outcome: "failed" },
        ]);
        assert_eq!(failure(&board), ["------", " > [2/2] RUN false:", "0.100 no such thing", "------"]);
    }
}
