//! Did you mean …?

/// BuildKit's (and HCL's) idea of near.
const TOO_FAR: usize = 3;
/// A long word is near to nothing, and measuring it takes time.
const LONGEST: usize = 64;

/// The option nearest to what was written, if one is near but none is it.
pub fn nearest<'a>(written: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > LONGEST {
        return None;
    }
    let distances = options.into_iter().map(|option| (distance(written, option), option));
    let (distance, option) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance > 0 && distance < TOO_FAR).then_some(option)
}

/// The options most like what was written, the most like first: those that share its beginning, or nearly spell it.
pub fn most_like<'a>(written: &str, options: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let mut ranked: Vec<_> = options
        .into_iter()
        .filter(|option| option.len() <= LONGEST && written.len() <= LONGEST)
        .map(|option| (distance(written, option), shared(written, option), option))
        .filter(|(distance, shared, _)| *distance < TOO_FAR || shared * 2 >= written.len())
        .collect();
    ranked.sort_by_key(|(distance, shared, _)| (std::cmp::Reverse(*shared), *distance));
    ranked.into_iter().map(|(_, _, option)| option).take(most).collect()
}

fn shared(left: &str, right: &str) -> usize {
    left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count()
}

/// Levenshtein's.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal + usize::from(a != b);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (left, right, expected) in [
            ("RUNN", "RUN", 1),
            ("FORM", "FROM", 2),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn the_nearest_is_named_unless_it_is_far_or_right() {
        let options = ["COPY", "FROM", "RUN"];
        assert_eq!(nearest("CPY", options), Some("COPY"));
        assert_eq!(nearest("FORM", options), Some("FROM"));
        assert_eq!(nearest("RUN", options), None);
        assert_eq!(nearest("INCLUDE", options), None);
        assert_eq!(nearest(&"A".repeat(100_000), options), None);
    }

    #[test]
    fn tags_that_begin_alike_come_first() {
        let tags = ["latest", "3.19", "3.20.1", "3.20.2", "edge", "2.20"];
        assert_eq!(most_like("3.20.3", tags, 3), ["3.20.1", "3.20.2", "3.19"][..2]);
        assert_eq!(most_like("lates", tags, 3), ["latest"]);
        assert_eq!(most_like("egde", tags, 3), ["edge"]);
        assert!(most_like("zzz", tags, 3).is_empty());
    }
}
