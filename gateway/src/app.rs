//! The composition root: builds every part from its configuration, connects them, and takes them down
//! in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use discovery::assemble::Discovery;
use discovery::embedded::Embedded;
use discovery::file::{FileReloader, FileSource};
use discovery::registry::{Registry, State};
use discovery::zookeeper::{self, ZooKeeper};
use healthcheck::Checker;
use tokio::sync::mpsc::{self, UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::{AppId, Snapshot};
use vip::ServingSwitch;

use crate::access_log::{Format, LogTarget, LogWriter, WorkerLog};
use crate::admin::{self, AdminState};
use crate::config::{AccessLogConfig, AccessLogFormat, AccessLogTarget, Config, RegistryConfig};
use crate::control::{Applied, Applier, Judge, on_transition};
use crate::filter;
use crate::listener::tls::{TlsRegistry, UpstreamProfiles};
use crate::listeners::Listeners;
use crate::metrics::{Exporter, ListenerMetrics, Reloads, ServiceMetrics, Sources, WorkerMetrics};
use crate::serve::{Command, WorkerSeed, spawn};
use crate::table::RoutingTable;
use crate::table::compile::Settings;
use crate::worker::{Shared, Suspicion, suspicions};

/// How long a start waits for a registry that does not answer, before it serves what the files say: a
/// gateway that knows no route yet should rather not accept.
const REGISTRY_WAIT: Duration = Duration::from_secs(5);
/// Certificates are looked at this often; files change by hand or by a renewal every few weeks.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// Filters' files are looked at this often: a list of addresses is changed while an attack is under way.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);
/// The label of requests that no app can be named for. No valid app id begins with an underscore and
/// ends with one.
const UNROUTED: &str = "_unrouted_";
/// Sockets that the process needs besides connections: listeners, registry, probes, files.
const RESERVED_FILES: u64 = 512;

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
    registry: Arc<dyn Registry>,
    pub admin_address: Option<SocketAddr>,
}

impl Gateway {
    /// Starts everything and returns once requests are served. Must be called within a tokio runtime,
    /// which then carries the control plane.
    ///
    /// # Errors
    /// Whatever cannot be opened, bound or read, with its name. Nothing has been accepted by then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let all_connections = raise_open_files()?;
        let max_connections = all_connections / config.gateway.workers;
        let serving = ServingSwitch::new();
        let control = CancellationToken::new();
        let registry = open_registry(&config.registry)?;
        let files =
            FileSource::start(config.apps.files.clone()).await.context("cannot watch the apps' files")?;
        let reloader = files.reloader();
        let workers = config.gateway.workers;
        let (tellers, commands): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let listener_metrics = Arc::new(ListenerMetrics::new(workers));
        let upstream_tls =
            UpstreamProfiles::load(&config.gateway.upstream_tls).context("cannot set up TLS to endpoints")?;
        let tls = Arc::new(TlsRegistry::new(upstream_tls.clone()));
        let mut listeners = Listeners::new(tellers, listener_metrics.clone(), tls.clone());
        let plan = listeners.plan(&config.gateway.listeners)?;
        let admin_socket = match &config.admin {
            Some(admin) => Some(admin::bind(admin.address).await?),
            None => None,
        };
        let (log, format) = open_log(&config.gateway.access_log)?;
        await_registry(registry.watch()).await;
        let registry_watch = registry.watch();
        let (mut snapshots, discovery) = Discovery::start(registry.clone(), files, control.clone());

        let (suspicions, reports) = suspicions();
        let shared = Arc::new(share(&config, suspicions, all_connections)?);
        let checker = Checker::new(on_transition(shared.clone()), &control);
        let probes = checker.stats();
        let applied = Arc::new(Applied::default());
        let base_domain = config.gateway.base_domain.clone();
        let filter_sources = Arc::new(filter::Sources::default());
        let settings =
            Settings { base_domain, shards: workers, upstream_tls, sources: filter_sources.clone() };
        let mut applier = Applier::new(settings, shared.clone(), applied.clone(), checker);
        let first: Snapshot = snapshots.borrow_and_update().clone();
        applier.apply(first);
        let judge = Judge::new(shared.clone(), reports);
        let mut tasks = vec![
            discovery,
            tokio::spawn(applier.run(snapshots, control.clone())),
            tokio::spawn(judge.run(control.clone())),
        ];

