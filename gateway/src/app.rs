//! The composition root: builds every part from its configuration, connects them, and takes them down
//! in order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use discovery::assemble::{Belief, Discovery};
use discovery::change::Editor;
use discovery::embedded::Embedded;
use discovery::etcd::Etcd;
use discovery::file::{FileReloader, FileSource};
use discovery::registry::{Registry, State};
use discovery::saved::SavedFile;
use discovery::secrets::Keys;
use discovery::zookeeper::ZooKeeper;
use tokio::sync::mpsc::{self, UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::{AppId, Snapshot};
use vip::ServingSwitch;

use crate::access_log::{Envelope, LogPlan, LogTarget, LogWriter};
use crate::admin::auth::tokens::TokenFile;
use crate::admin::{Authenticator, Doors, GatewayJudge};
use crate::config::{AdminConfig, Config, GatewayConfig, RegistryConfig, inspect_access, sticky_keys};
use crate::control::report::Reporter;
use crate::control::verdicts::Exchange;
use crate::control::{Applied, Applier, Failures, Judge, ProbedEndpoints, on_failing, on_transition, probes};
use crate::deploy_api::Deploy;
use crate::dns::{self, DnsPlan, DnsService};
use crate::filter;
use crate::handover::{Giver, Inheritance, Lineage, Opened};
use crate::listener::tls::{TlsRegistry, UpstreamProfiles};
use crate::listeners::Listeners;
use crate::memory;
use crate::metrics::{ListenerMetrics, Reloads, ServiceMetrics, Sources, WorkerMetrics};
use crate::observing::Observing;
use crate::ports::{Board, ClaimWatch, Claims};
use crate::serve::{Command, WorkerSeed, spawn};
use crate::supervise::ServiceManager;
use crate::table::RoutingTable;
use crate::table::compile::Settings;
use crate::table::limits::Tenants;
use crate::vips::{VipPlan, VipService};
use crate::worker::{Penalties, Shared, Suspicion, suspicions};

/// How long a start waits for a registry that does not answer, before it serves what the files say: a
/// gateway that knows no route yet should rather not accept.
const REGISTRY_WAIT: Duration = Duration::from_secs(5);
/// How long a process that takes over waits for first probes: nobody waits for it, but a probe interval of
/// minutes must not hold up an upgrade. Above the default interval and timeout together.
const FIRST_PROBES: Duration = Duration::from_secs(10);
/// Certificates are looked at this often; files change by hand or by a renewal every few weeks.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// What buffers may take of the process's memory: a quarter. Tables, connections and HTTP/2's windows have
/// the rest, and so has whoever shares the machine.
const BUFFERS_SHARE: u64 = 4;
/// Filters' files are looked at this often: a list of addresses is changed while an attack is under way.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);
/// The label of requests that no app can be named for. No valid app id begins with an underscore and
/// ends with one.
const UNROUTED: &str = "_unrouted_";
/// Sockets that the process needs besides connections: listeners, registry, files.
const RESERVED_FILES: usize = 512;

/// A gateway that is running.
pub struct Gateway {
    pub(crate) serving: ServingSwitch,
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<JoinHandle<()>>,
    pub(crate) log: Option<LogWriter>,
    pub(crate) control: CancellationToken,
    pub(crate) tasks: Vec<tokio::task::JoinHandle<()>>,
    /// What is in force.
    pub(crate) config: Config,
    pub(crate) files: FileReloader,
    pub(crate) listeners: Listeners,
    pub(crate) tls: Arc<TlsRegistry>,
    pub(crate) reloads: Arc<Reloads>,
    /// What filters read.
    pub(crate) filter_sources: Arc<filter::Sources>,
    pub(crate) registry: Arc<dyn Registry>,
    pub admin_address: Option<SocketAddr>,
    pub(crate) admin_socket: Option<Arc<TcpListener>>,
    /// Open, until they are served.
    pub(crate) admin_doors: Option<Doors>,
    pub(crate) admin_auth: Arc<Authenticator>,
    /// What apps are compiled by.
    settings: Settings,
    /// Cancelled before `control` where another process answers operators.
    pub(crate) admin_stop: CancellationToken,
    pub(crate) manager: ServiceManager,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) handover: Option<Giver>,
    /// Cancelled when this process no longer speaks for the service.
    pub(crate) observing: CancellationToken,
    /// Another process is taking over.
    pub(crate) is_handing_over: bool,
    /// What was published last, for reports of it.
    pub(crate) snapshots: watch::Receiver<Snapshot>,
    pub(crate) applied: Arc<Applied>,
    /// Asked for while that goes on.
    pub(crate) reload_waits: bool,
    /// Ports of their own that apps ask for, and what became of it.
    pub(crate) claims: Claims,
    pub(crate) port_board: Board,
    /// They changed while another process was taking over.
    pub(crate) ports_wait: bool,
    /// `None`: there are no virtual IPs.
    pub(crate) vips: Option<VipService>,
    /// `None`: this process has no deploy API.
    pub(crate) deploy: Option<Deploy>,
    /// Until it runs.
    exchange: Option<Exchange>,
    /// `None`: names are somebody else's.
    pub(crate) dns: Option<DnsService>,
    pub(crate) dns_surroundings: dns::Surroundings,
}

