//! Tags in the order in which people number releases.

use std::cmp::Ordering;

/// Words that make a version one before the release itself.
const CANDIDATES: [&str; 8] = ["alpha", "beta", "rc", "pre", "preview", "dev", "snapshot", "nightly"];

/// Compares tags as versions: runs of digits by their value, `1.0-rc1` before `1.0`, a leading `v` aside. Tags that do not
/// begin with a number (`latest`, `edge`) come first. A total order: tags that differ are never equal.
pub fn by_version(left: &str, right: &str) -> Ordering {
    let (a, b) = (number(left), number(right));
    let numbered = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let order = numbered(a).cmp(&numbered(b));
    order.then_with(|| if numbered(a) { compare(a, b) } else { Ordering::Equal }).then_with(|| left.cmp(right))
}

fn number(text: &str) -> &str {
    text.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text)
}

fn compare(mut a: &str, mut b: &str) -> Ordering {
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return if is_candidate(b) { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if is_candidate(a) { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        let (x, y) = (run(a), run(b));
        let order = match (digits(x), digits(y)) {
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => is_candidate(y).cmp(&is_candidate(x)).then_with(|| x.cmp(y)),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[x.len()..], &b[y.len()..]);
    }
}

/// The digits, or the rest, with which a text begins. Tags are ASCII; another text is compared byte by byte all the same.
fn run(text: &str) -> &str {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    &text[..end]
}

/// A number's digits without leading zeros.
fn digits(run: &str) -> Option<&str> {
    run.starts_with(|c: char| c.is_ascii_digit()).then(|| run.trim_start_matches('0'))
}

fn is_candidate(rest: &str) -> bool {
    let word = rest.trim_start_matches(['-', '.', '_']).to_ascii_lowercase();
    CANDIDATES.iter().any(|candidate| word.starts_with(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_come_in_their_order() {
        let sorted = [
            "edge",
            "latest",
            "0.9",
            "1",
            "1-alpine",
            "1.0-alpha",
            "1.0-rc1",
            "1.0-rc2",
            "1.0-rc10",
            "1.0",
            "1.0-alpine",
            "v1.2",
            "1.9.1",
            "1.10",
            "1.10.1",
            "2024.01.02",
            "2024.1.10",
        ];
        let mut shuffled = sorted.to_vec();
        shuffled.reverse();
        shuffled.rotate_left(5);
        shuffled.sort_by(|a, b| by_version(a, b));
        assert_eq!(shuffled, sorted);
    }

    #[test]
    fn any_texts_are_in_a_total_order() {
        let texts = ["", "v", "01", "1", "1.", "1é2", "é", "1-rc", "1rc", "99999999999999999999999", "1--", "rc1"];
        for a in texts {
            for b in texts {
                assert_eq!(by_version(a, b), by_version(b, a).reverse(), "{a:?} {b:?}");
                assert_eq!(by_version(a, b) == Ordering::Equal, a == b, "{a:?} {b:?}");
                for c in texts {
                    let chain = by_version(a, b).is_le() && by_version(b, c).is_le();
                    assert!(!chain || by_version(a, c).is_le(), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }
}