        let metrics: Vec<_> = (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect();
        listeners.commit(plan, config.gateway.drain_timeout).await?;
        let workers = start_workers(&shared, &metrics, log.as_ref(), format, commands, max_connections)?;
        let reloads = Arc::new(Reloads::default());
        let sources = Sources {
            shared: shared.clone(),
            workers: metrics,
            listeners: listener_metrics,
            reloads: reloads.clone(),
            registry: registry_watch,
            applied,
            probes,
            serving: serving.watch(),
            tls: tls.clone(),
        };
        let admin_address = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        if let Some(socket) = admin_socket {
            let state = AdminState::new(config.gateway.id.clone(), sources.clone(), Exporter::new(sources));
            tasks.push(admin::start(socket, state, control.clone()));
        }
        let mut gateway = Self {
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
            admin_address,
        };
        gateway.tasks.push(gateway.watch_certificates());
        gateway.tasks.push(gateway.watch_sources());
        gateway.serving.serve();
        Ok(gateway)
    }

    /// The registry that this gateway watches.
    pub fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }

    fn watch_sources(&self) -> tokio::task::JoinHandle<()> {
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

    fn watch_certificates(&self) -> tokio::task::JoinHandle<()> {
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

fn start_workers(
    shared: &Arc<Shared>,
    metrics: &[Arc<WorkerMetrics>],
    log: Option<&LogWriter>,
    format: Format,
    commands: Vec<UnboundedReceiver<Command>>,
    max_connections: usize,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let start = |(index, (commands, metrics)): (usize, (UnboundedReceiver<Command>, &Arc<WorkerMetrics>))| {
        let log =
            log.map_or_else(WorkerLog::off, |log| WorkerLog::new(format, log.sender(), metrics.clone()));
        let seed = WorkerSeed {
            index,
            shared: shared.clone(),
            metrics: metrics.clone(),
            log,
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
        pseudonym: config.gateway.id.clone(),
        trusted_proxies: ArcSwap::from_pointee(config.gateway.trusted_proxies.clone()),
        rate_limits: (!limits.is_empty())
            .then(|| filter::RateLimits::compile(limits, None, config.gateway.workers)),
        unrouted: Arc::new(ServiceMetrics::new(&unrouted, None, config.gateway.workers)),
        clients: Arc::default(),
        max_connections_per_client: u32::try_from(max_connections / 2).unwrap_or(u32::MAX).max(1),
        stop_accepting: CancellationToken::new(),
        draining: AtomicBool::new(false),
        abort: CancellationToken::new(),
        suspicions,
    })
}

fn open_registry(config: &RegistryConfig) -> anyhow::Result<Arc<dyn Registry>> {
    Ok(match config {
        RegistryConfig::Embedded { path } => Embedded::open(path)
            .with_context(|| format!("cannot open the embedded registry at {}", path.display()))?,
        RegistryConfig::ZooKeeper { servers, prefix, session_timeout } => {
            ZooKeeper::connect(zookeeper::Settings {
                servers: servers.clone(),
                prefix: prefix.clone(),
                session_timeout: *session_timeout,
            })
        }
    })
}

async fn await_registry(mut state: watch::Receiver<State>) {
    let connected = state.wait_for(|state| state.link.is_connected());
    if tokio::time::timeout(REGISTRY_WAIT, connected).await.is_err() {
        tracing::warn!("the registry does not answer: serving what the files say until it does");
    }
}

fn open_log(config: &AccessLogConfig) -> anyhow::Result<(Option<LogWriter>, Format)> {
    let format = match config.format {
        AccessLogFormat::Json => Format::Json,
        AccessLogFormat::Combined => Format::Combined,
    };
    let target = match &config.target {
        AccessLogTarget::Off => return Ok((None, format)),
        AccessLogTarget::Stdout => LogTarget::Stdout,
        AccessLogTarget::File(path) => LogTarget::File(path.clone()),
    };
    let log =
        LogWriter::start(target.clone()).with_context(|| format!("cannot open the access log {target:?}"))?;
    Ok((Some(log), format))
}

/// Lifts the soft limit of open files to the hard one; returns how many client connections fit, each
/// with a connection to an endpoint.
fn raise_open_files() -> anyhow::Result<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(io::Error::from)
        .context("cannot raise the limit of open files")?;
    let files = limit.maximum.unwrap_or(u64::MAX);
    Ok(usize::try_from(files.saturating_sub(RESERVED_FILES) / 2).unwrap_or(usize::MAX).max(1))
}
