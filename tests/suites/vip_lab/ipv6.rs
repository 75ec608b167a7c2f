//! An IPv6 address: neighbour solicitations instead of ARP, all else the same.

use std::net::{Ipv6Addr, SocketAddr};

use tests::{DEADLINE, eventually};

use crate::faults::Fault;
use crate::lab::{Kind, Lab, PORT, name};
use crate::witness::Witness;

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 0x200);

#[test]
fn ipv6_address_moves_as_an_ipv4_address_does() {
    let change = |config: tests::Config| {
        config.listener_at("web-6", &format!("[{VIP6}]:80"), &["protocol = \"http\""]).listener_at(
            "who-6",
            &format!("[{VIP6}]:{PORT}"),
            &["protocol = \"udp\"", "app = \"who\""],
        )
    };
    let lines = [&*format!("[[vip.address]]\nip = \"{VIP6}\"")];
    let Some(mut lab) = Lab::start_with(Kind::ZooKeeper(1), &[0], &lines, change) else { return };
    let service = Witness::of_service(&lab.client, SocketAddr::from((VIP6, PORT)));
    for fault in Fault::ALL {
        let before = lab.settled_at(VIP6.into());
        service.clear();
        eventually(DEADLINE, "the client is answered", || service.count() > 20);
        fault.begin(&mut lab, before.by);
        let old = name(before.by);
        eventually(DEADLINE * 2, &format!("somebody else answers after {}", fault.name()), || {
            service.has_heard(|name| *name != old)
        });
        fault.end(&mut lab, before.by);
        let after = lab.settled_at(VIP6.into());
        let heard = service.count();
        eventually(DEADLINE, "the client is answered", || service.count() > heard + 20);
        let successions = usize::try_from(after.epoch - before.epoch).expect("a few");
        assert!(service.changes() <= successions, "{}: {:?}", fault.name(), service.seen());
        println!("{}: {:?} without an answer", fault.name(), service.downtime().expect("another one"));
    }
}
