//! What attestations are asked for, in the words of `docker buildx build`.

use std::collections::BTreeMap;

use skycap_image::suggest;

/// The types of attestations.
const TYPES: [&str; 2] = ["sbom", "provenance"];
/// What can be said of each.
const OF_SBOM: [&str; 2] = ["generator", "disabled"];
const OF_PROVENANCE: [&str; 6] = ["mode", "version", "builder-id", "reproducible", "inline-only", "disabled"];

/// The attestations that a build is to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    /// A list of the packages in the image.
    pub sbom: Option<Sbom>,
    /// How the image came to be.
    pub provenance: Option<Provenance>,
}

/// How packages are listed. Stages and the context are scanned too where the Dockerfile's `BUILDKIT_SBOM_SCAN_STAGE` and
/// `BUILDKIT_SBOM_SCAN_CONTEXT` ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sbom {}

/// What is told about how an image came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// How much.
    pub mode: Mode,
    /// In which form.
    pub version: Version,
    /// The URI of whoever runs the builder; empty if nobody says.
    pub builder_id: String,
    /// Whether somebody vouches that the build gives the same bytes again.
    pub reproducible: bool,
}

/// How much provenance tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// No build arguments, labels, ids of secrets, steps or sources: safe for every build.
    Min,
    /// All of that.
    #[default]
    Max,
}

/// The form of provenance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// `https://slsa.dev/provenance/v0.2`
    V02,
    /// `https://slsa.dev/provenance/v1`
    #[default]
    V1,
}

/// Text that asks for no attestation that there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct InvalidAttest {
    what: String,
    hint: String,
}

impl InvalidAttest {
    /// What the user can write instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    fn new(what: String, hint: &str) -> Self {
        Self { what, hint: hint.to_owned() }
    }

    /// A word that is none of the known ones.
    fn unknown(what: String, word: &str, known: &[&str]) -> Self {
        let near = suggest::nearest(word, known.iter().copied());
        let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        Self { what, hint: format!("{near}known are {}", known.join(", ")) }
    }
}

impl Attest {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.sbom.is_none() && self.provenance.is_none()
    }

    /// Takes the value of an `--attest`: `type=sbom` or `type=provenance`, and that type's own keys.
    pub fn set(&mut self, text: &str) -> Result<(), InvalidAttest> {
        let mut fields = fields(text)?;
        match fields.remove("type").as_deref() {
            Some("sbom") => self.sbom = Sbom::of(fields)?,
            Some("provenance") => self.provenance = Provenance::of(fields)?,
            Some(other) => {
                return Err(InvalidAttest::unknown(format!("there is no attestation {other:?}"), other, &TYPES));
            }
            None => {
                return Err(InvalidAttest::new(format!("{text:?} has no type="), "type=sbom or type=provenance"));
            }
        }
        Ok(())
    }
}

impl Sbom {
    /// The value of `--sbom`: empty, a boolean, or keys.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidAttest> {
        switch(text).map_or_else(|| Self::of(fields(text)?), |on| Ok(on.then(Self::default)))
    }

    fn of(mut fields: BTreeMap<String, String>) -> Result<Option<Self>, InvalidAttest> {
        let disabled = take_bool(&mut fields, "disabled")?;
        if let Some(image) = fields.remove("generator") {
            return Err(InvalidAttest::new(
                format!("SBOM generator {image:?}: the built-in scanner of package databases is the only one"),
                "leave generator out",
            ));
        }
        refuse_rest("sbom", &OF_SBOM, &fields)?;
        Ok((!disabled).then(Self::default))
    }
}

impl Provenance {
    /// The value of `--provenance`: empty, a boolean, or keys.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidAttest> {
        switch(text).map_or_else(|| Self::of(fields(text)?), |on| Ok(on.then(Self::default)))
    }

    fn of(mut fields: BTreeMap<String, String>) -> Result<Option<Self>, InvalidAttest> {
        let disabled = take_bool(&mut fields, "disabled")?;
        let mode = match fields.remove("mode").as_deref() {
            None | Some("max") => Mode::Max,
            Some("min") => Mode::Min,
            Some(other) => {
                return Err(InvalidAttest::unknown(
                    format!("no mode of provenance is {other:?}"),
                    other,
                    &["min", "max"],
                ));
            }
        };
        let version = match fields.remove("version").as_deref() {
            None | Some("v1") => Version::V1,
            Some("v0.2") => Version::V02,
            Some(other) => {
                let what = format!("no version of provenance is {other:?}");
                return Err(InvalidAttest::unknown(what, other, &["v0.2", "v1"]));
            }
        };
        let builder_id = fields.remove("builder-id").unwrap_or_default();
        let reproducible = take_bool(&mut fields, "reproducible")?;
        // Attestations are only ever kept with images.
        take_bool(&mut fields, "inline-only")?;
        refuse_rest("provenance", &OF_PROVENANCE, &fields)?;
        Ok((!disabled).then_some(Self { mode, version, builder_id, reproducible }))
    }
}

