//! Names while things change around them: configurations, processes, the registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{Config, DEADLINE, EtcdServer, Gateway, HeldPort, dig, dig_short, eventually, finish, sluice};

use crate::{app, config, leads_to, section, serial};

#[test]
fn a_reload_takes_up_the_section_and_a_wrong_one_changes_nothing() {
    let first = config("").app(&app("shop"));
    let mut gateway = Gateway::start(&first);
    let (server, before) = (gateway.dns(), serial(&gateway));
    assert!(gateway.reload(), "as it is");
    assert_eq!((gateway.dns(), serial(&gateway)), (server, before), "neither the port nor the serial moves");
    let shorter = Config::new().section(&section("ttl = \"5s\"")).app(&app("shop"));
    assert!(gateway.reconfigure(&shorter));
    assert!(dig(server, &["shop.apps.test", "A"]).contains("shop.apps.test.\t\t5\tIN\tA"));
    assert!(serial(&gateway) > before);
    let wrong = Config::new().section(&section("[[dns.secondary]]\nkey_file = \"missing.key\""));
    assert!(!gateway.reconfigure(&wrong));
    assert!(gateway.output().contains("missing.key"), "the log says why");
    assert!(leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    assert!(gateway.reconfigure(&Config::new()));
    eventually(DEADLINE, "without the section nobody answers", || {
        !dig(server, &["shop.apps.test", "A", "+time=1"]).contains("status:")
    });
    assert_eq!(gateway.admin_get("/v1/dns").status, 404);
    assert!(gateway.reconfigure(&first));
    assert!(leads_to(gateway.dns(), "shop.apps.test", &["192.0.2.10"]), "and with it again");
}

#[test]
fn a_process_that_takes_over_answers_at_the_same_port() {
    let port = HeldPort::tcp_and_udp();
    let address = port.address();
    drop(port);
    let zone = section("").replace("127.0.0.1:0", &address.to_string());
    let mut gateway = Gateway::start(&Config::new().handover().section(&zone).app(&app("shop")));
    let (is_over, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let asking = {
        let (is_over, lost) = (is_over.clone(), lost.clone());
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                // As resolvers do: once more where a datagram was lost.
                if dig_short(address, &["shop.apps.test", "A", "+time=2", "+tries=2"]) != ["192.0.2.10"] {
                    lost.store(true, Ordering::Release);
                }
            }
        })
    };
    for _ in 0..2 {
        let mut former = gateway.hand_over();
        former.wait(DEADLINE);
    }
    is_over.store(true, Ordering::Release);
    asking.join().expect("no panic");
    assert!(!lost.load(Ordering::Acquire), "a name was not answered");
    assert!(leads_to(address, "shop.apps.test", &["192.0.2.10"]));
}

#[test]
fn names_outlive_the_registry() {
    let mut etcd = EtcdServer::start();
    let gateway = Gateway::start(&config("").etcd(&etcd.address().to_string()));
    let server = gateway.dns();
    etcd.ctl(&["put", "/caas/app/shop", "{}"]);
    eventually(DEADLINE, "the app has a name", || leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    let before = serial(&gateway);
    etcd.kill();
    eventually(DEADLINE, "the registry is missed", || {
        gateway.metrics().count("sluice_registry_connected", &[]) == 0
    });
    assert!(leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    assert_eq!(serial(&gateway), before);
    etcd.restart();
    eventually(DEADLINE, "it is back", || gateway.metrics().count("sluice_registry_connected", &[]) == 1);
    etcd.ctl(&["del", "/caas/app/shop"]);
    eventually(DEADLINE, "the name is gone", || {
        dig(server, &["shop.apps.test", "A"]).contains("status: NXDOMAIN")
    });
}

#[test]
fn a_check_names_what_is_wrong_with_the_section_and_its_keys() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().join("sluice.toml");
    let secondary = "[[dns.secondary]]\nkey_file = \"old.key\"";
    let old = "key \"old\" { algorithm hmac-md5; secret \"rU5S0HgqPq8C0ry6Sx3zcV5H\"; };";
    std::fs::write(folder.path().join("old.key"), old).expect("the folder is ours");
    std::fs::write(&path, config(secondary).toml()).expect("the folder is ours");
    let said = finish(sluice().args(["check", "--config"]).arg(&path), "", DEADLINE).stderr;
    assert!(said.contains("dns.secondary[0].key_file") && said.contains("hmac-sha256"), "{said}");
    std::fs::write(&path, config("listen_at = \"x\"").toml()).expect("the folder is ours");
    let said = finish(sluice().args(["check", "--config"]).arg(&path), "", DEADLINE).stderr;
    assert!(said.contains("listen_at"), "{said}");
}
