//! Class H of hostile entries: headers.

mod language;
mod tools;

use std::io::Read;

use skycap_image::tar::{Kind, Reader};

use language::{Case, Entry, Expected, cases};

/// What the reader makes of an archive.
fn read(archive: &[u8]) -> std::io::Result<Vec<Entry>> {
    let mut reader = Reader::new(archive);
    let mut entries = Vec::new();
    while let Some(header) = reader.next()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        assert_eq!(content.len() as u64, header.size, "the data is as long as the header says");
        entries.push(Entry {
            kind: header.kind,
            path: header.path,
            size: header.size,
            link: header.link,
            content: Some(content),
        });
    }
    reader.finish()?;
    Ok(entries)
}

/// A case need not say what a file holds.
fn is_as_expected(expected: &[Entry], found: &[Entry]) -> bool {
    let same = |(expected, found): (&Entry, &Entry)| match expected.content {
        None => *expected == Entry { content: None, ..found.clone() },
        Some(_) => expected == found,
    };
    expected.len() == found.len() && expected.iter().zip(found).all(same)
}

/// M17, M18, M19, M20, M21 and the whole of class H.
#[test]
fn every_archive_of_class_h_is_read_or_refused_as_its_case_says() {
    let cases = cases();
    assert!(cases.len() >= 53, "{} cases", cases.len());
    for Case { name, archive, expected, .. } in cases {
        match (expected, read(&archive)) {
            (Expected::Entries(expected), Ok(found)) => {
                assert!(is_as_expected(&expected, &found), "{name}: {found:?}");
            }
            (Expected::Refused(text), Err(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{name}: {error}");
                assert!(error.to_string().contains(&text), "{name}: {error}");
            }
            (Expected::Entries(_), Err(error)) => panic!("{name}: {error}"),
            (Expected::Refused(_), Ok(found)) => panic!("{name}: accepted {found:?}"),
        }
    }
}

/// M19: the map says where the stored bytes belong.
#[test]
fn a_sparse_file_can_be_read_without_its_holes() {
    let mut seen = 0;
    for Case { name, archive, expected, .. } in cases() {
        let Expected::Entries(expected) = expected else { continue };
        let mut reader = Reader::new(&archive[..]);
        for entry in expected {
            let header = reader.next().unwrap().unwrap();
            let Some(segments) = reader.take_segments() else { continue };
            seen += 1;
            let mut stored = Vec::new();
            reader.read_to_end(&mut stored).unwrap();
            let mut file = vec![0; usize::try_from(header.size).unwrap()];
            for segment in segments {
                let (offset, length) =
                    (usize::try_from(segment.offset).unwrap(), usize::try_from(segment.length).unwrap());
                file[offset..offset + length].copy_from_slice(&stored[..length]);
                stored.drain(..length);
            }
            assert!(stored.is_empty(), "{name}");
            assert!(entry.content.is_none_or(|content| content == file), "{name}");
            assert_eq!(header.kind, Kind::File);
        }
    }
    assert!(seen >= 8, "{seen} sparse files");
}
