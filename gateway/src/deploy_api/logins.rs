//! Credentials for image registries, from the file in which `docker login` keeps them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy::runtime::docker::RegistryLogin;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Some hundred registries.
const MAX_FILE_BYTES: u64 = 256 << 10;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    /// `user:password` in base64. Absent where a helper of the engine's keeps it.
    auth: Option<String>,
}

/// Reads `{"auths": {"registry.local:5000": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`.
///
/// # Errors
/// What is wrong with the file, and nothing of a password.
pub fn read_logins(path: &Path) -> Result<Vec<RegistryLogin>, String> {
    let bad = |why: String| format!("{}: {why}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(bad(format!("has more than {MAX_FILE_BYTES} bytes")));
    }
    parse(&bytes).map_err(bad)
}

fn parse(bytes: &[u8]) -> Result<Vec<RegistryLogin>, String> {
    const WANTED: &str = "is no file of logins; docker login writes one, in ~/.docker/config.json";
    // A list would do for a struct.
    let members: Map<String, Value> = serde_json::from_slice(bytes).map_err(|_| WANTED.to_owned())?;
    let file: File = serde_json::from_value(Value::Object(members)).map_err(|_| WANTED.to_owned())?;
    let read = |(registry, login): (String, Login)| {
        let lacks = || format!("auths.{registry:?}: has no auth; log in without a credential helper");
        let auth = login.auth.filter(|auth| !auth.is_empty()).ok_or_else(lacks)?;
        let plain = STANDARD.decode(auth).ok().and_then(|plain| String::from_utf8(plain).ok());
        let pair = plain.as_deref().and_then(|plain| plain.split_once(':'));
        let (username, password) =
            pair.ok_or_else(|| format!("auths.{registry:?}.auth: is no user:password in base64"))?;
        Ok(RegistryLogin { registry, username: username.to_owned(), password: password.to_owned() })
    };
    file.auths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_login_writes_is_read_and_nothing_of_it_is_told() {
        let text =
            br#"{"auths": {"registry.local:5000": {"auth": "c2x1aWNlOnMzY3I6ZXQ="}}, "HttpHeaders": {}}"#;
        let logins = parse(text).unwrap();
        assert_eq!(
            (&*logins[0].registry, &*logins[0].username, &*logins[0].password),
            ("registry.local:5000", "sluice", "s3cr:et")
        );
        for bad in ["", "[]", r#"{"auths": {"a": {}}}"#, r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#] {
            let why = parse(bad.as_bytes()).unwrap_err();
            assert!(!why.contains("c2VjcmV0") && !why.contains("secret"), "{why}");
        }
    }
}
