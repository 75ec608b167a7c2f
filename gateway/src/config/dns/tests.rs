use super::*;
use crate::config::{Config, parse};

const GATEWAY: &str = "[gateway]\nid = \"gw-1\"\nbase_domain = \"apps.test\"\n[[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:8080\"\nprotocol = \"http\"\n";

fn read(dns: &str) -> Result<Config, String> {
    let text = format!("{GATEWAY}{dns}");
    parse("sluice.toml", &text, Path::new("/etc/sluice")).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn a_zone_needs_an_address_a_name_server_and_somewhere_to_lead() {
    let dns = r#"[dns]
listen = ["127.0.0.1:5353", "::1"]
zone = "Apps.Test."
hostmaster = "dns@example.com"
addresses = ["192.0.2.10", "2001:db8::10", "192.0.2.10"]
[[dns.nameserver]]
name = "ns1.apps.test"
addresses = ["192.0.2.1"]
[[dns.nameserver]]
name = "ns.example.com"
[[dns.secondary]]
address = "192.0.2.53"
[[dns.secondary]]
key_file = "transfer.key"
[[dns.update]]
server = "192.0.2.54:5353"
zone = "customer.test"
key_file = "update.key"
"#;
    let section = read(dns).unwrap().dns.unwrap();
    assert_eq!(section.listen, ["127.0.0.1:5353".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!((section.zone.as_str(), section.homes.as_str()), ("apps.test", "apps.test"));
    assert_eq!(section.hostmaster, "dns.example.com");
    assert_eq!(section.addresses.len(), 2);
    assert_eq!((section.ttl, section.negative_ttl), (DEFAULT_TTL, DEFAULT_NEGATIVE_TTL));
    assert_eq!((section.rate_limit, section.probe), (Some(DEFAULT_RATE), None));
    let [by_address, by_key] = &section.secondaries[..] else { panic!("two were named") };
    assert_eq!((by_address.address, by_address.notify), (Some("192.0.2.53:53".parse().unwrap()), true));
    assert_eq!(
        (by_key.key_file.as_deref(), by_key.notify),
        (Some(Path::new("/etc/sluice/transfer.key")), false)
    );
    assert_eq!((section.updates[0].owner.as_str(), section.updates[0].resync), ("sluice", DEFAULT_RESYNC));
}

#[test]
fn mistakes_name_their_key_and_the_way_out() {
    let right = "zone = \"apps.test\"\naddresses = [\"192.0.2.10\"]\n";
    let served = format!("[dns]\nlisten = [\"127.0.0.1:5353\"]\n{right}");
    let one = "[[dns.nameserver]]\nname = \"ns.example.com\"\n";
    for (dns, wanted) in [
        ("[dns]\nlisten = [\"127.0.0.1:53\"]\n".to_owned(), "dns.zone: is missing; write zone ="),
        (format!("[dns]\n{right}"), "dns: does nothing: add listen"),
        (served.clone(), "dns.nameserver: is missing; write [[dns.nameserver]]"),
        (
            format!("[dns]\nlisten = [\"127.0.0.1:53\"]\nzone = \"apps.test\"\n{one}"),
            "dns.addresses: are missing",
        ),
        (format!("[dns]\nlisten = [\"0.0.0.0:53\"]\n{right}{one}"), "name each address"),
        (format!("[dns]\nlisten = [\"127.0.0.1:8080\"]\n{right}{one}"), "is the address of listener \"web\""),
        (
            format!("{served}[[dns.nameserver]]\nname = \"ns1.apps.test\"\n"),
            "is in the zone, and nobody else",
        ),
        (format!("{served}{one}addresses = [\"192.0.2.1\"]\n"), "belong to whoever has the zone"),
        (format!("{served}{one}[[dns.secondary]]\n"), "dns.secondary[0].address: is missing: who is it?"),
        (format!("{served}hostmaster = \"a.b@x.test\"\n{one}"), "write one without"),
        (format!("{served}rate_limit = {{ responses = 50, total = 10 }}\n{one}"), "dns.rate_limit.total"),
        (format!("{served}{one}[[dns.update]]\nserver = \"ns.example.com\"\n"), "write IP or IP:port"),
        (format!("{served}{one}[[dns.update]]\nserver = \"192.0.2.1\"\nzone = \"x.test\"\n"), "tsig-keygen"),
        (format!("{served}ttl = \"0s\"\n{one}"), "dns.ttl"),
        (format!("{served}tll = \"5s\"\n{one}"), "ttl"),
    ] {
        let told = read(&dns).err().unwrap_or_default();
        assert!(told.contains(wanted), "{dns}\n{told}");
    }
}
