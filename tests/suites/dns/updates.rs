//! BIND as a primary that takes our names by RFC 2136.

use std::net::SocketAddr;

use tests::{Config, DEADLINE, EtcdServer, Gateway, NameServer, dig, dig_short, eventually};

use crate::{KEY, app, leads_to};

/// With a name that somebody has written by hand.
fn start(named: &mut NameServer, zone: &str) {
    named.put(
        zone,
        &format!(
            "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n\
             by-hand IN A 198.51.100.7\n@ IN MX 10 mail\nmail IN A 198.51.100.8\n"
        ),
    );
    named.start(&format!(
        "{KEY}zone \"{zone}\" {{ type primary; file \"{zone}\"; allow-update {{ key platform; }}; \
         allow-transfer {{ key platform; }}; }};\n"
    ));
}

fn section(server: SocketAddr, zone: &str) -> String {
    format!(
        "[dns]\nzone = \"apps.test\"\naddresses = [\"192.0.2.10\", \"2001:db8::10\"]\n\
         [[dns.update]]\nserver = \"{server}\"\nzone = \"{zone}\"\nkey_file = \"update.key\"\nresync = \"10s\"\n"
    )
}

fn config(server: SocketAddr, zone: &str) -> Config {
    Config::new().file("update.key", KEY).section(&section(server, zone))
}

fn is_unknown(server: SocketAddr, name: &str) -> bool {
    dig(server, &[name, "A"]).contains("status: NXDOMAIN")
}

#[test]
fn deploying_an_app_makes_its_name_and_removing_it_takes_it_away() {
    let mut named = NameServer::new();
    start(&mut named, "apps.test");
    let server = named.address();
    let gateway = Gateway::start(&config(server, "apps.test").app(&app("shop").host("*.apps.test")));
    eventually(DEADLINE, "the name is there", || leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    assert_eq!(dig_short(server, &["shop.apps.test", "AAAA"]), ["2001:db8::10"]);
    eventually(DEADLINE, "so is the wildcard", || {
        leads_to(server, "any.apps.test", &["192.0.2.10", "shop.apps.test."])
    });
    let marker = dig_short(server, &["_sluice-owner.shop.apps.test", "TXT"]);
    assert_eq!(marker, ["\"heritage=sluice,owner=sluice\""]);
    gateway.put_app(&app("late"));
    eventually(DEADLINE, "the next one is too", || leads_to(server, "late.apps.test", &["192.0.2.10"]));
    gateway.put_app(&app("shop"));
    gateway.remove_app("late");
    eventually(DEADLINE, "both are gone", || {
        is_unknown(server, "late.apps.test") && is_unknown(server, "any.apps.test")
    });
    assert_eq!(dig_short(server, &["_sluice-owner.late.apps.test", "TXT"]), [""; 0]);
    assert!(leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    assert!(leads_to(server, "by-hand.apps.test", &["198.51.100.7"]));
    eventually(DEADLINE, "all is counted", || {
        let count = |result| gateway.metrics().count("sluice_dns_updates_total", &[("result", result)]);
        count("created") == 3 && count("removed") == 2 && count("failed") == 0
    });
}

#[test]
fn what_others_have_made_stays_as_it_is_and_is_named() {
    let mut named = NameServer::new();
    start(&mut named, "apps.test");
    let server = named.address();
    let root = app("root").host("root.apps.test").host("apps.test");
    let gateway = Gateway::start(&config(server, "apps.test").app(&app("by-hand")).app(&root));
    eventually(DEADLINE, "the zone's own name leads to the app", || {
        leads_to(server, "apps.test", &["192.0.2.10"])
    });
    assert_eq!(dig_short(server, &["apps.test", "MX"]), ["10 mail.apps.test."]);
    eventually(DEADLINE, "the conflict is told", || {
        let shown = gateway.admin_json("/v1/dns");
        shown["updates"][0]["in_the_way"][0]["name"] == "by-hand.apps.test."
    });
    assert!(leads_to(server, "by-hand.apps.test", &["198.51.100.7"]));
    gateway.remove_app("by-hand");
    gateway.remove_app("root");
    eventually(DEADLINE, "ours is gone", || dig_short(server, &["apps.test", "A"]).is_empty());
    assert!(leads_to(server, "by-hand.apps.test", &["198.51.100.7"]), "theirs is not");
    assert_eq!(dig_short(server, &["apps.test", "NS"]), ["ns.apps.test."]);
}

#[test]
fn a_customers_zone_gets_aliases_of_the_apps_own_names() {
    let mut named = NameServer::new();
    start(&mut named, "customer.test");
    let server = named.address();
    let shop = app("shop").host("www.customer.test").host("customer.test").host("elsewhere.test");
    let gateway = Gateway::start(&config(server, "customer.test").app(&shop));
    eventually(DEADLINE, "the alias is there", || {
        dig_short(server, &["www.customer.test", "CNAME"]) == ["shop.apps.test."]
    });
    eventually(DEADLINE, "its own name has addresses", || leads_to(server, "customer.test", &["192.0.2.10"]));
    assert_eq!(gateway.metrics().count("sluice_dns_update_names", &[]), 2);
}

#[test]
fn a_server_that_was_away_or_did_not_know_the_key_is_brought_up_to_date() {
    let mut named = NameServer::new();
    start(&mut named, "apps.test");
    let server = named.address();
    let wrong = KEY.replace("rU5S", "AAAA");
    let mut gateway =
        Gateway::start(&config(server, "apps.test").file("update.key", &wrong).app(&app("shop")));
    eventually(DEADLINE, "the server does not believe it", || {
        let shown = gateway.admin_json("/v1/dns");
        shown["updates"][0]["error"].as_str().is_some_and(|why| why.contains("BADSIG"))
    });
    gateway.put_file("update.key", KEY);
    assert!(gateway.reload());
    eventually(DEADLINE, "with the right key the name is there", || {
        leads_to(server, "shop.apps.test", &["192.0.2.10"])
    });
    named.stop();
    gateway.put_app(&app("late"));
    gateway.remove_app("shop");
    eventually(DEADLINE, "it is missed", || {
        gateway.metrics().count("sluice_dns_updates_total", &[("result", "failed")]) >= 1
    });
    named.restart();
    eventually(DEADLINE * 2, "what was missed is made up for", || {
        leads_to(server, "late.apps.test", &["192.0.2.10"]) && is_unknown(server, "shop.apps.test")
    });
}

#[test]
fn of_two_gateways_one_writes_and_the_other_follows_it() {
    let mut named = NameServer::new();
    start(&mut named, "apps.test");
    let server = named.address();
    let etcd = EtcdServer::start();
    let gateway = |id: &str| {
        Gateway::start(
            &config(server, "apps.test").etcd(&etcd.address().to_string()).id(id).app(&app("shop")),
        )
    };
    let (mut first, mut second) = (gateway("gw-1"), gateway("gw-2"));
    let leads = |gateway: &Gateway| gateway.metrics().count("sluice_dns_update_leads", &[]);
    eventually(DEADLINE, "one of them leads", || leads(&first) + leads(&second) == 1);
    eventually(DEADLINE, "the name is there", || leads_to(server, "shop.apps.test", &["192.0.2.10"]));
    if leads(&second) == 1 {
        std::mem::swap(&mut first, &mut second);
    }
    first.kill();
    second.put_app(&app("late"));
    eventually(DEADLINE * 2, "the other one writes", || {
        leads(&second) == 1 && leads_to(server, "late.apps.test", &["192.0.2.10"])
    });
}
