//! Asks instances as gateways ask endpoints.

use std::net::SocketAddr;

use async_trait::async_trait;
use deploy::engine::Prober;
use deploy::model::{Probe, ProbeKind};
use healthcheck::{Question, probe_once};

pub(super) struct HealthProber;

#[async_trait]
impl Prober for HealthProber {
    async fn probe(&self, address: SocketAddr, protocol: &str, probe: &Probe) -> Result<(), String> {
        let question = match (&probe.kind, protocol) {
            (ProbeKind::None, _) => return Ok(()),
            (ProbeKind::Tcp, _) => Question::Tcp,
            (ProbeKind::Http { path }, "h2") => Question::Http2 { path },
            (ProbeKind::Http { path }, _) => Question::Http1 { path },
        };
        let asked = probe_once(address, question, probe.timeout).await;
        asked.map_err(|error| error.to_text())
    }
}
