//! Who gets which port. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use topology::{AppId, AppPort, PortProtocol};

use super::Asked;
use crate::config::{AppPortsConfig, ListenerConfig};
use crate::listener::Transport;

/// What apps ask for, with when each of them first claimed anything.
pub type Claims = BTreeMap<AppId, (u64, Arc<[AppPort]>)>;

/// Every port that is asked for, with the reason where it is not given. `taken`: listeners of the configuration.
pub fn assign(claims: &Claims, config: &AppPortsConfig, taken: &[ListenerConfig]) -> Vec<Asked> {
    let mut in_turn: Vec<_> = claims.iter().collect();
    in_turn.sort_by_key(|(app, (claimed, _))| (*claimed, *app));
    let mut given: BTreeSet<(SocketAddr, PortProtocol)> = BTreeSet::new();
    let mut asked = Vec::new();
    for (app, (_, ports)) in in_turn {
        for port in ports.iter() {
            let place = (port.address, port.protocol);
            let refusal = config.permits(port.address).err().or_else(|| {
                if taken.iter().any(|listener| is_at(listener, port)) {
                    Some("the gateway has a listener of its own there".to_owned())
                } else if given.contains(&place) {
                    // Not whose: tenants are told this.
                    Some("another app has asked for it before, and has it".to_owned())
                } else if given.len() >= config.most {
                    let most = config.most;
                    Some(format!("this gateway has given away the {most} ports that it has for apps (gateway.app_ports.most)"))
                } else {
                    None
                }
            });
            if refusal.is_none() {
                given.insert(place);
            }
            asked.push(Asked { app: app.clone(), port: *port, refusal });
        }
    }
    asked
}

/// One at a wildcard address is at every address.
fn is_at(listener: &ListenerConfig, port: &AppPort) -> bool {
    let transport = match port.protocol {
        PortProtocol::Tcp => Transport::Stream,
        PortProtocol::Udp => Transport::Datagram,
    };
    let ip = listener.address.ip();
    listener.protocol.transport() == transport
        && listener.address.port() == port.address.port()
        && (ip == port.address.ip() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(most: usize) -> AppPortsConfig {
        AppPortsConfig { addresses: vec!["10.0.0.0/28".parse().unwrap()], ports: vec![1000..=1009], most }
    }

    fn port(address: &str) -> AppPort {
        AppPort { address: address.parse().unwrap(), protocol: PortProtocol::Tcp, idle_timeout: None }
    }

    fn claims(of: &[(&str, u64, &[&str])]) -> Claims {
        let claim = |(app, claimed, ports): &(&str, u64, &[&str])| {
            let ports: Vec<_> = ports.iter().map(|address| port(address)).collect();
            (AppId::parse(app).unwrap(), (*claimed, Arc::from(ports)))
        };
        of.iter().map(claim).collect()
    }

    fn outcome(asked: &[Asked]) -> Vec<(String, bool)> {
        asked.iter().map(|one| (format!("{} {}", one.app, one.port.address), one.refusal.is_none())).collect()
    }

    #[test]
    fn who_asked_first_has_it_whatever_its_name() {
        let both = claims(&[("a", 9, &["10.0.0.1:1000", "10.0.0.1:1001"]), ("b", 3, &["10.0.0.1:1000"])]);
        let asked = assign(&both, &config(10), &[]);
        let wanted = [("b 10.0.0.1:1000", true), ("a 10.0.0.1:1000", false), ("a 10.0.0.1:1001", true)];
        assert_eq!(outcome(&asked), wanted.map(|(name, given)| (name.to_owned(), given)));
        assert!(asked[1].refusal.as_ref().unwrap().contains("another app"));
    }

    #[test]
    fn what_the_operator_does_not_give_is_refused_and_counts_for_nothing() {
        let asks = claims(&[
            ("a", 1, &["10.1.0.1:1000"]),
            ("b", 2, &["10.0.0.1:22"]),
            ("c", 3, &["10.0.0.1:1000"]),
            ("d", 4, &["10.0.0.1:1001"]),
        ]);
        let given: Vec<_> =
            outcome(&assign(&asks, &config(1), &[])).into_iter().map(|(_, given)| given).collect();
        assert_eq!(given, [false, false, true, false]);
        let nothing = assign(&asks, &AppPortsConfig::default(), &[]);
        assert!(nothing.iter().all(|one| one.refusal.is_some()));
    }

    proptest! {
        #[test]
        fn no_place_is_given_twice(
            asks in proptest::collection::btree_map("[a-f]", (0u64..4, proptest::collection::vec((0u8..4, 0u16..4, any::<bool>()), 1..6)), 0..6),
            most in 0usize..8,
        ) {
            let claims: Claims = asks.into_iter().map(|(app, (claimed, ports))| {
                let ports: Vec<_> = ports.into_iter().map(|(host, number, udp)| AppPort {
                    address: SocketAddr::from(([10, 0, 0, host], 1000 + number)),
                    protocol: if udp { PortProtocol::Udp } else { PortProtocol::Tcp },
                    idle_timeout: None,
                }).collect();
                (AppId::parse(&app).unwrap(), (claimed, Arc::from(ports)))
            }).collect();
            let asked = assign(&claims, &config(most), &[]);
            let all: usize = claims.values().map(|(_, ports)| ports.len()).sum();
            prop_assert_eq!(asked.len(), all);
            let given: Vec<_> = asked.iter().filter(|one| one.refusal.is_none()).map(|one| (one.port.address, one.port.protocol)).collect();
            prop_assert!(given.len() <= most);
            prop_assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len());
            // As many as there are places, and no fewer, unless there are no more to give.
            let places: BTreeSet<_> = asked.iter().map(|one| (one.port.address, one.port.protocol)).collect();
            prop_assert_eq!(given.len(), places.len().min(most));
        }
    }
}