/// A value that is a boolean, as Go reads one; nothing means yes.
fn switch(text: &str) -> Option<bool> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn take_bool(fields: &mut BTreeMap<String, String>, key: &str) -> Result<bool, InvalidAttest> {
    let Some(text) = fields.remove(key) else { return Ok(false) };
    switch(&text).ok_or_else(|| InvalidAttest::new(format!("{key}={text}: not a boolean"), "true or false"))
}

fn fields(text: &str) -> Result<BTreeMap<String, String>, InvalidAttest> {
    let pair = |field: &str| {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| InvalidAttest::new(format!("{field:?}: not key=value"), "true, false, or KEY=VALUE,…"))?;
        Ok((key.trim().to_ascii_lowercase(), value.to_owned()))
    };
    text.split(',').map(pair).collect()
}

fn refuse_rest(kind: &str, known: &[&str], fields: &BTreeMap<String, String>) -> Result<(), InvalidAttest> {
    let Some(key) = fields.keys().next() else { return Ok(()) };
    Err(InvalidAttest::unknown(format!("{kind} attestations have no key {key:?}"), key, known))
}

/// Whether a value of `BUILDKIT_SBOM_SCAN_STAGE` or `BUILDKIT_SBOM_SCAN_CONTEXT` means a stage.
pub(crate) fn means_stage(value: &str, stage: &str) -> bool {
    match switch(value) {
        Some(on) if !value.is_empty() => on,
        _ => value.split(',').any(|name| name == stage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_mean_what_they_mean_to_buildx() {
        let max = Provenance::default();
        for (text, expected) in [
            ("", Some(max.clone())),
            ("true", Some(max.clone())),
            ("false", None),
            ("mode=max", Some(max.clone())),
            ("mode=min,inline-only=true", Some(Provenance { mode: Mode::Min, ..max.clone() })),
            (
                "version=v0.2,reproducible=1",
                Some(Provenance { version: Version::V02, reproducible: true, ..max.clone() }),
            ),
            ("builder-id=https://ci/1", Some(Provenance { builder_id: "https://ci/1".into(), ..max.clone() })),
            ("mode=max,disabled=true", None),
        ] {
            assert_eq!(Provenance::parse(text).unwrap(), expected, "{text}");
        }
        let mut attest = Attest::default();
        attest.set("type=sbom").unwrap();
        attest.set("type=provenance,mode=min").unwrap();
        assert_eq!((attest.sbom, attest.provenance.unwrap().mode), (Some(Sbom::default()), Mode::Min));
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        for (text, expected) in [
            ("type=sbom,generator=docker/scout-sbom-indexer", "docker/scout-sbom-indexer"),
            ("type=vex", "\"vex\""),
            ("mode=max", "no type="),
            ("type=provenance,mode=medium", "\"medium\""),
            ("type=provenance,version=v3", "\"v3\""),
            ("type=provenance,filename=x.json", "\"filename\""),
            ("type=provenance,reproducible=perhaps", "not a boolean"),
            ("type=provenance,max", "not key=value"),
        ] {
            let error = Attest::default().set(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_guessed() {
        for (text, expected) in [
            ("type=sbmo", "did you mean sbom? known are sbom, provenance"),
            ("type=provenance,mod=max", "did you mean mode? known are mode, version, builder-id"),
            ("type=provenance,mode=mix", "did you mean min? known are min, max"),
            ("type=sbom,disable=true", "did you mean disabled? known are generator, disabled"),
            ("type=sbom,filename=x", "known are generator"),
            ("mode=max", "type=sbom or"),
        ] {
            let error = Attest::default().set(text).unwrap_err();
            assert!(error.hint().starts_with(expected), "{text}: {}", error.hint());
        }
    }

    #[test]
    fn stages_are_meant_by_a_boolean_or_by_name() {
        for (value, stage, expected) in [
            ("true", "a", true),
            ("1", "a", true),
            ("false", "false", false),
            ("a,b", "b", true),
            ("a,b", "c", false),
            ("", "a", false),
        ] {
            assert_eq!(means_stage(value, stage), expected, "{value} {stage}");
        }
    }
}
