//! The kernel's side of a virtual IP, in real network namespaces: what hosts on the same link see of it.

mod addresses;
mod fence;
mod guard;
mod listeners;
mod prober;
mod wire;

use std::net::IpAddr;
use std::time::Duration;

use tests::{Host, Namespace, Switch};
use vip::net::{Addresses, Fence, Interface};

const VIP4: &str = "10.77.0.200";
const VIP6: &str = "fd00:77::c8";
const TABLE: &str = "sluice_vip";
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn vip4() -> IpAddr {
    VIP4.parse().expect("an address")
}

fn vip6() -> IpAddr {
    VIP6.parse().expect("an address")
}

fn vips() -> [IpAddr; 2] {
    [vip4(), vip6()]
}

/// A gateway and a client on a switch.
struct Lab {
    // Dropped last: it has the other ends of their cables.
    gateway: Host,
    client: Host,
    switch: Switch,
}

impl Lab {
    /// `None`, and said so, where there are no namespaces.
    fn new() -> Option<Self> {
        if !Namespace::available() {
            return None;
        }
        let switch = Switch::new();
        let gateway = switch.host("gateway", &["10.77.0.1/24", "fd00:77::1/64"]);
        let client = switch.host("client", &["10.77.0.9/24", "fd00:77::9/64"]);
        Some(Self { gateway, client, switch })
    }

    /// The addresses on, and fenced off.
    fn fenced(&self) -> Fence {
        let fence = self.gateway.run(|| Fence::install(TABLE, &vips()).expect("there is nf_tables"));
        self.gateway.run(|| {
            let interface = eth0();
            let mut addresses = Addresses::open().expect("there is netlink");
            vips().iter().for_each(|ip| addresses.put(&interface, *ip, LONG).expect("we are root"));
        });
        fence
    }
}

/// Of the namespace that the calling thread is in.
fn eth0() -> Interface {
    Interface::find("eth0").expect("hosts have it")
}
