//! Signed tokens (RFC 7519), verified on the worker: a signature of the usual kinds takes 20 to 80 µs.

mod keys;

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use topology::filters::{Jwks, Jwt as Settings, TokenPlace};

pub use self::keys::{KeySet, read_keys};
use super::asked::Repeated;
use super::compile::{Compiling, Keeps};
use super::sources::Source;
use super::{Asked, Changes, Decision, RequestFilter, push_line, scope};
use crate::reason::Reason;

/// Of several keys without an id the first that verifies counts; providers have a handful.
const MAX_TRIED: usize = 8;

#[derive(Debug)]
pub struct Jwt {
    settings: Settings,
    keys: Keys,
    /// All but the algorithm, which is each key's own.
    validation: Validation,
}

#[derive(Debug)]
enum Keys {
    Inline(Result<Box<KeySet>, String>),
    Source(Arc<Source<KeySet>>),
}

/// What is wrong with a token.
type Why = &'static str;

impl Keeps for Jwt {
    type Settings = Settings;

    fn among(filter: &RequestFilter) -> Option<&Arc<Self>> {
        if let RequestFilter::Jwt(jwt) = filter { Some(jwt) } else { None }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn compile(settings: &Settings, former: Option<&Self>, with: Compiling<'_>) -> Self {
        let Compiling { app, sources, .. } = with;
        let in_force = former.and_then(|former| match &former.keys {
            Keys::Source(source) => source.load_full(),
            Keys::Inline(_) => None,
        });
        let keys = match &settings.keys {
            Jwks::Inline(text) => Keys::Inline(read_keys(text.as_bytes()).map(Box::new)),
            Jwks::File(path) => Keys::Source(sources.open(app, path, read_keys, in_force)),
            Jwks::Url { url, refresh } => {
                Keys::Source(sources.fetch(app, url, *refresh, read_keys, in_force))
            }
        };
        Self { settings: settings.clone(), keys, validation: validation(settings) }
    }
}

impl Jwt {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        self.judge(asked, changes, true)
    }

    /// `is_real`: keys are fetched again where one is missing.
    pub(super) fn judge(&self, asked: &Asked<'_>, changes: &mut Changes, is_real: bool) -> Decision {
        if !scope::includes(&self.settings.scope, asked) {
            return Decision::Pass;
        }
        let token = match self.token(asked) {
            Ok(Some(token)) => token,
            Ok(None) => return self.challenge(None, changes),
            Err(Repeated) => return self.challenge(Some("is there more than once"), changes),
        };
        let verified = match &self.keys {
            Keys::Inline(Ok(keys)) => self.verify(token, keys),
            Keys::Inline(Err(_)) => return Decision::Refuse(Reason::FilterUnavailable),
            Keys::Source(source) => match &*source.load() {
                Some(keys) => self.verify(token, keys).inspect_err(|why| {
                    // A provider may sign with a key that it has published since.
                    if is_real && *why == UNKNOWN_KEY {
                        source.outdated();
                    }
                }),
                None => return Decision::Refuse(Reason::FilterUnavailable),
            },
        };
        match verified {
            Ok(claims) => self.tell(&claims, changes),
            Err(why) => self.challenge(Some(why), changes),
        }
    }

    fn token<'a>(&self, asked: &'a Asked<'_>) -> Result<Option<&'a [u8]>, Repeated> {
        match &self.settings.place {
            TokenPlace::Bearer => Ok(asked.only_field("Authorization")?.and_then(bearer)),
            TokenPlace::Header(name) => asked.only_field(name),
            TokenPlace::Cookie(name) => asked.only_cookie(name),
        }
    }

    /// The key decides the algorithm, never the token: a public key must not be taken for a secret.
    fn verify(&self, token: &[u8], keys: &KeySet) -> Result<Map<String, Value>, Why> {
        let header = decode_header(token).map_err(|_| "is no token")?;
        let mut why = UNKNOWN_KEY;
        for key in keys.of(header.kid.as_deref(), header.alg).take(MAX_TRIED) {
            let validation = Validation { algorithms: vec![key.algorithm], ..self.validation.clone() };
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => why = complaint(error.kind()),
            }
        }
        Err(why)
    }

    fn tell(&self, claims: &Map<String, Value>, changes: &mut Changes) -> Decision {
        for claim in &self.settings.claims {
            if let Some(value) = claims.get(&*claim.name).and_then(text) {
                push_line(claim.header.as_bytes(), encode(&value).as_bytes(), &mut changes.request);
            }
        }
        let consumer = claims.get(&*self.settings.consumer_claim).and_then(text);
        changes.consumer = consumer.map(|consumer| encode(&consumer).into());
        Decision::Pass
    }

    /// RFC 6750 section 3.
    fn challenge(&self, why: Option<Why>, changes: &mut Changes) -> Decision {
        let (challenge, reason) = match why {
            None => ("Bearer".to_owned(), Reason::CredentialsMissing),
            Some(why) => (
                format!("Bearer error=\"invalid_token\", error_description=\"the token {why}\""),
                Reason::CredentialsInvalid,
            ),
        };
        push_line(b"WWW-Authenticate", challenge.as_bytes(), &mut changes.always);
        Decision::Refuse(reason)
    }

    pub(super) fn describe(&self) -> String {
        let from = match &self.settings.keys {
            Jwks::Inline(_) => "the app's own keys".to_owned(),
            Jwks::File(path) => path.display().to_string(),
            Jwks::Url { url, .. } => url.to_string(),
        };
        let count = match &self.keys {
            Keys::Inline(keys) => keys.as_ref().map_or(0, |keys| keys.count()),
            Keys::Source(source) => source.load().as_ref().map_or(0, |keys| keys.count()),
        };
        format!("{count} keys of {from}{}", scope::describe(&self.settings.scope))
    }

    pub(super) fn problem(&self) -> Option<String> {
        match &self.keys {
            Keys::Inline(keys) => keys.as_ref().err().map(|why| format!("filters.jwt.jwks: {why}")),
            Keys::Source(source) => match &self.settings.keys {
                Jwks::Url { .. } => source.problem().map(|why| format!("filters.jwt.jwks_url: {why}")),
                _ => source.problem(),
            },
        }
    }
}

const UNKNOWN_KEY: Why = "is signed with an unknown key";

/// RFC 6750 section 2.1.
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

fn validation(settings: &Settings) -> Validation {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.algorithms.clear();
    validation.leeway = settings.leeway.as_secs();
    validation.validate_nbf = true;
    validation.validate_aud = !settings.audience.is_empty();
    if validation.validate_aud {
        validation.set_audience(&settings.audience);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    if let Some(issuer) = &settings.issuer {
        validation.set_issuer(std::slice::from_ref(issuer));
        validation.required_spec_claims.insert("iss".to_owned());
    }
    validation
}

fn complaint(kind: &ErrorKind) -> Why {
    match kind {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidIssuer => "is of another issuer",
        ErrorKind::InvalidAudience => "is for another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "lacks a claim",
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => "has no valid signature",
        _ => "cannot be read",
    }
}

/// A claim in one line; of a list all that are text, with spaces between them as scopes have it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            Some(texts.join(" "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// What a claim says may come from a user's profile: whatever is not visible ASCII or a space between is
/// percent-encoded, the percent sign too.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.trim().bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_one_line() {
        assert_eq!(text(&serde_json::json!(["a", 1, "b"])).as_deref(), Some("a b"));
        assert_eq!(text(&serde_json::json!({"a": 1})), None);
        assert_eq!(encode(" Jörg\r\nX-Admin: 1 100% "), "J%C3%B6rg%0D%0AX-Admin: 1 100%25");
    }
}
