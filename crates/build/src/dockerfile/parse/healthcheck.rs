//! `HEALTHCHECK`.

use super::one_of;
use crate::dockerfile::duration;
use crate::dockerfile::error::ParseError;
use crate::dockerfile::flags::Takes;
use crate::dockerfile::instruction::{Command, Healthcheck, Instruction};
use crate::dockerfile::span::Spanned;
use crate::dockerfile::statement::Statement;

pub(super) fn healthcheck(s: &Statement<'_>) -> Result<Instruction, ParseError> {
    let mut flags = s.flags(&[
        ("interval", Takes::Value),
        ("timeout", Takes::Value),
        ("start-period", Takes::Value),
        ("start-interval", Takes::Value),
        ("retries", Takes::Value),
    ])?;
    if s.rest.is_empty() {
        return Err(s.at_least_one());
    }
    let end = s.rest.find(char::is_whitespace).unwrap_or(s.rest.len());
    let (kind, command) = s.rest.split_at(end);
    let command = command.trim_start();
    match kind.to_uppercase().as_str() {
        "NONE" if command.is_empty() => return Ok(Instruction::Healthcheck(Healthcheck::None)),
        "NONE" => return Err(s.error("HEALTHCHECK NONE takes no arguments")),
        "CMD" => {}
        kind => return Err(s.error_at(s.rest_at, format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    }
    let command = s.command(command)?;
    if matches!(&command, Command::Shell(text) if text.is_empty())
        || matches!(&command, Command::Exec(words) if words.is_empty())
    {
        return Err(s.error("Missing command after HEALTHCHECK CMD"));
    }
    let mut interval = |name: &'static str| interval(s, name, flags.value(name));
    let (interval, timeout) = (interval("interval")?, interval("timeout")?);
    let mut start = |name: &'static str| self::interval(s, name, flags.value(name));
    let (start_period, start_interval) = (start("start-period")?, start("start-interval")?);
    let retries = one_of(s, flags.value("retries"), retries)?.map_or(0, |retries| retries.value);
    let check = Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries };
    Ok(Instruction::Healthcheck(check))
}

/// Nanoseconds; at least a millisecond, or nothing at all.
fn interval(s: &Statement<'_>, name: &str, flag: Option<Spanned<String>>) -> Result<i64, ParseError> {
    let read = |value: &str| match value {
        "" => Ok(0),
        value => match duration::parse(value)? {
            length @ (0 | 1_000_000..) => Ok(length),
            _ => Err(format!("Interval {name:?} cannot be less than 1ms")),
        },
    };
    Ok(one_of(s, flag, read)?.map_or(0, |length| length.value))
}

fn retries(value: &str) -> Result<u32, String> {
    if value.is_empty() {
        return Ok(0);
    }
    let number: i32 = value.parse().map_err(|_| {
        let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let what = if is_number { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseInt: parsing {value:?}: {what}")
    })?;
    u32::try_from(number).map_err(|_| format!("--retries cannot be negative ({number})"))
}
