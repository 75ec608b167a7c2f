//! One app, compiled: whom its requests may go to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use topology::{
    AppId, AppSpec, HashAlgorithm, HostPattern, InstanceKey, OperatorWord, Protocol, ProxyVersion, VersionId,
};

use super::limits::{Gate, Load};
use super::live::{AppLive, EndpointLive};
use super::matches::{CompiledMatch, Matches, Way, own_spreads};
use super::sessions::Sessions;
use crate::balance::{Ketama, KeyTable, Maglev, SplitSchedule};
use crate::filter::Filters;
use crate::listener::tls::EndpointTls;
use crate::metrics::ServiceMetrics;

#[derive(Debug)]
pub struct CompiledApp {
    pub id: AppId,
    pub spec: Arc<AppSpec>,
    /// Of an app that claims no hosts: its name below the base domain.
    pub(super) own_host: Option<HostPattern>,
    pub claimed: u64,
    pub live: Arc<AppLive>,
    /// `None`: nothing limits it.
    pub gate: Option<Arc<Gate>>,
    /// Whether an endpoint speaks it; a request is written for those versions only.
    pub speaks_http1: bool,
    pub speaks_http2: bool,
    /// In the order of their keys.
    pub endpoints: Vec<Arc<PooledEndpoint>>,
    /// For HTTP listeners: endpoints that speak HTTP.
    pub http: Arc<Spread>,
    /// For TCP listeners: all endpoints but those for datagrams.
    pub tcp: Arc<Spread>,
    /// For UDP listeners: endpoints for datagrams, where there are any.
    pub udp: Option<Arc<Spread>>,
    /// One per version that has an endpoint, ordered by version.
    pub services: Vec<Arc<ServiceMetrics>>,
    /// Of requests that never came to a version.
    pub metrics: Arc<ServiceMetrics>,
    /// Whether its traffic is counted by path and client.
    pub is_counted: bool,
    /// How endpoints are spoken to.
    pub upstream: Upstream,
    /// `None`: no client comes back to its endpoint by a cookie.
    pub sessions: Option<Arc<Sessions>>,
    /// Requests that go another way than `http`.
    pub matches: Option<Box<Matches>>,
    /// Where copies of requests go, if they go to another version.
    pub mirror: Option<Box<Spread>>,
    /// `None`: requests and responses pass as they are.
    pub filters: Option<Arc<Filters>>,
    /// Why the spec that its owner wrote is not in force on this gateway.
    pub rejection: Option<Arc<str>>,
}

/// How an app's endpoints are spoken to.
#[derive(Debug, Clone)]
pub enum Upstream {
    Plain,
    Tls(Arc<EndpointTls>),
    /// The app wants TLS that this gateway has no settings for, and there is no former spec to go on
    /// with. Clear text is no substitute.
    Unknown,
}

