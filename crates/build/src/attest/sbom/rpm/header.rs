//! rpm's header: an index of tags, then their values. Numbers are big-endian.

use std::collections::BTreeMap;

use super::Damaged;
use super::bytes::{Order, range};
use crate::attest::sbom::package::Package;

/// More tags than any package has; rpm itself refuses more.
const MOST_TAGS: usize = 0xffff;
/// The bytes of a tag in the index.
const ENTRY: usize = 16;

/// A value's kinds, as far as they are read.
mod kind {
    pub const INT32: usize = 4;
    pub const STRING: usize = 6;
    pub const STRING_ARRAY: usize = 8;
    pub const I18N: usize = 9;
}

/// Tags, as far as they are read.
mod tag {
    pub const NAME: usize = 1000;
    pub const VERSION: usize = 1001;
    pub const RELEASE: usize = 1002;
    pub const EPOCH: usize = 1003;
    pub const SUMMARY: usize = 1004;
    pub const VENDOR: usize = 1011;
    pub const LICENSE: usize = 1014;
    pub const PACKAGER: usize = 1015;
    pub const URL: usize = 1020;
    pub const ARCH: usize = 1022;
    pub const SOURCE_RPM: usize = 1044;
    /// Digests of the package file, since rpm 6.
    pub const PACKAGE_DIGESTS: usize = 5118;
    pub const PACKAGE_DIGEST_ALGORITHMS: usize = 5119;
}

/// The package that a header describes.
pub(super) fn package(header: &[u8]) -> Result<Package, Damaged> {
    let header = Header::parse(header)?;
    let text = |tag| header.texts(tag, 1).next().unwrap_or_default();
    let (name, version, release) = (text(tag::NAME), text(tag::VERSION), text(tag::RELEASE));
    if name.is_empty() {
        return Err(Damaged("a package has no name"));
    }
    let epoch = header.number(tag::EPOCH, 0).map(|epoch| epoch.to_string()).unwrap_or_default();
    let version = if release.is_empty() { version } else { format!("{version}-{release}") };
    Ok(Package {
        name,
        version,
        epoch: if epoch == "0" { String::new() } else { epoch },
        architecture: text(tag::ARCH),
        maintainer: text(tag::PACKAGER),
        vendor: text(tag::VENDOR),
        license: text(tag::LICENSE),
        homepage: text(tag::URL),
        summary: text(tag::SUMMARY),
        source: text(tag::SOURCE_RPM),
        checksums: header.checksums(),
    })
}

struct Header<'a> {
    /// Kind, offset and count by tag.
    tags: BTreeMap<usize, (usize, usize, usize)>,
    values: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let (count, length) = (Order::Big.u32(bytes, 0)?, Order::Big.u32(bytes, 4)?);
        if count > MOST_TAGS {
            return Err(Damaged("a package has too many tags"));
        }
        let values = range(bytes, 8 + count * ENTRY, length)?;
        let mut tags = BTreeMap::new();
        for at in (0..count).map(|number| 8 + number * ENTRY) {
            let field = |number: usize| Order::Big.u32(bytes, at + 4 * number);
            tags.entry(field(0)?).or_insert((field(1)?, field(2)?, field(3)?));
        }
        Ok(Self { tags, values })
    }

    /// Up to `most` texts of a tag; none if it has none.
    fn texts(&self, tag: usize, most: usize) -> impl Iterator<Item = String> {
        let is_text = |kind| matches!(kind, kind::STRING | kind::STRING_ARRAY | kind::I18N);
        let found = self.tags.get(&tag).filter(|(kind, ..)| is_text(*kind));
        let (_, offset, count) = found.copied().unwrap_or_default();
        let bytes = self.values.get(offset..).filter(|_| count > 0).unwrap_or_default();
        let texts = bytes.split(|byte| *byte == 0).take(if bytes.is_empty() { 0 } else { count.min(most) });
        texts.map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// One of a tag's numbers.
    fn number(&self, tag: usize, place: usize) -> Option<usize> {
        let (_, offset, count) = *self.tags.get(&tag).filter(|(kind, ..)| *kind == kind::INT32)?;
        let at = offset.checked_add(place.checked_mul(4)?)?;
        (place < count).then(|| Order::Big.u32(self.values, at).ok()).flatten()
    }

    fn checksums(&self) -> Vec<(&'static str, String)> {
        let algorithm = |place| match self.number(tag::PACKAGE_DIGEST_ALGORITHMS, place) {
            Some(8) => Some("SHA256"),
            Some(10) => Some("SHA512"),
            Some(12) => Some("SHA3-256"),
            _ => None,
        };
        let is_hash = |text: &String| text.len() >= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digests = self.texts(tag::PACKAGE_DIGESTS, 8).enumerate().filter(|(_, text)| is_hash(text));
        digests.filter_map(|(place, text)| Some((algorithm(place)?, text.to_ascii_lowercase()))).collect()
    }
}
