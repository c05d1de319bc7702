//! What a plain scalar means: `resolve.go` of `yaml.v2`, as a pure function.

use super::Value;

/// The value of an unquoted scalar without a tag. Timestamps stay texts, as `yaml.v2` leaves them for untyped targets.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    match text.as_bytes().first()? {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let bare = text.replace('_', "");
            integer(&bare).or_else(|| float(&bare))
        }
        _ => None,
    }
}

/// `strconv.ParseInt(text, 0, 64)`, else `strconv.ParseUint(text, 0, 64)`.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = split_radix(digits);
    // Rust would take a second sign here.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let signed = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    match signed {
        Some(value) => Some(Value::Int(value)),
        None if negative || text.starts_with('+') => None,
        None => Some(Value::Uint(magnitude)),
    }
}

/// Go's prefixes for base 0: a bare leading zero means octal.
fn split_radix(digits: &str) -> (&str, u32) {
    let prefixes = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2), ("0o", 8), ("0O", 8)];
    for (prefix, radix) in prefixes {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return (rest, radix);
        }
    }
    match digits.strip_prefix('0') {
        Some(rest) if !rest.is_empty() => (rest, 8),
        _ => (digits, 10),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, within range.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sound = unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !sound {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Value::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn scalars_mean_what_yaml_v2_says() {
        for (written, expected) in [
            ("yes", Value::Bool(true)),
            ("On", Value::Bool(true)),
            ("y", Value::Bool(true)),
            ("N", Value::Bool(false)),
            ("off", Value::Bool(false)),
            ("yEs", text("yEs")),
            ("0755", Value::Int(493)),
            ("012", Value::Int(10)),
            ("010", Value::Int(8)),
            ("0o17", Value::Int(15)),
            ("0x1F", Value::Int(31)),
            ("0x_ff", Value::Int(255)),
            ("0b11", Value::Int(3)),
            ("-0b11", Value::Int(-3)),
            ("1_000", Value::Int(1000)),
            ("+5", Value::Int(5)),
            ("0", Value::Int(0)),
            ("-0", Value::Int(0)),
            ("089", Value::Float(89.0)),
            ("1e3", Value::Float(1000.0)),
            ("1.10", Value::Float(1.1)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("1_0.5", Value::Float(10.5)),
            ("1e999", text("1e999")),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("12345678901234567890", Value::Uint(12_345_678_901_234_567_890)),
            ("+12345678901234567890", Value::Float(12_345_678_901_234_567_890.0)),
            ("2020-01-02", text("2020-01-02")),
            ("12:30:45", text("12:30:45")),
            ("1:30", text("1:30")),
            ("1.2.3", text("1.2.3")),
            ("--5", text("--5")),
            ("0x", text("0x")),
            ("-", text("-")),
            (".", text(".")),
            ("...", text("...")),
            ("~", Value::Null),
            ("Null", Value::Null),
            ("", Value::Null),
            ("nope", text("nope")),
            ("inf", text("inf")),
            ("5e", text("5e")),
        ] {
            assert_eq!(plain(written), expected, "{written}");
        }
    }
}
