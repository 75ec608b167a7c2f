//! What dig sees.

use tests::{Config, DEADLINE, Gateway, dig, dig_short, eventually, finish, sluice};

use crate::{app, config, leads_to, section, serial};

fn gateway() -> Gateway {
    let shop = app("shop").host("shop.apps.test").host("www.apps.test").host("www.customer.test");
    Gateway::start(&config("").app(&app("plain")).app(&shop).app(&app("wild").host("*.wild.apps.test")))
}

#[test]
fn apps_have_names_with_addresses_of_both_families_and_aliases() {
    let gateway = gateway();
    let server = gateway.dns();
    assert_eq!(dig_short(server, &["plain.apps.test", "A"]), ["192.0.2.10"]);
    assert_eq!(dig_short(server, &["PLAIN.apps.test", "AAAA"]), ["2001:db8::10"]);
    assert_eq!(dig_short(server, &["www.apps.test", "A"]), ["192.0.2.10", "shop.apps.test."]);
    assert_eq!(dig_short(server, &["x.y.wild.apps.test", "A"]), ["192.0.2.10", "wild.apps.test."]);
    assert_eq!(dig_short(server, &["apps.test", "NS"]), ["ns1.apps.test.", "ns2.example.com."]);
    assert_eq!(dig_short(server, &["ns1.apps.test", "A"]), ["192.0.2.53"]);
    let soa = dig_short(server, &["apps.test", "SOA"]);
    assert!(soa[0].starts_with(&format!("ns1.apps.test. dns.example.com. {} ", serial(&gateway))), "{soa:?}");
    for transport in ["+notcp", "+tcp"] {
        let answer = dig(server, &["plain.apps.test", "A", transport]);
        assert!(answer.contains("flags: qr aa;"), "{answer}");
        assert!(answer.contains("EDNS: version: 0, flags:; udp: 1232"), "{answer}");
        assert!(answer.contains("plain.apps.test.\t30\tIN\tA\t192.0.2.10"), "{answer}");
    }
}

#[test]
fn what_is_not_there_is_told_apart_and_nothing_else_is_answered() {
    let gateway = gateway();
    let server = gateway.dns();
    let negative = dig(server, &["nobody.apps.test", "A"]);
    assert!(
        negative.contains("status: NXDOMAIN") && negative.contains("apps.test.\t\t10\tIN\tSOA"),
        "{negative}"
    );
    let empty = dig(server, &["plain.apps.test", "MX"]);
    assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0, AUTHORITY: 1"), "{empty}");
    for (name, kind) in [("www.customer.test", "A"), ("example.com", "NS"), (".", "NS")] {
        let refused = dig(server, &["+recurse", name, kind]);
        assert!(
            refused.contains("status: REFUSED") && refused.contains("ANSWER: 0, AUTHORITY: 0"),
            "{refused}"
        );
        assert!(!refused.contains(" ra"), "{refused}");
    }
    assert!(dig(server, &["+notcp", "plain.apps.test", "ANY"]).contains("HINFO\t\"RFC8482\""));
    assert!(dig(server, &["apps.test", "AXFR"]).contains("Transfer failed"));
    assert!(dig(server, &["+edns=1", "+noednsneg", "plain.apps.test", "A"]).contains("BADVERS"));
    assert!(dig(server, &["+opcode=notify", "apps.test", "SOA"]).contains("status: NOTIMP"));
    let counted =
        |code, kind| gateway.metrics().count("sluice_dns_queries_total", &[("code", code), ("type", kind)]);
    assert!(
        counted("NXDOMAIN", "A") == 1 && counted("REFUSED", "NS") == 2 && counted("REFUSED", "AXFR") == 1
    );
}

