//! `skycap store`: what is kept on this machine, and what may go.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use skycap_store::{Collected, Item, Looked, Store};

use super::{Context, print};
use crate::args::{Store as Command, StoreGc, StoreLs, StoreVerify};
use crate::failure::Failure;
use crate::report::{bytes, columns};

pub fn run(command: &Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Ls(arguments) => ls(arguments, context).map(|()| ExitCode::SUCCESS),
        Command::Gc(arguments) => gc(arguments, context).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify(arguments, context),
    }
}

fn ls(arguments: &StoreLs, context: &Context) -> Result<(), Failure> {
    let mut items = look(context)?.map_or_else(|| Ok(Vec::new()), |store| store.inventory())?;
    items.sort_by_key(|item| item.used);
    let total: u64 = items.iter().map(|item| item.size).sum();
    if arguments.json {
        let items: Vec<Value> = items.iter().map(as_json).collect();
        return print_json(&json!({"directory": context.store_directory(), "bytes": total, "items": items}));
    }
    print(&table(&items))?;
    say!("{} in {} items in {}", bytes(total), items.len(), context.store_directory().display());
    Ok(())
}

/// The store, if there is one, without a trace.
fn look(context: &Context) -> Result<Option<Looked>, Failure> {
    let directory = context.store_directory();
    let looked = Store::look(&directory)
        .map_err(|error| Failure::because(format!("cannot look into the store {}", directory.display()), &error))?;
    if looked.is_none() {
        say!("there is no store in {}", directory.display());
    }
    Ok(looked)
}

fn gc(arguments: &StoreGc, context: &Context) -> Result<(), Failure> {
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let age = arguments.unused_for.unwrap_or(Duration::MAX);
    let collected = if arguments.dry_run {
        look(context)?.map_or_else(|| Ok(Collected::default()), |store| store.gc_dry_run(limit, age))?
    } else {
        context.store()?.gc(limit, age)?
    };
    let Collected { removed, freed, kept, in_use } = &collected;
    if arguments.json {
        let removed: Vec<Value> = removed.iter().map(as_json).collect();
        let document = json!({
            "removed": removed, "freed": freed, "kept": kept, "in_use": in_use, "dry_run": arguments.dry_run,
        });
        return print_json(&document);
    }
    print(&table(removed))?;
    let (verb, stay) = if arguments.dry_run { ("would remove", "would stay") } else { ("removed", "stay") };
    say!("{verb} {} items, {}; {} {stay}", removed.len(), bytes(*freed), bytes(*kept));
    if *in_use > 0 {
        say!("{} of them only because they are in use", bytes(*in_use));
    }
    Ok(())
}

/// Damage is removed, so the store is sound afterwards; the exit code still tells of it.
fn verify(arguments: &StoreVerify, context: &Context) -> Result<ExitCode, Failure> {
    let store = context.store()?;
    let progress = &context.progress;
    let audit = store.audit(&mut |item: &Item| {
        progress.event(skycap_image::Event::Debug(&format!("{} {}", item.sort.name(), item.label)));
    })?;
    let code = if audit.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if arguments.json {
        let damaged = audit.damaged.iter().map(|damage| {
            let mut item = as_json(&damage.item);
            item["fault"] = damage.fault.as_str().into();
            item["removed"] = damage.removed.into();
            item
        });
        let unchecked = audit.unchecked.iter().map(|(item, why)| {
            let mut item = as_json(item);
            item["why"] = why.as_str().into();
            item
        });
        let (damaged, unchecked): (Vec<Value>, Vec<Value>) = (damaged.collect(), unchecked.collect());
        print_json(&json!({
            "checked": audit.checked, "bytes": audit.bytes, "damaged": damaged, "unchecked": unchecked,
        }))?;
        return Ok(code);
    }
    for damage in &audit.damaged {
        let fate = if damage.removed { "removed" } else { "in use, so it stays; it will not be used again" };
        print(&format!("damaged: {} {}: {}; {fate}\n", damage.item.sort.name(), damage.item.label, damage.fault))?;
    }
    for (item, why) in &audit.unchecked {
        print(&format!("not checked: {} {}: {why}\n", item.sort.name(), item.label))?;
    }
    say!("{} items checked, {}; {} damaged", audit.checked, bytes(audit.bytes), audit.damaged.len());
    Ok(code)
}

fn table(items: &[Item]) -> String {
    let row = |item: &Item| {
        let holders = if item.holders.is_empty() { String::new() } else { "in use".to_owned() };
        vec![item.sort.name().to_owned(), bytes(item.size), ago(item.used), item.label.clone(), holders]
    };
    columns(items.iter().map(row))
}

/// How long ago, in one unit.
fn ago(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} m ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

fn as_json(item: &Item) -> Value {
    let used = item.used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({
        "sort": item.sort.name(), "label": item.label, "name": item.name, "size": item.size, "used": used,
        "holders": item.holders,
    })
}

fn print_json(document: &Value) -> Result<(), Failure> {
    print(&(serde_json::to_string_pretty(document)? + "\n"))
}
