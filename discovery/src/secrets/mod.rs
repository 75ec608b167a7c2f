//! Values that the registry keeps for us and must not understand.
//!
//! A sealed value is text: `sluice-sealed:1:{key id}:{base64 of nonce, ciphertext, tag}`, by AES-256-GCM with a
//! random nonce. What it is sealed for, the key below the registry's prefix at which it stands, is authenticated
//! with it: a value that somebody moves to another key does not open. The prefix is not, so that a registry can be
//! copied elsewhere.
//!
//! A key file (`file.rs`) holds several keys, so that they can be replaced one after the other: the first one seals,
//! all of them open.

mod file;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::registry::{Key, MAX_VALUE_BYTES};
use file::Ring;

pub use file::{new_key, read_keys};

/// What no JSON, no address and no PEM begins with.
const MARK: &str = "sluice-sealed:";
const FORMAT: &str = "1";

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the key file {}: {source}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the key file {} can be read by others; chmod 600 it", .path.display())]
    Exposed { path: PathBuf },
    #[error("the key file {}: {why}", .path.display())]
    BadFile { path: PathBuf, why: String },
    #[error("{0:?} is no key id; write 1 to 32 of a-z A-Z 0-9 . _ -")]
    BadId(String),
    #[error("is sealed, and this gateway has no keys; name their file with registry.key_file")]
    NoKeys,
    #[error("is sealed in a way that is not understood: {0}")]
    Malformed(&'static str),
    #[error("is sealed with the key {id:?}, which the key file {} does not have", .path.display())]
    UnknownKey { id: String, path: PathBuf },
    #[error("is not what was sealed for this place with the key {0:?}: it was changed, or moved here")]
    Forged(String),
    #[error("has {given} bytes, {} at most can be sealed", max_plain())]
    TooLarge { given: usize },
    #[error("the library for cryptography refuses")]
    Refused,
}

/// The keys in a file, read again when a value asks for one that they do not have.
pub struct Keys {
    path: PathBuf,
    ring: Mutex<Ring>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keys {
    /// # Errors
    /// [`SecretError`], which names the file, its line and the fix.
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        Ok(Self { ring: Mutex::new(Ring::read(path)?), path: path.to_owned() })
    }

    /// For the place at which it is to stand, with the first key.
    ///
    /// # Errors
    /// [`SecretError::TooLarge`].
    pub fn seal(&self, place: &Key, value: &[u8]) -> Result<String, SecretError> {
        if value.len() > max_plain() {
            return Err(SecretError::TooLarge { given: value.len() });
        }
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, key) = ring.first();
        let mut sealed = value.to_vec();
        let aad = associated(id, place);
        let nonce = cipher(key)?
            .seal_in_place_append_tag(Aad::from(aad), &mut sealed)
            .map_err(|_| SecretError::Refused)?;
        sealed.splice(..0, nonce.as_ref().iter().copied());
        Ok(format!("{MARK}{FORMAT}:{id}:{}", STANDARD.encode(sealed)))
    }

    fn key(&self, id: &str) -> Result<[u8; 32], SecretError> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = ring.find(id) {
            return Ok(key);
        }
        match Ring::read(&self.path) {
            Ok(newer) => *ring = newer,
            Err(error) => tracing::error!(%error, "the keys that were read before stay"),
        }
        let unknown = || SecretError::UnknownKey { id: id.to_owned(), path: self.path.clone() };
        ring.find(id).ok_or_else(unknown)
    }
}

/// Whether a value is sealed.
pub fn is_sealed(value: &[u8]) -> bool {
    value.trim_ascii_start().starts_with(MARK.as_bytes())
}

/// What stands at `place`: `value` itself, or what was sealed in it.
///
/// # Errors
/// [`SecretError`], which says nothing of the contents.
pub fn unseal<'v>(keys: Option<&Keys>, place: &Key, value: &'v [u8]) -> Result<Cow<'v, [u8]>, SecretError> {
    if !is_sealed(value) {
        return Ok(Cow::Borrowed(value));
    }
    let keys = keys.ok_or(SecretError::NoKeys)?;
    let text = std::str::from_utf8(value.trim_ascii()).map_err(|_| SecretError::Malformed("no text"))?;
    let mut parts = text.strip_prefix(MARK).unwrap_or_default().splitn(3, ':');
    let (Some(FORMAT), Some(id), Some(sealed)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(SecretError::Malformed("another format"));
    };
    let id = file::parse_id(id)?;
    let mut sealed = STANDARD.decode(sealed).map_err(|_| SecretError::Malformed("no base64"))?;
    let Some((nonce, rest)) = sealed.split_at_mut_checked(NONCE_LEN) else {
        return Err(SecretError::Malformed("too short"));
    };
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::Refused)?;
    let forged = |_| SecretError::Forged(id.to_owned());
    let plain = cipher(&keys.key(id)?)?
        .open_in_place(nonce, Aad::from(associated(id, place)), rest)
        .map_err(forged)?
        .to_vec();
    Ok(Cow::Owned(plain))
}

fn cipher(key: &[u8; 32]) -> Result<RandomizedNonceKey, SecretError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SecretError::Refused)
}

/// An id has no colon, so this means one pair only.
fn associated(id: &str, place: &Key) -> Vec<u8> {
    format!("{MARK}{FORMAT}:{id}:{place}").into_bytes()
}

/// Bytes of which the sealed text is still a value that every registry takes.
const fn max_plain() -> usize {
    // Base64 makes four bytes of three; the rest is mark, id, nonce and tag.
    (MAX_VALUE_BYTES - 128) / 4 * 3 - 32
}
