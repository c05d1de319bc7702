//! SPDX 2.3 documents: <https://spdx.github.io/spdx-spec/v2.3/>.

use std::collections::BTreeSet;

use serde::Serialize;
use skycap_image::Digest;

use super::license::{self, References};
use super::os_release::OsRelease;
use super::package::{Manager, Package};

const NO_ASSERTION: &str = "NOASSERTION";

/// A document.
#[derive(Serialize)]
pub(in crate::attest) struct Document {
    #[serde(rename = "spdxVersion")]
    spdx_version: &'static str,
    #[serde(rename = "dataLicense")]
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    #[serde(rename = "documentNamespace")]
    namespace: String,
    #[serde(rename = "creationInfo")]
    creation: Creation,
    packages: Vec<Element>,
    #[serde(rename = "hasExtractedLicensingInfos", skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct Creation {
    created: String,
    creators: Vec<String>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: String,
    license_declared: String,
    copyright_text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<External>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
struct External {
    #[serde(rename = "referenceCategory")]
    category: &'static str,
    #[serde(rename = "referenceType")]
    kind: &'static str,
    #[serde(rename = "referenceLocator")]
    locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct License {
    license_id: String,
    extracted_text: String,
}

#[derive(Serialize)]
struct Relationship {
    #[serde(rename = "spdxElementId")]
    from: String,
    #[serde(rename = "relationshipType")]
    kind: &'static str,
    #[serde(rename = "relatedSpdxElement")]
    to: String,
}

/// What a document is about.
pub(super) struct Root<'a> {
    /// What the document is called.
    pub document: String,
    /// What was scanned is called.
    pub name: String,
    /// The digest of its manifest, if it is an image.
    pub digest: Option<Digest>,
    /// Its package URL, if it has one.
    pub purl: Option<String>,
    /// In RFC 3339.
    pub created: Option<&'a str>,
}

/// A package and where it was found.
pub(super) struct Found {
    pub package: Package,
    pub manager: Manager,
    /// The database, from the root of the image.
    pub database: String,
    /// The layer that brought it, as stored.
    pub layer: Option<Digest>,
}

/// A document of everything that was found.
pub(super) fn document(root: &Root<'_>, system: Option<&OsRelease>, found: &[Found]) -> Document {
    let mut references = References::new();
    let top = top(root);
    let mut relationships = vec![Relationship::of("SPDXRef-DOCUMENT", "DESCRIBES", &top.id)];
    let mut packages = vec![top];
    let system_element = system.map(operating_system);
    let mut seen = BTreeSet::new();
    let elements = found.iter().map(|found| element(found, system, &mut references)).collect::<Vec<_>>();
    for element in system_element.into_iter().chain(elements) {
        // Two databases may tell of the same package.
        if seen.insert(element.id.clone()) {
            relationships.push(Relationship::of(&packages[0].id, "CONTAINS", &element.id));
            packages.push(element);
        }
    }
    let licenses = references.into_iter().map(|(license_id, extracted_text)| License { license_id, extracted_text });
    let mut document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: root.document.clone(),
        namespace: String::new(),
        creation: Creation {
            created: created(root.created),
            creators: vec![concat!("Tool: skycap-", env!("CARGO_PKG_VERSION")).to_owned()],
        },
        packages,
        licenses: licenses.collect(),
        relationships,
    };
    document.namespace = namespace(&document);
    document
}

/// An address of its own for each document, made from what it says.
fn namespace(document: &Document) -> String {
    let digest = Digest::sha256(&serde_json::to_vec(document).unwrap_or_default());
    format!("https://spdx.org/spdxdocs/skycap/{}-{}", plain(&document.name), digest.hex())
}

