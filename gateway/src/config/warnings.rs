//! What is no mistake and still hardly what anybody wants.

use super::Config;
use crate::listener::proxy_protocol::Mode;

impl Config {
    /// Each names the key, what comes of it and what to do.
    pub fn warnings(&self) -> Vec<String> {
        let gateway = &self.gateway;
        if !gateway.trusted_proxies.is_empty() {
            return Vec::new();
        }
        let of_listener = |listener: &super::ListenerConfig| {
            let comes_of_it = match listener.proxy_protocol {
                Mode::Off => return None,
                Mode::Required => {
                    "\"required\" believes every peer, since gateway.trusted_proxies names none: whoever reaches this \
                     port says himself which address he has"
                }
                Mode::Optional => {
                    "\"optional\" reads no header, since gateway.trusted_proxies names nobody who may send one"
                }
            };
            Some(format!(
                "gateway.listener {:?}: proxy_protocol = {comes_of_it}; write the load balancers' networks into \
                 gateway.trusted_proxies",
                &*listener.name
            ))
        };
        gateway.listeners.iter().filter_map(of_listener).collect()
    }
}
