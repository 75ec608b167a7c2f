//! SIGHUP: everything that can be read again is, and what can be taken up without a restart is.

use std::path::Path;
use std::sync::Arc;

use crate::app::Gateway;
use crate::config::{self, Config};

impl Gateway {
    /// Reads app files, certificates and the configuration at `path` again, and opens the access log anew.
    /// A configuration that is wrong, or that cannot be put in force as a whole, changes nothing; the log
    /// says why, and so does the metric `sluice_config_reload_success`.
    pub async fn reload(&mut self, path: &Path) {
        self.files.reload();
        self.tls.reload();
        self.filter_sources.refresh();
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
    }

    async fn reconfigure(&mut self, wanted: Config) -> anyhow::Result<()> {
        let plan = self.listeners.plan(&wanted.gateway.listeners)?;
        self.listeners.commit(plan, wanted.gateway.drain_timeout).await?;
        let pending = self.config.needing_restart(&wanted);
        self.config.take_up(wanted);
        self.shared.trusted_proxies.store(Arc::new(self.config.gateway.trusted_proxies.clone()));
        self.reloads.record_applied(pending.len());
        if pending.is_empty() {
            tracing::info!("configuration in force");
        } else {
            let keys = pending.join(", ");
            tracing::warn!(%keys, "configuration in force, but for keys that take a restart: {keys}");
        }
        Ok(())
    }
}
