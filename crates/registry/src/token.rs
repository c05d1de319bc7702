//! Bearer tokens: <https://distribution.github.io/distribution/spec/auth/token/> and, with a refresh or identity token,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use skycap_image::{Kind, Secret};
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::Credentials;
use crate::challenge::Challenge;
use crate::encoding;
use crate::error::{Failure, shown};
use crate::session::{Ask, Pass, Pinged, Session, Token, Tokens, basic, header};

/// Token documents beyond this are refused.
const LARGEST_TOKEN: usize = 1024 * 1024;
/// The specification's life of a token that names none, and the least that we believe.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// A token is renewed this long before its end.
const MARGIN: Duration = Duration::from_secs(10);

impl Session {
    /// The `Authorization` for these scopes. A token equal to `stale` is not used again.
    pub async fn authorization(
        &self,
        pinged: &Pinged,
        scopes: &[String],
        stale: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Failure> {
        if let Credentials::RegistryToken(token) = &self.credentials {
            return header(&format!("Bearer {}", token.reveal())).map(Some);
        }
        let (realm, service, wanted) = match &pinged.challenge {
            Some(Challenge::Bearer { realm, service, scope }) => (realm, service.as_deref(), scope),
            None | Some(Challenge::Basic) => {
                return match &self.credentials {
                    Credentials::Basic { username, password } => basic(username, password.reveal()).map(Some),
                    _ => Ok(None),
                };
            }
        };
        let key = scopes.join(" ");
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.by_scope.get(&key)
            && Some(&token.header) != stale
            && token.until > Instant::now()
        {
            return Ok(Some(token.header.clone()));
        }
        let asked: Vec<&str> = match (wanted, stale) {
            (Some(wanted), Some(_)) if !scopes.contains(wanted) => {
                std::iter::once(wanted.as_str()).chain(scopes.iter().map(String::as_str)).collect()
            }
            _ => scopes.iter().map(String::as_str).collect(),
        };
        let token = self.fetch_token(&pinged.base, realm, service, &asked, &mut tokens).await?;
        let header = token.header.clone();
        tokens.by_scope.insert(key, token);
        Ok(Some(header))
    }

    async fn fetch_token(
        &self,
        base: &Url,
        realm: &str,
        service: Option<&str>,
        scopes: &[&str],
        tokens: &mut Tokens,
    ) -> Result<Token, Failure> {
        let realm = Url::parse(realm).or_else(|_| base.join(realm)).map_err(|_| {
            Failure::lasting(Kind::Other, format!("{}: the realm for tokens is not a URL", shown(base)))
        })?;
        let identity = match &self.credentials {
            Credentials::IdentityToken(token) => Some(token.clone()),
            _ => tokens.refresh.clone(),
        };
        if let Some(identity) = identity {
            match self.ask(base, oauth(&realm, service, scopes, &identity), None).await {
                Err(failure) if failure.is(StatusCode::NOT_FOUND) && tokens.refresh.is_some() => tokens.refresh = None,
                answer => return self.read_token(&realm, &answer?, tokens),
            }
        }
        let pass = match &self.credentials {
            Credentials::Basic { username, password } => {
                Some(Pass { origin: realm.clone(), value: basic(username, password.reveal())? })
            }
            _ => None,
        };
        let body = self.ask(base, Ask::get(with_query(&realm, service, scopes)), pass.as_ref()).await?;
        self.read_token(&realm, &body, tokens)
    }

    async fn ask(&self, base: &Url, ask: Ask, pass: Option<&Pass>) -> Result<Bytes, Failure> {
        let method = ask.method.clone();
        // The registry chose the realm: the same rules hold as for a redirect.
        let answer = self.follow(base, ask, pass).await?;
        if answer.response.status() == StatusCode::OK {
            let headers = answer.response.headers().clone();
            let body = self.transport.read(&method, answer.response, LARGEST_TOKEN).await?;
            Ok(encoding::chosen(body, &headers, LARGEST_TOKEN, encoding::is_json))
        } else {
            Err(self.failure(&method, answer.response).await)
        }
    }

    fn read_token(&self, realm: &Url, body: &[u8], tokens: &mut Tokens) -> Result<Token, Failure> {
        #[derive(Deserialize)]
        struct Document {
            token: Option<String>,
            access_token: Option<String>,
            refresh_token: Option<String>,
            expires_in: Option<serde_json::Value>,
        }
        // The document is secret, so the parser's text, which may quote it, is not shown.
        let unreadable = |why: &str| Failure::lasting(Kind::Other, format!("{}: {why}", shown(realm)));
        let document: Document =
            serde_json::from_slice(body).map_err(|_| unreadable("the answer is not a token document"))?;
        let value = document.access_token.filter(|token| !token.is_empty()).or(document.token);
        let value = value.filter(|token| !token.is_empty()).ok_or_else(|| unreadable("the answer holds no token"))?;
        if let Some(refresh) = document.refresh_token.filter(|token| !token.is_empty())
            && !matches!(self.credentials, Credentials::IdentityToken(_))
        {
            tokens.refresh = Some(Secret::new(refresh));
        }
        let life = life(document.expires_in.as_ref());
        Ok(Token { header: header(&format!("Bearer {value}"))?, until: Instant::now() + life.saturating_sub(MARGIN) })
    }
}

/// At least a minute, at most a day; some servers write the number as a string.
fn life(expires_in: Option<&serde_json::Value>) -> Duration {
    let seconds = match expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    Duration::from_secs(seconds.unwrap_or_default().min(24 * 3600)).max(SHORTEST_LIFE)
}

fn with_query(realm: &Url, service: Option<&str>, scopes: &[&str]) -> Url {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Some(service) = service {
            query.append_pair("service", service);
        }
    }
    url
}

fn oauth(realm: &Url, service: Option<&str>, scopes: &[&str], identity: &Secret) -> Ask {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "skycap");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    form.append_pair("scope", &scopes.join(" ")).append_pair("refresh_token", identity.reveal());
    let mut ask = Ask::get(realm.clone());
    ask.method = Method::POST;
    ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    ask.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    ask.body = Some(Bytes::from(form.finish()));
    ask.secret = true;
    ask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_at_least_a_minute() {
        for (value, seconds) in [
            (serde_json::json!(300), 300),
            (serde_json::json!(0), 60),
            (serde_json::json!(-1), 60),
            (serde_json::json!("120"), 120),
            (serde_json::json!("soon"), 60),
            (serde_json::json!(1e300), 60),
            (serde_json::json!(u64::MAX), 86400),
        ] {
            assert_eq!(life(Some(&value)).as_secs(), seconds, "{value}");
        }
        assert_eq!(life(None).as_secs(), 60);
    }
}
