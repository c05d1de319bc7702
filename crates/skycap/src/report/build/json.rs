//! A line of JSON for each event, in the words of `BuildKit`'s `--progress=rawjson`: vertexes, statuses, logs, warnings.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    format!("{:.9}", jiff::Timestamp::now())
}

/// As JSON holds bytes in Go.
fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_are_written_as_go_does() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        let now = now();
        assert_eq!(now.len(), "2024-02-29T00:00:00.000000000Z".len(), "{now}");
        assert!(now.ends_with('Z') && now.as_bytes()[10] == b'T', "{now}");
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
