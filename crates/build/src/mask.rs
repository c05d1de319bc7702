//! Secrets in what a RUN prints: `***` stands in their place.
//!
//! Best effort, for a program that prints a secret by mistake. It finds the value and each of its lines, without blanks around
//! them, however the bytes are cut into writes; it does not find what was encoded, shortened or turned around. Values below
//! [`SHORTEST`] bytes stay, since they are found everywhere by chance.
//!
//! All values are looked for at once (Aho and Corasick). What may be the beginning of one is held back until it is known, and
//! nothing else: at most as many bytes as the longest value has.

use std::collections::{BTreeMap, VecDeque};

/// What stands where a secret stood.
const HIDDEN: &[u8] = b"***";
/// Shorter values protect nothing.
const SHORTEST: usize = 4;
/// As many bytes of values are looked for; of a larger secret the lines that come first.
const MOST: usize = 64 * 1024;

/// Takes secrets out of a stream of bytes.
pub(crate) struct Mask {
    /// The beginnings of all values, as a tree; the first is the empty one. None if there is nothing to hide.
    nodes: Vec<Node>,
    /// The longest beginning that ends what was read.
    at: usize,
    /// Its bytes, and whether each is part of a value.
    held: VecDeque<(u8, bool)>,
    /// The last byte that was shown was part of a value, for which something stands there already.
    is_inside: bool,
}

/// The beginning of a value.
#[derive(Default)]
struct Node {
    next: BTreeMap<u8, usize>,
    /// The longest beginning that ends this one.
    shorter: usize,
    /// How many bytes it has.
    length: usize,
    /// How many bytes the longest value has that ends this one; zero if none does.
    value: usize,
}

impl Mask {
    /// Takes out these values.
    pub fn new<'s>(secrets: impl Iterator<Item = &'s [u8]>) -> Self {
        let values = secrets.flat_map(|secret| std::iter::once(secret).chain(secret.split(|byte| *byte == b'\n')));
        let mut nodes = vec![Node::default()];
        for value in values.map(<[u8]>::trim_ascii).filter(|value| value.len() >= SHORTEST) {
            if nodes.len() + value.len() > MOST {
                continue;
            }
            let end = value.iter().fold(0, |node, byte| step(&mut nodes, node, *byte));
            nodes[end].value = value.len();
        }
        link(&mut nodes);
        Self { nodes, at: 0, held: VecDeque::new(), is_inside: false }
    }

    /// What of the output so far can be shown now.
    pub fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.nodes.len() == 1 {
            return bytes.to_vec();
        }
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.read(*byte);
            let hold = self.nodes[self.at].length;
            self.let_go(hold, &mut shown);
        }
        shown
    }

    /// What was held back, at the end.
    pub fn rest(&mut self) -> Vec<u8> {
        self.at = 0;
        let mut shown = Vec::new();
        self.let_go(0, &mut shown);
        shown
    }

    fn read(&mut self, byte: u8) {
        self.held.push_back((byte, false));
        self.at = follow(&self.nodes, self.at, byte);
        let value = self.nodes[self.at].value;
        self.held.iter_mut().rev().take(value).for_each(|(_, is_secret)| *is_secret = true);
    }

    fn let_go(&mut self, hold: usize, shown: &mut Vec<u8>) {
        while self.held.len() > hold
            && let Some((byte, is_secret)) = self.held.pop_front()
        {
            if !is_secret {
                shown.push(byte);
            } else if !self.is_inside {
                shown.extend(HIDDEN);
            }
            self.is_inside = is_secret;
        }
    }
}

/// The node one byte further, made if it is missing.
fn step(nodes: &mut Vec<Node>, node: usize, byte: u8) -> usize {
    if let Some(next) = nodes[node].next.get(&byte) {
        return *next;
    }
    let (new, length) = (nodes.len(), nodes[node].length + 1);
    nodes.push(Node { length, ..Node::default() });
    nodes[node].next.insert(byte, new);
    new
}

/// The longest beginning that ends what ended with `node`, after one more byte.
fn follow(nodes: &[Node], mut node: usize, byte: u8) -> usize {
    loop {
        match nodes[node].next.get(&byte) {
            Some(next) => return *next,
            None if node == 0 => return 0,
            None => node = nodes[node].shorter,
        }
    }
}

