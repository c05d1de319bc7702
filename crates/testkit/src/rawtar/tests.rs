use std::io::Read as _;

use skycap_image::tar::{Kind, Reader};

use super::*;

/// What a strict reader makes of it.
fn read(text: &str) -> Result<Vec<(String, Kind, String)>, String> {
    let bytes = tar(text);
    let mut reader = Reader::new(&bytes[..]);
    let mut entries = Vec::new();
    while let Some(header) = reader.next().map_err(|error| error.to_string())? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(|error| error.to_string())?;
        entries.push((header.path.escape_ascii().to_string(), header.kind, content.escape_ascii().to_string()));
    }
    reader.finish().map_err(|error| error.to_string()).map(|()| entries)
}

#[test]
fn what_is_right_can_be_read() {
    let entries = read(
        "# a comment
        dir d 0700 1:3000000 @-5.5
        file d/a%20b user.x=1 \"one\\n\\x00\"
        link {l/*60}x -> {t*120}
        hard h => d/x
        char c 1 3
        fifo p
        repeat 2 file n{n} \"\"
        file inner {
            file deep \"x\"
            noend
        }",
    );
    let entries = entries.unwrap();
    let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
    let long = format!("{}x", "l/".repeat(60));
    assert_eq!(names, ["d", "d/a b", &long, "h", "c", "p", "n0", "n1", "inner"]);
    assert_eq!((entries[1].2.as_str(), entries[8].2.len() > 512), ("one\\n\\x00", true));
}

#[test]
fn what_is_wrong_is_noticed() {
    for (text, expected) in [
        ("file a sum=bad", "checksum"),
        ("file a size=600 \"x\"\ncut 1024", "cut off"),
        ("file a !size=9zz", "octal"),
        ("pax path=a", "extension"),
        ("paxbytes \"6 a=\\n\"\nfile a", "PAX"),
        ("file a type=V", "not supported"),
        ("longpath \"x\\0\"\npax path=y\nfile a", "extensions"),
        ("file a\ncut 1300", "cut off"),
        ("file a magic=ustarxyz", "ustar"),
        ("global comment=x\nblocks 1\nfile a", "lone"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert_eq!(read("file \u{ff} sum=signed").unwrap().len(), 1);
    assert_eq!(read("file a prefix=b/c").unwrap()[0].0, "b/c/a");
    assert_eq!(read("file a long:path=b").unwrap()[0].0, "b");
    assert_eq!(read("noend"), Ok(Vec::new()));
}

#[test]
fn a_line_of_sharps_begins_another_tar() {
    assert_eq!(layers("file a\n##\nfile b\nfile c").iter().map(Vec::len).collect::<Vec<_>>(), [1536, 2048]);
}
