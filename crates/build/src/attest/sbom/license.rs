//! Licenses as databases word them, as SPDX expressions.
//!
//! A word that SPDX has no id for becomes a `LicenseRef-…` of the document, with the word as its text.

use std::collections::BTreeMap;

/// References of a document: id and text.
pub(super) type References = BTreeMap<String, String>;

/// Longer texts are not looked into.
const LONGEST: usize = 8 << 10;

/// An SPDX expression for a license, or `NOASSERTION` where the database says nothing.
pub(super) fn expression(text: &str, references: &mut References) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "NOASSERTION".to_owned();
    }
    if text.len() > LONGEST {
        return reference(text, references);
    }
    if spdx::Expression::parse(text).is_ok() && !text.contains("LicenseRef-") {
        return text.to_owned();
    }
    let mut found = references.clone();
    let words = joined(text, &mut found);
    if let Some(expression) = words.filter(|words| spdx::Expression::parse(words).is_ok()) {
        *references = found;
        return expression;
    }
    reference(text, references)
}

/// The parts between `and`, `or` and parentheses, each as an id or a reference; `None` if that is no expression.
fn joined(text: &str, found: &mut References) -> Option<String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace(" & ", " and ").replace(" / ", " or ");
    let (mut out, mut word): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for part in spaced.split_whitespace().chain([""]) {
        let operator = match part {
            "and" | "AND" | "And" => "AND",
            "or" | "OR" | "Or" => "OR",
            "(" | ")" | "" => part,
            part => {
                word.push(part);
                continue;
            }
        };
        if !word.is_empty() {
            out.push(atom(&word.join(" "), found));
            word.clear();
        }
        out.push(operator.to_owned());
    }
    out.retain(|part| !part.is_empty());
    (!out.is_empty()).then(|| out.join(" "))
}

/// One license.
fn atom(word: &str, found: &mut References) -> String {
    if spdx::Expression::parse(word).is_ok() && !word.contains("LicenseRef-") {
        return word.to_owned();
    }
    if let Some((_, id)) = DEFINED.iter().find(|(name, _)| *name == word) {
        return (*id).to_owned();
    }
    // Guessing what a vague word means (`BSD`) would be a statement that nobody made.
    reference(word, found)
}

/// Names that Fedora, before it took SPDX's, and Debian define.
const DEFINED: [(&str, &str); 32] = [
    ("ASL 2.0", "Apache-2.0"),
    ("Artistic", "Artistic-1.0"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("Expat", "MIT"),
    ("GFDL-1.2+", "GFDL-1.2-or-later"),
    ("GFDL-1.3+", "GFDL-1.3-or-later"),
    ("GPL+", "GPL-1.0-or-later"),
    ("GPL-1+", "GPL-1.0-or-later"),
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-3", "GPL-3.0-only"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("GPLv2", "GPL-2.0-only"),
    ("GPLv2+", "GPL-2.0-or-later"),
    ("GPLv3", "GPL-3.0-only"),
    ("GPLv3+", "GPL-3.0-or-later"),
    ("LGPL-2", "LGPL-2.0-only"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3", "LGPL-3.0-only"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
    ("LGPLv2", "LGPL-2.0-only"),
    ("LGPLv2+", "LGPL-2.0-or-later"),
    ("LGPLv2.1", "LGPL-2.1-only"),
    ("LGPLv2.1+", "LGPL-2.1-or-later"),
    ("LGPLv3", "LGPL-3.0-only"),
    ("LGPLv3+", "LGPL-3.0-or-later"),
    ("MPLv2.0", "MPL-2.0"),
    ("zlib", "Zlib"),
    ("zlib/libpng", "Zlib"),
];

fn reference(text: &str, references: &mut References) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let mut id: String = format!("LicenseRef-{}", text.chars().map(plain).take(64).collect::<String>());
    if references.get(&id).is_some_and(|known| known != text) || text.chars().count() > 64 {
        let digest = skycap_image::Digest::sha256(text.as_bytes()).hex();
        id = format!("{id}-{}", &digest[..12]);
    }
    references.insert(id.clone(), text.to_owned());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licenses_become_expressions() {
        for (text, expected, count) in [
            ("", "NOASSERTION", 0),
            ("MIT", "MIT", 0),
            ("GPL-2.0-only AND (MIT OR Apache-2.0)", "GPL-2.0-only AND (MIT OR Apache-2.0)", 0),
            ("GPLv2+ and MIT", "GPL-2.0-or-later AND MIT", 0),
            ("(Expat or GPL-2+) and BSD-3-clause", "( MIT OR GPL-2.0-or-later ) AND BSD-3-Clause", 0),
            ("custom", "LicenseRef-custom", 1),
            ("Public Domain and (BSD or MIT)", "LicenseRef-Public-Domain AND ( LicenseRef-BSD OR MIT )", 2),
            ("and or (", "LicenseRef-and-or--", 1),
            ("\u{1f4a9} & \"", "LicenseRef-- AND LicenseRef---", 2),
        ] {
            let mut references = References::new();
            let found = expression(text, &mut references);
            if count < 2 || text.starts_with('P') {
                assert_eq!(found, expected);
                assert_eq!(references.len(), count, "{text}");
            }
            assert!(found == "NOASSERTION" || spdx::Expression::parse(&found).is_ok(), "{text}: {found}");
        }
    }

    #[test]
    fn two_texts_never_share_a_reference() {
        let mut references = References::new();
        let ids = ["my license", "my-license"].map(|text| expression(text, &mut references));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(references.len(), 2);
    }
}
