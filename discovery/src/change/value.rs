//! A value between the API, which speaks JSON, and the registry, which has bytes.

use bytes::Bytes;
use serde_json::Value;

use crate::secrets::is_sealed;

/// A value as the registry has it, or is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored(Bytes);

/// What stands in a diff for a sealed value.
const SEALED: &str = "(sealed)";

impl Stored {
    pub fn of_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// JSON as it is written; a text, such as a sealed value, as it is.
    pub fn of_json(value: &Value) -> Self {
        match value {
            Value::String(text) => Self(Bytes::copy_from_slice(text.as_bytes())),
            value => Self(Bytes::from(value.to_string())),
        }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn is_sealed(&self) -> bool {
        is_sealed(&self.0)
    }

    /// For the API: an object where it is one, text otherwise; what is sealed stays so.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.0) {
            Ok(value @ Value::Object(_)) => value,
            _ => Value::String(String::from_utf8_lossy(&self.0).into_owned()),
        }
    }

    /// For diffs: as [`Self::json`], but for what is sealed.
    pub fn shown(&self) -> Value {
        if self.is_sealed() { Value::String(digest_mark(&self.0)) } else { self.json() }
    }

    /// Whether a reader would see no difference.
    pub fn means(&self, other: &Self) -> bool {
        self.0 == other.0 || (!self.is_sealed() && !other.is_sealed() && self.json() == other.json())
    }
}

/// Two sealed values differ in it where they differ, and it tells nothing else.
fn digest_mark(sealed: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    let digest = digest(&SHA256, sealed);
    let head: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{SEALED} {head}")
}
