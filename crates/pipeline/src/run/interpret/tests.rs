//! The interpreter against fake steps: a task's name says how it ends, and every step that ran is written down.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::*;
use crate::Vars;

/// Ends tasks as their names say: `ok-1`, `bad-1`, `err-1`, `abort-1` (as if cancelled), `hang-1` (until cancelled),
/// `flaky-3` (fails twice).
#[derive(Default)]
struct Fake {
    ran: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
    stop: Stop,
}

impl Fake {
    fn log(&self, entry: String) {
        self.ran.lock().unwrap().push(entry);
    }

    fn end(&self, name: &str, cx: &Context) -> Outcome {
        let status = cx.status.map(|status| format!("({status})")).unwrap_or_default();
        self.log(format!("{name}{status}"));
        let before = self.ran.lock().unwrap().iter().filter(|ran| *ran == name).count();
        match name.split('-').next().unwrap() {
            "ok" => Outcome::Succeeded,
            "err" => Outcome::Errored(name.to_owned()),
            "abort" => {
                self.stop.cancel();
                Outcome::Aborted
            }
            "hang" => {
                while !cx.stop.is_cancelled() {
                    thread::sleep(Duration::from_millis(1));
                }
                Outcome::Aborted
            }
            "flaky" if before >= 3 => Outcome::Succeeded,
            "bad" | "flaky" => Outcome::Failed,
            other => panic!("what is {other}?"),
        }
    }
}

