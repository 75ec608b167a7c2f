//! What is no mistake and still hardly what anybody wants.

use super::Config;
use crate::listener::proxy_protocol::Mode;

impl Config {
    /// Each names the key, what comes of it and what to do.
    pub fn warnings(&self) -> Vec<String> {
        self.unbelieved_proxies().into_iter().chain(self.sharing_alone()).collect()
    }

    fn sharing_alone(&self) -> Option<String> {
        self.gateway.shared_probes.filter(|_| !self.registry.has_room_for_a_fleet()).map(|_| {
            "gateway.shared_probes: an embedded registry is one process's own, so there is nobody to share with and every \
             endpoint is probed here; leave it out, or write registry.kind = \"zookeeper\" or \"etcd\""
                .to_owned()
        })
    }

    fn unbelieved_proxies(&self) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn config(registry: &str, shared_probes: &str) -> Result<Config, String> {
        let listener =
            "[[gateway.listener]]\nname = \"web\"\naddress = \"0.0.0.0:8080\"\nprotocol = \"http\"\n";
        let text = format!(
            "[registry]\n{registry}\n[gateway]\nid = \"gw-1\"\nshared_probes = {shared_probes}\n{listener}"
        );
        parse("sluice.toml", &text, Path::new("/etc/sluice")).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn probes_that_nobody_can_share_are_warned_of() {
        let fleet = config("kind = \"zookeeper\"\nservers = [\"127.0.0.1:2181\"]", "2").unwrap();
        assert_eq!((fleet.gateway.shared_probes, fleet.warnings()), (Some(2), Vec::new()));
        let alone = config("kind = \"embedded\"", "2").unwrap().warnings();
        let [warning] = &alone[..] else { panic!("one warning: {alone:?}") };
        assert!(
            warning.starts_with("gateway.shared_probes: ") && warning.contains("registry.kind"),
            "{warning}"
        );
        for wrong in ["0", "17", "\"2\""] {
            let mistakes = config("kind = \"embedded\"", wrong).unwrap_err();
            assert!(mistakes.contains("gateway.shared_probes"), "{mistakes}");
        }
    }
}