impl Upstream {
    pub fn tls(&self) -> Option<&Arc<EndpointTls>> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Plain | Self::Unknown => None,
        }
    }

    /// Whether connections made for one serve the other.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) | (Self::Unknown, Self::Unknown) => true,
            (Self::Tls(one), Self::Tls(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl CompiledApp {
    /// Of two apps with the same claim the lesser wins.
    pub fn precedence(&self) -> (u64, &AppId) {
        (self.claimed, &self.id)
    }

    /// Whether it answers at its own name below the base domain, which nobody else can take part of.
    pub fn has_own_name(&self) -> bool {
        self.spec.hosts.is_empty()
    }

    /// The hosts that it claims; of an app without any, its name below the base domain.
    pub fn hosts(&self) -> &[HostPattern] {
        if self.has_own_name() { self.own_host.as_slice() } else { &self.spec.hosts }
    }

    /// Whether there can be a listener that both serve.
    pub fn shares_listener(&self, other: &Self) -> bool {
        self.spec.listeners.as_ref().is_none_or(|names| names.iter().any(|name| other.serves(name)))
    }

    pub fn endpoint(&self, key: &InstanceKey) -> Option<&Arc<PooledEndpoint>> {
        let position = self.endpoints.binary_search_by(|endpoint| endpoint.key.cmp(key)).ok()?;
        self.endpoints.get(position)
    }

    pub fn serves(&self, listener: &str) -> bool {
        self.spec.listeners.as_ref().is_none_or(|names| names.iter().any(|name| &**name == listener))
    }
}

impl CompiledApp {
    /// The match at this position, which took a request of this very table.
    pub fn match_at(&self, position: usize) -> Option<&CompiledMatch> {
        self.matches.as_ref()?.at(position)
    }

    /// Those that stand in for an endpoint: of its version, or of all.
    pub fn pool_of(&self, endpoint: u64) -> Option<&Pool> {
        let spreads = std::iter::once(&*self.tcp).chain(own_spreads(self));
        spreads.flat_map(|spread| &spread.pools).map(|pool| &**pool).find(|pool| pool.holds(endpoint))
    }

    /// Where requests go that the match at `taken` has taken, or none; and what counts the turns of their
    /// split.
    pub fn way(&self, taken: Option<usize>) -> (&Spread, &AtomicU64) {
        match taken.and_then(|position| self.match_at(position)) {
            Some(CompiledMatch { way: Way::Own(spread), live, .. }) => (spread, &live.split_cursor),
            _ => (&self.http, &self.live.split_cursor),
        }
    }
}

/// Whether an endpoint is in the gateway's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    Own,
    Other,
    /// One of the two has not said where it is.
    Unknown,
}

impl Nearness {
    pub const ALL: [Self; 3] = [Self::Own, Self::Other, Self::Unknown];

    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn of(zone: Option<&str>, gateways: Option<&str>) -> Self {
        match (zone, gateways) {
            (Some(zone), Some(own)) if zone == own => Self::Own,
            (Some(_), Some(_)) => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// How an app's endpoints want to be connected to.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// `None`: in clear text.
    pub tls: Option<Arc<EndpointTls>>,
    /// They are told who the client is, so that no two clients can share a connection.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// An endpoint as a request meets it.
#[derive(Debug)]
pub struct PooledEndpoint {
    pub key: InstanceKey,
    pub address: SocketAddr,
    /// The one that holds: an operator's, where one says something.
    pub weight: u16,
    pub word: OperatorWord,
    pub protocol: Protocol,
    pub zone: Option<Arc<str>>,
    pub nearness: Nearness,
    /// Takes requests only where no other one can.
    pub is_backup: bool,
    pub manner: Manner,
    pub live: Arc<EndpointLive>,
    /// Of its app.
    pub gate: Option<Arc<Gate>>,
    /// Whether its requests under way are counted.
    pub is_counted: bool,
    /// Of its version.
    pub metrics: Arc<ServiceMetrics>,
    /// See [`Self::log_fields`].
    pub(super) log_fields: OnceLock<Box<[u8]>>,
}

impl PooledEndpoint {
    /// Where its requests under way are counted, if they are.
    pub fn counted(&self) -> Option<&Load> {
        if self.is_counted { self.live.load.get().map(|load| &**load) } else { None }
    }

    /// What every JSON line of the access log says of a request that went here, from `"app"` to
    /// `"endpoint"`. Written at the first one: names are of an alphabet that needs no escape.
    pub fn log_fields(&self) -> &[u8] {
        self.log_fields.get_or_init(|| {
            let (app, InstanceKey { version, instance }) = (self.metrics.app(), &self.key);
            let endpoint = SocketAddr::new(self.address.ip().to_canonical(), self.address.port());
            let fields = format!(
                ",\"app\":\"{app}\",\"version\":\"{version}\",\"instance\":\"{instance}\",\"endpoint\":\"{endpoint}\""
            );
            fields.into_bytes().into()
        })
    }
}

/// Endpoints that are interchangeable for a request.
#[derive(Debug)]
pub struct Pool {
    /// The same in every table, for workers to find their place in the rotation again.
    pub id: u64,
    /// Of this very list, different in every table that changes it.
    pub edition: u64,
    /// `None`: all versions of an app without a split.
    pub version: Option<VersionId>,
    pub endpoints: Vec<Arc<PooledEndpoint>>,
    /// See [`Self::key_table`].
    pub(super) keys: OnceLock<Arc<KeyTable>>,
}

/// How an app's requests are spread: over one pool, or over one per version.
#[derive(Debug)]
pub struct Spread {
    pub pools: Vec<Arc<Pool>>,
    /// The first of them that take turns; the others only stand in.
    turns: usize,
    split: Option<SplitSchedule>,
}

impl Spread {
    /// `split` names positions in `pools`; without one the first gets everything.
    pub fn new(pools: Vec<Arc<Pool>>, split: Option<SplitSchedule>) -> Self {
        Self { turns: pools.len(), pools, split }
    }

    /// The turn of the next request: which of the pools its share of the split belongs to. `cursor` counts
    /// the turns of this split, of all workers and tables.
    pub fn next_turn(&self, cursor: &AtomicU64) -> usize {
        self.split.as_ref().map_or(0, |split| split.step(cursor))
    }

    /// The pool whose turn it is, then the others that have a share, then those that stand in: when a
    /// version has nothing healthy, an answer of another one is worth more than an error.
    pub fn choose(&self, turn: usize) -> impl Iterator<Item = &Pool> {
        let (sharing, others) = self.pools.split_at(self.turns);
        let in_turn =
            (0..sharing.len()).filter_map(move |offset| sharing.get((turn + offset) % sharing.len()));
        in_turn.chain(others).map(|pool| &**pool)
    }

    /// Those that take turns, and those that only stand in.
    pub fn parts(&self) -> (&[Arc<Pool>], &[Arc<Pool>]) {
        self.pools.split_at(self.turns)
    }

    pub fn is_empty(&self) -> bool {
        self.pools.iter().all(|pool| pool.endpoints.is_empty())
    }
}

impl Pool {
    /// Whom keys belong to, among all of its endpoints, healthy or not. Made for the first request that asks; where
    /// the former table had one, with this table.
    pub fn key_table(&self, algorithm: HashAlgorithm) -> &KeyTable {
        if let Some(made) = self.keys.get() {
            return made;
        }
        // Outside of the cell: workers that come at the same time each make one, and wait for nobody.
        let made = Arc::new(key_table(algorithm, &self.endpoints));
        self.keys.get_or_init(|| made)
    }

    /// Of `former`, the same pool in the table before, whatever its table is good for.
    pub(super) fn inherit_keys(&self, algorithm: HashAlgorithm, former: &Self) {
        let Some(known) = former.keys.get() else { return };
        let member = |endpoint: &Arc<PooledEndpoint>| {
            let address = (algorithm == HashAlgorithm::Ketama).then_some(endpoint.address);
            (endpoint.key.clone(), address, endpoint.weight)
        };
        let is_same = known.algorithm() == algorithm
            && self.endpoints.iter().map(member).eq(former.endpoints.iter().map(member));
        let made = || Arc::new(key_table(algorithm, &self.endpoints));
        let _ = self.keys.set(if is_same { known.clone() } else { made() });
    }

    /// How many zones its endpoints are in, those that are out too; having said nothing counts as one.
    pub fn zones(&self) -> usize {
        let weighty = self.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
        let mut zones: Vec<_> = weighty.map(|endpoint| endpoint.zone.as_deref()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.len()
    }

    fn holds(&self, endpoint: u64) -> bool {
        self.endpoints.iter().any(|held| held.live.id == endpoint)
    }

    /// What a worker compares to know whether its view of this pool is still right.
    pub fn stamp(&self, live: &AppLive) -> (u64, u64) {
        (self.edition, live.generation.load(Ordering::Acquire))
    }
}

fn key_table(algorithm: HashAlgorithm, endpoints: &[Arc<PooledEndpoint>]) -> KeyTable {
    match algorithm {
        HashAlgorithm::Maglev => KeyTable::Maglev(maglev(endpoints)),
        HashAlgorithm::Ketama => KeyTable::Ketama(ketama(endpoints)),
    }
}

/// By addresses, since that is how the other programs know them.
fn ketama(endpoints: &[Arc<PooledEndpoint>]) -> Ketama {
    let servers: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let address = SocketAddr::new(endpoint.address.ip().to_canonical(), endpoint.address.port());
            (address.to_string(), u32::from(endpoint.weight))
        })
        .collect();
    let split = servers.iter().filter_map(|(server, weight)| {
        let (host, port) = server.rsplit_once(':')?;
        Some((host, port, *weight))
    });
    Ketama::new(split)
}

fn maglev(endpoints: &[Arc<PooledEndpoint>]) -> Maglev {
    let names: Vec<_> = endpoints
        .iter()
        .map(|endpoint| [endpoint.key.version.as_str(), endpoint.key.instance.as_str()])
        .collect();
    let weights = endpoints.iter().map(|endpoint| u32::from(endpoint.weight));
    Maglev::new(names.iter().map(|name| &name[..]).zip(weights))
}
