//! From what is written to the table in force: registry and files, discovery, compilation, probes.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use discovery::assemble::{Belief, Discovery};
use discovery::doubt::Report;
use discovery::embedded::Embedded;
use discovery::etcd::Etcd;
use discovery::file::FileSource;
use discovery::registry::{Registry, State};
use discovery::saved::SavedFile;
use discovery::secrets::Keys;
use discovery::zookeeper::ZooKeeper;
use healthcheck::ProbeWatch;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::{AppId, Snapshot};

use crate::config::{Config, RegistryConfig, inspect_access, sticky_keys};
use crate::control::verdicts::Exchange;
use crate::control::{Applied, Applier, Failures, Judge, ProbedEndpoints, on_failing, on_transition, probes};
use crate::filter;
use crate::listener::tls::{TlsRegistry, UpstreamProfiles};
use crate::memory;
use crate::metrics::ServiceMetrics;
use crate::table::RoutingTable;
use crate::table::compile::Settings;
use crate::table::limits::Tenants;
use crate::worker::{Penalties, Shared, Suspicion, suspicions};

/// How long a start waits for a registry that does not answer, before it serves what the files say: a
/// gateway that knows no route yet should rather not accept.
const REGISTRY_WAIT: Duration = Duration::from_secs(5);
/// How long a process that takes over waits for first probes: nobody waits for it, but a probe interval of
/// minutes must not hold up an upgrade. Above the default interval and timeout together.
const FIRST_PROBES: Duration = Duration::from_secs(10);
/// What buffers may take of the process's memory: a quarter. Tables, connections and HTTP/2's windows have
/// the rest, and so has whoever shares the machine.
const BUFFERS_SHARE: u64 = 4;
/// The label of requests that no app can be named for. No valid app id begins with an underscore and
/// ends with one.
const UNROUTED: &str = "_unrouted_";

/// What it is made from, beside the configuration.
pub(super) struct Ground {
    pub files: FileSource,
    pub upstream_tls: Arc<UpstreamProfiles>,
    pub tls: Arc<TlsRegistry>,
    pub open_files: usize,
    /// Of clients, over all workers.
    pub max_connections: usize,
    /// Another process serves a table meanwhile.
    pub is_takeover: bool,
}

/// With a first table in force; it follows the sources from then on.
pub(super) struct Routing {
    pub registry: Arc<dyn Registry>,
    /// The same one, if it is one that is handed over.
    pub embedded: Option<Arc<Embedded>>,
    pub registry_watch: watch::Receiver<State>,
    pub doubts: watch::Receiver<Report>,
    pub acceptance: Arc<Notify>,
    /// What was published last, for reports of it.
    pub snapshots: watch::Receiver<Snapshot>,
    pub shared: Arc<Shared>,
    /// What apps are compiled by.
    pub settings: Settings,
    pub applied: Arc<Applied>,
    pub failures: Arc<Failures>,
    pub probes: ProbeWatch,
    /// `None`: probes are not shared.
    pub exchange: Option<Exchange>,
    pub tasks: Vec<JoinHandle<()>>,
}

impl Routing {
    /// # Errors
    /// When the registry cannot be opened, or when it does not answer and another process knows what it said last.
    pub async fn start(config: &Config, ground: Ground, control: &CancellationToken) -> anyhow::Result<Self> {
        let Ground { files, upstream_tls, tls, open_files, max_connections, is_takeover } = ground;
        let keys = config.registry_keys.as_deref().map(Keys::open).transpose()?;
        let OpenRegistry { registry, embedded } = OpenRegistry::open(&config.registry)?;
        await_registry(registry.watch(), is_takeover).await?;
        let registry_watch = registry.watch();
        let (suspicions, reports) = suspicions();
        let shared = Arc::new(share(config, suspicions, max_connections)?);
        let witness = Arc::new(ProbedEndpoints(shared.clone()));
        let discovery =
            Discovery::start(registry.clone(), files, belief(config, keys), witness, control.clone());
        let (doubts, acceptance) = (discovery.doubts.clone(), discovery.acceptance());
        let snapshots = discovery.snapshots.clone();
        let bounds = probes::bounds(open_files, config.gateway.probe_connections);
        let checker = probes::start(on_transition(shared.clone()), bounds, control)?;
        let probes = checker.watch();
        // Nobody else sets it.
        let _ = shared.relief.set(probes.relief());
        let failures = Arc::new(Failures::default());
        checker.on_failing(on_failing(shared.clone(), failures.clone()));
        let applied = Arc::new(Applied::default());
        let settings = settings(config, upstream_tls)?;
        let mut applier = Applier::new(settings.clone(), shared.clone(), applied.clone(), checker, tls);
        let shared_probes = config.gateway.shared_probes.filter(|_| config.registry.has_room_for_a_fleet());
        let sharing = shared_probes.map(|probers| {
            let id = &config.gateway.id;
            let (exchange, talk, doubts) = Exchange::new(registry.clone(), id.clone(), probers);
            applier.share_probes(id, probers, talk);
            (exchange, doubts)
        });
        let (exchange, found_bad) = sharing.unzip();
        let mut followed = snapshots.clone();
        let first: Snapshot = followed.borrow_and_update().clone();
        applier.apply(first);
        if is_takeover {
            applier.await_first_probes(FIRST_PROBES).await;
        }
        let judge = Judge::new(shared.clone(), reports, found_bad);
        let tasks = vec![
            discovery.into_task(),
            tokio::spawn(applier.run(followed, control.clone())),
            tokio::spawn(judge.run(control.clone())),
        ];
        Ok(Self {
            registry,
            embedded,
            registry_watch,
            doubts,
            acceptance,
            snapshots,
            shared,
            settings,
            applied,
            failures,
            probes,
            exchange,
            tasks,
        })
    }
}

