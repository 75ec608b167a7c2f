//! Clients show a secret that each of them has. The gateway knows hashes only.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use topology::filters::{ApiKeyPlace, ApiKeys as Settings};

use super::compile::{Compiling, Keeps};
use super::sources::Source;
use super::{Asked, Changes, Decision, RequestFilter, push_line, scope};
use crate::message::query::Encoded;
use crate::reason::Reason;

#[derive(Debug)]
pub struct ApiKeys {
    settings: Settings,
    inline: Keys,
    file: Option<Arc<Source<Keys>>>,
}

/// Whose key has which hash.
#[derive(Debug, Default)]
pub struct Keys(HashMap<[u8; 32], Arc<str>>);

impl Keys {
    /// The map is asked by the hash of what the client sent: how long that takes says nothing of a key that
    /// the client does not have. The comparison that decides takes the same time whatever it finds.
    fn find(&self, hash: &[u8]) -> Option<Arc<str>> {
        let (known, name) = self.0.get_key_value(hash)?;
        verify_slices_are_equal(known, hash).is_ok().then(|| name.clone())
    }
}

impl Keeps for ApiKeys {
    type Settings = Settings;

    fn among(filter: &RequestFilter) -> Option<&Arc<Self>> {
        if let RequestFilter::ApiKeys(keys) = filter { Some(keys) } else { None }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn compile(settings: &Settings, former: Option<&Self>, with: Compiling<'_>) -> Self {
        let in_force = former.and_then(|former| former.file.as_ref()?.load_full());
        let open = |file| with.sources.open(with.app, file, read_keys, in_force.clone());
        let inline = settings.keys.iter().map(|key| (key.sha256, key.name.clone())).collect();
        Self { settings: settings.clone(), inline: Keys(inline), file: settings.file.as_ref().map(open) }
    }
}

impl ApiKeys {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        // A key goes no further, wherever it is shown.
        let found = match &self.settings.place {
            ApiKeyPlace::Header(name) => asked.field(name).map(Cow::Borrowed),
            ApiKeyPlace::Query(name) => take_parameter(asked, name, changes).map(Cow::Owned),
        };
        if !scope::includes(&self.settings.scope, asked) {
            return Decision::Pass;
        }
        let found = found.map(|key| digest(&SHA256, &key));
        let Some(hash) = found else { return challenge(Reason::CredentialsMissing, changes) };
        let from_file = match &self.file {
            None => None,
            Some(file) => match &*file.load() {
                Some(keys) => keys.find(hash.as_ref()),
                None => return Decision::Refuse(Reason::FilterUnavailable),
            },
        };
        let Some(consumer) = self.inline.find(hash.as_ref()).or(from_file) else {
            return challenge(Reason::CredentialsInvalid, changes);
        };
        push_line(self.settings.consumer_header.as_bytes(), consumer.as_bytes(), &mut changes.request);
        changes.consumer = Some(consumer);
        Decision::Pass
    }

    /// Where the client proves who it is.
    pub(super) fn proof(settings: &Settings) -> Option<&str> {
        match &settings.place {
            ApiKeyPlace::Header(name) => Some(name),
            ApiKeyPlace::Query(_) => None,
        }
    }

    pub(super) fn describe(&self) -> String {
        let place = match &self.settings.place {
            ApiKeyPlace::Header(name) => format!("field {name}"),
            ApiKeyPlace::Query(name) => format!("parameter {name}"),
        };
        let listed = self.file.as_ref().map_or(0, |file| file.load().as_ref().map_or(0, |keys| keys.0.len()));
        format!("{place}, {} keys{}", self.inline.0.len() + listed, scope::describe(&self.settings.scope))
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.file.as_ref()?.problem()
    }
}

/// RFC 9110 section 15.5.2: a 401 says how to do better.
fn challenge(reason: Reason, changes: &mut Changes) -> Decision {
    push_line(b"WWW-Authenticate", b"ApiKey", &mut changes.always);
    Decision::Refuse(reason)
}

/// The first parameter of that name, decoded. None of that name, in any encoding, goes on to the endpoint.
fn take_parameter(asked: &Asked<'_>, name: &str, changes: &mut Changes) -> Option<Vec<u8>> {
    let query = asked.query().strip_prefix(b"?")?;
    let of_name = |pair: &[u8]| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        Encoded(&pair[..end]).equals(name.as_bytes())
    };
    let pairs = || query.split(|byte| *byte == b'&');
    let found = pairs().find(|pair| of_name(pair))?;
    let kept: Vec<&[u8]> = pairs().filter(|pair| !of_name(pair)).collect();
    let mut target = asked.raw_path().to_vec();
    if !kept.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&kept.join(&b'&'));
    }
    changes.target = Some(target.into());
    let value = memchr::memchr(b'=', found).map_or(&[][..], |equals| &found[equals + 1..]);
    Some(decode(value))
}

/// Percent-decoding, as of a form (WHATWG URL, "application/x-www-form-urlencoded parsing").
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    out
}

/// `name sha256` per line; `#` begins a comment.
fn read_keys(text: &[u8]) -> Result<Keys, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no UTF-8".to_owned())?;
    let mut keys = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let read = || {
            let (name, hash) =
                entry.split_once(char::is_whitespace).ok_or("is no key; write a name and its SHA-256")?;
            let hash = discovery::spec::filters::sha256(hash.trim())?;
            Ok::<_, String>((hash, discovery::spec::filters::consumer(name)?))
        };
        let (hash, name) = read().map_err(|why| format!("line {}: {why}", at + 1))?;
        keys.insert(hash, name);
    }
    Ok(Keys(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_and_a_hash_per_line() {
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let keys = read_keys(format!("# ours\nalice {hash} # secret\n").as_bytes()).unwrap();
        assert_eq!(keys.find(digest(&SHA256, b"secret").as_ref()).as_deref(), Some("alice"));
        assert_eq!(keys.find(digest(&SHA256, b"Secret").as_ref()), None);
        let why = read_keys(b"alice 2bb8").unwrap_err();
        assert!(why.starts_with("line 1: is no SHA-256"), "{why}");
    }

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        assert_eq!(decode(b"a%2Fb+c%zz%4"), b"a/b c%zz%4");
    }
}
