//! `skycap tags`.

use regex::Regex;
use serde_json::{Map, Value, json};
use skycap_image::transport::Transport;
use skycap_image::{Name, by_version};

use super::{End, Places, explain, transport};
use crate::args::{Ends, Sort, Tags};
use crate::commands::{Context, print};
use crate::failure::Failure;
use crate::report::columns;

/// Tags with what they stand for, where that was asked for.
type Found = Vec<(String, Option<String>)>;

/// Lists, filters, sorts and prints.
pub fn run(arguments: &Tags, context: &Context) -> Result<(), Failure> {
    let filter = arguments.filter.as_deref().map(Regex::new).transpose();
    let filter = filter.map_err(|error| Failure::usage(format!("--filter: {error}")))?;
    let place = transport(&arguments.repository)?;
    let wanted = |tag: &str| filter.as_ref().is_none_or(|filter| filter.is_match(tag));
    let (name, mut found) = match &place {
        Transport::Registry(reference) => {
            if let Some(tag) = reference.tag.as_ref().filter(|_| reference.digest.is_none()) {
                return Err(Failure::usage(format!(
                    "{}: a repository is wanted, without :{tag}",
                    arguments.repository
                ))
                .with_hint(format!("--filter '^{}$' asks for one tag", regex::escape(tag))));
            }
            remote(arguments, reference, wanted, context)?
        }
        local => (local.to_string(), listed(local, arguments.digests, wanted)?),
    };
    match arguments.sort {
        Some(Sort::Version) => found.sort_by(|(a, _), (b, _)| by_version(a, b)),
        Some(Sort::Name) => found.sort(),
        None => {}
    }
    print(&if arguments.json { as_json(&name, &found)? } else { as_lines(found) })
}

fn remote(
    arguments: &Tags,
    reference: &skycap_image::Reference,
    wanted: impl Fn(&str) -> bool,
    context: &Context,
) -> Result<(String, Found), Failure> {
    let places = Places::new(&arguments.login, &Ends::default(), context)?;
    let place = places.place(reference, End::Source)?;
    let tags = place.tags().map_err(|error| explain::registry(&error, reference, &place))?;
    let tags: Vec<String> = tags.into_iter().filter(|tag| wanted(tag)).collect();
    let name = reference.repository.to_string().replacen("index.docker.io/", "docker.io/", 1);
    if !arguments.digests {
        return Ok((name, tags.into_iter().map(|tag| (tag, None)).collect()));
    }
    let names: Vec<Name> = tags.iter().map(|tag| Name::Tag(tag.clone())).collect();
    let mut found = Found::new();
    for (tag, answer) in tags.into_iter().zip(place.find_all(&names)) {
        // A tag that was deleted meanwhile is none.
        if let Some(descriptor) = answer? {
            found.push((tag, Some(descriptor.digest.to_string())));
        }
    }
    Ok((name, found))
}

/// The names in a layout or archive.
fn listed(place: &Transport, digests: bool, wanted: impl Fn(&str) -> bool) -> Result<Found, Failure> {
    let listed = place.list().map_err(|error| explain::local(&error, place))?;
    let all = listed.into_iter().flat_map(|(names, descriptor)| {
        names.into_iter().map(move |name| (name, digests.then(|| descriptor.digest.to_string())))
    });
    Ok(all.filter(|(name, _)| wanted(name)).collect())
}

fn as_lines(found: Found) -> String {
    columns(found.into_iter().map(|(tag, digest)| std::iter::once(tag).chain(digest).collect::<Vec<_>>()))
}

/// The keys of `skopeo list-tags`.
fn as_json(name: &str, found: &Found) -> Result<String, Failure> {
    let tags: Vec<&String> = found.iter().map(|(tag, _)| tag).collect();
    let mut document = json!({"Repository": name, "Tags": tags});
    let digests: Map<String, Value> =
        found.iter().filter_map(|(tag, digest)| Some((tag.clone(), digest.clone()?.into()))).collect();
    if !digests.is_empty() {
        document["Digests"] = digests.into();
    }
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