/// Finds the shorter beginnings of all, shortest first.
fn link(nodes: &mut [Node]) {
    let mut open: VecDeque<usize> = nodes[0].next.values().copied().collect();
    while let Some(node) = open.pop_front() {
        for (byte, next) in nodes[node].next.clone() {
            nodes[next].shorter = follow(nodes, nodes[node].shorter, byte);
            open.push_back(next);
        }
        nodes[node].value = nodes[node].value.max(nodes[nodes[node].shorter].value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::new(secrets.iter().map(|secret| secret.as_bytes()))
    }

    /// Everything that is shown if the bytes come in these pieces.
    fn shown<'a>(mut mask: Mask, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut all = Vec::new();
        pieces.for_each(|piece| all.extend(mask.show(piece)));
        all.extend(mask.rest());
        all
    }

    /// S08, S09: whole, line by line, without blanks around it, one inside another; the rest stays byte for byte.
    #[test]
    fn values_are_hidden_and_nothing_else() {
        for (secrets, text, expected) in [
            (&["hunter2"][..], "say hunter2, hunter2!", "say ***, ***!"),
            (&["  hunter2-a\n\thunter2-b \nxy\n"], "1 hunter2-a 2 hunter2-b 3 xy", "1 *** 2 *** 3 xy"),
            (&["hunter2", "hunter2-long"], "hunter2-long hunter2-lo", "*** ***-lo"),
            (&["xhun", "hunter2"], "xhunter2abc hunt", "***abc hunt"),
            (&["aaab"], "aaaaab aaa", "aa*** aaa"),
            (&["hunter2"], "hunter2hunter2", "***"),
            (&["", "a", "ab", "abc", " \n"], "a ab abc\n \n", "a ab abc\n \n"),
            (&["hunter2"], "\u{1b}[31mhünter2 ü hunter2\u{1b}[0m\r\n", "\u{1b}[31mhünter2 ü ***\u{1b}[0m\r\n"),
            (&[], "everything\0", "everything\0"),
        ] {
            let found = shown(mask(secrets), std::iter::once(text.as_bytes()));
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{secrets:?}");
        }
        let binary = Mask::new(std::iter::once(&[0xff, 0, 0x80, 7][..]));
        assert_eq!(shown(binary, [&[1, 0xff, 0][..], &[0x80, 7, 0xfe]].into_iter()), b"\x01***\xfe");
    }

    /// S08: wherever the writes are cut, and one byte at a time.
    #[test]
    fn cuts_between_writes_change_nothing() {
        let secrets = ["hunter2-hunter", "unter2", "\nhunter2-second line\n"];
        let text = b"hunter2-hunter2-hunter unter hunter2-second lin hunter2-second line unhunter2";
        let whole = shown(mask(&secrets), std::iter::once(&text[..]));
        assert!(secrets.iter().all(|secret| {
            let secret = secret.trim().as_bytes();
            !whole.windows(secret.len()).any(|part| part == secret)
        }));
        for first in 0..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(shown(mask(&secrets), pieces.into_iter()), whole, "{first} {second}");
            }
        }
        assert_eq!(shown(mask(&secrets), text.chunks(1)), whole);
    }

    #[test]
    fn of_a_large_secret_the_first_lines_are_hidden() {
        let secret = (0..100_000).map(|number| format!("hunter2-{number}")).collect::<Vec<_>>().join("\n");
        let mask = mask(&[&secret, "hunter2-x"]);
        assert!(mask.nodes.len() <= MOST);
        assert_eq!(shown(mask, std::iter::once(&b"hunter2-1 hunter2-1000"[..])), b"*** ***");
    }

    /// S08: what cannot be the beginning of a secret does not wait.
    #[test]
    fn only_the_beginning_of_a_secret_waits() {
        let mut mask = mask(&["hunter2"]);
        assert_eq!(mask.show(b"progress: hun"), b"progress: ");
        assert_eq!(mask.show(b"g\n"), b"hung\n");
    }

    /// S09: a line that never ends, and one that is nearly a secret all the time.
    #[test]
    fn memory_is_bounded_by_the_longest_secret() {
        let secret = format!("{}b", "a".repeat(10_000));
        let mut mask = mask(&[&secret]);
        for byte in [b'a', b'x'] {
            let piece = vec![byte; 1 << 16];
            for _ in 0..64 {
                mask.show(&piece);
                assert!(mask.held.len() <= secret.len() && mask.held.capacity() <= 1 << 17);
            }
        }
    }

    /// S08: random texts over few letters, where values overlap in every way.
    #[test]
    fn no_value_is_ever_shown() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..2_000 {
            let mut text =
                |length| -> Vec<u8> { (0..length).map(|_| b'a' + u8::try_from(random(2)).unwrap()).collect() };
            let (one, two, output) = (text(4), text(6), text(60));
            let found = shown(Mask::new([&one[..], &two[..]].into_iter()), output.chunks(7));
            for value in [&one, &two] {
                assert!(!found.windows(value.len()).any(|part| part == value));
            }
            // What is shown is what stands outside of every value.
            let covered = |at: usize| {
                [&one, &two].iter().any(|value| {
                    (at.saturating_sub(value.len() - 1)..=at).any(|start| output[start..].starts_with(value))
                })
            };
            let outside: Vec<u8> = (0..output.len()).filter(|at| !covered(*at)).map(|at| output[at]).collect();
            let plain: Vec<u8> = found.into_iter().filter(|byte| *byte != b'*').collect();
            assert_eq!(plain, outside);
        }
    }
}