impl Gateway {
    /// Starts everything and returns once requests are served. Must be called within a tokio runtime,
    /// which then carries the control plane.
    ///
    /// # Errors
    /// Whatever cannot be opened, bound or read, with its name. Nothing has been accepted by then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Box::pin(Self::start_with(config, Inheritance::default())).await
    }

    /// As [`Self::start`], with what other processes have opened. One of which that is taken over stops
    /// accepting only when this process serves.
    ///
    /// # Errors
    /// As [`Self::start`]; a process that was to be taken over goes on.
    pub async fn start_with(config: Config, mut inheritance: Inheritance) -> anyhow::Result<Self> {
        let open_files = raise_open_files()?;
        let all_connections = connections_in(open_files);
        let max_connections = all_connections / config.gateway.workers;
        let vips =
            config.vip.as_ref().map(|section| VipPlan::prepare(section, &config.gateway.id)).transpose()?;
        // Where another process answers, that goes on until this one is about to.
        let dns_section = config.dns.as_ref().filter(|_| !inheritance.is_takeover());
        let dns = dns_section.map(|section| DnsPlan::prepare(section, None, false)).transpose()?;
        let serving = ServingSwitch::new();
        let control = CancellationToken::new();
        let files =
            FileSource::start(config.apps.files.clone()).await.context("cannot watch the apps' files")?;
        let reloader = files.reloader();
        let workers = config.gateway.workers;
        let (tellers, commands): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let listener_metrics = Arc::new(ListenerMetrics::new(workers));
        let upstream_tls =
            UpstreamProfiles::load(&config.gateway.upstream_tls).context("cannot set up TLS to endpoints")?;
        let tls = Arc::new(TlsRegistry::new(upstream_tls.clone()));
        let keeps_sockets = config.gateway.handover.is_some();
        let mut listeners = Listeners::new(tellers, listener_metrics.clone(), tls.clone(), keeps_sockets);
        let passed = inheritance.claim(&config.gateway.listeners)?;
        let plan = listeners.plan_with(&config.gateway.listeners, passed)?;
        let admin_socket = inheritance.open_admin(config.admin.as_ref()).await?;
        let admin_auth = Arc::new(authenticator(config.admin.as_ref())?);
        let open_doors = |admin| Doors::open(admin, admin_socket.as_ref(), inheritance.is_takeover());
        let admin_doors = config.admin.as_ref().map(open_doors).transpose()?;
        let handover = config.gateway.handover.as_deref();
        let handover = handover.map(|path| inheritance.claim_socket(path)).transpose()?;
        let deploy = config.deploy.as_ref().map(|deploy| Deploy::open(deploy, inheritance.is_takeover()));
        let deploy = deploy.transpose()?;
        let log = open_log(&config.gateway)?;
        inheritance.release_registry(&config.registry).await?;
        let keys = config.registry_keys.as_deref().map(Keys::open).transpose()?;
        let OpenRegistry { registry, embedded } = OpenRegistry::open(&config.registry)?;
        await_registry(registry.watch(), inheritance.is_takeover()).await?;
        let registry_watch = registry.watch();
        let (suspicions, reports) = suspicions();
        let shared = Arc::new(share(&config, suspicions, all_connections)?);
        let witness = Arc::new(ProbedEndpoints(shared.clone()));
        let belief = belief(&config, keys);
        let discovery = Discovery::start(registry.clone(), files, belief, witness, control.clone());
        let (doubts, acceptance) = (discovery.doubts.clone(), discovery.acceptance());
        let mut snapshots = discovery.snapshots.clone();
        let published = snapshots.clone();
        let bounds = probes::bounds(open_files, config.gateway.probe_connections);
        let checker = probes::start(on_transition(shared.clone()), bounds, &control)?;
        let probe_stats = checker.stats();
        let failures = Arc::new(Failures::default());
        checker.on_failing(on_failing(shared.clone(), failures.clone()));
        let applied = Arc::new(Applied::default());
        let base_domain = config.gateway.base_domain.clone();
        let tenants = Arc::new(Tenants::new(config.gateway.tenants.iter().cloned()));
        let filter_sources = Arc::new(filter::Sources::reaching(&config.gateway.jwks_networks));
        let settings = Settings {
            base_domain,
            shards: workers,
            upstream_tls,
            tenants: tenants.clone(),
            statistics: config.gateway.statistics.enabled,
            sources: filter_sources.clone(),
            zone: config.gateway.zone.clone(),
            sticky: Arc::new(sticky_keys(config.gateway.sticky_key_file.as_deref())?),
        };
        let mut applier =
            Applier::new(settings.clone(), shared.clone(), applied.clone(), checker, tls.clone());
        let shared_probes = config.gateway.shared_probes.filter(|_| config.registry.has_room_for_a_fleet());
        let sharing = shared_probes.map(|probers| {
            let id = &config.gateway.id;
            let (exchange, talk, doubts) = Exchange::new(registry.clone(), id.clone(), probers);
            applier.share_probes(id, probers, talk);
            (exchange, doubts)
        });
        let (exchange, found_bad) = sharing.unzip();
        let first: Snapshot = snapshots.borrow_and_update().clone();
        applier.apply(first);
        if inheritance.is_takeover() {
            applier.await_first_probes(FIRST_PROBES).await;
        }
        let judge = Judge::new(shared.clone(), reports, found_bad);
        let mut tasks = vec![
            discovery.into_task(),
            tokio::spawn(applier.run(snapshots, control.clone())),
            tokio::spawn(judge.run(control.clone())),
        ];

        let (observing, watched) = Observing::start(&config.gateway, log.as_ref(), &control, &mut tasks);
        let metrics: Vec<_> = (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect();
        listeners.commit(plan, config.gateway.drain_timeout).await?;
        let workers = start_workers(&shared, &metrics, &observing, commands, max_connections)?;
        let reloads = Arc::new(Reloads::default());
        let port_board = Board::default();
        let dns_surroundings = dns::Surroundings {
            shared: shared.clone(),
            applied: applied.clone(),
            vips: vips.as_ref().map(|plan| plan.desk.clone()),
            registry: registry.clone(),
            gateway_id: config.gateway.id.clone(),
            desk: Arc::default(),
        };
        let lineage = Arc::new(std::mem::take(&mut inheritance.lineage));
        let sources = Sources {
            shared: shared.clone(),
            workers: metrics,
            listeners: listener_metrics,
            doorways: listeners.doorways(),
            reloads: reloads.clone(),
            registry: registry_watch,
            doubts,
            acceptance,
            applied: applied.clone(),
            probes: probe_stats,
            failures,
            serving: serving.watch(),
            tls: tls.clone(),
            tenants,
            lineage: lineage.clone(),
            access_log: log.as_ref().map(LogWriter::watch),
            statistics: watched.statistics,
            tracing: watched.tracing,
            admin: Arc::default(),
            vips: vips.as_ref().map(|plan| plan.desk.clone()),
            deploy: deploy.as_ref().map(Deploy::meter),
            ports: port_board.clone(),
            dns: dns_surroundings.desk.clone(),
        };
        let mut gateway = Self {
            admin_stop: control.child_token(),
            observing: control.child_token(),
            serving,
            shared,
            workers,
            log,
            control,
            tasks,
            config,
            files: reloader,
            tls,
            listeners,
            reloads,
            filter_sources,
            registry,
            admin_address: admin_socket.as_ref().and_then(|socket| socket.local_addr().ok()),
            admin_socket: admin_socket.map(Arc::new),
            admin_doors,
            admin_auth,
            settings,
            manager: ServiceManager::default(),
            lineage,
            handover: None,
            is_handing_over: false,
            snapshots: published,
            applied,
            reload_waits: false,
            claims: Claims::new(),
            port_board,
            ports_wait: false,
            vips: None,
            deploy,
            exchange,
            dns: None,
            dns_surroundings,
        };
        // Before anybody is told that it serves.
        let claims = gateway.claim_watch();
        gateway.open_ports(claims.claims()).await;
        match gateway.take_charge(Opened { inheritance, handover, embedded, sources, vips, dns }).await {
            Ok(()) => Ok(gateway),
            Err(error) => {
                // What came to our workers meanwhile is answered before we go.
                gateway.shut_down(std::future::pending()).await;
                Err(error)
            }
        }
    }

    /// Tells when apps ask for other ports of their own: [`Self::open_ports`].
    pub fn claim_watch(&self) -> ClaimWatch {
        ClaimWatch::new(self.snapshots.clone())
    }

    /// The registry that this gateway watches.
    pub fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }

    /// Where the admin socket is, if there is one.
    pub fn admin_path(&self) -> Option<&std::path::Path> {
        self.config.admin.as_ref()?.socket.as_deref()
    }

    /// Shares the probing with other gateways, where that is configured.
    pub(crate) fn share_probes(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.tasks.push(tokio::spawn(exchange.run(self.observing.clone())));
        }
    }

    /// Tells the registry what this gateway runs.
    pub(crate) fn report(&self) -> tokio::task::JoinHandle<()> {
        let reporter = Reporter {
            registry: self.registry.clone(),
            shared: self.shared.clone(),
            snapshots: self.snapshots.clone(),
            applied: self.applied.clone(),
            lineage: self.lineage.clone(),
            id: self.config.gateway.id.clone(),
            address: self.admin_address,
        };
        tokio::spawn(reporter.run(self.observing.clone()))
    }

    /// Changes the registry for operators and tenants.
    ///
    /// # Errors
    /// When the file of keys cannot be read any more.
    pub(crate) fn editor(&self) -> anyhow::Result<Editor> {
        let keys = self.config.registry_keys.as_deref().map(Keys::open).transpose()?.map(Arc::new);
        let judge = GatewayJudge { settings: self.settings.clone(), shared: self.shared.clone() };
        Ok(Editor::new(self.registry.clone(), keys, Arc::new(judge)))
    }

    pub(crate) fn watch_sources(&self) -> tokio::task::JoinHandle<()> {
        let (sources, cancel) = (self.filter_sources.clone(), self.control.clone());
        tokio::spawn(async move {
            // What is fetched is fetched at once: until then its filters let nobody pass.
            sources.fetch_due(Instant::now());
            while cancel.run_until_cancelled(tokio::time::sleep(SOURCE_INTERVAL)).await.is_some() {
                sources.refresh();
                sources.fetch_due(Instant::now());
            }
        })
    }

    pub(crate) fn watch_certificates(&self) -> tokio::task::JoinHandle<()> {
        let (tls, cancel) = (self.tls.clone(), self.control.clone());
        tokio::spawn(async move {
            // The first look warns of what expires soon.
            tls.refresh();
            while cancel.run_until_cancelled(tokio::time::sleep(CERTIFICATE_INTERVAL)).await.is_some() {
                tls.refresh();
            }
        })
    }
}

