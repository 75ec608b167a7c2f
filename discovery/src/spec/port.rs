//! Of `ports`: addresses and ports of an app's own.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use topology::{AppPort, PortProtocol};

use crate::document::Table;

/// More than any program listens at.
const MAX_PORTS: usize = 16;
/// As a listener of the gateway.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

pub(super) fn read_ports(table: &Table<'_>) -> Option<Arc<[AppPort]>> {
    table.refuse_empty("ports", "write ports = [{ address = \"10.0.0.210:5432\" }]");
    let mut ports: Vec<AppPort> = Vec::new();
    for section in table.tables("ports", MAX_PORTS) {
        if let Some(port) = read_port(&section) {
            let is_same = |other: &AppPort| (other.address, other.protocol) == (port.address, port.protocol);
            if ports.iter().any(is_same) {
                section.mistake("address", "stands above already");
            }
            ports.push(port);
        }
        section.finish();
    }
    (!ports.is_empty()).then(|| ports.into())
}

fn read_port(section: &Table<'_>) -> Option<AppPort> {
    let address = section.parsed("address", |text| {
        let wrong = "is no address of one host with a port; write one such as \"10.0.0.210:5432\" or \"[2001:db8::210]:5432\"";
        let address: SocketAddr = text.parse().map_err(|_| wrong)?;
        let fits = address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
        fits.then_some(address).ok_or(wrong)
    });
    let address = section.required("address", address, "address = \"10.0.0.210:5432\"");
    let known = [("tcp", PortProtocol::Tcp), ("udp", PortProtocol::Udp)];
    let protocol = section.choice("protocol", &known).unwrap_or(PortProtocol::Tcp);
    let idle_timeout = section.duration("idle_timeout", IDLE);
    Some(AppPort { address: address?, protocol, idle_timeout })
}