/// SPDX wants whole seconds in UTC.
fn created(time: Option<&str>) -> String {
    let time = time.and_then(|time| time.parse::<jiff::Timestamp>().ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn top(root: &Root<'_>) -> Element {
    let digest = root.digest.map(|digest| digest.to_string());
    Element {
        id: format!("SPDXRef-DocumentRoot-{}", plain(&root.name)),
        name: root.name.clone(),
        version_info: digest.unwrap_or_default(),
        primary_package_purpose: Some(if root.digest.is_some() { "CONTAINER" } else { "FILE" }),
        checksums: root.digest.map(checksum).into_iter().collect(),
        external_refs: root.purl.iter().map(|purl| External::purl(purl.clone())).collect(),
        ..Element::unknown()
    }
}

fn checksum(digest: Digest) -> Checksum {
    let algorithm = match digest.algorithm() {
        skycap_image::Algorithm::Sha256 => "SHA256",
        skycap_image::Algorithm::Sha512 => "SHA512",
    };
    Checksum { algorithm, checksum_value: digest.hex() }
}

fn operating_system(system: &OsRelease) -> Element {
    Element {
        id: format!("SPDXRef-OperatingSystem-{}", plain(&system.distro())),
        name: system.id.clone(),
        version_info: system.version_id.clone(),
        primary_package_purpose: Some("OPERATING_SYSTEM"),
        homepage: homepage(&system.home_url),
        summary: system.pretty_name.clone(),
        ..Element::unknown()
    }
}

fn element(found: &Found, system: Option<&OsRelease>, references: &mut References) -> Element {
    let Found { package, manager, database, layer } = found;
    let purl = package.purl(*manager, system);
    let short = &Digest::sha256(purl.as_bytes()).hex()[..16];
    let checksums = package.checksums.iter();
    let (supplier, originator) = (agent("Organization", &package.vendor), agent("Person", &package.maintainer));
    Element {
        id: format!("SPDXRef-Package-{}-{}-{short}", manager.kind(), plain(&package.name)),
        name: package.name.clone(),
        version_info: package.version.clone(),
        supplier: Some(supplier.or_else(|| originator.clone()).unwrap_or_else(|| NO_ASSERTION.to_owned())),
        originator,
        homepage: homepage(&package.homepage),
        checksums: checksums.map(|(algorithm, value)| Checksum { algorithm, checksum_value: value.clone() }).collect(),
        source_info: Some(format!("acquired package info from {}: {database}", manager.database())),
        license_declared: license::expression(&package.license, references),
        summary: package.summary.clone(),
        comment: layer.map(|layer| format!("layerID: {layer}")),
        external_refs: vec![External::purl(purl)],
        ..Element::unknown()
    }
}

impl Element {
    /// An element of which nothing is known.
    fn unknown() -> Self {
        let unknown = || NO_ASSERTION.to_owned();
        Self {
            download_location: unknown(),
            license_concluded: unknown(),
            license_declared: unknown(),
            copyright_text: unknown(),
            ..Self::default()
        }
    }
}

impl External {
    fn purl(purl: String) -> Self {
        Self { category: "PACKAGE-MANAGER", kind: "purl", locator: purl }
    }
}

impl Relationship {
    fn of(from: &str, kind: &'static str, to: &str) -> Self {
        Self { from: from.to_owned(), kind, to: to.to_owned() }
    }
}

/// `Person: Name (address)` for `Name <address>`.
fn agent(kind: &str, text: &str) -> Option<String> {
    let text = text.replace(['\n', '\r'], " ");
    let (name, address) = match text.split_once('<') {
        Some((name, rest)) => (name.trim(), rest.split('>').next().unwrap_or_default().trim()),
        None => (text.trim(), ""),
    };
    let name = name.replace(['(', ')'], "");
    match (name.trim(), address.contains('@')) {
        ("", false) => None,
        ("", true) => Some(format!("{kind}: {address}")),
        (name, true) => Some(format!("{kind}: {name} ({address})")),
        (name, false) => Some(format!("{kind}: {name}")),
    }
}

/// An address, if it is one.
fn homepage(url: &str) -> Option<String> {
    let is_sound = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
    };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    is_sound(rest).then(|| super::super::redact::without_credentials(url))
}

/// What ids and namespaces may hold.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_and_addresses_are_what_spdx_takes() {
        for (text, expected) in [
            ("Some Body <some@example.org>", Some("Person: Some Body (some@example.org)")),
            ("Some (Other) Body", Some("Person: Some Other Body")),
            ("<a@b>", Some("Person: a@b")),
            ("", None),
            (" <", None),
        ] {
            assert_eq!(agent("Person", text).as_deref(), expected, "{text}");
        }
        assert_eq!(homepage("https://u:hunter2@x/y").as_deref(), Some("https://x/y"));
        for text in ["", "https://", "javascript:1", "https://x y", "https://\u{e9}"] {
            assert_eq!(homepage(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        for (time, expected) in [
            (Some("2022-11-09T10:12:01.338817553Z"), "2022-11-09T10:12:01Z"),
            (Some("2022-11-09T10:12:01+01:00"), "2022-11-09T09:12:01Z"),
            (Some("yesterday"), "1970-01-01T00:00:00Z"),
            (None, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(created(time), expected);
        }
    }
}
