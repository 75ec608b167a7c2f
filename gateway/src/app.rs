//! The composition root: builds every part from its configuration, connects them, and takes them down
//! in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use discovery::assemble::Discovery;
use discovery::embedded::Embedded;
use discovery::file::{FileReloader, FileSource};
use discovery::registry::{Registry, State};
use discovery::zookeeper::{self, ZooKeeper};
use healthcheck::Checker;
use rustls::ServerConfig;
use socket2::Socket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::{AppId, Snapshot};
use vip::ServingSwitch;

use crate::access_log::{Format, LogTarget, LogWriter, WorkerLog};
use crate::admin::{self, AdminState};
use crate::config::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, Config, ListenerConfig, ListenerProtocol,
    RegistryConfig,
};
use crate::control::{Applied, Applier, on_transition};
use crate::listener::tls::Certificates;
use crate::listener::{
    Bound, Speaks, StreamRoutes, TcpSettings, Transport, UdpSettings, bind, listen, local_address,
};
use crate::metrics::{Exporter, ServiceMetrics, Sources, WorkerMetrics};
use crate::serve::{WorkerSeed, spawn};
use crate::table::RoutingTable;
use crate::table::compile::Settings;
use crate::worker::Shared;

/// How long a start waits for a registry that does not answer, before it serves what the files say: a
/// gateway that knows no route yet should rather not accept.
const REGISTRY_WAIT: Duration = Duration::from_secs(5);
/// Certificates are looked at this often; files change by hand or by a renewal every few weeks.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
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
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    files: FileReloader,
    certificates: Vec<(Arc<str>, Arc<Certificates>)>,
    registry: Arc<dyn Registry>,
    /// Where clients connect, in the order of the configuration, with the ports that were free.
    pub addresses: Vec<(Arc<str>, SocketAddr)>,
    pub admin_address: Option<SocketAddr>,
}

impl Gateway {
    /// Starts everything and returns once requests are served. Must be called within a tokio runtime,
    /// which then carries the control plane.
    ///
    /// # Errors
    /// Whatever cannot be opened, bound or read, with its name. Nothing has been accepted by then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let max_connections = raise_open_files()? / config.gateway.workers;
        let serving = ServingSwitch::new();
        let control = CancellationToken::new();
        let registry = open_registry(&config.registry)?;
        let files =
            FileSource::start(config.apps.files.clone()).await.context("cannot watch the apps' files")?;
        let reloader = files.reloader();
        let listeners = open_listeners(&config)?;
        let admin_socket = match &config.admin {
            Some(admin) => Some(admin::bind(admin.address).await?),
            None => None,
        };
        let certificates =
            listeners.iter().filter_map(|l| Some((l.name.clone(), l.certificates.clone()?))).collect();
        let addresses: Vec<_> =
            listeners.iter().map(|listener| (listener.name.clone(), listener.address)).collect();
        let (log, format) = open_log(&config.gateway.access_log)?;
        await_registry(registry.watch()).await;
        let registry_watch = registry.watch();
        let (mut snapshots, discovery) = Discovery::start(registry.clone(), files, control.clone());

        let shared = Arc::new(share(&config)?);
        let checker = Checker::new(on_transition(shared.clone()), &control);
        let probes = checker.stats();
        let applied = Arc::new(Applied::default());
        let settings =
            Settings { base_domain: config.gateway.base_domain.clone(), shards: config.gateway.workers };
        let mut applier = Applier::new(settings, shared.clone(), applied.clone(), checker);
        let first: Snapshot = snapshots.borrow_and_update().clone();
        applier.apply(first);
        let mut tasks = vec![discovery, tokio::spawn(applier.run(snapshots, control.clone()))];

        let names = || addresses.iter().map(|(name, _)| name.clone());
        let metrics: Vec<_> =
            (0..config.gateway.workers).map(|_| Arc::new(WorkerMetrics::new(names()))).collect();
        let workers = start_workers(&shared, &metrics, log.as_ref(), format, listeners, max_connections)?;
        let sources = Sources {
            shared: shared.clone(),
            workers: metrics,
            registry: registry_watch,
            applied,
            probes,
            serving: serving.watch(),
        };
        let admin_address = admin_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        if let Some(socket) = admin_socket {
            let state = AdminState::new(config.gateway.id.clone(), sources.clone(), Exporter::new(sources));
            tasks.push(admin::start(socket, state, control.clone()));
        }
        let gateway = Self {
            serving,
            shared,
            workers,
            log,
            control,
            tasks,
            drain_delay: config.gateway.drain_delay,
            drain_timeout: config.gateway.drain_timeout,
            files: reloader,
            certificates,
            registry,
            addresses,
            admin_address,
        };
        gateway.watch_certificates();
        gateway.serving.serve();
        Ok(gateway)
    }

    /// The registry that this gateway watches.
    pub fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }

    /// Reads files and certificates again, and opens the access log anew.
    pub fn reload(&self) {
        self.files.reload();
        refresh(&self.certificates);
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    fn watch_certificates(&self) {
        let (certificates, cancel) = (self.certificates.clone(), self.control.clone());
        if certificates.is_empty() {
            return;
        }
        tokio::spawn(async move {
            while cancel.run_until_cancelled(tokio::time::sleep(CERTIFICATE_INTERVAL)).await.is_some() {
                refresh(&certificates);
            }
        });
    }
}