#[test]
fn names_follow_apps_and_the_serial_follows_names() {
    let gateway = Gateway::start(&config("").app(&app("first")));
    let server = gateway.dns();
    let before = serial(&gateway);
    gateway.put_app(&app("second"));
    eventually(DEADLINE, "the new app has a name", || leads_to(server, "second.apps.test", &["192.0.2.10"]));
    let with_both = serial(&gateway);
    assert!(with_both > before);
    gateway.put_app(&app("third"));
    eventually(DEADLINE, "the third app has a name", || leads_to(server, "third.apps.test", &["192.0.2.10"]));
    gateway.remove_app("second");
    eventually(DEADLINE, "the name is gone", || {
        dig(server, &["second.apps.test", "A"]).contains("status: NXDOMAIN")
    });
    assert!(serial(&gateway) > with_both);
    assert!(leads_to(server, "first.apps.test", &["192.0.2.10"]));
    let shown = gateway.admin_json("/v1/dns");
    let names: Vec<_> = shown["items"].as_array().expect("a list").iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["first.apps.test", "ns1.apps.test", "third.apps.test"]);
    assert_eq!(gateway.metrics().count("sluice_dns_names", &[]), 3);
}

#[test]
fn an_app_leads_to_its_own_address_if_that_is_one_of_the_platform() {
    let zone = section("").replace("\"192.0.2.10\", \"2001:db8::10\"", "\"192.0.2.10\", \"192.0.2.11\"");
    let own = app("own").line("vips = [\"192.0.2.11\"]");
    let foreign = app("foreign").line("vips = [\"198.51.100.1\"]");
    let gateway = Gateway::start(&Config::new().section(&zone).app(&own).app(&foreign));
    assert_eq!(dig_short(gateway.dns(), &["own.apps.test", "A"]), ["192.0.2.11"]);
    assert_eq!(dig_short(gateway.dns(), &["foreign.apps.test", "A"]), ["192.0.2.10", "192.0.2.11"]);
}

#[test]
fn an_address_that_nobody_answers_at_is_left_out_and_never_the_last_one() {
    let open = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
    let port = open.local_addr().expect("it is bound").port();
    let probe = format!("[dns.probe]\nport = {port}\ninterval = \"1s\"\nrise = 1\nfall = 1");
    let zone = section(&probe).replace("\"192.0.2.10\", \"2001:db8::10\"", "\"127.0.0.1\", \"127.0.0.2\"");
    let gateway = Gateway::start(&Config::new().section(&zone).app(&app("shop")));
    let server = gateway.dns();
    eventually(DEADLINE, "the dead one is left out", || leads_to(server, "shop.apps.test", &["127.0.0.1"]));
    let good = |ip| gateway.metrics().count("sluice_dns_address_good", &[("address", ip)]);
    assert_eq!((good("127.0.0.1"), good("127.0.0.2")), (1, 0));
    let listed = finish(
        sluice().args(["dns", "list", "--admin", &format!("http://{}", gateway.admin())]),
        "",
        DEADLINE,
    );
    let row = listed.stdout.lines().find(|line| line.starts_with("shop.apps.test")).unwrap_or_default();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["shop.apps.test", "127.0.0.1", "127.0.0.2"], "{}", listed.text());
    drop(open);
    eventually(DEADLINE, "the other one has gone too", || good("127.0.0.1") == 0);
    assert!(leads_to(server, "shop.apps.test", &["127.0.0.1"]), "the last good one stays");
}

#[test]
fn a_long_answer_is_cut_for_datagrams_and_whole_over_tcp() {
    let many: Vec<_> = (1..=16).map(|number| format!("\"2001:db8::{number}\"")).collect();
    let zone = section("").replace("\"192.0.2.10\", \"2001:db8::10\"", &many.join(", "));
    // With sixteen addresses that is just above 512 bytes.
    let long = "a".repeat(60);
    let gateway = Gateway::start(&Config::new().section(&zone).app(&app(&long)));
    let (server, name) = (gateway.dns(), format!("{long}.apps.test"));
    assert_eq!(dig_short(server, &["+notcp", &name, "AAAA"]).len(), 16);
    let cut = dig(server, &["+ignore", "+noedns", &name, "AAAA"]);
    assert!(cut.contains(" tc") && cut.contains("ANSWER: 0"), "{cut}");
    assert_eq!(dig_short(server, &["+noedns", &name, "AAAA"]).len(), 16, "dig comes again by TCP");
    assert_eq!(gateway.metrics().count("sluice_dns_truncated_total", &[]), 2);
}
