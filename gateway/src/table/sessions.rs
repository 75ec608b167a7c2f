//! Of an app with `sticky`: which endpoint a client's cookie names, and what becomes of such requests.

use std::sync::{Arc, OnceLock};

use topology::{AdminState, App, AppId, Sticky, VersionId};

use super::app::{PooledEndpoint, Spread};
use super::compile::Settings;
use super::live::AppLive;
use super::standing::Stage;
use crate::balance::{Session, StickyKeys, Tag};
use crate::metrics::Counter;

#[derive(Debug)]
pub struct Sessions {
    pub settings: Arc<Sticky>,
    pub live: Arc<SessionsLive>,
    app: AppId,
    keys: Arc<StickyKeys>,
    /// Both by tag.
    versions: Box<[(Tag, VersionId)]>,
    endpoints: Box<[(Tag, Arc<PooledEndpoint>)]>,
}

/// What became of a request of an app with `sticky`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// It was answered by the endpoint that its cookie names.
    Kept,
    /// By another one: that one is out, or has no room, or is gone.
    Moved,
    /// It had no cookie.
    Began,
    /// It had one that is none of ours.
    Ignored,
}

impl Stay {
    pub const ALL: [Self; 4] = [Self::Kept, Self::Moved, Self::Began, Self::Ignored];

    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Moved => "moved",
            Self::Began => "began",
            Self::Ignored => "ignored",
        }
    }
}

/// What outlives a table.
#[derive(Debug)]
pub struct SessionsLive {
    /// By worker; a cell exists from the first request on.
    cells: Box<[OnceLock<Box<[Counter; Stay::ALL.len()]>>]>,
}

impl SessionsLive {
    fn new(workers: usize) -> Self {
        Self { cells: (0..workers).map(|_| OnceLock::new()).collect() }
    }

    /// Only `worker` itself may count here.
    pub fn count(&self, worker: usize, stay: Stay) {
        self.cells[worker].get_or_init(Box::default)[stay as usize].increment();
    }

    pub fn total(&self, stay: Stay) -> u64 {
        self.cells.iter().filter_map(OnceLock::get).map(|cells| cells[stay as usize].value()).sum()
    }
}

/// Where a request belongs by its cookie.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// Of the spread's pools.
    pub turn: usize,
    /// `None`: that one is gone, and its version is not.
    pub endpoint: Option<&'a Arc<PooledEndpoint>>,
}

impl Sessions {
    pub(super) fn compile(
        settings: &Settings,
        former: Option<&Self>,
        app: &App,
        endpoints: &[Arc<PooledEndpoint>],
    ) -> Option<Self> {
        let sticky = app.spec.sticky.clone()?;
        let live = former.map(|former| former.live.clone());
        let keys = &settings.sticky;
        let mut versions: Vec<(Tag, VersionId)> = Vec::new();
        for version in distinct_versions(endpoints) {
            versions.extend(keys.versions(&app.id, version).into_iter().map(|tag| (tag, version.clone())));
        }
        let tags = |endpoint: &Arc<PooledEndpoint>| {
            let tags =
                endpoint.live.tags.get_or_init(|| Box::new(keys.instances(&app.id, &endpoint.key).into()));
            let named: Vec<_> = tags.iter().map(|tag| (*tag, endpoint.clone())).collect();
            named
        };
        let http = endpoints.iter().filter(|endpoint| endpoint.protocol.is_http());
        let mut named: Vec<_> = http.flat_map(tags).collect();
        versions.sort_by_key(|(tag, _)| *tag);
        named.sort_by_key(|(tag, _)| *tag);
        Some(Self {
            settings: sticky,
            live: live.unwrap_or_else(|| Arc::new(SessionsLive::new(settings.shards))),
            app: app.id.clone(),
            keys: keys.clone(),
            versions: versions.into(),
            endpoints: named.into(),
        })
    }

    /// Whether a session outlives this process, and other gateways know it.
    pub fn are_shared(&self) -> bool {
        self.keys.is_shared()
    }

    /// What a client of `endpoint` is to send. `None`: there is no key to sign it with.
    pub fn session(&self, endpoint: &PooledEndpoint) -> Option<Session> {
        let version = self.keys.versions(&self.app, &endpoint.key.version);
        let instance = self.keys.instances(&self.app, &endpoint.key);
        Some(Session { version: *version.first()?, instance: *instance.first()? })
    }

    /// The endpoint that it names, out or not.
    pub fn endpoint(&self, session: &Session) -> Option<&Arc<PooledEndpoint>> {
        let at = self.endpoints.binary_search_by_key(&session.instance, |(tag, _)| *tag).ok()?;
        Some(&self.endpoints[at].1)
    }

    fn version(&self, session: &Session) -> Option<&VersionId> {
        let at = self.versions.binary_search_by_key(&session.version, |(tag, _)| *tag).ok()?;
        Some(&self.versions[at].1)
    }

    /// Whether it names something that this app has.
    pub fn knows(&self, session: &Session) -> bool {
        self.endpoint(session).is_some() || self.version(session).is_some()
    }

    /// Where in `spread` it belongs. `None`: the version that it names takes nothing any more, or nothing there is
    /// named, so that the request is as one without.
    pub fn home(&self, spread: &Spread, session: &Session) -> Option<Home<'_>> {
        let endpoint = self.endpoint(session);
        let version = endpoint.map(|endpoint| &endpoint.key.version).or_else(|| self.version(session))?;
        let (sharing, _) = spread.parts();
        let turn = sharing.iter().position(|pool| pool.version.as_ref().is_none_or(|of| of == version))?;
        Some(Home { turn, endpoint })
    }
}

/// Endpoints are ordered by their keys, which begin with the version.
fn distinct_versions(endpoints: &[Arc<PooledEndpoint>]) -> impl Iterator<Item = &VersionId> {
    let mut last = None;
    endpoints.iter().map(|endpoint| &endpoint.key.version).filter(move |version| {
        let is_new = last != Some(*version);
        last = Some(*version);
        is_new
    })
}

impl PooledEndpoint {
    /// Whether those of `app` go on who are there already: in `drain` they may stay, and nobody new comes. In a panic
    /// probes and ejections move nobody.
    pub fn keeps_sessions(&self, app: &AppLive) -> bool {
        let may_stay = self.weight > 0 && self.word.state != AdminState::Maintenance;
        may_stay && (self.live.is_available() || app.stage() == Stage::Panic)
    }
}