fn refresh(certificates: &[(Arc<str>, Arc<Certificates>)]) {
    for (listener, certificates) in certificates {
        match certificates.refresh() {
            Ok(true) => tracing::info!(%listener, "new certificates in force"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%listener, %error, "certificates rejected; the former ones stay"),
        }
    }
}

/// A listener's sockets, one per worker, which do not accept yet.
struct OpenListener {
    name: Arc<str>,
    address: SocketAddr,
    transport: Transport,
    speaks: Speaks,
    sockets: Vec<Socket>,
    certificates: Option<Arc<Certificates>>,
}

fn open_listeners(config: &Config) -> anyhow::Result<Vec<OpenListener>> {
    let open = |listener: &ListenerConfig| {
        let cannot = || format!("cannot open listener {} at {}", listener.name, listener.address);
        let transport = listener.protocol.transport();
        let sockets = bind(listener.address, config.gateway.workers, transport).with_context(cannot)?;
        let address = sockets.first().map_or(Ok(listener.address), local_address).with_context(cannot)?;
        let name = listener.name.clone();
        let tls = listener.protocol.tls();
        let certificates = tls.map(|tls| Certificates::load(&tls.certificates)).transpose();
        let certificates = certificates.with_context(cannot)?;
        let tls = certificates.as_ref().map(Certificates::server_config).transpose().with_context(cannot)?;
        let speaks = speaks(listener, tls, address);
        Ok(OpenListener { name, address, transport, speaks, sockets, certificates })
    };
    config.gateway.listeners.iter().map(open).collect()
}

fn speaks(listener: &ListenerConfig, tls: Option<Arc<ServerConfig>>, address: SocketAddr) -> Speaks {
    let (name, proxy_protocol) = (listener.name.clone(), listener.proxy_protocol);
    match &listener.protocol {
        ListenerProtocol::Http { .. } => {
            Speaks::Http { name, tls, authority: address.to_string(), proxy_protocol }
        }
        ListenerProtocol::Tcp(tcp) => {
            let routes = StreamRoutes::new(tcp.app.clone(), &tcp.sni);
            // What the endpoint speaks is not for us to choose.
            let tls = tls.map(|mut tls| {
                Arc::make_mut(&mut tls).alpn_protocols.clear();
                tls
            });
            let settings = Arc::new(TcpSettings { routes, tls, idle_timeout: tcp.idle_timeout });
            Speaks::Tcp { name, settings, proxy_protocol }
        }
        ListenerProtocol::Udp(udp) => {
            let (app, idle_timeout, max_sessions) = (udp.app.clone(), udp.idle_timeout, udp.max_sessions);
            Speaks::Udp { name, settings: Arc::new(UdpSettings { app, idle_timeout, max_sessions }) }
        }
    }
}

fn start_workers(
    shared: &Arc<Shared>,
    metrics: &[Arc<WorkerMetrics>],
    log: Option<&LogWriter>,
    format: Format,
    listeners: Vec<OpenListener>,
    max_connections: usize,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut sockets: Vec<Vec<Bound>> = metrics.iter().map(|_| Vec::new()).collect();
    for listener in listeners {
        for (worker, socket) in sockets.iter_mut().zip(listener.sockets) {
            let cannot = || format!("cannot listen at {}", listener.address);
            let socket = listen(socket, listener.transport).with_context(cannot)?;
            worker.push(Bound { socket, speaks: listener.speaks.clone() });
        }
    }
    let start = |(index, (listeners, metrics)): (usize, (Vec<Bound>, &Arc<WorkerMetrics>))| {
        let log =
            log.map_or_else(WorkerLog::off, |log| WorkerLog::new(format, log.sender(), metrics.clone()));
        let seed = WorkerSeed {
            index,
            shared: shared.clone(),
            metrics: metrics.clone(),
            log,
            listeners,
            max_connections,
        };
        spawn(seed).with_context(|| format!("cannot start worker {index}"))
    };
    sockets.into_iter().zip(metrics).enumerate().map(start).collect()
}

fn share(config: &Config) -> anyhow::Result<Shared> {
    let unrouted = AppId::parse(UNROUTED).context("the label of unrouted requests")?;
    Ok(Shared {
        table: ArcSwap::from_pointee(RoutingTable::default()),
        pseudonym: config.gateway.id.clone(),
        trusted_proxies: config.gateway.trusted_proxies.clone(),
        unrouted: Arc::new(ServiceMetrics::new(&unrouted, None, config.gateway.workers)),
        stop_accepting: CancellationToken::new(),
        draining: AtomicBool::new(false),
        abort: CancellationToken::new(),
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
