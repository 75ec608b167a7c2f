//! The cookie by which a client comes back to its endpoint.
//!
//! It is read from the request and passed on with it, as all cookies are: endpoints learn nothing from it, and a Cookie
//! field that is written anew would cost every request. It is set in the response of whoever has answered, where that
//! is not the one that it names already.

use std::fmt::Write;
use std::sync::Arc;

use super::client::Origin;
use crate::balance::Session;
use crate::message::cookies::cookies;
use crate::message::{FieldKind, RequestHead};
use crate::table::{CompiledApp, Home, PooledEndpoint, Sessions, Spread, Stay};

/// What of a request's session is known.
#[derive(Debug)]
pub struct Returning {
    sessions: Arc<Sessions>,
    came: Came,
    /// Whether the client came by https.
    is_secure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Without,
    /// With a cookie that names nothing here.
    Foreign,
    With(Session),
}

impl Returning {
    /// `None`: the app is not sticky.
    #[inline]
    pub fn of(origin: &Origin, app: &CompiledApp, head: (&RequestHead, &[u8])) -> Option<Box<Self>> {
        let sessions = app.sessions.as_ref()?;
        Some(Box::new(Self {
            came: read(sessions, head),
            sessions: sessions.clone(),
            is_secure: is_secure(origin, head),
        }))
    }

    fn session(&self) -> Option<&Session> {
        match &self.came {
            Came::With(session) => Some(session),
            Came::Without | Came::Foreign => None,
        }
    }

    /// Where in `spread` it belongs.
    pub fn home(&self, spread: &Spread) -> Option<Home<'_>> {
        self.sessions.home(spread, self.session()?)
    }

    /// Counts the request that `endpoint` has answered; adds to `lines` what its client is to be told.
    pub fn answered_by(&self, endpoint: &PooledEndpoint, worker: usize, lines: &mut Vec<u8>) {
        let named = self.session().and_then(|session| self.sessions.endpoint(session));
        let stay = match self.came {
            Came::Without => Stay::Began,
            Came::Foreign => Stay::Ignored,
            Came::With(_) if named.is_some_and(|named| named.live.id == endpoint.live.id) => Stay::Kept,
            Came::With(_) => Stay::Moved,
        };
        self.sessions.live.count(worker, stay);
        let Some(session) = self.sessions.session(endpoint) else { return };
        // One that an older key signed is renewed, so that the key can go.
        if Came::With(session) != self.came {
            lines.extend_from_slice(self.line(&session).as_bytes());
        }
    }

    fn line(&self, session: &Session) -> String {
        let settings = &self.sessions.settings;
        let mut line = format!("Set-Cookie: {}={session}; Path={}", settings.cookie, settings.path);
        if let Some(age) = settings.max_age {
            let _ = write!(line, "; Max-Age={}", age.as_secs());
        }
        line.push_str("; HttpOnly");
        if settings.secure.unwrap_or(self.is_secure) {
            line.push_str("; Secure");
        }
        let _ = write!(line, "; SameSite={}\r\n", settings.same_site.attribute());
        line
    }
}

/// Of several cookies of the name, as different paths may have set them, the first that is ours.
fn read(sessions: &Sessions, (request, head): (&RequestHead, &[u8])) -> Came {
    let name = sessions.settings.cookie.as_bytes();
    let mut came = Came::Without;
    for (_, value) in cookies(&request.fields, head).filter(|(found, _)| *found == name) {
        match Session::parse(value).filter(|session| sessions.knows(session)) {
            Some(session) => return Came::With(session),
            None => came = Came::Foreign,
        }
    }
    came
}

/// What a cookie of this request says to `sessions`, for people.
pub fn session(sessions: &Sessions, head: (&RequestHead, &[u8])) -> Result<Session, bool> {
    match read(sessions, head) {
        Came::With(session) => Ok(session),
        Came::Foreign => Err(true),
        Came::Without => Err(false),
    }
}

/// A trusted proxy may have taken the TLS off.
fn is_secure(origin: &Origin, (request, head): (&RequestHead, &[u8])) -> bool {
    let proto = || request.fields.first(FieldKind::XForwardedProto).map(|field| field.value.within(head));
    let is_https = |proto: &[u8]| proto.eq_ignore_ascii_case(b"https");
    origin.listener.is_tls() || origin.is_trusted && proto().is_some_and(is_https)
}
