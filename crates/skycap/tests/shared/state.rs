//! `registry.txt`: the servers of a case.
//!
//! ```text
//! # A comment.
//! server mirror                      # begins another server than `registry`; `server registry https` speaks TLS,
//!                                    # `https known` to those that show a certificate of the authority
//! auth basic USER PASSWORD           # or: auth bearer USER PASSWORD, with a token server
//! page 2                             # so many tags on a page
//! repository team/app                # what follows is in it; else in `app`
//! image LABEL TAG…                   # the listing of an image (see testkit's `listing`) follows, indented
//!   layer
//!     file motd "hello\n"
//! image LABEL docker TAG…            # with Docker's media types
//! tags LABEL TAG…                    # more tags of that image; a label that is new is an image that holds nothing but it
//! list TAG…                          # what the list of tags says, instead of the tags in the order of this file
//! raw LABEL TYPE TEXT                # a manifest of any bytes
//! header NAME VALUE                  # in every answer
//! when METHOD PATH : STATUS [words]  # how one kind of request is answered; `ok` instead of a status is the usual answer
//! ```
//!
//! A path may hold `*`. Before the colon, `nth 1` or `nth 2-3` names which of these requests. Words behind it: `header NAME
//! VALUE`, `without NAME`, `body TEXT`, `flip N` (a byte of the body), `cut N` (break off), `hang-up`, `without-length`. The first
//! `when` that fits counts. Words in `"…"` may hold spaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use skycap_image::{Artifact, BlobSource, Compression, Descriptor, Digest, Memory};
use skycap_testkit::listing::{self, Style};
use skycap_testkit::registry::Reply;

use crate::names::Names;

/// A server before anybody asked.
#[derive(Default)]
pub struct Server {
    pub https: bool,
    /// Whether only those are talked to that show a certificate.
    pub known: bool,
    pub auth: Option<Auth>,
    pub page: Option<usize>,
    pub repositories: BTreeMap<String, Repository>,
    pub rules: Vec<Rule>,
    pub headers: Vec<(String, String)>,
}

/// Who may do what.
pub struct Auth {
    pub bearer: bool,
    pub user: String,
    pub password: String,
}

#[derive(Default, Clone)]
pub struct Repository {
    /// In the order of the file.
    pub tags: Vec<(String, Digest)>,
    pub list: Option<Vec<String>>,
    /// Media type and bytes.
    pub manifests: BTreeMap<Digest, (String, Vec<u8>)>,
    pub blobs: BTreeMap<Digest, Vec<u8>>,
}

/// A `when`.
pub struct Rule {
    method: String,
    path: String,
    nth: Option<(usize, usize)>,
    status: Option<u16>,
    words: Vec<Vec<String>>,
}

/// The servers by name.
pub fn parse(text: &str, names: &mut Names) -> BTreeMap<String, Server> {
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    let (mut server, mut repository) = ("registry".to_owned(), "app".to_owned());
    let mut known: BTreeMap<String, Artifact> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let words = words(line);
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["server", name, more @ ..] = &texts[..] {
            (server, repository) = ((*name).to_owned(), "app".to_owned());
            let new = servers.entry(server.clone()).or_default();
            (new.https, new.known) = (more.contains(&"https"), more.contains(&"known"));
            continue;
        }
        let here = servers.entry(server.clone()).or_default();
        let target = here.repositories.entry(repository.clone());
        match &texts[..] {
            [] => {}
            ["auth", kind, user, password] => {
                let (bearer, user, password) = (*kind == "bearer", (*user).to_owned(), (*password).to_owned());
                here.auth = Some(Auth { bearer, user, password });
            }
            ["page", count] => here.page = Some(count.parse().unwrap()),
            ["repository", name] => (*name).clone_into(&mut repository),
            ["header", name, value] => here.headers.push(((*name).to_owned(), (*value).to_owned())),
            ["list", tags @ ..] => {
                target.or_default().list = Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
            }
            ["image", label, tags @ ..] => {
                let mut listing = String::new();
                while let Some(line) = lines.next_if(|line| line.starts_with(' ') || line.trim().is_empty()) {
                    listing.extend([line, "\n"]);
                }
                let docker = tags.first() == Some(&"docker");
                let artifact = artifact(&listing, docker);
                names.add_artifact(label, &artifact);
                target.or_default().hold(&artifact, &tags[usize::from(docker)..]);
                known.insert((*label).to_owned(), artifact);
            }
            ["tags", label, tags @ ..] => {
                let artifact = known.entry((*label).to_owned()).or_insert_with(|| {
                    let artifact = artifact(&format!("label label={label}"), false);
                    names.add_artifact(label, &artifact);
                    artifact
                });
                target.or_default().hold(artifact, tags);
            }
            ["raw", label, media_type, text] => {
                let bytes = names.fill(text).into_bytes();
                let digest = Digest::sha256(&bytes);
                names.add_digest(&format!("digest:{label}"), digest);
                let repository = target.or_default();
                repository.manifests.insert(digest, ((*media_type).to_owned(), bytes));
                repository.tags.push(((*label).to_owned(), digest));
            }
            ["when", ..] => here.rules.push(Rule::parse(&words)),
            _ => panic!("registry.txt: {line}"),
        }
    }
    servers.entry("registry".to_owned()).or_default();
    servers
}

