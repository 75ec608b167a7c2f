//! Who may use the admin API: by where a connection came from, by a client certificate, by a token.
//!
//! [`identity`] says what a role may do, [`tokens`] knows tokens, [`lockout`] makes guessing slow: all three without I/O of
//! their own but for the file of tokens. This module puts them in front of every request.
//!
//! Tokens are compared by their hashes in constant time, and an address that guesses is not listened to for a while, its
//! right tokens included: otherwise the answer would tell which guess was right.

pub mod identity;
pub mod lockout;
pub mod tokens;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;

pub use identity::{Identity, Peer, Role, Wish, is_open, permits, permits_deploying};
use lockout::Lockout;
use tokens::{Shown, TokenFile};

/// Who let nobody say that he is somebody.
#[derive(Debug)]
pub struct Authenticator {
    /// `None`: there are none.
    tokens: Option<TokenFile>,
    /// Whether this machine's users need one too.
    requires_token: bool,
    /// What a client certificate is good for.
    certificate_role: Role,
    lockout: Mutex<Lockout>,
    began: Instant,
}

/// Why somebody is not let in, or not let do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    NoCredentials,
    BadToken,
    ExpiredToken,
    LockedOut {
        seconds: u64,
    },
    /// Known, but not for this.
    Role,
    /// A page in a browser, or a name that is not the loopback's.
    Browser(&'static str),
}

impl Denied {
    pub const REASONS: [&str; 6] =
        ["no_credentials", "bad_token", "expired_token", "locked_out", "role", "browser"];

    pub fn reason(self) -> &'static str {
        Self::REASONS[self.index()]
    }

    pub fn index(self) -> usize {
        match self {
            Self::NoCredentials => 0,
            Self::BadToken => 1,
            Self::ExpiredToken => 2,
            Self::LockedOut { .. } => 3,
            Self::Role => 4,
            Self::Browser(_) => 5,
        }
    }
}

