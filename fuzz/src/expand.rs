//! Variables and quotes in a word. Lines `NAME=value` come first, the word follows an empty line.
//!
//! - What a word becomes is bounded, and the same twice.
//! - Names that are told as set are, those that are told as unset are not.
//! - Single quotes keep everything, and so does an escape character before each character.
//! - Words that it falls into are not empty.

use std::collections::BTreeMap;

use skycap_build::dockerfile::{Expander, expand};

/// What substitutions may give, in bytes.
const LARGEST: usize = 1 << 20;

/// See the module.
pub fn expand_words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (lines, word) = text.split_once("\n\n").unwrap_or(("", text));
    let values: BTreeMap<&str, &str> = lines.lines().filter_map(|line| line.split_once('=')).collect();
    let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
    for escape in ['\\', '`'] {
        for expander in [Expander::new(escape, &lookup), Expander::new(escape, &lookup).keeping_quotes()] {
            let expanded = expander.run(word);
            assert_eq!(expander.run(word), expanded);
            let Ok(expanded) = expanded else { continue };
            assert!(expanded.word.len() <= word.len() + LARGEST);
            assert!(expanded.matched.iter().all(|name| values.contains_key(name.as_str())));
            assert!(expanded.unmatched.iter().all(|name| !values.contains_key(name.as_str())));
            assert!(expanded.words.iter().all(|word| !word.is_empty()));
        }
        let escaped: String = word.chars().flat_map(|c| [escape, c]).collect();
        assert_eq!(expand(&escaped, escape, &lookup).as_deref(), Ok(word));
        if !word.contains('\'') {
            assert_eq!(expand(&format!("'{word}'"), escape, &lookup).as_deref(), Ok(word));
        }
    }
}
