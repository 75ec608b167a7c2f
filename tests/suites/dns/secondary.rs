//! BIND as a secondary: it takes the zone, hears of changes, and answers as we do.

use std::net::SocketAddr;

use tests::{Config, DEADLINE, Gateway, NameServer, dig, dig_short, eventually};

use crate::{KEY, app, config, leads_to, serial};

fn start(named: &mut NameServer, primary: SocketAddr, key: &str) {
    let reference = if key.is_empty() { "" } else { "key platform" };
    named.start(&format!(
        "{key}zone \"apps.test\" {{ type secondary; file \"apps.test.db\"; masterfile-format text;\n\
         primaries {{ 127.0.0.1 port {} {reference}; }}; allow-notify {{ 127.0.0.1; }}; }};\n",
        primary.port()
    ));
}

fn serial_at(server: SocketAddr) -> u64 {
    let soa = dig_short(server, &["apps.test", "SOA"]);
    let serial = soa.first().and_then(|soa| soa.split(' ').nth(2).map(str::to_owned));
    serial.and_then(|serial| serial.parse().ok()).unwrap_or_default()
}

fn follows(config: Config, key: &str, mut named: NameServer) {
    let gateway = Gateway::start(&config.app(&app("shop").host("shop.apps.test").host("*.shop.apps.test")));
    start(&mut named, gateway.dns(), key);
    let secondary = named.address();
    eventually(DEADLINE, "it has the zone", || leads_to(secondary, "shop.apps.test", &["192.0.2.10"]));
    assert_eq!(dig_short(secondary, &["x.shop.apps.test", "AAAA"]), ["2001:db8::10", "shop.apps.test."]);
    assert_eq!(serial_at(secondary), serial(&gateway));
    // BIND waits for five minutes between two looks of its own: this is by NOTIFY.
    gateway.put_app(&app("late"));
    eventually(DEADLINE, "it has heard of the change", || {
        leads_to(secondary, "late.apps.test", &["192.0.2.10"])
    });
    gateway.remove_app("late");
    eventually(DEADLINE, "it has heard of the end", || {
        dig(secondary, &["late.apps.test", "A"]).contains("status: NXDOMAIN")
    });
    eventually(DEADLINE, "all is counted", || {
        let metrics = gateway.metrics();
        metrics.count("sluice_dns_notifies_total", &[("result", "answered")]) >= 2
            && metrics.count("sluice_dns_transfers_total", &[("result", "done")]) >= 3
    });
}

#[test]
fn a_secondary_that_is_known_by_its_address_follows() {
    let named = NameServer::new();
    let secondary = format!("[[dns.secondary]]\naddress = \"{}\"", named.address());
    follows(config(&secondary), "", named);
}

#[test]
fn a_secondary_that_signs_follows_and_one_that_does_not_gets_nothing() {
    let named = NameServer::new();
    let secondary =
        format!("[[dns.secondary]]\naddress = \"{}\"\nkey_file = \"transfer.key\"", named.address());
    let config = config(&secondary).file("transfer.key", KEY);
    let gateway = Gateway::start(&config.clone().app(&app("shop")));
    let refused = dig(gateway.dns(), &["apps.test", "AXFR"]);
    assert!(refused.contains("Transfer failed"), "{refused}");
    let key = "hmac-sha256:platform:rU5S0HgqPq8C0ry6Sx3zcV5Hx9bEbN7o6s7c4d3f2g0=";
    let taken = dig(gateway.dns(), &["-y", key, "apps.test", "AXFR"]);
    assert!(taken.contains("shop.apps.test.") && !taken.contains("failed"), "{taken}");
    let forged = key.replace("rU5S", "AAAA");
    let believed = dig(gateway.dns(), &["-y", &forged, "apps.test", "AXFR"]);
    assert!(believed.contains("NOTAUTH") || believed.contains("Transfer failed"), "{believed}");
    assert!(!believed.contains("192.0.2.10"), "{believed}");
    drop(gateway);
    follows(config, KEY, named);
}

#[test]
fn a_zone_of_many_messages_arrives_whole_and_signed() {
    let mut named = NameServer::new();
    let secondary =
        format!("[[dns.secondary]]\naddress = \"{}\"\nkey_file = \"transfer.key\"", named.address());
    let mut config = config(&secondary).file("transfer.key", KEY);
    for number in 0..1_500 {
        config = config.app(&app(&format!("app-{number}")));
    }
    let gateway = Gateway::start(&config);
    start(&mut named, gateway.dns(), KEY);
    let secondary = named.address();
    eventually(DEADLINE, "the last one is there", || {
        leads_to(secondary, "app-999.apps.test", &["192.0.2.10"])
            && leads_to(secondary, "app-1499.apps.test", &["192.0.2.10"])
    });
    assert!(gateway.output().contains("zone transferred"), "it is logged");
}
