//! AWS's signature, version 4, computed from a request as it arrived: by the published rules, not by the library that made it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use skycap_testkit::registry::Request;

/// What an `Authorization` header claims.
pub struct Claim {
    pub key: String,
    pub region: String,
    pub service: String,
    date: String,
    signed: Vec<String>,
    signature: String,
}

impl Claim {
    pub fn of(request: &Request) -> Self {
        let header = request.header("authorization").unwrap();
        let rest = header.strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
        let part = |name: &str| {
            let found = rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.unwrap().to_owned()
        };
        let credential = part("Credential");
        let [key, date, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..] else {
            panic!("{credential}")
        };
        Self {
            key: key.into(),
            region: region.into(),
            service: service.into(),
            date: date.into(),
            signed: part("SignedHeaders").split(';').map(str::to_owned).collect(),
            signature: part("Signature"),
        }
    }

    /// Whether the owner of that secret key made this very request.
    pub fn is_signed_with(&self, secret: &str, request: &Request) -> bool {
        assert!(self.signed.contains(&"host".to_owned()), "{:?}", self.signed);
        let headers: String =
            self.signed.iter().map(|name| format!("{name}:{}\n", request.header(name).unwrap().trim())).collect();
        let body = hex(&Sha256::digest(&request.body));
        let payload = request.header("x-amz-content-sha256").unwrap_or(&body);
        assert!(payload == body || payload == "UNSIGNED-PAYLOAD", "{payload}");
        let mut query: Vec<&str> = request.query.split('&').filter(|part| !part.is_empty()).collect();
        query.sort_unstable();
        let signed = self.signed.join(";");
        let canonical =
            format!("{}\n{}\n{}\n{headers}\n{signed}\n{payload}", request.method, request.path, query.join("&"));
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let time = request.header("x-amz-date").unwrap();
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = [&*self.date, &self.region, &self.service, "aws4_request"]
            .iter()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
        hex(&mac(&key, &text)) == self.signature
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
