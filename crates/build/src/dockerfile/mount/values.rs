//! How the values of a mount are written.

use super::MountError;

/// What Go's `strconv.ParseBool` takes.
pub(super) fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::new(format!("invalid value for {key}: {value}"))),
    }
}

pub(super) fn number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    let digits = Some(value).filter(|value| !value.starts_with('+'));
    digits
        .and_then(|value| u32::from_str_radix(value, radix).ok())
        .ok_or_else(|| MountError::new(format!("invalid value {value} for {key}")))
}

/// A size such as `64m`, `1.5GiB` or `100`; all units are powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|name| *name == unit)?;
    let scale = 1_u64 << (10 * power);
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(scale);
    }
    let (whole, fraction) = number.split_once('.')?;
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(9))?;
    let worth = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / worth;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(u64::try_from(part).ok()?)
}

/// One record: fields between commas, in quotes if they hold a comma.
pub(super) fn csv(text: &str) -> Result<Vec<String>, MountError> {
    let failed = |what: &str| MountError::new(format!("failed to parse csv mounts: {what}"));
    if text.is_empty() {
        return Err(failed("EOF"));
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, behind) = rest.split_once(',').map_or((rest, None), |(field, rest)| (field, Some(rest)));
            if field.contains('"') {
                return Err(failed("bare \" in non-quoted field"));
            }
            fields.push(field.to_owned());
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut left = quoted;
        // Two quotes are one; a single one ends the field.
        let behind = loop {
            let (part, behind) =
                left.split_once('"').ok_or_else(|| failed("extraneous or missing \" in quoted-field"))?;
            field += part;
            match behind.strip_prefix('"') {
                Some(behind) => {
                    field.push('"');
                    left = behind;
                }
                None => break behind,
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(failed("extraneous or missing \" in quoted-field")),
        }
    }
}
