//! Ports of their own that apps ask for: who gets which, and what became of it.
//!
//! Apps ask in their specs; the operator says which addresses and ports there are to be had. Of two that ask for the
//! same one the first has it, on every gateway the same. What is given is opened as a listener beside those of the
//! configuration (`Listeners`).

mod assign;
mod watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use topology::{AppId, AppPort, PortProtocol};

use crate::config::{
    DEFAULT_MAX_SESSIONS, DEFAULT_UDP_IDLE, GatewayConfig, ListenerConfig, ListenerProtocol, TcpConfig,
    UdpConfig,
};
use crate::listener::Presence;
use crate::listener::proxy_protocol::Mode;
use crate::proxy::timeouts;

pub use assign::{Claims, assign};
pub use watch::ClaimWatch;

/// A port that an app has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub app: AppId,
    pub port: AppPort,
    /// Why it does not have it. `None`: it is open.
    pub refusal: Option<String>,
}

/// All of them as they are now, for operators.
pub type Board = Arc<ArcSwap<Vec<Asked>>>;

impl Asked {
    /// As the listener that it is. It need not be here: a virtual IP comes and goes.
    pub fn listener(&self, gateway: &GatewayConfig) -> ListenerConfig {
        let AppPort { address, protocol, idle_timeout } = self.port;
        ListenerConfig {
            name: format!("{}@{address}/{protocol}", self.app).into(),
            address,
            proxy_protocol: Mode::Off,
            presence: Presence::Optional,
            limits: gateway.limits.clone(),
            protocol: match protocol {
                PortProtocol::Tcp => ListenerProtocol::Tcp(TcpConfig {
                    app: Some(self.app.clone()),
                    sni: Vec::new(),
                    tls: None,
                    idle_timeout: idle_timeout.unwrap_or(timeouts::TUNNEL),
                }),
                PortProtocol::Udp => ListenerProtocol::Udp(UdpConfig {
                    app: self.app.clone(),
                    idle_timeout: idle_timeout.unwrap_or(DEFAULT_UDP_IDLE),
                    max_sessions: DEFAULT_MAX_SESSIONS,
                }),
            },
        }
    }
}
