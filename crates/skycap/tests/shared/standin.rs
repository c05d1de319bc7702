//! A registry made of what a case says it holds. It answers as the distribution specification has it, remembers every request,
//! and takes what is pushed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use skycap_image::Digest;
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::names::Names;
use crate::state::{Auth, Repository, Rule, Server};
use crate::tls::Tls;

/// A server that serves until it is dropped.
pub struct StandIn {
    plain: Scripted,
    tls: Option<Tls>,
    inner: Arc<Inner>,
}

struct Inner {
    auth: Option<Auth>,
    page: Option<usize>,
    rules: Vec<Rule>,
    headers: Vec<(String, String)>,
    before: BTreeMap<String, Repository>,
    now: Mutex<BTreeMap<String, Repository>>,
    uploads: Mutex<BTreeMap<String, Vec<u8>>>,
    names: Mutex<Names>,
}

impl StandIn {
    /// Serves what the case says.
    pub fn start(server: Server) -> Self {
        let inner = Arc::new(Inner {
            auth: server.auth,
            page: server.page,
            rules: server.rules,
            headers: server.headers,
            before: server.repositories.clone(),
            now: Mutex::new(server.repositories),
            uploads: Mutex::default(),
            names: Mutex::default(),
        });
        let serving = Arc::clone(&inner);
        let plain = Scripted::start(move |request| serving.answer(request)).unwrap();
        let tls = server.https.then(|| Tls::in_front_of(plain.address(), server.known));
        Self { plain, tls, inner }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.tls.as_ref().map_or_else(|| self.plain.address().to_string(), |tls| tls.address.to_string())
    }

    /// Answers may name what the case names.
    pub fn know(&self, names: &Names) {
        *self.inner.names.lock().unwrap() = names.clone();
    }

    /// Every request as `METHOD PATH[?QUERY]`.
    pub fn requests(&self) -> Vec<String> {
        let line = |request: Request| {
            // Uploads are made at the same time; which is the first is chance.
            let line = match request.line().split_once("/uploads/u") {
                Some((before, _)) => format!("{before}/uploads/ID"),
                None => request.line(),
            };
            if request.query.is_empty() { line } else { format!("{line}?{}", request.query) }
        };
        self.plain.requests().into_iter().map(line).collect()
    }

    /// The manifests that were pushed.
    pub fn pushed(&self) -> Vec<Digest> {
        let now = self.inner.now.lock().unwrap();
        let all = now.iter().flat_map(|(name, repository)| {
            let before = self.inner.before.get(name);
            let is_new = move |digest: &&Digest| before.is_none_or(|before| !before.manifests.contains_key(*digest));
            repository.manifests.keys().filter(is_new).copied()
        });
        all.collect()
    }

    /// What is there that was not there at the beginning: tags, manifests with their text, how many blobs.
    pub fn changes(&self) -> String {
        let mut out = String::new();
        for (name, repository) in &*self.inner.now.lock().unwrap() {
            let before = self.inner.before.get(name).cloned().unwrap_or_default();
            // Several tags are written at the same time.
            let tags: std::collections::BTreeMap<_, _> = repository.tags.iter().cloned().collect();
            for (tag, digest) in &tags {
                if !before.tags.contains(&(tag.clone(), *digest)) {
                    let _ = writeln!(out, "{name}:{tag} = {digest}");
                }
            }
            for (digest, (media_type, bytes)) in &repository.manifests {
                if !before.manifests.contains_key(digest) {
                    let _ =
                        writeln!(out, "{name} manifest {digest} {media_type}\n  {}", String::from_utf8_lossy(bytes));
                }
            }
            let blobs = repository.blobs.keys().filter(|digest| !before.blobs.contains_key(digest)).count();
            let _ = writeln!(out, "{name} blobs {blobs}");
        }
        out
    }
}