fn settings(config: &Config, upstream_tls: Arc<UpstreamProfiles>) -> anyhow::Result<Settings> {
    let gateway = &config.gateway;
    Ok(Settings {
        base_domain: gateway.base_domain.clone(),
        shards: gateway.workers,
        upstream_tls,
        tenants: Arc::new(Tenants::new(gateway.tenants.iter().cloned())),
        statistics: gateway.statistics.enabled,
        sources: Arc::new(filter::Sources::reaching(&gateway.jwks_networks)),
        zone: gateway.zone.clone(),
        sticky: Arc::new(sticky_keys(gateway.sticky_key_file.as_deref())?),
    })
}

fn share(
    config: &Config,
    suspicions: mpsc::Sender<Suspicion>,
    max_connections: usize,
) -> anyhow::Result<Shared> {
    let unrouted = AppId::parse(UNROUTED).context("the label of unrouted requests")?;
    let limits = &config.gateway.rate_limits;
    Ok(Shared {
        table: ArcSwap::from_pointee(RoutingTable::default()),
        workers: config.gateway.workers,
        is_zoned: config.gateway.zone.is_some(),
        pseudonym: config.gateway.id.clone(),
        trusted_proxies: ArcSwap::from_pointee(config.gateway.trusted_proxies.clone()),
        rate_limits: (!limits.is_empty())
            .then(|| filter::RateLimits::compile(limits, None, config.gateway.workers)),
        unrouted: Arc::new(ServiceMetrics::new(&unrouted, None, config.gateway.workers)),
        buffer_budget: AtomicUsize::new(buffer_budget(config)),
        clients: Arc::default(),
        penalties: Penalties::default(),
        began: Instant::now(),
        max_connections_per_client: u32::try_from(max_connections / 2).unwrap_or(u32::MAX).max(1),
        stop_accepting: CancellationToken::new(),
        draining: AtomicBool::new(false),
        handed_over: AtomicBool::new(false),
        abort: CancellationToken::new(),
        suspicions,
        relief: OnceLock::new(),
    })
}

/// Each worker's part of the buffers, in bytes.
pub(crate) fn buffer_budget(config: &Config) -> usize {
    let all = config.gateway.max_buffers.unwrap_or_else(|| memory::available() / BUFFERS_SHARE);
    usize::try_from(all).unwrap_or(usize::MAX) / config.gateway.workers
}

fn belief(config: &Config, keys: Option<Keys>) -> Belief {
    let saved = config.belief.saved.clone().zip(config.registry.label());
    let saved = saved.map(|(path, registry)| SavedFile { path, registry });
    Belief { keys, grace: config.belief.grace, saved }
}

struct OpenRegistry {
    registry: Arc<dyn Registry>,
    /// The same one, if it is one that is handed over.
    embedded: Option<Arc<Embedded>>,
}

impl OpenRegistry {
    fn open(config: &RegistryConfig) -> anyhow::Result<Self> {
        if let Some((key, message)) = config.access().and_then(|access| inspect_access(access).pop()) {
            anyhow::bail!("registry.{key}: {message}");
        }
        match config {
            RegistryConfig::Embedded { path } => {
                let embedded = Embedded::open(path)
                    .with_context(|| format!("cannot open the embedded registry at {}", path.display()))?;
                Ok(Self { registry: embedded.clone(), embedded: Some(embedded) })
            }
            RegistryConfig::ZooKeeper(settings) => {
                Ok(Self { registry: ZooKeeper::connect(settings.clone()), embedded: None })
            }
            RegistryConfig::Etcd(settings) => {
                Ok(Self { registry: Etcd::connect(settings.clone()), embedded: None })
            }
        }
    }
}

/// # Errors
/// When it does not answer and another process serves a table that this one would not have.
async fn await_registry(mut state: watch::Receiver<State>, is_takeover: bool) -> anyhow::Result<()> {
    let connected = state.wait_for(|state| state.link.is_connected());
    if tokio::time::timeout(REGISTRY_WAIT, connected).await.is_err() {
        anyhow::ensure!(
            !is_takeover,
            "the registry does not answer, and the running process knows what it said last"
        );
        tracing::warn!(
            "the registry does not answer: serving what it said last, if that was saved, and what files say, until it does"
        );
    }
    Ok(())
}
