//! The composition root: builds every part from its configuration, connects them, and takes them down
//! in order.

mod fixtures;
mod routing;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use discovery::change::Editor;
use discovery::file::FileReloader;
use discovery::registry::Registry;
use discovery::secrets::Keys;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::Snapshot;
use vip::ServingSwitch;

use self::fixtures::Fixtures;
pub(crate) use self::routing::buffer_budget;
use self::routing::{Ground, Routing};
use crate::access_log::LogWriter;
use crate::admin::{Authenticator, Doors, GatewayJudge};
use crate::config::Config;
use crate::control::Applied;
use crate::control::report::Reporter;
use crate::control::verdicts::Exchange;
use crate::deploy_api::Deploy;
use crate::dns::{self, DnsService};
use crate::handover::{Giver, Inheritance, Lineage, Opened};
use crate::listener::tls::TlsRegistry;
use crate::listeners::Listeners;
use crate::metrics::{Reloads, Sources, WorkerMetrics};
use crate::observing::Observing;
use crate::ports::{Board, ClaimWatch, Claims};
use crate::serve::{Command, WorkerSeed, spawn};
use crate::supervise::ServiceManager;
use crate::table::compile::Settings;
use crate::vips::VipService;
use crate::worker::Shared;

/// Certificates are looked at this often; files change by hand or by a renewal every few weeks.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// Filters' files are looked at this often: a list of addresses is changed while an attack is under way.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);

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
    pub(crate) registry: Arc<dyn Registry>,
    pub admin_address: Option<SocketAddr>,
    pub(crate) admin_socket: Option<Arc<TcpListener>>,
    /// Open, until they are served.
    pub(crate) admin_doors: Option<Doors>,
    pub(crate) admin_auth: Arc<Authenticator>,
    /// What apps are compiled by, with what their filters read.
    pub(crate) settings: Settings,
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
        let control = CancellationToken::new();
        let fixtures = Fixtures::open(&config, &mut inheritance).await?;
        let max_connections = fixtures.connections();
        let Fixtures { vips, dns, files, tls, mut listeners, listener_metrics, log, deploy, .. } = fixtures;
        let reloader = files.reloader();
        inheritance.release_registry(&config.registry).await?;
        let ground = Ground {
            files,
            upstream_tls: fixtures.upstream_tls,
            tls: tls.clone(),
            open_files: fixtures.open_files,
            max_connections,
            is_takeover: inheritance.is_takeover(),
        };
        let routing = Routing::start(&config, ground, &control).await?;
        let Routing { registry, shared, applied, settings, mut tasks, .. } = routing;
        let (observing, watched) = Observing::start(&config.gateway, log.as_ref(), &control, &mut tasks);
        let metrics: Vec<_> =
            (0..config.gateway.workers).map(|_| Arc::new(WorkerMetrics::default())).collect();
        listeners.commit(fixtures.plan, config.gateway.drain_timeout).await?;
        let of_each = max_connections / config.gateway.workers;
        let workers = start_workers(&shared, &metrics, &observing, fixtures.commands, of_each)?;
        let serving = ServingSwitch::new();
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
            registry: routing.registry_watch,
            doubts: routing.doubts,
            acceptance: routing.acceptance,
            applied: applied.clone(),
            probes: routing.probes,
            failures: routing.failures,
            serving: serving.watch(),
            tls: tls.clone(),
            tenants: settings.tenants.clone(),
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
            registry,
            admin_address: fixtures.admin_socket.as_ref().and_then(|socket| socket.local_addr().ok()),
            admin_socket: fixtures.admin_socket.map(Arc::new),
            admin_doors: fixtures.admin_doors,
            admin_auth: fixtures.admin_auth,
            settings,
            manager: ServiceManager::default(),
            lineage,
            handover: None,
            is_handing_over: false,
            snapshots: routing.snapshots,
            applied,
            reload_waits: false,
            claims: Claims::new(),
            port_board,
            ports_wait: false,
            vips: None,
            deploy,
            exchange: routing.exchange,
            dns: None,
            dns_surroundings,
        };
        // Before anybody is told that it serves.
        let claims = gateway.claim_watch();
        gateway.open_ports(claims.claims()).await;
        let (handover, embedded) = (fixtures.handover, routing.embedded);
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
        let (sources, cancel) = (self.settings.sources.clone(), self.control.clone());
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