fn authenticator(config: Option<&AdminConfig>) -> anyhow::Result<Authenticator> {
    let Some(admin) = config else { return Ok(Authenticator::new(None, false)) };
    let open = |path: &std::path::PathBuf| {
        let why = |why: Vec<String>| anyhow::anyhow!("admin.tokens: {}: {}", path.display(), why.join("; "));
        TokenFile::open(path).map_err(why)
    };
    Ok(Authenticator::new(admin.tokens.as_ref().map(open).transpose()?, admin.requires_token))
}

fn start_workers(
    shared: &Arc<Shared>,
    metrics: &[Arc<WorkerMetrics>],
    observing: &Observing<'_>,
    commands: Vec<UnboundedReceiver<Command>>,
    max_connections: usize,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let start = |(index, (commands, metrics)): (usize, (UnboundedReceiver<Command>, &Arc<WorkerMetrics>))| {
        let seed = WorkerSeed {
            index,
            shared: shared.clone(),
            metrics: metrics.clone(),
            observers: observing.of_worker(metrics),
            commands,
            max_connections,
        };
        spawn(seed).with_context(|| format!("cannot start worker {index}"))
    };
    commands.into_iter().zip(metrics).enumerate().map(start).collect()
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

fn open_log(config: &GatewayConfig) -> anyhow::Result<Option<LogWriter>> {
    let log = &config.access_log;
    let Some(target) = log.target.clone() else { return Ok(None) };
    let is_syslog = matches!(target, LogTarget::Syslog(_));
    let plan = LogPlan {
        target: target.clone(),
        format: log.format,
        backlog: log.buffer,
        envelope: is_syslog.then(|| Envelope::new(log.facility, &config.id)),
    };
    LogWriter::start(plan).map(Some).with_context(|| format!("cannot open the access log {target}"))
}

/// Lifts the soft limit of open files to the hard one and returns it.
fn raise_open_files() -> anyhow::Result<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(io::Error::from)
        .context("cannot raise the limit of open files")?;
    Ok(limit.maximum.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX))
}

/// How many client connections fit, each with a connection to an endpoint.
fn connections_in(open_files: usize) -> usize {
    (open_files.saturating_sub(RESERVED_FILES) / 2).max(1)
}
