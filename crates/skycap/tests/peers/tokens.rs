//! A token server for a registry that takes Bearer tokens (distribution's "auth: token"): it signs what it grants with a key
//! that the registry trusts. Its tokens end soon, so that a client has to come again on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::process::run;

pub const ISSUER: &str = "issuer";
pub const SERVICE: &str = "service";
/// How long a token is good. The registry takes one for a minute after its end, so its end lies in the past.
pub const LIFE: Duration = Duration::from_secs(2);
const LEEWAY: u64 = 60;

/// Grants tokens to one user.
pub struct Tokens {
    server: Scripted,
    granted: Arc<AtomicUsize>,
}

impl Tokens {
    /// Makes a key below a directory and starts to grant; the certificate for the registry is `token.crt` there.
    pub fn start(directory: &Path, authorization: String) -> Result<Self, String> {
        let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"];
        run(directory, "openssl", &[&new[..], &["-keyout", "token.key", "-out", "token.crt"]].concat())?;
        let certificate = run(directory, "openssl", &["x509", "-in", "token.crt", "-outform", "DER"])?;
        let granted = Arc::new(AtomicUsize::new(0));
        let (counter, directory) = (Arc::clone(&granted), directory.to_owned());
        let server = Scripted::start(move |request| {
            if request.path != "/token" || request.header("authorization") != Some(authorization.as_str()) {
                return Reply::status(401).body(r#"{"details":"incorrect username or password"}"#);
            }
            let number = counter.fetch_add(1, Ordering::Relaxed);
            let token = sign(&directory, &certificate, number, &access(request));
            Reply::status(200).body(json!({"token": token, "expires_in": 60}).to_string())
        });
        Ok(Self { server: server.map_err(|error| error.to_string())?, granted })
    }

    /// Where tokens are asked for.
    pub fn realm(&self) -> String {
        format!("{}/token", self.server.url())
    }

    /// How many were granted.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }
}

/// What was asked for: `scope=repository:NAME:ACTION,ACTION`, once or more often.
fn access(request: &Request) -> Vec<Value> {
    let parameters = url_pairs(&request.query);
    let scopes = parameters.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let granted = scopes.filter_map(|scope| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
    });
    granted.collect()
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'%' => {
                    let hex: String = rest.by_ref().take(2).map(char::from).collect();
                    bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                }
                b'+' => bytes.push(b' '),
                other => bytes.push(other),
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

/// A JSON web token (RFC 7519) with an RSA signature that openssl makes. Its id has the marker of all secrets in tests.
fn sign(directory: &Path, certificate: &[u8], number: usize, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [base64(certificate, STANDARD)]});
    let claims = json!({
        "iss": ISSUER, "sub": "robot", "aud": SERVICE, "jti": format!("hunter2-token-{number}"), "access": access,
        "iat": now - 2 * LEEWAY, "nbf": now - 2 * LEEWAY, "exp": now - LEEWAY + LIFE.as_secs(),
    });
    let encoded = |value: &Value| base64(value.to_string().as_bytes(), URL_SAFE);
    let signed = format!("{}.{}", encoded(&header), encoded(&claims));
    let file: PathBuf = directory.join(format!("claims-{number}"));
    std::fs::write(&file, &signed).unwrap();
    let signature = run(directory, "openssl", &["dgst", "-sha256", "-sign", "token.key", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    format!("{signed}.{}", base64(&signature.unwrap(), URL_SAFE))
}

const STANDARD: [char; 2] = ['+', '/'];
const URL_SAFE: [char; 2] = ['-', '_'];

/// RFC 4648; with padding in the standard alphabet, without in the other.
pub fn base64(bytes: &[u8], last: [char; 2]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last).collect();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(alphabet[(bits >> (18 - 6 * at) & 63) as usize]);
        }
        if last == STANDARD {
            text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
        }
    }
    text
}

/// The header of somebody with a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes(), STANDARD))
}

#[test]
fn base64_is_that_of_the_specification() {
    let texts = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
    for (length, text) in texts.iter().enumerate() {
        assert_eq!(base64(&b"foobar"[..length], STANDARD), *text);
    }
    assert_eq!(base64(&[0xff, 0xfe], URL_SAFE), "__4");
}
