//! The samples are `rpm`'s own database (`rpmdb.sqlite`), the same headers in a database of small pages (`small-pages`),
//! and in a hash as `db_load` makes it (`Packages`); the third kind is laid out here.

use super::{berkeley, header, ndb, sqlite};
use crate::attest::sbom::package::Package;

fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/packages/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let (_, mut decoder) = skycap_image::compress::decoder(std::fs::File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}

/// `Packages.db`: a page of slots, then blobs in blocks of 16 bytes.
fn ndb_of(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    let put = |file: &mut Vec<u8>, at: usize, words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    };
    let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
    put(&mut file, 0, &[word(b"RpmP"), 0, 7, 1, 3, 0, 0, 0]);
    for slot in (32..4096).step_by(16) {
        put(&mut file, slot, &[word(b"Slot"), 0, 0, 0]);
    }
    for (number, header) in (1..).zip(headers) {
        let at = file.len();
        let length = u32::try_from(header.len()).unwrap();
        let blocks = (16 + header.len() + 12).div_ceil(16);
        file.resize(at + blocks * 16, 0);
        put(&mut file, at, &[word(b"BlbS"), number, 7, length]);
        file[at + 16..at + 16 + header.len()].copy_from_slice(header);
        let place = u32::try_from(at / 16).unwrap();
        put(&mut file, 32 + 16 * number as usize, &[word(b"Slot"), number, place, u32::try_from(blocks).unwrap()]);
    }
    file
}

fn names(packages: &[Package]) -> Vec<String> {
    packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}

#[test]
fn the_three_kinds_of_database_tell_the_same() {
    let headers = sqlite::headers(&sample("rpmdb.sqlite")).unwrap();
    let mut packages = super::sqlite(&sample("rpmdb.sqlite")).unwrap();
    packages.sort_by_key(|package| package.name.clone());
    assert_eq!(names(&packages), ["other 1.2-3", "tiny 1.2-3"]);
    let mut in_hash = super::berkeley(&sample("Packages")).unwrap();
    in_hash.sort_by_key(|package| package.name.clone());
    assert_eq!(in_hash, packages);
    let mut in_slots = super::ndb(&ndb_of(&headers)).unwrap();
    in_slots.sort_by_key(|package| package.name.clone());
    assert_eq!(in_slots, packages);
}

#[test]
fn a_header_tells_what_an_sbom_says() {
    let packages = super::sqlite(&sample("rpmdb.sqlite")).unwrap();
    let tiny = packages.iter().find(|package| package.name == "tiny").unwrap();
    let expected = Package {
        name: "tiny".into(),
        version: "1.2-3".into(),
        architecture: "noarch".into(),
        maintainer: "Some Body <some@example.org>".into(),
        vendor: "Example Vendor".into(),
        license: "GPLv2+ and MIT".into(),
        homepage: "https://example.org/tiny".into(),
        summary: "A tiny package".into(),
        source: "tiny-1.2-3.src.rpm".into(),
        epoch: "4".into(),
        checksums: Vec::new(),
    };
    assert_eq!(tiny, &expected);
}

#[test]
fn rows_over_many_pages_are_all_found() {
    let packages = super::sqlite(&sample("small-pages.sqlite")).unwrap();
    assert_eq!(packages.len(), 40);
    assert_eq!(packages.iter().filter(|package| package.name == "tiny").count(), 20);
}

#[test]
fn a_digest_of_the_package_file_is_kept() {
    let hash = "ab".repeat(32);
    let mut values = b"p\0".to_vec();
    let hash_at = values.len();
    values.extend_from_slice(hash.as_bytes());
    values.push(0);
    values.resize(values.len().next_multiple_of(4), 0);
    let algorithm_at = values.len();
    values.extend_from_slice(&8u32.to_be_bytes());
    let tags = [(1000, 6, 0, 1), (5118, 8, hash_at, 1), (5119, 4, algorithm_at, 1)];
    let mut bytes = Vec::new();
    let mut put = |number: usize| bytes.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
    put(tags.len());
    put(values.len());
    for (tag, kind, offset, count) in tags {
        [tag, kind, offset, count].into_iter().for_each(&mut put);
    }
    bytes.extend_from_slice(&values);
    assert_eq!(header::package(&bytes).unwrap().checksums, [("SHA256", hash)]);
}

/// Reads a file's headers.
type Read = fn(&[u8]) -> Result<Vec<Vec<u8>>, super::Damaged>;

/// Damage of every kind is an error or another answer, never a panic and never more than the file holds.
#[test]
fn damaged_databases_do_no_harm() {
    let headers = sqlite::headers(&sample("rpmdb.sqlite")).unwrap();
    let samples: [(Vec<u8>, Read); 4] = [
        (sample("rpmdb.sqlite"), sqlite::headers),
        (sample("small-pages.sqlite"), sqlite::headers),
        (ndb_of(&headers), ndb::headers),
        (sample("Packages"), berkeley::headers),
    ];
    let mut seed: u64 = 1;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    for (file, read) in samples {
        for length in (0..file.len()).step_by(509) {
            let _ = read(&file[..length]);
        }
        for _ in 0..2_000 {
            let mut damaged = file.clone();
            for _ in 0..=random() % 4 {
                // What is in front decides most.
                let at = random() % if random() % 2 == 0 { 1024 } else { damaged.len() };
                damaged[at] = [0, 0xff, 1, 0x80][random() % 4];
            }
            let found = read(&damaged).unwrap_or_default();
            assert!(found.iter().map(Vec::len).sum::<usize>() <= file.len() * 2);
        }
    }
    for header in headers {
        for at in 0..header.len().min(2_000) {
            let mut damaged = header.clone();
            damaged[at] = 0xff;
            let _ = header::package(&damaged);
            let _ = header::package(&header[..at]);
        }
    }
}
