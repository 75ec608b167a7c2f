use std::path::Path;
use std::time::Duration;

use vip::config::{Fence, Mode};

use crate::config::{Config, parse};
use crate::listener::Presence;

const WEB: &str = "[gateway]\nid = \"gw-1\"\n[[gateway.listener]]\nname = \"web\"\naddress = \"0.0.0.0:8080\"\nprotocol = \"http\"\n";

fn read(text: &str) -> Result<Config, String> {
    parse("sluice.toml", text, Path::new("/etc/sluice")).map_err(|mistakes| mistakes.to_string())
}

fn with(vip: &str) -> Result<Config, String> {
    read(&format!("{WEB}{vip}"))
}

const PEERS: &str =
    "[vip]\ninterface = \"eth0\"\npeer_listen = \"10.0.0.1:7001\"\npeer_key_file = \"peer.key\"\n";

#[test]
fn three_keys_and_an_address_are_all_that_must_be_said() {
    let config = with(&format!("{PEERS}[[vip.address]]\nip = \"10.0.0.200\"\n")).unwrap();
    let vip = config.vip.unwrap();
    assert!(vip.has("10.0.0.200".parse().unwrap()) && !vip.has("10.0.0.201".parse().unwrap()));
    assert_eq!(vip.peer_key_file.as_deref(), Some(Path::new("/etc/sluice/peer.key")));
    let probe = vip.probe.unwrap();
    assert_eq!((&*probe.listener, &*probe.path, probe.host), ("web", "/", None));
    assert_eq!((probe.thresholds.rise, probe.thresholds.fall), (2, 3));
}

#[test]
fn the_key_is_read_when_it_is_needed_and_judged_then() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{WEB}{PEERS}[[vip.address]]\nip = \"10.0.0.200\"\n");
    let vip = || parse("sluice.toml", &text, folder.path()).unwrap().vip.unwrap();
    let path = folder.path().join("peer.key");
    let missing = vip().build().unwrap_err();
    assert!(missing.contains("vip.peer_key_file") && missing.contains("cannot be read"), "{missing}");
    std::fs::write(&path, [7; 31]).unwrap();
    let short = vip().build().unwrap_err();
    assert!(short.contains("holds 31 bytes; write at least 32"), "{short}");
    std::fs::write(&path, [7; 32]).unwrap();
    let built = vip().build().unwrap();
    assert_eq!((built.mode, built.fence), (Mode::Peer, Fence::Nft));
    assert_eq!(built.timing.grace, Duration::from_millis(330));
    assert!(!format!("{built:?}").contains("[7, 7"), "the key is nobody's to read");
}

#[test]
fn listeners_at_a_virtual_ip_need_not_have_it() {
    let listener = "[[gateway.listener]]\nname = \"vip\"\naddress = \"10.0.0.200:80\"\nprotocol = \"http\"\n";
    let config = with(&format!("{listener}{PEERS}[[vip.address]]\nip = \"10.0.0.200\"\n")).unwrap();
    let presence: Vec<_> = config.gateway.listeners.iter().map(|listener| listener.presence).collect();
    assert_eq!(presence, [Presence::Required, Presence::Optional]);
    assert_eq!(&*config.vip.unwrap().probe.unwrap().listener, "web");
}

#[test]
fn all_mistakes_are_told_at_once_at_their_lines() {
    let said = with(
        "[vip]\nlease = \"50ms\"\ngrace = \"10ms\"\nfence = \"none\"\npeer_listen = \"0.0.0.0:7001\"\nmode = \"both\"\nleese = 1\n\
         [[vip.address]]\nip = \"10.0.0.200/24\"\n[[vip.address]]\nip = \"127.0.0.1\"\ngateways = [\"a b\"]\n\
         [[vip.address]]\nip = \"10.0.0.200\"\nweight = 0\n[[vip.address]]\nip = \"10.0.0.200\"\n",
    )
    .unwrap_err();
    for wanted in [
        ":7: vip.interface: is missing; write interface = \"eth0\"",
        ":8: vip.lease: 50ms is outside",
        ":9: vip.grace: 10ms is too short",
        ":10: vip.fence: with \"none\"",
        ":11: vip.peer_listen: 0.0.0.0:7001 is no address that peers can send to",
        ":12: vip.mode: ",
        ":13: vip.leese: unknown key; did you mean \"lease\"?",
        ":7: vip.peer_key_file: is missing",
        ":15: vip.address[0].ip: \"10.0.0.200/24\" is no address",
        ":17: vip.address[1].ip: 127.0.0.1 is the loopback's",
        ":18: vip.address[1].gateways: ",
        ":21: vip.address[2].weight: ",
        ":23: vip.address[3].ip: 10.0.0.200 is there twice",
    ] {
        assert!(said.contains(wanted), "no {wanted:?} in\n{said}");
    }
}

