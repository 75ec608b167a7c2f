//! Hosts to routes. Sharded, so that a change of one host copies one shard and not the whole index.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use topology::{HostPattern, PathMatch};

use super::CompiledApp;

/// At 100,000 hosts a shard has 100 entries: copying one costs microseconds, and the array of shards
/// itself 8 KiB.
const SHARDS: usize = 1024;

type Shard = HashMap<Arc<str>, Arc<HostRoutes>, FixedState>;

/// Fixed seeds: hosts come from tenants' configuration, not from requests, so nobody can craft
/// collisions by asking.
const HASHER: FixedState = FixedState::with_seed(0x51_75_1c_e0);

/// How a route stands to a request of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    Holds,
    OtherPath,
    /// Its app is not served where the request came in.
    OtherListener,
}

/// Which kind of pattern covers a host, from the most specific to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covering<'h> {
    Exact,
    /// What follows `*.`.
    Wildcard(&'h str),
    Any,
}

/// The paths of one host, in the order in which they are tried: those of the app whose own name it is;
/// exact ones, then prefixes by falling length; of equals the app that claimed the host first.
#[derive(Debug)]
pub struct HostRoutes {
    routes: Box<[(PathMatch, Arc<CompiledApp>)]>,
}

impl HostRoutes {
    pub(super) fn new(apps: &[Arc<CompiledApp>]) -> Self {
        let mut routes: Vec<_> = apps
            .iter()
            .flat_map(|app| app.spec.paths.iter().map(|path| (path.clone(), app.clone())))
            .collect();
        routes.sort_by(|(path, app), (other_path, other)| {
            let own = |app: &CompiledApp| !app.has_own_name();
            (own(app), rank(path), app.precedence()).cmp(&(own(other), rank(other_path), other.precedence()))
        });
        Self { routes: routes.into_boxed_slice() }
    }

    /// Each app that claims this host, once.
    pub fn apps(&self) -> Vec<Arc<CompiledApp>> {
        let mut apps: Vec<_> = self.routes.iter().map(|(_, app)| app.clone()).collect();
        apps.sort_by(|a, b| a.id.cmp(&b.id));
        apps.dedup_by(|a, b| a.id == b.id);
        apps
    }

    pub fn iter(&self) -> impl Iterator<Item = &(PathMatch, Arc<CompiledApp>)> {
        self.routes.iter()
    }

    pub fn serve(&self, listener: &str) -> bool {
        self.routes.iter().any(|(_, app)| app.serves(listener))
    }

    pub(super) fn find(&self, listener: &str, path: &[u8]) -> Option<&Arc<CompiledApp>> {
        self.claims(listener, path).find(|(_, _, claim)| *claim == Claim::Holds).map(|(_, app, _)| app)
    }

    /// Every route in the order in which they are tried, and whether it takes such a request: the first that does
    /// gets it.
    pub fn claims(
        &self,
        listener: &str,
        path: &[u8],
    ) -> impl Iterator<Item = (&PathMatch, &Arc<CompiledApp>, Claim)> {
        self.routes.iter().map(move |(route, app)| {
            let claim = match route.below(path) {
                None => Claim::OtherPath,
                Some(_) if !app.serves(listener) => Claim::OtherListener,
                Some(_) => Claim::Holds,
            };
            (route, app, claim)
        })
    }

    /// Who gets this route's requests on a listener that `app` serves as well: whoever claimed it first.
    pub fn owner(&self, app: &CompiledApp, path: &PathMatch) -> Option<&Arc<CompiledApp>> {
        self.routes
            .iter()
            .find(|(route, other)| route == path && other.shares_listener(app))
            .map(|(_, owner)| owner)
    }
}

/// Exact paths before prefixes, longer prefixes before shorter.
fn rank(path: &PathMatch) -> (bool, std::cmp::Reverse<usize>, &str) {
    match path {
        PathMatch::Exact(path) => (false, std::cmp::Reverse(0), path),
        PathMatch::Prefix(path) => (true, std::cmp::Reverse(path.len()), path),
    }
}

/// One sharded map.
#[derive(Debug, Clone)]
struct Shards(Box<[Option<Arc<Shard>>]>);

impl Default for Shards {
    fn default() -> Self {
        Self(vec![None; SHARDS].into_boxed_slice())
    }
}

impl Shards {
    fn shard_of(host: &str) -> usize {
        // The low bits place an entry within its shard.
        (HASHER.hash_one(host) >> 40) as usize % SHARDS
    }

    fn find(&self, host: &str) -> Option<&Arc<HostRoutes>> {
        self.0[Self::shard_of(host)].as_ref()?.get(host)
    }

    /// Copies the host's shard if a former table shares it.
    fn set(&mut self, host: &Arc<str>, routes: Option<Arc<HostRoutes>>) {
        let shard = self.0[Self::shard_of(host)].get_or_insert_with(|| Arc::new(Shard::with_hasher(HASHER)));
        let shard = Arc::make_mut(shard);
        match routes {
            Some(routes) => shard.insert(host.clone(), routes),
            None => shard.remove(host),
        };
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<HostRoutes>)> {
        self.0.iter().flatten().flat_map(|shard| shard.iter())
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct HostIndex {
    exact: Shards,
    /// By what follows `*.`.
    wildcard: Shards,
    any: Option<Arc<HostRoutes>>,
}

impl HostIndex {
    /// The most specific pattern that covers `host` and that `usable` accepts.
    pub fn find(&self, host: &str, usable: impl Fn(&HostRoutes) -> bool) -> Option<&Arc<HostRoutes>> {
        self.walk(host, |_, routes| usable(routes))
    }

    /// Shows `is_wanted` the patterns that cover `host`, the most specific first, until it wants one.
    #[inline]
    pub fn walk<'h>(
        &self,
        host: &'h str,
        mut is_wanted: impl FnMut(Covering<'h>, &Arc<HostRoutes>) -> bool,
    ) -> Option<&Arc<HostRoutes>> {
        if let Some(routes) = self.exact.find(host).filter(|routes| is_wanted(Covering::Exact, routes)) {
            return Some(routes);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            let found = self.wildcard.find(parent);
            if let Some(routes) = found.filter(|routes| is_wanted(Covering::Wildcard(parent), routes)) {
                return Some(routes);
            }
            rest = parent;
        }
        self.any.as_ref().filter(|routes| is_wanted(Covering::Any, routes))
    }

    pub fn of(&self, pattern: &HostPattern) -> Option<&Arc<HostRoutes>> {
        match pattern {
            HostPattern::Exact(host) => self.exact.find(host),
            HostPattern::Wildcard(parent) => self.wildcard.find(parent),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    pub fn set(&mut self, pattern: &HostPattern, routes: Option<Arc<HostRoutes>>) {
        match pattern {
            HostPattern::Exact(host) => self.exact.set(host, routes),
            HostPattern::Wildcard(parent) => self.wildcard.set(parent, routes),
            HostPattern::Any => self.any = routes,
        }
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn iter(&self) -> impl Iterator<Item = (String, &Arc<HostRoutes>)> {
        let exact = self.exact.iter().map(|(host, routes)| (host.to_string(), routes));
        let wildcard = self.wildcard.iter().map(|(parent, routes)| (format!("*.{parent}"), routes));
        exact.chain(wildcard).chain(self.any.iter().map(|routes| ("*".to_owned(), routes)))
    }
}
