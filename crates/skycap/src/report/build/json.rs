//! A line of JSON for each event, in the words of `BuildKit`'s `--progress=rawjson`: vertexes, statuses, logs, warnings.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use skycap_image::{Digest, Event, Progress};

use super::super::Display;

/// Writes events as JSON.
#[derive(Default)]
pub struct Json {
    tasks: Mutex<BTreeMap<u64, Task>>,
}

struct Task {
    vertex: String,
    label: String,
    started: String,
    total: Option<u64>,
    done: u64,
}

impl Json {
    fn describe(&self, event: Event<'_>) -> Option<Value> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { id, label, total } => {
                let vertex = Digest::sha256(format!("{id} {label}").as_bytes()).to_string();
                let task = Task { vertex, label: label.to_owned(), started: now(), total, done: 0 };
                let told = task.tell(None, None);
                tasks.insert(id, task);
                Some(told)
            }
            Event::Advanced { id, bytes } => {
                let task = tasks.get_mut(&id)?;
                task.done += bytes;
                None
            }
            Event::Output { id, bytes } => {
                let vertex = &tasks.get(&id)?.vertex;
                let data = base64(bytes);
                Some(json!({"logs": [{"vertex": vertex, "stream": 1, "data": data, "timestamp": now()}]}))
            }
            Event::Finished { id, outcome } => Some(tasks.remove(&id)?.tell(Some(now()), Some(outcome))),
            Event::Note(text) => Some(json!({"notes": [text]})),
            Event::Warning(text) => Some(json!({"warnings": [{"level": 1, "short": base64(text.as_bytes())}]})),
            Event::Debug(_) | Event::Expected { .. } => None,
        }
    }
}

impl Task {
    fn tell(&self, completed: Option<String>, outcome: Option<&str>) -> Value {
        if let Some(total) = self.total {
            return json!({"statuses": [{
                "id": self.label, "vertex": self.vertex, "current": self.done, "total": total, "started": self.started,
                "completed": completed, "timestamp": now(),
            }]});
        }
        let mut vertex = json!({"digest": self.vertex, "name": self.label, "started": self.started});
        if let Some(completed) = completed {
            vertex["completed"] = completed.into();
        }
        match outcome {
            Some("cached") => vertex["cached"] = true.into(),
            Some("failed") => vertex["error"] = "failed".into(),
            _ => {}
        }
        json!({ "vertexes": [vertex] })
    }
}

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        if let Some(value) = self.describe(event) {
            // A log that is gone must not stop the work.
            let _ = writeln!(std::io::stderr().lock(), "{value}");
        }
    }
}

impl Display for Json {}

/// The time in RFC 3339, in UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (seconds, days) = (since.as_secs() % 86_400, i64::try_from(since.as_secs() / 86_400).unwrap_or_default());
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * day_of_year + 2) / 153;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * march_based + 2) / 5 + 1)
}

/// As JSON holds bytes in Go.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_days_are_written_as_everywhere() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!([0, 59, 19_782, 20_513].map(civil), [(1970, 1, 1), (1970, 3, 1), (2024, 2, 29), (2026, 3, 1)]);
    }

    #[test]
    fn events_become_vertexes_and_logs() {
        let json = Json::default();
        let started = json.describe(Event::Started { id: 1, label: "[1/1] RUN x", total: None }).unwrap();
        assert_eq!(started["vertexes"][0]["name"], "[1/1] RUN x");
        let log = json.describe(Event::Output { id: 1, bytes: b"hi\n" }).unwrap();
        assert_eq!(
            (&log["logs"][0]["data"], &log["logs"][0]["vertex"]),
            (&"aGkK".into(), &started["vertexes"][0]["digest"])
        );
        let ended = json.describe(Event::Finished { id: 1, outcome: "cached" }).unwrap();
        assert_eq!(ended["vertexes"][0]["cached"], true);
    }
}
