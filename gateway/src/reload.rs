//! SIGHUP: everything that can be read again is, and what can be taken up without a restart is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::{Gateway, buffer_budget};
use crate::config::{self, Config};
use crate::dns::DnsPlan;

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
    }

    async fn read_again(&mut self, path: &Path) {
        self.files.reload();
        self.tls.reload();
        self.filter_sources.refresh();
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
        let plan = self.listeners.plan(&wanted.gateway.listeners)?;
        let names = wanted.dns.as_ref();
        let names = names.map(|section| DnsPlan::prepare(section, self.dns.as_ref(), false)).transpose()?;
        self.listeners.commit(plan, wanted.gateway.drain_timeout).await?;
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
}
