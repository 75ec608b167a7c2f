//! Name and password (RFC 7617), against bcrypt hashes.
//!
//! A hash is slow by design, so a worker never computes one: it asks the cache of what was verified
//! lately, and what that does not know is computed on another thread while the request waits.

mod cache;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use topology::AppId;
use topology::filters::BasicAuth as Settings;

pub use self::cache::Cache;
pub use self::verify::{Verdict, verify};
use super::sources::{Source, Sources};
use super::{Asked, Changes, Decision, push_line, scope};
use crate::reason::Reason;

#[derive(Debug)]
pub struct BasicAuth {
    settings: Settings,
    inline: Users,
    file: Option<Arc<Source<Users>>>,
    cache: Arc<Cache>,
}

/// Hashes by name.
#[derive(Debug, Default)]
pub struct Users(HashMap<Arc<str>, Arc<str>>);

/// What a client sent, and what it has to fit.
#[derive(Debug)]
pub struct Claim {
    name: Arc<str>,
    password: Box<[u8]>,
    /// Of nobody, where the name is unknown.
    hash: Arc<str>,
    is_known: bool,
}

impl BasicAuth {
    pub(super) fn compile(
        settings: &Settings,
        former: Option<&Arc<Self>>,
        app: &AppId,
        sources: &Sources,
    ) -> Arc<Self> {
        if let Some(former) = former.filter(|former| former.settings == *settings) {
            return former.clone();
        }
        let in_force = former.and_then(|former| former.file.as_ref()?.load_full());
        let file = settings.file.as_ref().map(|file| sources.open(app, file, read_users, in_force));
        // What was verified is told apart by its hash too, so the cache may stay.
        let cache = former.map_or_else(Arc::default, |former| former.cache.clone());
        // The reader has checked each.
        let users = settings.users.iter().filter_map(|line| entry(line).ok());
        Arc::new(Self { settings: settings.clone(), inline: Users(users.collect()), file, cache })
    }

    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        if !scope::includes(&self.settings.scope, asked) {
            return Decision::Pass;
        }
        match self.claim(asked) {
            Ok(claim) => match self.cache.find(&claim, asked.now) {
                Some(verdict) => self.conclude(&claim, verdict, changes),
                None => Decision::Wait,
            },
            Err(reason) => self.challenge(reason, changes),
        }
    }

    /// As [`Self::decide`], once the password was verified.
    pub fn conclude(&self, claim: &Claim, verdict: Verdict, changes: &mut Changes) -> Decision {
        match verdict {
            Verdict::Right if claim.is_known => {
                let name = self.settings.consumer_header.as_bytes();
                push_line(name, claim.name.as_bytes(), &mut changes.request);
                changes.consumer = Some(claim.name.clone());
                Decision::Pass
            }
            Verdict::Right | Verdict::Wrong => self.challenge(Reason::CredentialsInvalid, changes),
            Verdict::Busy => Decision::Refuse(Reason::AuthenticationBusy),
        }
    }

    /// What the client claims to be.
    ///
    /// # Errors
    /// Why there is nothing to verify.
    pub fn claim(&self, asked: &Asked<'_>) -> Result<Claim, Reason> {
        let (name, password) =
            asked.field("Authorization").and_then(credentials).ok_or(Reason::CredentialsMissing)?;
        let from_file = match &self.file {
            None => None,
            Some(file) => match &*file.load() {
                Some(users) => users.0.get_key_value(&*name).map(owned),
                None => return Err(Reason::FilterUnavailable),
            },
        };
        let known = self.inline.0.get_key_value(&*name).map(owned).or(from_file);
        let is_known = known.is_some();
        // An unknown name takes as long as a wrong password.
        let (name, hash) = known.unwrap_or_else(|| (name.into(), NOBODY.into()));
        Ok(Claim { name, password, hash, is_known })
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    fn challenge(&self, reason: Reason, changes: &mut Changes) -> Decision {
        if reason.status() == 401 {
            let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.settings.realm);
            push_line(b"WWW-Authenticate", challenge.as_bytes(), &mut changes.always);
        }
        Decision::Refuse(reason)
    }

    /// Where the client proves who it is.
    pub(super) fn proof(_: &Settings) -> Option<&str> {
        Some("Authorization")
    }

    pub(super) fn tells(settings: &Settings) -> impl Iterator<Item = &str> {
        [&*settings.consumer_header].into_iter()
    }

    pub(super) fn describe(&self) -> String {
        let listed =
            self.file.as_ref().map_or(0, |file| file.load().as_ref().map_or(0, |users| users.0.len()));
        format!("{} users{}", self.inline.0.len() + listed, scope::describe(&self.settings.scope))
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.file.as_ref()?.problem()
    }
}

/// A hash that no password is known for, of the usual cost.
const NOBODY: &str = "$2b$10$KqvU1oYbq0Yp6eW9n1zXVu2MMrIv6/oLjdv9uun0Rwd9UWJhPb6Xm";

fn owned((name, hash): (&Arc<str>, &Arc<str>)) -> (Arc<str>, Arc<str>) {
    (name.clone(), hash.clone())
}

/// Names are UTF-8, as the challenge asks for; one that is not is nobody's.
fn credentials(value: &[u8]) -> Option<(String, Box<[u8]>)> {
    let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].into()))
}

fn entry(line: &str) -> Result<(Arc<str>, Arc<str>), String> {
    discovery::spec::filters::user(line).map(|(name, hash)| (name.into(), hash.into()))
}

/// As htpasswd writes them; `#` begins a comment.
fn read_users(text: &[u8]) -> Result<Users, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no UTF-8".to_owned())?;
    let lines = text.lines().enumerate().map(|(at, line)| (at, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = |(at, line)| entry(line).map_err(|why| format!("line {}: {why}", at + 1));
    lines.map(read).collect::<Result<_, _>>().map(Users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_name_and_whatever_follows() {
        let read =
            |text: &str| credentials(text.as_bytes()).map(|(name, password)| (name, password.into_vec()));
        let wanted = Some(("Aladdin".to_owned(), b"open:sesame".to_vec()));
        assert_eq!(read(&format!("basic {}", STANDARD.encode("Aladdin:open:sesame"))), wanted);
        for bad in ["Basic", "Basic !", "Bearer QTpi", &format!("Basic {}", STANDARD.encode("nocolon"))] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_hashes_that_take_a_bounded_time_are_read() {
        let line = "bob:$2y$05$bvIG6Lmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
        assert_eq!(read_users(line.as_bytes()).unwrap().0.len(), 1);
        for (bad, wanted) in [
            ("bob:$apr1$x$y", "line 1: bob: only bcrypt hashes are taken"),
            ("bob:{SHA}x", "only bcrypt"),
            (&line.replace("$05$", "$31$"), "a cost of 31 takes too long"),
            ("bob", "is no user"),
        ] {
            let why = read_users(bad.as_bytes()).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        }
        assert!(entry(&format!("x:{NOBODY}")).is_ok(), "what stands for nobody is verified like others");
    }
}
