//! Checking, getting and putting, whoever serves the type: in process, or by its scripts in a container
//! (`atc/resource/resource.go`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::syncfs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use skycap_concourse::{Environment, Failure, Host, Kind, resource};
use skycap_image::{Digest, Reference};
use skycap_sandbox::{Exit, Stdin};

use super::container::{Container, Contents, Volume};
use super::engine::{Cancelled, Engine, Trouble, during, in_process};
use super::files;
use super::image::ImageDir;
use super::interpret::Version;
use super::log::StepLog;
use super::stop::Stop;
use super::types::{CustomType, Served, TypeChain};
use crate::state;

/// How long a check's answer about an image is taken as the newest.
const IMAGE_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// On whose behalf something is done.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'c> {
    pub engine: &'c Engine,
    pub log: &'c StepLog,
    pub stop: &'c Stop,
    /// `BUILD_*` and `ATC_EXTERNAL_URL`.
    pub env: &'c [(String, String)],
}

/// What `in` and `out` answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub version: Version,
    pub metadata: Vec<(String, String)>,
}

/// A version of a resource, on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fetched {
    /// Not to be changed.
    pub dir: PathBuf,
    pub answer: Answer,
    /// What it is kept under.
    pub key: Digest,
}

/// What to get.
pub(crate) struct Request<'r> {
    pub chain: &'r TypeChain,
    pub source: &'r Json,
    /// Null if there are none.
    pub params: &'r Json,
    pub version: &'r Version,
}

