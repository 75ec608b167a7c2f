//! `[gateway.app_ports]`: which addresses and ports apps may ask for.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use discovery::document::Table;
use ipnet::IpNet;

use super::file::network;

/// Each is compared in turn when an app asks.
const MAX_NETWORKS: usize = 64;
const MAX_RANGES: usize = 64;
/// Ports below are the platform's, and need a capability.
const DEFAULT_PORTS: RangeInclusive<u16> = 1024..=u16::MAX;
/// Each is a socket of every worker.
const DEFAULT_MOST: usize = 256;
const MAX_MOST: u32 = 10_000;

/// What apps may have. Default: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppPortsConfig {
    pub addresses: Vec<IpNet>,
    pub ports: Vec<RangeInclusive<u16>>,
    /// Of all apps together. Default: 256.
    pub most: usize,
}

impl AppPortsConfig {
    /// # Errors
    /// Which key says otherwise.
    pub fn permits(&self, address: SocketAddr) -> Result<(), String> {
        if self.addresses.is_empty() {
            return Err("this gateway gives apps no ports of their own; its operator names addresses in \
                        gateway.app_ports"
                .to_owned());
        }
        if !self.has(address.ip()) {
            return Err(format!("{} is in no network of gateway.app_ports.addresses", address.ip()));
        }
        let fits = self.ports.iter().any(|range| range.contains(&address.port()));
        fits.then_some(())
            .ok_or_else(|| format!("port {} is in no range of gateway.app_ports.ports", address.port()))
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|network| network.contains(&ip))
    }
}

pub(super) fn read_app_ports(gateway: &Table<'_>) -> AppPortsConfig {
    let Some(table) = gateway.table("app_ports") else { return AppPortsConfig::default() };
    let addresses = table.list("addresses", MAX_NETWORKS, network);
    let addresses = table.required("addresses", addresses, "addresses = [\"10.0.0.208/28\"]");
    table
        .refuse_empty("addresses", "write addresses = [\"10.0.0.208/28\"], or leave [gateway.app_ports] out");
    let ports = table.list("ports", MAX_RANGES, range);
    table.refuse_empty(
        "ports",
        "write ports = [\"5432\", \"20000-29999\"], or leave it out for all from 1024",
    );
    let most = table.integer("most", 1..=MAX_MOST);
    table.finish();
    AppPortsConfig {
        addresses: addresses.unwrap_or_default(),
        ports: ports.unwrap_or_else(|| vec![DEFAULT_PORTS]),
        most: most.map_or(DEFAULT_MOST, |most| most as usize),
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no port and no range of ports; write \"5432\" or \"20000-29999\"");
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_alone_or_as_ranges() {
        assert_eq!(range("53"), Ok(53..=53));
        assert_eq!(range("20000-29999"), Ok(20_000..=29_999));
        for bad in ["", "0", "0-9", "9-1", "a", "1-", "-1", "1-2-3", "65536"] {
            assert!(range(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_permitted_is_named_by_key() {
        let nothing = AppPortsConfig::default();
        let given = AppPortsConfig {
            addresses: vec!["10.0.0.208/28".parse().unwrap()],
            ports: vec![5432..=5432],
            most: 1,
        };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(
            nothing
                .permits(address("10.0.0.210:5432"))
                .unwrap_err()
                .contains("names addresses in gateway.app_ports")
        );
        assert_eq!(given.permits(address("10.0.0.210:5432")), Ok(()));
        assert!(given.permits(address("10.0.1.1:5432")).unwrap_err().contains("app_ports.addresses"));
        assert!(given.permits(address("10.0.0.210:22")).unwrap_err().contains("app_ports.ports"));
    }
}
