//! SIGHUP: everything that can be read again is, and what can be taken up without a restart is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::{Gateway, buffer_budget};
use crate::config::{self, Config, GatewayConfig};
use crate::dns::DnsPlan;
use crate::ports::{self, Claims};

impl Gateway {
    /// Reads app files, certificates and the configuration at `path` again, and opens the access log anew.
    /// A configuration that is wrong, or that cannot be put in force as a whole, changes nothing; the log
    /// says why, and so does the metric `sluice_config_reload_success`. While another process is taking over
    /// this waits: what that one was given stays as it is.
    pub async fn reload(&mut self, path: &Path) {
        self.reload_waits = self.is_handing_over;
        if self.reload_waits {
            tracing::info!("a hand-over is under way: the files are read again after it");
            return;
        }
        self.manager.reloading();
        self.read_again(path).await;
        self.manager.ready(&self.status());
    }

    /// After a hand-over that failed: does what was asked for meanwhile.
    pub async fn catch_up(&mut self, path: &Path) {
        if self.reload_waits {
            self.reload(path).await;
        }
        if std::mem::take(&mut self.ports_wait) {
            let claims = self.claims.clone();
            self.open_ports(&claims).await;
        }
    }

    async fn read_again(&mut self, path: &Path) {
        self.files.reload();
        self.tls.reload();
        self.settings.sources.refresh();
        self.admin_auth.refresh();
        self.reopen_log();
        let applied = match config::load(path) {
            Ok(wanted) => self.reconfigure(wanted).await,
            Err(mistakes) => Err(mistakes.into()),
        };
        if let Err(error) = applied {
            tracing::error!("{} changes nothing:\n{error:#}", path.display());
            self.reloads.record_rejected();
        }
    }

    /// SIGUSR1, and part of SIGHUP: who has moved the access log's file away wants another one.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        self.lineage.reopen_logs();
    }

    async fn reconfigure(&mut self, wanted: Config) -> anyhow::Result<()> {
        let names = wanted.dns.as_ref();
        let names = names.map(|section| DnsPlan::prepare(section, self.dns.as_ref(), false)).transpose()?;
        self.open_listeners(&wanted.gateway).await?;
        // One after the other: what both told of names would be two truths.
        if let Some(former) = self.dns.take() {
            former.stop().await;
        }
        match names {
            Some(names) => self.dns = Some(names.start(self.dns_surroundings.clone())?),
            None => self.dns_surroundings.desk.clear(),
        }
        let pending = self.config.needing_restart(&wanted);
        self.config.take_up(wanted);
        self.shared.buffer_budget.store(buffer_budget(&self.config), Ordering::Relaxed);
        self.shared.trusted_proxies.store(Arc::new(self.config.gateway.trusted_proxies.clone()));
        self.reloads.record_applied(pending.len());
        self.config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        if pending.is_empty() {
            tracing::info!("configuration in force");
        } else {
            let keys = pending.join(", ");
            tracing::warn!(%keys, "configuration in force, but for keys that take a restart: {keys}");
        }
        Ok(())
    }

    /// Opens what apps ask for, as far as it can be had; returns whether something is to be tried again. While another process is
    /// taking over this waits as [`Self::reload`] does.
    pub async fn open_ports(&mut self, claims: &Claims) -> bool {
        self.claims.clone_from(claims);
        if self.is_handing_over {
            self.ports_wait = true;
            return false;
        }
        let gateway = self.config.gateway.clone();
        match self.open_listeners(&gateway).await {
            Ok(()) => self.port_board.load().iter().any(|asked| asked.refusal.is_some()),
            Err(error) => {
                tracing::error!("ports of apps stay as they were: {error:#}");
                true
            }
        }
    }

    /// Listeners of the configuration, and ports of apps beside them.
    async fn open_listeners(&mut self, wanted: &GatewayConfig) -> anyhow::Result<()> {
        let mut asked = ports::assign(&self.claims, &wanted.app_ports, &wanted.listeners);
        let given: Vec<_> = (0..asked.len()).filter(|at| asked[*at].refusal.is_none()).collect();
        let listeners = given.iter().map(|at| asked[*at].listener(wanted)).collect();
        let (plan, left_out) = self.listeners.plan_beside(&wanted.listeners, listeners)?;
        self.listeners.commit(plan, wanted.drain_timeout).await?;
        for (at, why) in left_out {
            asked[given[at]].refusal = Some(why);
        }
        let former = self.port_board.swap(Arc::new(asked));
        let now = self.port_board.load();
        for asked in now.iter().filter(|asked| asked.refusal.is_some() && !former.contains(asked)) {
            let why = asked.refusal.as_deref().unwrap_or_default();
            tracing::warn!(app = %asked.app, address = %asked.port.address, protocol = %asked.port.protocol, why, "an app does not have the port that it asks for");
        }
        Ok(())
    }
}