/// An artifact in a memory of its own.
pub fn artifact(listing: &str, docker: bool) -> Artifact {
    listing::artifact(&Memory::default(), listing, Style { docker, compression: Compression::Gzip })
}

impl Repository {
    /// Keeps everything of an artifact.
    pub fn hold(&mut self, artifact: &Artifact, tags: &[&str]) {
        self.keep(artifact);
        let digest = artifact.descriptor().digest;
        for tag in tags {
            self.tags.retain(|(known, _)| known != tag);
            self.tags.push(((*tag).to_owned(), digest));
        }
    }

    fn keep(&mut self, artifact: &Artifact) {
        let raw = artifact.raw();
        self.manifests.insert(raw.descriptor.digest, (raw.descriptor.media_type.to_string(), raw.bytes.clone()));
        match artifact {
            Artifact::Index(index) => {
                for child in index.manifests() {
                    self.keep(&index.child(child).unwrap());
                }
            }
            Artifact::Image(image) => {
                self.blobs.insert(image.manifest().config.digest, image.config_bytes().to_vec());
                for layer in &image.manifest().layers {
                    self.blobs.insert(layer.digest, bytes_of(image.blobs(), layer));
                }
            }
        }
    }
}

fn bytes_of(blobs: &Arc<dyn BlobSource>, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut blobs.open(descriptor).unwrap(), &mut bytes).unwrap();
    bytes
}

impl Rule {
    fn parse(words: &[String]) -> Self {
        let colon = words.iter().position(|word| word == ":").unwrap_or_else(|| panic!("no colon: {words:?}"));
        let (before, after) = (&words[1..colon], &words[colon + 1..]);
        let nth = before.get(3).map(|text| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (first.parse().unwrap(), last.parse().unwrap())
        });
        let mut rest = &after[1..];
        let mut parsed = Vec::new();
        while let Some(word) = rest.first() {
            let length = match word.as_str() {
                "header" => 3,
                "hang-up" | "without-length" => 1,
                _ => 2,
            };
            parsed.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        Self { method: before[0].clone(), path: before[1].clone(), nth, status: after[0].parse().ok(), words: parsed }
    }

    /// Whether it is about the request; `seen` of the same kind came before it.
    pub fn fits(&self, method: &str, path: &str, seen: usize) -> bool {
        let kind = (self.method == "*" || self.method == method) && matches(&self.path, path);
        kind && self.nth.is_none_or(|(first, last)| (first..=last).contains(&(seen + 1)))
    }

    /// Whether the usual answer is only changed.
    pub fn keeps_answer(&self) -> bool {
        self.status.is_none()
    }

    /// Names of headers that the answer lacks.
    pub fn missing(&self) -> Vec<&str> {
        self.words.iter().filter(|word| word[0] == "without").map(|word| word[1].as_str()).collect()
    }

    /// Changes an answer.
    pub fn apply(&self, reply: Reply, names: &Names) -> Reply {
        let reply = self.status.map_or(reply, Reply::status);
        self.words.iter().fold(reply, |reply, word| match word[0].as_str() {
            "header" => reply.header(&word[1], names.fill(&word[2])),
            "body" => reply.body(names.fill(&word[1])),
            "flip" => reply.flip(word[1].parse().unwrap()),
            "cut" => reply.cut(word[1].parse().unwrap()),
            "hang-up" => Reply::hang_up(),
            "without-length" => reply.without_length(),
            "without" => reply,
            other => panic!("when: {other}"),
        })
    }
}

/// `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            let Some(rest) = text.strip_prefix(before) else { return false };
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
        }
    }
}

/// The words of a line; those in `"…"` may hold spaces, `\n`, `\"` and `\\`. A `#` begins a comment.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut characters) = (Vec::new(), line.chars().peekable());
    while let Some(first) = characters.next() {
        match first {
            ' ' => {}
            '#' => break,
            '"' => {
                let mut word = String::new();
                while let Some(next) = characters.next().filter(|c| *c != '"') {
                    word.push(match next {
                        '\\' => match characters.next() {
                            Some('n') => '\n',
                            other => other.unwrap_or('\\'),
                        },
                        other => other,
                    });
                }
                words.push(word);
            }
            other => {
                let mut word = other.to_string();
                while let Some(next) = characters.next_if(|c| *c != ' ') {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    words
}
