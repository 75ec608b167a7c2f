//! Addresses on and off.

use std::net::IpAddr;
use std::time::Duration;

use tests::{DEADLINE, eventually};
use vip::net::{Addresses, Changes, Error, Interface};

use crate::{LONG, Lab, VIP4, eth0, vip4, vip6, vips};

#[test]
fn an_address_is_put_on_renewed_and_taken_off() {
    let Some(lab) = Lab::new() else { return };
    let mut addresses = lab.gateway.run(|| Addresses::open().unwrap());
    let interface = lab.gateway.run(eth0);
    for ip in vips() {
        addresses.put(&interface, ip, Duration::from_millis(9001)).unwrap();
        let found = addresses.list().unwrap().into_iter().find(|found| found.ip == ip).unwrap();
        assert_eq!(found.prefix, if ip.is_ipv4() { 32 } else { 128 });
        assert_eq!(found.index, interface.index);
        let valid = found.valid.unwrap();
        assert!(valid > Duration::from_secs(7) && valid <= Duration::from_secs(10), "{valid:?}");
        let shown = lab.gateway.ip("-o address show dev eth0");
        let shown = shown.lines().find(|line| line.contains(&format!(" {ip}/"))).unwrap();
        assert!(shown.contains("deprecated") && shown.contains("preferred_lft 0sec"), "{shown}");
        assert!(!shown.contains("tentative"), "{shown}");

        addresses.put(&interface, ip, LONG).unwrap();
        let found = addresses.list().unwrap().into_iter().find(|found| found.ip == ip).unwrap();
        assert!(found.valid.unwrap() > Duration::from_secs(500));

        assert!(addresses.remove(&interface, ip).unwrap());
        assert!(!lab.gateway.has(ip));
        assert!(!addresses.remove(&interface, ip).unwrap());
    }
}

#[test]
fn an_address_that_nobody_renews_is_swept_away() {
    let Some(lab) = Lab::new() else { return };
    lab.gateway.run(|| {
        let (interface, mut addresses) = (eth0(), Addresses::open().unwrap());
        vips().iter().for_each(|ip| addresses.put(&interface, *ip, Duration::from_secs(1)).unwrap());
    });
    for ip in vips() {
        eventually(DEADLINE, "the kernel removes it", || !lab.gateway.has(ip));
    }
}

#[test]
fn a_start_removes_what_a_crash_left_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    // By hand, with another prefix; and of no concern to us.
    lab.gateway.ip(&format!("address add {VIP4}/24 dev eth0"));
    lab.gateway.ip("address add 10.77.0.201/32 dev eth0");
    lab.gateway.ip("address add fd00:77::c8/128 dev lo");
    let stale = lab.gateway.run(|| {
        let (interface, mut addresses) = (eth0(), Addresses::open().unwrap());
        addresses.put(&interface, vip6(), LONG).unwrap();
        addresses.remove_stale(&interface, &vips()).unwrap()
    });
    let mut removed = stale.removed;
    removed.sort_unstable();
    assert_eq!(removed, vips());
    assert_eq!(stale.elsewhere.iter().map(|found| found.ip).collect::<Vec<_>>(), [vip6()]);
    assert!(!lab.gateway.has(vip4()) && !lab.gateway.has(vip6()));
    for ip in ["10.77.0.201", "10.77.0.1", "fd00:77::1"] {
        assert!(lab.gateway.has(ip.parse::<IpAddr>().unwrap()), "{ip} is gone");
    }
}

#[test]
fn an_interface_that_is_not_there_is_named_with_those_that_are() {
    let Some(lab) = Lab::new() else { return };
    let error = |name: &'static str| lab.gateway.run(|| Interface::find(name).unwrap_err());
    let text = error("eth7").to_string();
    assert_eq!(text, "vip.interface: there is no interface \"eth7\"; there are lo, eth0");
    assert!(matches!(error("a-name-that-is-too-long"), Error::NoInterface { .. }));
    assert!(matches!(error(""), Error::NoInterface { .. }));
    assert!(matches!(error("lo"), Error::NotEthernet { .. }));
}

#[test]
fn a_pulled_cable_and_a_removed_address_are_noticed() {
    let Some(lab) = Lab::new() else { return };
    let mut changes = lab.gateway.run(|| Changes::watch().unwrap());
    let carrier = || lab.gateway.run(|| eth0().carrier);
    eventually(DEADLINE, "the cable is in", carrier);
    changes.take().unwrap();
    assert!(!changes.take().unwrap());

    lab.switch.pull(&lab.gateway);
    eventually(DEADLINE, "the loss of the carrier is told", || changes.take().unwrap() && !carrier());
    lab.switch.plug(&lab.gateway);
    eventually(DEADLINE, "the carrier is told", || changes.take().unwrap() && carrier());

    lab.gateway.ip(&format!("address add {VIP4}/32 dev eth0"));
    eventually(DEADLINE, "the address is told", || changes.take().unwrap());
    lab.gateway.ip(&format!("address del {VIP4}/32 dev eth0"));
    eventually(DEADLINE, "that it went is told", || changes.take().unwrap());
}