impl Caller<'_> {
    /// Looks for versions from `from` on; oldest first.
    pub fn check(&self, chain: &TypeChain, source: &Json, from: Option<&Version>) -> Result<Vec<Version>, Trouble> {
        let mut request = Map::new();
        request.insert("source".to_owned(), source.clone());
        if let Some(version) = from {
            request.insert("version".to_owned(), json!(version));
        }
        let request = Json::Object(request).to_string().into_bytes();
        let answer = if let Served::Native(kind) = &chain.served {
            let kind = *kind;
            self.native(Cancelled::Leave, move |host| resource(kind).check(&request, host))?
        } else {
            let stdout = self.script(chain, vec!["/opt/resource/check".to_owned()], Vec::new(), request)?;
            if stdout.iter().all(u8::is_ascii_whitespace) {
                return Ok(Vec::new());
            }
            first_value(&stdout)?
        };
        serde_json::from_value::<Option<Vec<Version>>>(answer)
            .map(Option::unwrap_or_default)
            .map_err(|error| Trouble::Errored(format!("run check: {error}")))
    }

    /// Fetches a version, or finds it fetched already.
    pub fn get(&self, request: &Request<'_>) -> Result<Fetched, Trouble> {
        let image = self.image_key(request.chain)?;
        let key = Digest::sha256(
            json!([request.chain.identity(), image, request.source, request.params, request.version])
                .to_string()
                .as_bytes(),
        );
        let fetching = self.engine.fetching(key);
        let _guard = fetching.try_lock().unwrap_or_else(|_| {
            self.log.note("INFO: waiting to acquire resource lock");
            fetching.lock().unwrap_or_else(PoisonError::into_inner)
        });
        let cache = self.engine.state.cache(&key);
        if let Some(answer) = kept(&cache) {
            self.log.note("INFO: found existing resource cache");
            return Ok(Fetched { dir: cache.join("artifact"), answer, key });
        }
        let dir = self.engine.fresh("get").map_err(during("make a directory for a get"))?;
        let answer = self.fetch(request, &dir)?;
        keep(&dir, &cache, &answer).map_err(during("keep what was fetched"))?;
        Ok(Fetched { dir: cache.join("artifact"), answer, key })
    }

    /// What changes when the image behind a type does.
    fn image_key(&self, chain: &TypeChain) -> Result<Option<String>, Trouble> {
        match &chain.served {
            Served::Native(_) => Ok(None),
            _ => Ok(Some(self.image(chain)?.key)),
        }
    }

    fn fetch(&self, request: &Request<'_>, dir: &Path) -> Result<Answer, Trouble> {
        let mut fields = Map::new();
        fields.insert("source".to_owned(), request.source.clone());
        if !is_empty(request.params) {
            fields.insert("params".to_owned(), request.params.clone());
        }
        fields.insert("version".to_owned(), json!(request.version));
        let bytes = Json::Object(fields).to_string().into_bytes();
        let script = "/opt/resource/in /tmp/build/get";
        if let Served::Native(kind) = &request.chain.served {
            let (kind, dir) = (*kind, dir.to_owned());
            let get = move |host: &Host| resource(kind).get(&bytes, &dir, host);
            return answer(script, self.native(Cancelled::Leave, get)?);
        }
        let volume = Volume { target: "/tmp/build/get".into(), contents: Contents::Fresh(dir.to_owned()) };
        let args = script.split(' ').map(str::to_owned).collect();
        let stdout = self.script(request.chain, args, vec![volume], bytes)?;
        answer(script, first_value_or_null(&stdout)?)
    }

    /// Makes a version out of artifacts, by name.
    pub fn put(
        &self,
        chain: &TypeChain,
        source: &Json,
        params: &Json,
        inputs: &[(String, PathBuf)],
    ) -> Result<Answer, Trouble> {
        let mut fields = Map::new();
        fields.insert("source".to_owned(), source.clone());
        if !is_empty(params) {
            fields.insert("params".to_owned(), params.clone());
        }
        let bytes = Json::Object(fields).to_string().into_bytes();
        let script = "/opt/resource/out /tmp/build/put";
        let dir = self.engine.fresh("put").map_err(during("make a directory for a put"))?;
        if let Served::Native(kind) = &chain.served {
            let kind = *kind;
            for (name, artifact) in inputs {
                place(kind, artifact, &dir, name)?;
            }
            let put = move |host: &Host| resource(kind).put(&bytes, &dir, &host.clone().confined_to(&dir));
            return answer(script, self.native(Cancelled::Wait, put)?);
        }
        let root = Path::new("/tmp/build/put");
        let mut volumes = vec![Volume { target: root.to_owned(), contents: Contents::Fresh(dir) }];
        for (name, artifact) in inputs {
            volumes.push(Volume { target: root.join(name), contents: Contents::Copy(artifact.clone()) });
        }
        let args = script.split(' ').map(str::to_owned).collect();
        let stdout = self.script(chain, args, volumes, bytes)?;
        answer(script, first_value_or_null(&stdout)?)
    }

    /// The image that a task or a type runs in: its newest version, or the one given.
    pub fn fetch_image(
        &self,
        name: &str,
        chain: &TypeChain,
        source: &Json,
        params: &Json,
        version: Option<&Version>,
    ) -> Result<Fetched, Trouble> {
        let newest;
        let version = if let Some(version) = version {
            version
        } else {
            newest = self.newest_image(name, chain, source)?;
            &newest
        };
        self.get(&Request { chain, source, params, version })
    }

    fn newest_image(&self, name: &str, chain: &TypeChain, source: &Json) -> Result<Version, Trouble> {
        let key = Digest::sha256(json!([chain.identity(), source]).to_string().as_bytes());
        let versions = || self.engine.image_versions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, version)) = versions().get(&key)
            && at.elapsed() < IMAGE_CHECK_INTERVAL
        {
            return Ok(version.clone());
        }
        self.log.check(name);
        let found = self.check(chain, source, None)?;
        let newest = found
            .into_iter()
            .next_back()
            .ok_or(Trouble::Errored("version is missing from previous step".to_owned()))?;
        versions().insert(key, (Instant::now(), newest.clone()));
        Ok(newest)
    }

    /// The image that serves a type which is not native.
    fn image(&self, chain: &TypeChain) -> Result<ImageDir, Trouble> {
        match &chain.served {
            Served::Native(kind) => Err(Trouble::Errored(format!("{} needs no image", kind.name()))),
            Served::Base { image } => self.base_image(&chain.name, image),
            Served::Custom(custom) => self.custom_image(custom),
        }
    }

    /// A worker's own image: nothing of its configuration counts. Fetched in process whatever the options say, for
    /// something has to be first.
    fn base_image(&self, name: &str, image: &str) -> Result<ImageDir, Trouble> {
        let reference: Reference = image
            .parse()
            .map_err(|error| Trouble::Errored(format!("the image of base type {name}, {image}: {error}")))?;
        let tag = reference.tag.clone().unwrap_or_else(|| "latest".to_owned());
        let source = json!({ "repository": reference.repository.to_string(), "tag": tag });
        let version = reference
            .digest
            .map(|digest| Version::from([("tag".to_owned(), tag.clone()), ("digest".to_owned(), digest.to_string())]));
        let fetched = self.fetch_image(name, &native_images(), &source, &Json::Null, version.as_ref())?;
        Ok(ImageDir::open(&fetched)?.without_configuration())
    }

    fn custom_image(&self, custom: &CustomType) -> Result<ImageDir, Trouble> {
        let source = custom.parent.source(&custom.source);
        let fetched = self.fetch_image(&custom.name, &custom.parent, &source, &custom.params.to_json(), None)?;
        ImageDir::open(&fetched)
    }

    /// Runs a resource script; its answer, if it says yes.
    fn script(
        &self,
        chain: &TypeChain,
        args: Vec<String>,
        volumes: Vec<Volume>,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, Trouble> {
        let image = self.image(chain)?;
        let mut env = image.env.clone();
        env.extend_from_slice(self.env);
        let container = Container {
            rootfs: &image.rootfs,
            args,
            env,
            user: &image.user,
            cwd: "/".into(),
            volumes,
            privileged: chain.privileged(),
            terminal: false,
            hermetic: false,
        };
        let mut output = self.log.answering_output();
        let exit = container.run(self.engine, Stdin::Bytes(request), &mut output, self.stop);
        let stdout = output.finish();
        match exit? {
            Exit::Code(0) => Ok(stdout),
            Exit::Code(_) | Exit::Signal(_) => Err(Trouble::Failed),
        }
    }

    /// Runs something of this process.
    fn native(
        &self,
        cancelled: Cancelled,
        work: impl FnOnce(&Host) -> Result<Json, Failure> + Send + 'static,
    ) -> Result<Json, Trouble> {
        let scratch = self.engine.fresh("scratch").map_err(during("make a directory for temporary files"))?;
        let own = self.engine.host.environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment: Environment = own.chain(self.env.iter().cloned()).collect();
        let host = self
            .engine
            .host
            .clone()
            .with_environment(environment)
            .with_scratch(&scratch)
            .with_store(self.engine.store.clone())
            .with_progress(self.log.progress());
        // Left-overs of what is left to itself go with the work directory at the next start.
        in_process(self.log, self.stop, cancelled, move || {
            let result = work(&host);
            let _ = fs::remove_dir_all(&scratch);
            result
        })
    }
}

