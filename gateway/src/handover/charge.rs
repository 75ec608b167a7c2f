//! From workers that accept to the one process that answers for the service. For a process that takes over
//! from none the first question is answered at once; the rest is the same.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use discovery::embedded::Embedded;
use discovery::secrets::Keys;

use super::give::{Giver, HandoverSocket};
use super::take::Inheritance;
use crate::admin::auth::permits_deploying;
use crate::admin::{self, AdminState, Gate};
use crate::app::Gateway;
use crate::config::AdminConfig;
use crate::deploy_api::Surroundings;
use crate::dns::DnsPlan;
use crate::metrics::Sources;
use crate::serve::confirm;
use crate::supervise::watch_workers;
use crate::vips::{Checks, Starter, VipPlan};

/// What is opened before there are workers, and used when all of them accept.
pub struct Opened {
    pub inheritance: Inheritance,
    pub handover: Option<HandoverSocket>,
    pub embedded: Option<Arc<Embedded>>,
    pub sources: Sources,
    /// `None`: this gateway has no virtual IPs.
    pub vips: Option<VipPlan>,
    /// `None`: there are no names, or another process answers for them still.
    pub dns: Option<DnsPlan>,
}

impl Gateway {
    /// # Errors
    /// When a worker does not accept, or when a process that was to be taken over goes on.
    pub(crate) async fn take_charge(&mut self, opened: Opened) -> anyhow::Result<()> {
        let Opened { mut inheritance, handover, embedded, sources, vips, dns } = opened;
        ensure!(confirm(self.listeners.workers()).await, "a worker cannot accept");
        let mut vips = vips.map(|plan| self.vip_starter(plan));
        if !inheritance.is_takeover() {
            self.vips = vips.take().map(Starter::start).transpose()?;
        }
        let dns = match (dns, &self.config.dns) {
            (None, Some(section)) => Some(DnsPlan::prepare(section, None, true)?),
            (dns, _) => dns,
        };
        self.dns = dns.map(|plan| plan.start(self.dns_surroundings.clone())).transpose()?;
        inheritance.serving().await?;
        // From here on there is no way back: what cannot be done is logged, and requests are served.
        self.listeners.complete();
        self.manager = std::mem::take(&mut inheritance.manager);
        for drainer in inheritance.drainers() {
            self.lineage.watch(drainer, self.observing.clone());
        }
        self.vips = self.vips.take().or_else(|| Some(vips?.start_after(self.lineage.clone())));
        if let Err(error) = self.start_deploy(&sources) {
            tracing::error!("nothing is deployed: {error:#}");
        }
        if let Err(error) = self.start_admin(sources) {
            tracing::error!("the admin listener is not served: {error:#}");
        }
        if let Some(mut socket) = handover {
            socket.own();
            match Giver::start(socket, self.lineage.clone(), self.manager.clone(), embedded) {
                Ok(giver) => self.handover = Some(giver),
                Err(error) => tracing::error!("there will be no hand-over: {error:#}"),
            }
        }
        let workers = self.listeners.workers().to_vec();
        self.tasks.extend(watch_workers(self.manager.clone(), workers, self.observing.clone()));
        self.tasks.push(self.watch_certificates());
        self.tasks.push(self.watch_sources());
        self.tasks.push(self.report());
        self.share_probes();
        self.serving.serve();
        self.manager.ready(&self.status());
        Ok(())
    }

    fn start_admin(&mut self, sources: Sources) -> anyhow::Result<()> {
        let Some(doors) = self.admin_doors.take() else { return Ok(()) };
        let id = self.config.gateway.id.clone();
        let workers = self.listeners.workers().to_vec();
        let state = AdminState::new(id, sources, workers, self.editor()?, self.admin_auth.clone());
        self.tasks.push(admin::start(doors, state, self.admin_stop.clone()));
        Ok(())
    }

    fn vip_starter(&self, plan: VipPlan) -> Starter {
        let checks = Checks {
            serving: self.serving.watch(),
            workers: self.listeners.workers().to_vec(),
            doorways: self.listeners.doorways(),
            probe: plan.probe.clone(),
        };
        plan.starter(self.registry(), checks)
    }

    fn start_deploy(&mut self, sources: &Sources) -> anyhow::Result<()> {
        let keys = self.config.registry_keys.as_deref().map(Keys::open).transpose()?.map(Arc::new);
        let Some(deploy) = &mut self.deploy else { return Ok(()) };
        deploy.start(Surroundings {
            registry: self.registry.clone(),
            shared: self.shared.clone(),
            failures: sources.failures.clone(),
            gateway_id: self.config.gateway.id.clone(),
            keys,
            gate: Gate {
                auth: self.admin_auth.clone(),
                metrics: sources.admin.clone(),
                permits: permits_deploying,
            },
            cancel: self.observing.clone(),
        });
        Ok(())
    }

    /// For people who ask the service manager.
    pub(crate) fn status(&self) -> String {
        format!("serving, generation {}", self.lineage.generation)
    }
}

impl Inheritance {
    /// The admin listener's socket: one that was passed if it stays where it is, or a new one.
    pub(crate) async fn open_admin(
        &mut self,
        wanted: Option<&AdminConfig>,
    ) -> anyhow::Result<Option<TcpListener>> {
        match (wanted.and_then(|admin| admin.address), self.claim_admin(wanted)) {
            (None, _) => Ok(None),
            (Some(_), Some(passed)) => Ok(Some(passed)),
            (Some(address), None) => {
                let socket = admin::bind(address).await?;
                Ok(Some(socket.into_std().context("cannot keep the admin listener")?))
            }
        }
    }
}
