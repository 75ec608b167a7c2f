//! The file of tokens: a line per token, `name role expiry sha256`, `#` before comments.
//!
//! A token is 256 random bits, so its SHA-256 is as hard to go back from as it gets, and a slow hash, which makes up for
//! passwords that people choose, would only make every request slow. Who steals the file has no token.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SystemRandom, generate};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use discovery::document::nearest;
use jiff::Timestamp;
use topology::AppId;

use super::identity::{Identity, Role};

/// What a token begins with: who finds one in a log or a repository knows what it is.
pub const MARK: &str = "sluice_";
/// Thousands of teams with a token each.
const MAX_TOKENS: usize = 10_000;
const MAX_BYTES: u64 = 4 << 20;
const MAX_NAME_BYTES: usize = 64;
/// As in a registry with few, large teams.
const MAX_APPS: usize = 256;
/// What is told of a file at once.
const MAX_TOLD: usize = 20;

/// The tokens of one file.
#[derive(Debug, Default)]
pub struct Tokens {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    identity: Identity,
    /// Seconds since 1970; `None`: never.
    expires: Option<i64>,
    hash: [u8; 32],
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Valid(Identity),
    Expired(Identity),
    Unknown,
}

impl Tokens {
    /// # Errors
    /// What is wrong with which line; hashes are in no message.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut rows, mut mistakes): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok(row) if rows.iter().any(|other| other.identity.name == row.identity.name) => {
                    mistakes.push(format!("line {}: {:?} stands above already", at + 1, &*row.identity.name));
                }
                Ok(row) if rows.len() < MAX_TOKENS => rows.push(row),
                Ok(_) => return Err(vec![format!("has more than {MAX_TOKENS} tokens")]),
                Err(why) => mistakes.push(format!("line {}: {why}", at + 1)),
            }
            if mistakes.len() == MAX_TOLD {
                break;
            }
        }
        if mistakes.is_empty() { Ok(Self { rows }) } else { Err(mistakes) }
    }

    /// Looks at every token, whichever it is: how long it takes says nothing.
    pub fn show(&self, token: &[u8], now: i64) -> Shown {
        let given = digest(&SHA256, token);
        let mut found = None;
        for row in &self.rows {
            if verify_slices_are_equal(&row.hash, given.as_ref()).is_ok() {
                found = Some(row);
            }
        }
        match found {
            None => Shown::Unknown,
            Some(row) if row.expires.is_some_and(|expires| expires <= now) => {
                Shown::Expired(row.identity.clone())
            }
            Some(row) => Shown::Valid(row.identity.clone()),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn parse_line(line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, role, expires, hash] = fields[..] else {
        return Err("is no token; `sluice token new NAME --role ROLE` prints a line to store".to_owned());
    };
    let name = parse_name(name)?;
    let role = parse_role(role)?;
    let expires = parse_expiry(expires)?;
    let hash = parse_hash(hash).ok_or("the last word is no SHA-256 in hexadecimal digits")?;
    Ok(Row { identity: Identity { name, role }, expires, hash })
}

/// # Errors
/// What to write.
pub fn parse_name(text: &str) -> Result<Arc<str>, String> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@'));
    is_name
        .then(|| Arc::from(text))
        .ok_or_else(|| format!("{text:.80?} is no name; write 1 to {MAX_NAME_BYTES} of a-z A-Z 0-9 . _ - @"))
}

/// # Errors
/// What to write.
pub fn parse_role(text: &str) -> Result<Role, String> {
    let (word, apps) = text.split_once('=').map_or((text, None), |(word, apps)| (word, Some(apps)));
    match (word, apps) {
        ("read", None) => Ok(Role::Read),
        ("operate", None) => Ok(Role::Operate),
        ("tenant", Some(apps)) => {
            let apps: Vec<_> = apps
                .split(',')
                .map(AppId::parse)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("tenant: {error}"))?;
            if apps.len() > MAX_APPS {
                return Err(format!("tenant: has {} apps; the limit is {MAX_APPS}", apps.len()));
            }
            Ok(Role::Tenant(apps.into()))
        }
        ("tenant", None) => Err("tenant: needs its apps; write tenant=shop,blog".to_owned()),
        _ => {
            let meant = nearest(word, Role::NAMES);
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            Err(format!("{text:.80?} is no role; write read, operate or tenant=APP,APP{meant}"))
        }
    }
}