/// The type that images are fetched with.
pub(crate) fn native_images() -> TypeChain {
    TypeChain {
        name: "registry-image".to_owned(),
        served: Served::Native(Kind::RegistryImage),
        defaults: crate::yaml::Map::default(),
    }
}

/// Moves a finished artifact into its cache. The answer makes it valid, so everything else is durable before it.
fn keep(dir: &Path, cache: &Path, answer: &Answer) -> io::Result<()> {
    state::remove(cache)?;
    fs::create_dir_all(cache)?;
    syncfs(File::open(dir)?)?;
    fs::rename(dir, cache.join("artifact"))?;
    for parent in [Some(cache), cache.parent()].into_iter().flatten() {
        File::open(parent)?.sync_all()?;
    }
    state::write(&cache.join("answer.json"), answer)
}

/// What an earlier get left, if it left everything.
fn kept(cache: &Path) -> Option<Answer> {
    let path = cache.join("answer.json");
    let answer = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    cache.join("artifact").is_dir().then_some(())?;
    // Its age says when it was used last.
    let touched = fs::File::options().append(true).open(&path);
    let _ = touched.and_then(|file| file.set_modified(std::time::SystemTime::now()));
    Some(answer)
}

/// Lays an artifact out for a put in this process. Pushing an image only reads, so it needs no copies of the files; git
/// may write into its repository.
fn place(kind: Kind, artifact: &Path, dir: &Path, name: &str) -> Result<(), Trouble> {
    // The name becomes one of a directory, so it cannot be a path.
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(Trouble::Errored(format!("input not found: {name}")));
    }
    let lay = if kind == Kind::RegistryImage { files::share } else { files::copy };
    lay(artifact, &dir.join(name)).map_err(during(format_args!("show input {name} to the put")))
}

fn is_empty(params: &Json) -> bool {
    params.is_null() || params.as_object().is_some_and(Map::is_empty)
}

/// The first JSON value; what follows it is ignored, as Go's decoder does.
fn first_value(bytes: &[u8]) -> Result<Json, Trouble> {
    match serde_json::Deserializer::from_slice(bytes).into_iter().next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Trouble::Errored(format!("the resource's answer is not JSON: {error}"))),
        None => Ok(Json::Null),
    }
}

fn first_value_or_null(bytes: &[u8]) -> Result<Json, Trouble> {
    if bytes.iter().all(u8::is_ascii_whitespace) { Ok(Json::Null) } else { first_value(bytes) }
}

fn answer(script: &str, value: Json) -> Result<Answer, Trouble> {
    #[derive(Deserialize)]
    struct Field {
        #[serde(default)]
        name: String,
        #[serde(default)]
        value: Json,
    }
    #[derive(Deserialize, Default)]
    struct Raw {
        version: Option<Version>,
        metadata: Option<Vec<Field>>,
    }
    let raw: Option<Raw> =
        serde_json::from_value(value).map_err(|error| Trouble::Errored(format!("the resource's answer: {error}")))?;
    let raw = raw.unwrap_or_default();
    let Some(version) = raw.version else {
        return Err(Trouble::Errored(format!("resource script ({script}) output a null version")));
    };
    if version.is_empty() {
        let message = "resource output version is empty. Version must contain at least one key-value pair";
        return Err(Trouble::Errored(message.to_owned()));
    }
    let text = |value: Json| if let Json::String(text) = value { text } else { value.to_string() };
    let metadata = raw.metadata.unwrap_or_default().into_iter().map(|field| (field.name, text(field.value))).collect();
    Ok(Answer { version, metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_concourse_reads_them() {
        let read = |text: &str| first_value_or_null(text.as_bytes()).and_then(|value| answer("s", value));
        let answer = read(r#"{"version":{"a":"1"},"metadata":[{"name":"n","value":"v"}]} trailing"#).unwrap();
        assert_eq!(answer.version["a"], "1");
        assert_eq!(answer.metadata, [("n".to_owned(), "v".to_owned())]);
        for (text, expected) in [
            ("", "resource script (s) output a null version"),
            ("null", "resource script (s) output a null version"),
            ("{}", "resource script (s) output a null version"),
            (r#"{"version":{}}"#, "resource output version is empty. Version must contain at least one key-value pair"),
        ] {
            assert_eq!(read(text), Err(Trouble::Errored(expected.to_owned())), "{text}");
        }
        assert!(read("{").is_err() && read(r#"{"version":{"a":1}}"#).is_err());
    }
}