impl Executor for Fake {
    fn get(&self, get: &Get, cx: &Context) -> Outcome {
        self.end(&get.name, cx)
    }
    fn put(&self, put: &PutPlan, cx: &Context) -> (Outcome, Option<Version>) {
        (self.end(&put.name, cx), Some(Version::new()))
    }
    fn get_after(&self, put: &PutPlan, _: &Node, _: &Version, _: &Context) -> Outcome {
        self.log(format!("get after {}", put.name));
        Outcome::Succeeded
    }
    fn task(&self, task: &TaskStep, cx: &Context) -> Outcome {
        self.end(&task.name, cx)
    }
    fn load_var(&self, step: &LoadVar, cx: &Context) -> Outcome {
        cx.scope.set_var(&step.name, Node::text(step.file.clone().unwrap_or_default()));
        Outcome::Succeeded
    }
    fn set_pipeline(&self, _: &SetPipeline, _: &Context) -> Outcome {
        Outcome::Succeeded
    }
    fn run(&self, _: &RunPrototype, _: &Context) -> Outcome {
        Outcome::Succeeded
    }
    fn fill(&self, value: &Node, cx: &Context) -> Result<Node, VarError> {
        interpolate(value, cx.scope.as_ref(), Missing::Refuse)
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

struct Ran {
    outcome: Outcome,
    steps: Vec<String>,
    notes: Vec<String>,
}

fn job(plan: &str) -> Ran {
    let yaml = format!("jobs: [{{name: j, plan: {plan}}}]");
    let config = crate::load(yaml.as_bytes(), "p.yml", &Vars::default()).unwrap_or_else(|error| panic!("{error}"));
    let plan = crate::plan(&config, "j").unwrap();
    let fake = Fake::default();
    let cx = Context { scope: Arc::default(), stop: fake.stop.clone(), kill: Stop::default(), status: None };
    let outcome = run(&plan, &fake, &cx);
    Ran { outcome, steps: fake.ran.into_inner().unwrap(), notes: fake.notes.into_inner().unwrap() }
}

fn errored(text: &str) -> Outcome {
    Outcome::Errored(text.to_owned())
}

#[test]
fn every_hook_runs_after_the_outcomes_it_is_for_and_decides_as_upstream() {
    let table = [
        // hook, step, hook's step, result, whether the hook ran
        ("on_success", "ok-1", "ok-h", Outcome::Succeeded, true),
        ("on_success", "ok-1", "bad-h", Outcome::Failed, true),
        ("on_success", "ok-1", "err-h", errored("err-h"), true),
        ("on_success", "bad-1", "ok-h", Outcome::Failed, false),
        ("on_success", "err-1", "ok-h", errored("err-1"), false),
        ("on_success", "abort-1", "ok-h", Outcome::Aborted, false),
        ("on_failure", "ok-1", "ok-h", Outcome::Succeeded, false),
        ("on_failure", "bad-1", "ok-h", Outcome::Failed, true),
        ("on_failure", "bad-1", "bad-h", Outcome::Failed, true),
        ("on_failure", "bad-1", "err-h", errored("err-h"), true),
        ("on_failure", "err-1", "ok-h", errored("err-1"), false),
        ("on_failure", "abort-1", "ok-h", Outcome::Aborted, false),
        ("on_error", "ok-1", "ok-h", Outcome::Succeeded, false),
        ("on_error", "bad-1", "ok-h", Outcome::Failed, false),
        ("on_error", "err-1", "ok-h", errored("1 error occurred:\n\t* err-1\n\n"), true),
        ("on_error", "err-1", "err-h", errored("2 errors occurred:\n\t* err-1\n\t* err-h\n\n"), true),
        ("on_error", "abort-1", "ok-h", Outcome::Aborted, false),
        ("on_abort", "ok-1", "ok-h", Outcome::Succeeded, false),
        ("on_abort", "bad-1", "ok-h", Outcome::Failed, false),
        ("on_abort", "err-1", "ok-h", errored("err-1"), false),
        ("on_abort", "abort-1", "bad-h", Outcome::Aborted, true),
        ("ensure", "ok-1", "ok-h", Outcome::Succeeded, true),
        ("ensure", "ok-1", "bad-h", Outcome::Failed, true),
        ("ensure", "ok-1", "err-h", errored("1 error occurred:\n\t* err-h\n\n"), true),
        ("ensure", "bad-1", "ok-h", Outcome::Failed, true),
        ("ensure", "err-1", "ok-h", errored("1 error occurred:\n\t* err-1\n\n"), true),
        ("ensure", "err-1", "err-h", errored("2 errors occurred:\n\t* err-1\n\t* err-h\n\n"), true),
        ("ensure", "abort-1", "ok-h", Outcome::Aborted, true),
    ];
    for (hook, step, then, outcome, hook_ran) in table {
        let ran = job(&format!("[{{task: {step}, file: a/b, {hook}: {{task: {then}, file: a/b}}}}]"));
        assert_eq!(ran.outcome, outcome, "{hook} {step} {then}");
        assert_eq!(ran.steps.len() == 2, hook_ran, "{hook} {step} {then}: {:?}", ran.steps);
    }
}

#[test]
fn hooks_know_how_their_step_ended_and_the_steps_own_come_first() {
    let ran = job(
        "[{task: bad-1, file: a/b, on_failure: {task: ok-own, file: a/b}, ensure: {task: ok-ensure, file: a/b}}], \
         on_failure: {task: ok-job, file: a/b}, ensure: {task: ok-last, file: a/b}, on_success: {task: ok-never, file: a/b}",
    );
    assert_eq!(ran.outcome, Outcome::Failed);
    assert_eq!(ran.steps, ["bad-1", "ok-own(failed)", "ok-ensure(failed)", "ok-job(failed)", "ok-last(failed)"]);
}

#[test]
fn do_stops_at_the_first_step_that_does_not_succeed() {
    let ran = job(
        "[{task: ok-1, file: a/b}, {do: [{task: bad-2, file: a/b}, {task: ok-3, file: a/b}]}, {task: ok-4, file: a/b}]",
    );
    assert_eq!(ran.outcome, Outcome::Failed);
    assert_eq!(ran.steps, ["ok-1", "bad-2"]);
}

#[test]
fn try_swallows_everything_but_an_abort() {
    for (step, outcome) in [
        ("ok-1", Outcome::Succeeded),
        ("bad-1", Outcome::Succeeded),
        ("err-1", Outcome::Succeeded),
        ("abort-1", Outcome::Aborted),
    ] {
        assert_eq!(job(&format!("[{{try: {{task: {step}, file: a/b}}}}]")).outcome, outcome, "{step}");
    }
}

#[test]
fn attempts_stop_at_the_first_success_and_at_an_abort() {
    for (step, outcome, times) in [
        ("ok-1", Outcome::Succeeded, 1),
        ("flaky-1", Outcome::Succeeded, 3),
        ("bad-1", Outcome::Failed, 4),
        ("err-1", errored("err-1"), 4),
        ("abort-1", Outcome::Aborted, 1),
    ] {
        let ran = job(&format!("[{{task: {step}, file: a/b, attempts: 4}}]"));
        assert_eq!(ran.outcome, outcome, "{step}");
        assert_eq!(ran.steps.len(), times, "{step}");
    }
}

#[test]
fn a_timeout_is_a_failure_and_counts_per_attempt() {
    let ran = job("[{task: hang-1, file: a/b, timeout: 10ms, attempts: 2, on_failure: {task: ok-h, file: a/b}}]");
    assert_eq!(ran.outcome, Outcome::Failed);
    assert_eq!(ran.steps, ["hang-1", "hang-1", "ok-h(failed)"]);
    assert!(ran.notes.contains(&"timeout exceeded".to_owned()), "{:?}", ran.notes);
    let ran = job("[{do: [{task: hang-1, file: a/b}], timeout: 10ms}]");
    assert_eq!(ran.outcome, Outcome::Failed);
    let ran = job("[{get: ok-1, timeout: nope}]");
    assert_eq!(ran.outcome, errored("parse timeout: time: invalid duration \"nope\""));
}

#[test]
fn in_parallel_runs_all_unless_it_fails_fast() {
    let ran = job("[{in_parallel: [{task: bad-1, file: a/b}, {task: ok-2, file: a/b}, {task: err-3, file: a/b}]}]");
    assert_eq!(ran.outcome, errored("1 error occurred:\n\t* err-3\n\n"));
    assert_eq!(ran.steps.len(), 3);
    let ran = job("[{in_parallel: {fail_fast: true, steps: [{task: bad-1, file: a/b}, {task: hang-2, file: a/b}]}}]");
    assert_eq!(ran.outcome, Outcome::Failed, "the hanging step was cancelled and does not count");
    let ran =
        job("[{in_parallel: {limit: 1, fail_fast: true, steps: [{task: bad-1, file: a/b}, {task: ok-2, file: a/b}]}}]");
    assert_eq!(ran.steps, ["bad-1"], "a pending step does not start");
    let ran = job("[{in_parallel: [{task: abort-1, file: a/b}, {task: hang-2, file: a/b}]}]");
    assert_eq!(ran.outcome, Outcome::Aborted);
    assert_eq!(job("[{in_parallel: []}]").outcome, Outcome::Succeeded);
}

#[test]
fn the_get_after_a_put_runs_unless_it_is_refused_or_the_put_failed() {
    assert_eq!(job("[{put: ok-1}]").steps, ["ok-1", "get after ok-1"]);
    assert_eq!(job("[{put: ok-1, no_get: true}]").steps, ["ok-1"]);
    assert_eq!(job("[{put: bad-1}]").steps, ["bad-1"]);
}

#[test]
fn across_varies_the_last_var_fastest_and_fills_the_whole_step_in() {
    let ran =
        job("[{across: [{var: a, values: [1, 2]}, {var: b, values: [u, w]}], task: \"ok-((.:a))((.:b))\", file: a/b}]");
    assert_eq!(ran.outcome, Outcome::Succeeded);
    assert_eq!(ran.steps, ["ok-1u", "ok-1w", "ok-2u", "ok-2w"]);
}

#[test]
fn across_goes_on_after_a_failure_unless_it_fails_fast() {
    let plan = "[{across: [{var: a, values: [bad, ok]}], FAST task: \"((.:a))-1\", file: a/b}]";
    let ran = job(&plan.replace("FAST", ""));
    assert_eq!((ran.outcome, ran.steps.len()), (Outcome::Failed, 2));
    let ran = job(&plan.replace("FAST", "fail_fast: true,"));
    assert_eq!((ran.outcome, ran.steps.len()), (Outcome::Failed, 1));
}

#[test]
fn vars_loaded_below_across_do_not_escape() {
    let ran = job("[{across: [{var: a, values: [1]}], do: [{load_var: v, file: x/y}]}, \
         {across: [{var: b, values: [\"((.:v))\"]}], task: ok-1, file: a/b}]");
    assert_eq!(ran.outcome, errored("undefined vars: .:v"));
    let ran =
        job("[{load_var: v, file: ok-9}, {across: [{var: b, values: [\"((.:v))\"]}], task: \"((.:b))\", file: a/b}]");
    assert_eq!(ran.steps, ["ok-9"]);
}

#[test]
fn across_values_must_be_a_list_and_shadowing_is_said() {
    let ran = job("[{across: [{var: a, values: 5}], task: ok-1, file: a/b}]");
    assert_eq!(ran.outcome, errored("values of across var 'a' must be a list, not number"));
    let ran = job("[{load_var: a, file: x/y}, {across: [{var: a, values: [1]}], task: ok-1, file: a/b}]");
    assert_eq!(ran.notes, ["WARNING: across step shadows local var 'a'"]);
}
