//! What a start opens and reads before there is a route: all of it can fail, and then nothing has changed for anybody.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context as _;
use discovery::file::FileSource;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::access_log::{Envelope, LogPlan, LogTarget, LogWriter};
use crate::admin::auth::tokens::TokenFile;
use crate::admin::{Authenticator, Doors};
use crate::config::{AdminConfig, Config, GatewayConfig};
use crate::deploy_api::Deploy;
use crate::dns::DnsPlan;
use crate::handover::Inheritance;
use crate::handover::give::HandoverSocket;
use crate::listener::tls::{TlsRegistry, UpstreamProfiles};
use crate::listeners::{Listeners, Plan};
use crate::metrics::ListenerMetrics;
use crate::serve::Command;
use crate::vips::VipPlan;

/// Sockets that the process needs besides connections: listeners, registry, files.
const RESERVED_FILES: usize = 512;

/// Each part is given away once.
pub(super) struct Fixtures {
    /// As many files as the process may have.
    pub open_files: usize,
    /// `None`: this gateway has no virtual IPs.
    pub vips: Option<VipPlan>,
    /// `None`: there are no names, or another process answers for them still.
    pub dns: Option<DnsPlan>,
    pub files: FileSource,
    pub upstream_tls: Arc<UpstreamProfiles>,
    pub tls: Arc<TlsRegistry>,
    pub listeners: Listeners,
    pub listener_metrics: Arc<ListenerMetrics>,
    /// Of the listeners, bound and not accepting.
    pub plan: Plan,
    /// Of each worker.
    pub commands: Vec<UnboundedReceiver<Command>>,
    pub admin_socket: Option<TcpListener>,
    pub admin_auth: Arc<Authenticator>,
    pub admin_doors: Option<Doors>,
    pub handover: Option<HandoverSocket>,
    pub deploy: Option<Deploy>,
    pub log: Option<LogWriter>,
}

impl Fixtures {
    /// # Errors
    /// Whatever cannot be opened, bound or read, with its name.
    pub async fn open(config: &Config, inheritance: &mut Inheritance) -> anyhow::Result<Self> {
        let is_takeover = inheritance.is_takeover();
        let open_files = raise_open_files()?;
        let vips =
            config.vip.as_ref().map(|section| VipPlan::prepare(section, &config.gateway.id)).transpose()?;
        // Where another process answers, that goes on until this one is about to.
        let dns_section = config.dns.as_ref().filter(|_| !is_takeover);
        let dns = dns_section.map(|section| DnsPlan::prepare(section, None, false)).transpose()?;
        let files =
            FileSource::start(config.apps.files.clone()).await.context("cannot watch the apps' files")?;
        let workers = config.gateway.workers;
        let (tellers, commands): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let listener_metrics = Arc::new(ListenerMetrics::new(workers));
        let upstream_tls =
            UpstreamProfiles::load(&config.gateway.upstream_tls).context("cannot set up TLS to endpoints")?;
        let tls = Arc::new(TlsRegistry::new(upstream_tls.clone()));
        let keeps_sockets = config.gateway.handover.is_some();
        let listeners = Listeners::new(tellers, listener_metrics.clone(), tls.clone(), keeps_sockets);
        let passed = inheritance.claim(&config.gateway.listeners)?;
        let plan = listeners.plan_with(&config.gateway.listeners, passed)?;
        let admin_socket = inheritance.open_admin(config.admin.as_ref()).await?;
        let admin_auth = Arc::new(authenticator(config.admin.as_ref())?);
        let open_doors = |admin| Doors::open(admin, admin_socket.as_ref(), is_takeover);
        let admin_doors = config.admin.as_ref().map(open_doors).transpose()?;
        let handover = config.gateway.handover.as_deref();
        let handover = handover.map(|path| inheritance.claim_socket(path)).transpose()?;
        let deploy = config.deploy.as_ref().map(|deploy| Deploy::open(deploy, is_takeover)).transpose()?;
        let log = open_log(&config.gateway)?;
        Ok(Self {
            open_files,
            vips,
            dns,
            files,
            upstream_tls,
            tls,
            listeners,
            listener_metrics,
            plan,
            commands,
            admin_socket,
            admin_auth,
            admin_doors,
            handover,
            deploy,
            log,
        })
    }

    /// How many client connections fit, each with a connection to an endpoint.
    pub fn connections(&self) -> usize {
        (self.open_files.saturating_sub(RESERVED_FILES) / 2).max(1)
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