impl Authenticator {
    pub fn new(tokens: Option<TokenFile>, requires_token: bool) -> Self {
        Self {
            tokens,
            requires_token,
            certificate_role: Role::Operate,
            lockout: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Looks at the file of tokens again.
    pub fn refresh(&self) {
        self.tokens.iter().for_each(TokenFile::refresh);
    }

    /// A token that is shown decides, whatever else the connection proves.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, peer: &Peer, shown: Option<&HeaderValue>) -> Result<Identity, Denied> {
        self.authenticate_at(self.began.elapsed(), peer, shown)
    }

    /// `now`: since any one moment.
    fn authenticate_at(
        &self,
        now: Duration,
        peer: &Peer,
        shown: Option<&HeaderValue>,
    ) -> Result<Identity, Denied> {
        match shown {
            Some(shown) => self.by_token(now, address_of(peer), shown),
            None => self.by_connection(peer),
        }
    }

    fn by_token(
        &self,
        now: Duration,
        address: Option<IpAddr>,
        shown: &HeaderValue,
    ) -> Result<Identity, Denied> {
        let locked = address.and_then(|address| self.lockout().remaining(address, now));
        if let Some(left) = locked {
            return Err(Denied::LockedOut { seconds: seconds_up(left) });
        }
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_now = i64::try_from(unix_now.as_secs()).unwrap_or(i64::MAX);
        let token = bearer(shown).unwrap_or_default();
        let found = self.tokens.as_ref().map_or(Shown::Unknown, |file| file.tokens().show(token, unix_now));
        match found {
            Shown::Valid(identity) => Ok(identity),
            // Its holder had it once: no guess.
            Shown::Expired(_) => Err(Denied::ExpiredToken),
            Shown::Unknown => {
                address.into_iter().for_each(|address| self.lockout().failed(address, now));
                Err(Denied::BadToken)
            }
        }
    }

    fn by_connection(&self, peer: &Peer) -> Result<Identity, Denied> {
        let operator = |name: Arc<str>| Identity { name, role: Role::Operate };
        match peer {
            Peer::Tls { certificate: Some(name), .. } => {
                Ok(Identity { name: name.clone(), role: self.certificate_role.clone() })
            }
            Peer::Loopback(_) if !self.requires_token => Ok(operator("loopback".into())),
            Peer::Local { user } if !self.requires_token => Ok(operator(format!("unix:{user}").into())),
            _ => Err(Denied::NoCredentials),
        }
    }

    fn lockout(&self) -> std::sync::MutexGuard<'_, Lockout> {
        self.lockout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the socket there is none: its user is known.
fn address_of(peer: &Peer) -> Option<IpAddr> {
    match peer {
        Peer::Loopback(_) => Some(Ipv4Addr::LOCALHOST.into()),
        Peer::Tls { address, .. } => Some(*address),
        Peer::Local { .. } => None,
    }
}

fn seconds_up(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// RFC 6750 section 2.1; the scheme in any case (RFC 9110 section 11.1).
fn bearer(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = field.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::lockout::FREE_FAILURES;
    use super::*;

    fn with_token(role: &str, requires_token: bool) -> (Authenticator, HeaderValue) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let identity = Identity { name: "ci".into(), role: tokens::parse_role(role).unwrap() };
        let (token, line) = tokens::new_token(&identity, None).unwrap();
        std::fs::write(&path, line).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = TokenFile::open(&path).unwrap();
        (Authenticator::new(Some(file), requires_token), format!("bEARER {token}").parse().unwrap())
    }

    fn loopback() -> Peer {
        Peer::Loopback(Ipv4Addr::LOCALHOST.into())
    }

    fn remote(last: u8, certificate: Option<&str>) -> Peer {
        Peer::Tls { address: Ipv4Addr::new(192, 0, 2, last).into(), certificate: certificate.map(Arc::from) }
    }

    #[test]
    fn the_connection_says_who_it_is_and_a_token_overrides_it() {
        let (open, token) = with_token("read", false);
        let name = |peer: &Peer, shown| open.authenticate(peer, shown).map(|found| found.name.to_string());
        assert_eq!(name(&loopback(), None), Ok("loopback".to_owned()));
        assert_eq!(name(&Peer::Local { user: "ada".into() }, None), Ok("unix:ada".to_owned()));
        assert_eq!(name(&remote(1, Some("ops.test")), None), Ok("ops.test".to_owned()));
        assert_eq!(name(&remote(1, None), None), Err(Denied::NoCredentials));
        assert_eq!(name(&remote(1, None), Some(&token)), Ok("ci".to_owned()));
        let found = open.authenticate(&loopback(), Some(&token)).unwrap();
        assert_eq!(found.role, Role::Read, "who shows a token is who it says, no more");
        let (closed, _) = with_token("read", true);
        for peer in [loopback(), Peer::Local { user: "ada".into() }] {
            assert_eq!(closed.authenticate(&peer, None), Err(Denied::NoCredentials));
        }
    }

    #[test]
    fn who_guesses_is_locked_out_with_the_right_token_too_and_nobody_else_is() {
        let (open, token) = with_token("operate", false);
        let show = |last, shown: &HeaderValue| {
            open.authenticate_at(Duration::ZERO, &remote(last, None), Some(shown))
        };
        for wrong in ["Bearer x", "Basic YTpi", "", "Bearer", "Bearer sluice_"] {
            let wrong = HeaderValue::from_str(wrong).unwrap();
            assert_eq!(show(1, &wrong), Err(Denied::BadToken));
        }
        assert_eq!(FREE_FAILURES, 5);
        let wrong = HeaderValue::from_static("Bearer y");
        assert_eq!(show(1, &wrong), Err(Denied::BadToken));
        assert_eq!(show(1, &token), Err(Denied::LockedOut { seconds: 1 }));
        assert!(show(2, &token).is_ok());
        let later = Duration::from_secs(1);
        assert!(open.authenticate_at(later, &remote(1, None), Some(&token)).is_ok());
        assert!(open.authenticate(&loopback(), None).is_ok());
    }
}