#[test]
fn a_probe_goes_through_a_listener_that_is_always_here() {
    let address = "[[vip.address]]\nip = \"10.0.0.200\"\n";
    let only = "[gateway]\nid = \"gw-1\"\n[[gateway.listener]]\nname = \"web\"\naddress = \"10.0.0.200:80\"\nprotocol = \"http\"\n";
    let said = read(&format!("{only}{PEERS}{address}")).unwrap_err();
    assert!(said.contains("vip.probe: finds no listener to send a request through; add"), "{said}");
    let off = read(&format!("{only}{PEERS}probe = {{ enabled = false }}\n{address}")).unwrap();
    assert_eq!(off.vip.unwrap().probe, None);
    let probe = "probe = { listener = \"web\", host = \"shop.example.com\", path = \"/_ping\", interval = \"500ms\", rise = 1 }\n";
    let probe = with(&format!("{PEERS}{probe}{address}")).unwrap().vip.unwrap().probe.unwrap();
    assert_eq!((probe.host.as_deref(), &*probe.path), (Some("shop.example.com"), "/_ping"));
    assert_eq!((probe.interval, probe.thresholds.rise), (Duration::from_millis(500), 1));
    for (probe, wanted) in [
        ("listener = \"other\"", "vip.probe.listener: \"other\" cannot be probed"),
        ("host = \"*\"", "vip.probe.host: is no host"),
        ("path = \"ping\"", "vip.probe.path: is no path"),
        ("path = \"/a b\"", "vip.probe.path: is no path"),
        ("intervall = \"1s\"", "unknown key; did you mean \"interval\"?"),
        ("rise = 0", "vip.probe.rise: "),
    ] {
        let said = with(&format!("{PEERS}probe = {{ {probe} }}\n{address}")).unwrap_err();
        assert!(said.contains(wanted), "no {wanted:?} in\n{said}");
    }
}

#[test]
fn registry_mode_needs_no_peers_and_a_section_needs_an_address() {
    let section = "[vip]\ninterface = \"eth0\"\nmode = \"registry\"\n";
    assert!(with(&format!("{section}[[vip.address]]\nip = \"2001:db8::200\"\n")).is_ok());
    let said = with(section).unwrap_err();
    assert!(said.contains("vip.address: is missing; write a [[vip.address]] section"), "{said}");
}

#[test]
fn a_pool_is_addresses_that_apps_may_ask_for_and_names_do_not_lead_to() {
    let pool = "pool = [\"10.0.0.208/30\", \"2001:db8::8/127\"]\n";
    let vip = with(&format!("{PEERS}{pool}")).unwrap().vip.unwrap();
    let all: Vec<_> = vip.ips().map(|ip| ip.to_string()).collect();
    let wanted = ["10.0.0.208", "10.0.0.209", "10.0.0.210", "10.0.0.211", "2001:db8::8", "2001:db8::9"];
    assert_eq!(all, wanted);
    assert_eq!(vip.shared().count(), 0);
    let both = with(&format!("{PEERS}{pool}[[vip.address]]\nip = \"10.0.0.200\"\n")).unwrap().vip.unwrap();
    assert_eq!(both.shared().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.0.0.200"]);
    for (pool, wanted) in [
        ("pool = [\"10.0.0.0/8\"]\n", "more than 256 addresses"),
        ("pool = [\"2001:db8::/64\"]\n", "more than 256 addresses"),
        ("pool = [\"here\"]\n", "is no network"),
        ("pool = []\n", "write pool ="),
        ("pool = [\"10.0.0.208/31\", \"10.0.0.209/32\"]\n", "10.0.0.209"),
    ] {
        let told = with(&format!("{PEERS}{pool}")).unwrap_err();
        assert!(told.contains("vip") && told.contains(wanted), "{told}");
    }
}
