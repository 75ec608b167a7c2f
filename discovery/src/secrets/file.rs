//! The key file: a line per key, `{id} {base64 of 32 random bytes}`, `#` before comments.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::rand::{SystemRandom, generate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SecretError;

/// Hundreds of keys; who replaces them monthly needs two.
const MAX_BYTES: usize = 64 << 10;
const MAX_ID_BYTES: usize = 32;

/// At least one, ids distinct.
pub(super) struct Ring(Vec<(String, [u8; 32])>);

impl Ring {
    pub(super) fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let others = file.metadata().map_err(failed)?.permissions().mode() & 0o077;
        if others != 0 {
            return Err(SecretError::Exposed { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|why| SecretError::BadFile { path: path.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        let mut keys: Vec<(String, [u8; 32])> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = parse_line(line).map_err(|why| format!("line {}: {why}", at + 1))?;
            if keys.iter().any(|(other, _)| other == id) {
                return Err(format!("line {}: {id:?} stands above already", at + 1));
            }
            keys.push((id.to_owned(), key));
        }
        match keys.is_empty() {
            true => Err("has no key; `sluice secret new-key ID` prints one".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    pub(super) fn first(&self) -> (&str, &[u8; 32]) {
        let (id, key) = &self.0[0];
        (id, key)
    }

    pub(super) fn find(&self, id: &str) -> Option<[u8; 32]> {
        self.0.iter().find(|(other, _)| other == id).map(|(_, key)| *key)
    }
}

/// The keys of a file of the same form, for other uses; as they stand in it, at least one and `most` at most.
///
/// # Errors
/// [`SecretError`], which names the file, its line and the fix.
pub fn read_keys(path: &Path, most: usize) -> Result<Vec<[u8; 32]>, SecretError> {
    let Ring(keys) = Ring::read(path)?;
    if keys.len() > most {
        let why = format!("has {} keys, and {most} are used at most; remove the oldest", keys.len());
        return Err(SecretError::BadFile { path: path.to_owned(), why });
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// The key itself is in no message.
fn parse_line(line: &str) -> Result<(&str, [u8; 32]), String> {
    const WANTED: &str = "is no key; `sluice secret new-key ID` prints one";
    let (id, key) = line.split_once(char::is_whitespace).ok_or(WANTED)?;
    let id = parse_id(id).map_err(|error| error.to_string())?;
    let key = STANDARD.decode(key.trim()).map_err(|_| WANTED)?;
    Ok((id, key.try_into().map_err(|_| WANTED)?))
}

pub(super) fn parse_id(text: &str) -> Result<&str, SecretError> {
    let usable = (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    usable.then_some(text).ok_or_else(|| SecretError::BadId(text.chars().take(64).collect()))
}

/// A line for a key file, with a key that nobody has yet.
///
/// # Errors
/// [`SecretError::BadId`].
pub fn new_key(id: &str) -> Result<String, SecretError> {
    let id = parse_id(id)?;
    let key: [u8; 32] = generate(&SystemRandom::new()).map_err(|_| SecretError::Refused)?.expose();
    Ok(format!("{id} {}", STANDARD.encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_key_is_named_and_never_told() {
        let good = new_key("2026-11").unwrap();
        assert!(Ring::parse(&format!("# keys\n\n{good}\n")).is_ok());
        let short = STANDARD.encode([7; 31]);
        for (text, told) in [
            (String::new(), "has no key"),
            ("# nothing\n".to_owned(), "has no key"),
            (format!("{good}\n{good}\n"), "line 2: \"2026-11\" stands above already"),
            (format!("{good}\na {short}\n"), "line 2: is no key"),
            ("secret".to_owned(), "line 1: is no key"),
            ("a/b c".to_owned(), "line 1: \"a/b\" is no key id"),
            ("x".repeat(MAX_BYTES + 1), "has more than"),
        ] {
            let error = Ring::parse(&text).err().unwrap();
            assert!(error.starts_with(told), "{error}");
            assert!(!error.contains(&short) && !error.contains("secret\""), "{error}");
        }
    }
}