impl Inner {
    fn answer(&self, request: &Request) -> Reply {
        let names = self.names.lock().unwrap().clone();
        let rule = self.rules.iter().find(|rule| rule.fits(&request.method, &names.hide(&request.path), request.seen));
        let usual = match rule {
            Some(rule) if !rule.keeps_answer() => Answer::status(200),
            _ => self.usual(request),
        };
        let missing = rule.map(Rule::missing).unwrap_or_default();
        let reply = usual.into_reply(&missing);
        let reply = self.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value));
        match rule {
            Some(rule) => rule.apply(reply, &names),
            None => reply,
        }
    }

    fn usual(&self, request: &Request) -> Answer {
        if request.path == "/token" {
            return self.token(request);
        }
        if let Some(challenge) = self.challenge(request) {
            return challenge;
        }
        let Some(rest) = request.path.strip_prefix("/v2/") else { return Answer::status(404) };
        if rest.is_empty() {
            return Answer::status(200).body("application/json", b"{}".to_vec());
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let mut now = self.now.lock().unwrap();
        match &parts[..] {
            [name @ .., "tags", "list"] => match now.get(&name.join("/")) {
                Some(repository) => self.tags(&name.join("/"), repository, &request.query),
                None => Answer::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            },
            [name @ .., "manifests", reference] => {
                let repository = now.entry(name.join("/")).or_default();
                if request.method == "PUT" {
                    return repository.take_manifest(reference, request);
                }
                repository.manifest(reference)
            }
            [name @ .., "blobs", "uploads", upload] => {
                let name = name.join("/");
                let repository = now.entry(name.clone()).or_default();
                self.upload(&name, upload, repository, request)
            }
            [name @ .., "blobs", digest] => {
                let found = now.get(&name.join("/")).and_then(|repository| repository.blobs.get(&digest.parse().ok()?));
                match found {
                    Some(bytes) => Answer::status(200).body("application/octet-stream", bytes.clone()),
                    None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
                }
            }
            _ => Answer::status(404),
        }
    }

    /// What who is not known is told.
    fn challenge(&self, request: &Request) -> Option<Answer> {
        let auth = self.auth.as_ref()?;
        let given = request.header("authorization").unwrap_or_default();
        let wanted = if auth.bearer { "Bearer good".to_owned() } else { auth.basic() };
        if given == wanted {
            return None;
        }
        let host = request.header("host").unwrap_or_default();
        let challenge = if auth.bearer {
            format!("Bearer realm=\"http://{host}/token\",service=\"stand-in\"")
        } else {
            "Basic realm=\"stand-in\"".to_owned()
        };
        let answer = Answer::error(401, "UNAUTHORIZED", "authentication required");
        Some(answer.header("www-authenticate", challenge))
    }

    fn token(&self, request: &Request) -> Answer {
        let known = self.auth.as_ref().is_some_and(|auth| request.header("authorization") == Some(&auth.basic()));
        if known {
            Answer::status(200).body("application/json", br#"{"token":"good"}"#.to_vec())
        } else {
            Answer::error(401, "UNAUTHORIZED", "incorrect username or password")
        }
    }

    fn tags(&self, name: &str, repository: &Repository, query: &str) -> Answer {
        let all = repository.tags.iter().map(|(tag, _)| tag.clone());
        let all: Vec<String> = repository.list.clone().unwrap_or_else(|| all.collect());
        let last = query.split('&').find_map(|pair| pair.strip_prefix("last="));
        let start = last.and_then(|last| all.iter().position(|tag| tag == last)).map_or(0, |at| at + 1);
        let end = self.page.map_or(all.len(), |page| all.len().min(start + page));
        let body = serde_json::json!({"name": name, "tags": all[start..end]}).to_string();
        let answer = Answer::status(200).body("application/json", body.into_bytes());
        match all.get(end.saturating_sub(1)).filter(|_| end < all.len()) {
            Some(last) => answer.header("link", format!("</v2/{name}/tags/list?n=1000&last={last}>; rel=\"next\"")),
            None => answer,
        }
    }

    fn upload(&self, name: &str, upload: &str, repository: &mut Repository, request: &Request) -> Answer {
        let mut uploads = self.uploads.lock().unwrap();
        let location = |id: &str| format!("/v2/{name}/blobs/uploads/{id}");
        match request.method.as_str() {
            "POST" => {
                let id = format!("u{}", uploads.len() + 1);
                uploads.insert(id.clone(), Vec::new());
                Answer::status(202).header("location", location(&id))
            }
            "PATCH" => {
                let Some(kept) = uploads.get_mut(upload) else { return Answer::status(404) };
                kept.extend_from_slice(&request.body);
                let range = format!("0-{}", kept.len().saturating_sub(1));
                Answer::status(202).header("location", location(upload)).header("range", range)
            }
            "PUT" => {
                let mut bytes = uploads.get(upload).cloned().unwrap_or_default();
                bytes.extend_from_slice(&request.body);
                let digest = Digest::sha256(&bytes);
                let stated = request.query.split('&').find_map(|pair| pair.strip_prefix("digest="));
                if stated.map(|text| text.replace("%3A", ":")) != Some(digest.to_string()) {
                    return Answer::error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
                }
                repository.blobs.insert(digest, bytes);
                Answer::status(201).header("location", format!("/v2/{name}/blobs/{digest}"))
            }
            _ => Answer::status(204),
        }
    }
}

impl Repository {
    fn manifest(&self, reference: &str) -> Answer {
        let by_tag = self.tags.iter().find(|(tag, _)| tag == reference).map(|(_, digest)| *digest);
        let digest = by_tag.or_else(|| reference.parse().ok());
        match digest.and_then(|digest| Some((digest, self.manifests.get(&digest)?))) {
            Some((digest, (media_type, bytes))) => {
                let answer = Answer::status(200).body(media_type, bytes.clone());
                answer.header("docker-content-digest", digest.to_string())
            }
            None => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn take_manifest(&mut self, reference: &str, request: &Request) -> Answer {
        let digest = Digest::sha256(&request.body);
        let media_type = request.header("content-type").unwrap_or_default().to_owned();
        self.manifests.insert(digest, (media_type, request.body.clone()));
        if !reference.contains(':') {
            self.tags.retain(|(tag, _)| tag != reference);
            self.tags.push((reference.to_owned(), digest));
        }
        Answer::status(201).header("docker-content-digest", digest.to_string())
    }
}

impl Auth {
    fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for sign in 0..4 {
            let index = number >> (18 - 6 * sign) & 63;
            out.push(if sign <= three.len() { char::from(SIGNS[index]) } else { '=' });
        }
    }
    out
}

/// An answer whose headers can be taken away again.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::status(status).body("application/json", body.into_bytes())
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(self, media_type: &str, body: Vec<u8>) -> Self {
        Self { body, ..self }.header("content-type", media_type)
    }

    fn into_reply(self, missing: &[&str]) -> Reply {
        let reply = Reply::status(self.status).body(self.body);
        let kept = self.headers.into_iter().filter(|(name, _)| !missing.contains(&name.as_str()));
        let reply = kept.fold(reply, |reply, (name, value)| reply.header(&name, value));
        if missing.contains(&"content-length") { reply.without_length() } else { reply }
    }
}
