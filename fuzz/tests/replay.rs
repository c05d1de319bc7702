//! Without libFuzzer: the seeds, the findings of the past, and random changes of both.

use std::path::Path;

use skycap_fuzz::TARGETS;

/// Changes of each seed; `SKYCAP_TEST_FULL=1` makes a hundred times as many.
const CHANGES: usize = 300;

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        [0, 1, b'0', b'7', b' ', b'x', b'/', b'"', b'{', 0x7f, 0x80, 0xff, self.below(256).to_le_bytes()[0]]
            [self.below(13)]
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        match self.below(7) {
            _ if bytes.is_empty() => bytes.push(self.byte()),
            0 => bytes[at] = self.byte(),
            1 => bytes[at] ^= 1 << self.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, self.byte()),
            4 => drop(bytes.remove(at)),
            5 => {
                let start = at / 512 * 512;
                let block = bytes[start..bytes.len().min(start + 512)].to_vec();
                bytes.extend(block);
            }
            _ => {
                let from = self.below(other.len());
                let length = self.below(other.len() - from);
                bytes.splice(at..at, other[from..from + length].iter().copied());
            }
        }
    }
}

#[test]
fn seeds_and_their_changes_break_nothing() {
    let changes = if std::env::var_os("SKYCAP_TEST_FULL").is_some() { CHANGES * 100 } else { CHANGES };
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name}");
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            target(seed);
            for _ in 0..changes {
                let mut bytes = seed.clone();
                for _ in 0..=random.below(4) {
                    let other = random.below(seeds.len());
                    random.change(&mut bytes, &seeds[other]);
                }
                target(&bytes);
            }
        }
        eprintln!("{name}: {} seeds, {changes} changes of each", seeds.len());
    }
}
