//! Key sets (RFC 7517).

use std::str::FromStr;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Keys that tokens are verified with, each for one algorithm.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

pub struct Key {
    id: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key may be a secret.
        write!(formatter, "{:?} {:?}", self.algorithm, self.id)
    }
}

impl KeySet {
    /// Those that a token may have been signed with. One that names a key was signed with that key.
    pub fn of<'k>(&'k self, id: Option<&'k str>, algorithm: Algorithm) -> impl Iterator<Item = &'k Key> {
        let fits = move |key: &&Key| {
            key.algorithm == algorithm
                && id.is_none_or(|id| key.id.as_deref().is_none_or(|known| known == id))
        };
        self.0.iter().filter(fits)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A set that holds no key to verify with is wrong. Keys of other kinds, and for other uses, may be there:
/// providers publish them beside.
pub fn read_keys(text: &[u8]) -> Result<KeySet, String> {
    let set: Value = serde_json::from_slice(text).map_err(|error| format!("is no JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("is no key set: it has no list of keys")?;
    let read: Vec<Key> = keys.iter().filter_map(read_key).collect();
    if read.is_empty() {
        return Err("has no key that tokens can be verified with".to_owned());
    }
    Ok(KeySet(read))
}

fn read_key(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let algorithm = match &jwk.common.key_algorithm {
        Some(algorithm) => Algorithm::from_str(&algorithm.to_string()).ok()?,
        None => usual_algorithm(&jwk)?,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // The key's kind has the last word: no public key verifies as a secret.
    (algorithm.family() == key.family()).then_some(Key { id: jwk.common.key_id, algorithm, key })
}

/// Of a key that does not say (RFC 7518 section 3.1: what is recommended for its kind).
fn usual_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    Some(match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_one_algorithm() {
        let set = br#"{"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa-in-disguise", "alg": "RS256"},
            {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "what"}
        ]}"#;
        let keys = read_keys(set).unwrap();
        assert_eq!(keys.count(), 1);
        let found = |id, algorithm| keys.of(id, algorithm).count();
        assert_eq!(found(Some("a"), Algorithm::HS256), 1);
        assert_eq!(found(None, Algorithm::HS256), 1);
        assert_eq!(found(Some("a"), Algorithm::RS256), 0);
        assert_eq!(found(Some("b"), Algorithm::HS256), 0);
        for bad in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "what"}]}"#] {
            assert!(read_keys(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
