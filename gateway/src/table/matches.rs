//! An app's matches, compiled: where the requests go that they take.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use topology::filters::MirrorTarget;
use topology::{App, Condition, HashAlgorithm, MatchEffect, RequestMatch, Split, VersionId};

use super::app::{CompiledApp, Pool, PooledEndpoint, Spread};
use super::compile::{Settings, hashes, pool};
use crate::balance::SplitSchedule;
use crate::metrics::Counter;

/// In the order in which they are tried. The position of one in it is how the rest of a request's way
/// names it.
#[derive(Debug)]
pub struct Matches(Box<[CompiledMatch]>);

#[derive(Debug)]
pub struct CompiledMatch {
    /// Of the app's spec, which the match is part of.
    spec: Arc<[RequestMatch]>,
    position: usize,
    pub way: Way,
    pub live: Arc<MatchLive>,
}

/// Where a request goes that a match has taken.
#[derive(Debug)]
pub enum Way {
    /// Where the others go.
    Default,
    Own(Spread),
    Nowhere,
}

/// A match's state across tables, kept as long as its name is.
#[derive(Debug)]
pub struct MatchLive {
    name: Arc<str>,
    /// Requests that its own split has placed so far.
    pub split_cursor: AtomicU64,
    /// Requests that it took, by worker; a cell exists from the first of them on.
    taken: Box<[OnceLock<Box<Counter>>]>,
}

impl MatchLive {
    fn new(name: &Arc<str>, workers: usize) -> Self {
        let taken = (0..workers).map(|_| OnceLock::new()).collect();
        Self { name: name.clone(), split_cursor: AtomicU64::new(0), taken }
    }

    /// Only `worker` itself may count here.
    pub fn count(&self, worker: usize) {
        self.taken[worker].get_or_init(Box::default).increment();
    }

    pub fn taken(&self) -> u64 {
        self.taken.iter().filter_map(OnceLock::get).map(|counter| counter.value()).sum()
    }
}

impl Matches {
    pub fn iter(&self) -> impl Iterator<Item = &CompiledMatch> {
        self.0.iter()
    }

    pub fn at(&self, position: usize) -> Option<&CompiledMatch> {
        self.0.get(position)
    }
}

impl CompiledMatch {
    pub fn name(&self) -> &str {
        &self.live.name
    }

    pub fn spec(&self) -> &RequestMatch {
        &self.spec[self.position]
    }

    pub fn conditions(&self) -> &[Condition] {
        &self.spec().conditions
    }
}

/// The matches of `app`, whose other requests go to `default`; and where copies of its requests go, if they
/// go to one of its versions.
pub(super) fn compile(
    settings: &Settings,
    old: Option<&CompiledApp>,
    app: &App,
    default: &Spread,
    endpoints: &[Arc<PooledEndpoint>],
) -> (Option<Box<Matches>>, Option<Box<Spread>>) {
    let mirrored = app.spec.filters.as_ref().and_then(|filters| match &filters.mirror.as_ref()?.to {
        MirrorTarget::Version(version) => Some(version),
        MirrorTarget::App(_) => None,
    });
    let mut pools = Pools { old, hashes: hashes(app), default, endpoints, own: Vec::new() };
    let mirror = mirrored.map(|version| {
        let only = pools.pool(version);
        Box::new(pools.spread(vec![only], None, true))
    });
    let Some(specs) = &app.spec.matches else { return (None, mirror) };
    let former = |name: &str| old?.matches.as_ref()?.iter().find(|old| old.name() == name);
    let compiled = specs.iter().enumerate().map(|(position, spec)| {
        let live = former(&spec.name).map(|former| former.live.clone());
        CompiledMatch {
            spec: specs.clone(),
            position,
            way: pools.way(&spec.effect),
            live: live.unwrap_or_else(|| Arc::new(MatchLive::new(&spec.name, settings.shards))),
        }
    });
    (Some(Box::new(Matches(compiled.collect()))), mirror)
}

/// What the ways of one app's matches are made of.
struct Pools<'a> {
    old: Option<&'a CompiledApp>,
    hashes: Option<HashAlgorithm>,
    default: &'a Spread,
    endpoints: &'a [Arc<PooledEndpoint>],
    /// Of versions that the default has no pool for.
    own: Vec<Arc<Pool>>,
}

impl Pools<'_> {
    fn way(&mut self, effect: &MatchEffect) -> Way {
        match effect {
            MatchEffect::Default => Way::Default,
            MatchEffect::Refuse => Way::Nowhere,
            MatchEffect::Version { version, strict } => {
                let pools = vec![self.pool(version)];
                Way::Own(self.spread(pools, None, *strict))
            }
            MatchEffect::Split { split, strict } => {
                let shares = shares_of(split);
                let pools = shares.iter().map(|(version, _)| self.pool(version)).collect();
                let shares: Vec<_> = shares.iter().map(|(_, share)| *share).collect();
                Way::Own(self.spread(pools, Some(SplitSchedule::new(&shares)), *strict))
            }
        }
    }

    /// Where nothing in `pools` is healthy, the default's pools take the request, unless it is strict.
    fn spread(&self, pools: Vec<Arc<Pool>>, split: Option<SplitSchedule>, strict: bool) -> Spread {
        let mut spread = Spread::new(pools, split);
        if !strict {
            let is_new = |pool: &&Arc<Pool>| spread.pools.iter().all(|known| known.id != pool.id);
            let more: Vec<_> = self.default.pools.iter().filter(is_new).cloned().collect();
            spread.pools.extend(more);
        }
        spread
    }

    /// The endpoints of `version`, under one identity however many matches send to them: workers keep
    /// one rotation for it.
    fn pool(&mut self, version: &VersionId) -> Arc<Pool> {
        let is_it = |pool: &&Arc<Pool>| pool.version.as_ref() == Some(version);
        if let Some(known) = self.default.pools.iter().chain(&self.own).find(is_it) {
            return known.clone();
        }
        let former = self.old.into_iter().flat_map(own_spreads).find_map(|old| old.pools.iter().find(is_it));
        let is_member =
            |endpoint: &&Arc<PooledEndpoint>| endpoint.protocol.is_http() && endpoint.key.version == *version;
        let members = self.endpoints.iter().filter(is_member);
        let pool = Arc::new(pool(former, self.hashes, Some(version.clone()), members.cloned().collect()));
        self.own.push(pool.clone());
        pool
    }
}

/// Those of an app that it has beside where its requests go by default.
pub(super) fn own_spreads(app: &CompiledApp) -> impl Iterator<Item = &Spread> {
    let ways = app.matches.iter().flat_map(|matches| matches.iter()).filter_map(|entry| match &entry.way {
        Way::Own(spread) => Some(spread),
        Way::Default | Way::Nowhere => None,
    });
    ways.chain(app.mirror.as_deref())
}

/// The versions that get anything.
pub(super) fn shares_of(split: &Split) -> Vec<&(VersionId, u16)> {
    split.shares().iter().filter(|(_, share)| *share > 0).collect()
}