/// # Errors
/// What to write.
pub fn parse_expiry(text: &str) -> Result<Option<i64>, String> {
    if text == "never" {
        return Ok(None);
    }
    let at: Result<Timestamp, _> = text.parse();
    at.map(|at| Some(at.as_second()))
        .map_err(|_| format!("{text:.80?} is no time; write one such as 2027-01-31T00:00:00Z, or never"))
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A token that nobody has yet, and the line to store for it.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_token(identity: &Identity, expires: Option<i64>) -> Result<(String, String), String> {
    let random = generate(&SystemRandom::new()).map_err(|_| "the system has no random numbers".to_owned())?;
    let bytes: [u8; 32] = random.expose();
    let token = format!("{MARK}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = digest(&SHA256, token.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let role = match &identity.role {
        Role::Tenant(apps) => {
            let apps: Vec<_> = apps.iter().map(AppId::as_str).collect();
            format!("tenant={}", apps.join(","))
        }
        role => role.as_str().to_owned(),
    };
    let expires = expires.map_or_else(|| "never".to_owned(), crate::listener::tls::show_time);
    Ok((token, format!("{} {role} {expires} {hash}", identity.name)))
}

/// A file of tokens, looked at again when it changes. One that cannot be used leaves what was there.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    tokens: ArcSwap<Tokens>,
    seen: Mutex<Option<Stamp>>,
}

/// Differs when the file does.
type Stamp = (u64, u64, i64, i64);

impl TokenFile {
    /// # Errors
    /// What is wrong with it, line by line.
    pub fn open(path: &Path) -> Result<Self, Vec<String>> {
        let seen = Mutex::new(stamp(path));
        Ok(Self { tokens: ArcSwap::from_pointee(read(path)?), path: path.to_owned(), seen })
    }

    pub fn tokens(&self) -> arc_swap::Guard<Arc<Tokens>> {
        self.tokens.load()
    }

    /// Reads it again if it has changed.
    pub fn refresh(&self) {
        let now = stamp(&self.path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        match read(&self.path) {
            Ok(tokens) => {
                tracing::info!(target: "sluice::audit", tokens = tokens.len(), "new tokens in force");
                self.tokens.store(Arc::new(tokens));
            }
            Err(why) => {
                let why = why.join("; ");
                tracing::error!(file = %self.path.display(), %why, "tokens rejected: the former ones stay");
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.metadata().ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

fn read(path: &Path) -> Result<Tokens, Vec<String>> {
    let failed = |error: std::io::Error| vec![format!("cannot be read: {error}")];
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(vec!["can be written by others, who could let themselves in; chmod 600 it".to_owned()]);
    }
    if metadata.len() > MAX_BYTES {
        return Err(vec![format!("has {} bytes; the limit is {MAX_BYTES}", metadata.len())]);
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Tokens::parse(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(role: &str) -> Identity {
        Identity { name: "ci".into(), role: parse_role(role).unwrap() }
    }

    #[test]
    fn a_new_token_is_known_by_its_line_until_it_expires() {
        for role in ["read", "operate", "tenant=shop,blog"] {
            let (token, line) = new_token(&identity(role), Some(1_000)).unwrap();
            assert!(token.starts_with(MARK) && token.len() == MARK.len() + 43);
            assert!(!line.contains(&token[MARK.len()..]), "the line does not give the token away");
            let tokens = Tokens::parse(&format!("# ours\n\n{line}\n")).unwrap();
            assert_eq!(tokens.show(token.as_bytes(), 999), Shown::Valid(identity(role)));
            assert_eq!(tokens.show(token.as_bytes(), 1_000), Shown::Expired(identity(role)));
            assert_eq!(tokens.show(&token.as_bytes()[1..], 0), Shown::Unknown);
        }
    }

    #[test]
    fn a_bad_line_is_named_and_its_hash_never_told() {
        let (_, good) = new_token(&identity("read"), None).unwrap();
        let hash = good.rsplit(' ').next().unwrap().to_owned();
        for (line, told) in [
            (format!("{good}\n{good}"), "line 2: \"ci\" stands above already"),
            (format!("a reed never {hash}"), "line 1: \"reed\" is no role"),
            (format!("a tenant never {hash}"), "line 1: tenant: needs its apps"),
            (format!("a tenant=a/b never {hash}"), "line 1: tenant: "),
            (format!("a read soon {hash}"), "line 1: \"soon\" is no time"),
            (format!("a read never {}", &hash[1..]), "line 1: the last word is no SHA-256"),
            (format!("a/b read never {hash}"), "line 1: \"a/b\" is no name"),
            (hash.clone(), "line 1: is no token"),
        ] {
            let why = Tokens::parse(&line).unwrap_err();
            assert!(why[0].starts_with(told), "{why:?}");
            assert!(!why[0].contains(&hash[1..]), "{why:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (token, line) = new_token(&identity("operate"), None).unwrap();
        std::fs::write(&path, &line).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(TokenFile::open(&path).unwrap_err()[0].contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = TokenFile::open(&path).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        file.refresh();
        assert_eq!(file.tokens().show(token.as_bytes(), 0), Shown::Valid(identity("operate")));
        std::fs::write(&path, "# nobody\n").unwrap();
        file.refresh();
        assert_eq!(file.tokens().show(token.as_bytes(), 0), Shown::Unknown);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}") {
            let _ = Tokens::parse(&text);
        }
    }
}
