use super::*;

fn settings() -> Settings {
    Settings {
        interface: "eth0".to_owned(),
        peer_listen: Some("10.0.0.1:7001".parse().unwrap()),
        peer_key: vec![7; 32],
        addresses: vec![AddressSettings { ip: "10.0.0.200".parse().unwrap(), ..Default::default() }],
        ..Default::default()
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn mistakes(change: impl FnOnce(&mut Settings)) -> Vec<String> {
    let mut settings = settings();
    change(&mut settings);
    settings.build().err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_those_measured() {
    let config = settings().build().unwrap();
    assert_eq!((config.timing.lease, config.timing.grace), (ms(300), ms(330)));
    assert_eq!(config.timing.heartbeat, ms(50));
    assert_eq!((config.mode, config.fence, config.preempt), (Mode::Peer, Fence::Nft, false));
}

#[test]
fn shortest_grace_is_safe_and_nothing_shorter_is() {
    for lease in [60, 100, 300, 1000, 30_000].map(ms) {
        for lateness in [Duration::ZERO, NFT_LATENESS, LIFETIME_LATENESS] {
            let safe =
                |grace: Duration| grace.as_nanos() * 99 >= lease.as_nanos() * 101 + lateness.as_nanos() * 100;
            let grace = shortest_grace(lease, lateness);
            assert!(safe(grace) && !safe(grace - Duration::from_nanos(1)), "{lease:?} {lateness:?}");
        }
    }
}

#[test]
fn every_wait_that_is_derived_is_safe() {
    for (lease, fence) in [(60, Fence::Nft), (300, Fence::Nft), (3000, Fence::Lifetime)] {
        let mut settings = settings();
        (settings.lease, settings.fence, settings.registry_lease) = (ms(lease), fence, ms(lease.max(400)));
        settings.hold_max = ms(20_000);
        let timing = settings.build().unwrap().timing;
        let late = fence.lateness();
        assert!(timing.grace >= shortest_grace(timing.lease, late));
        assert!(timing.registry_grace >= shortest_grace(timing.registry_lease, late));
        assert!(timing.hold_grace >= shortest_grace(timing.hold_max, late));
        assert!(timing.hold_grace * 10 >= timing.hold_max * 11);
    }
}

#[test]
fn grace_that_is_too_short_names_the_one_to_write() {
    assert_eq!(
        mistakes(|settings| settings.grace = Some(ms(320))),
        [
            "vip.grace: 320ms is too short for `lease` 300ms: clocks may differ by 1 % and the fence be 20ms late; \
             write 330ms or more, or leave it out"
        ]
    );
    assert!(mistakes(|settings| settings.grace = Some(ms(327))).is_empty());
}

#[test]
fn mistakes_are_found_together() {
    let found = mistakes(|settings| {
        settings.interface = String::new();
        settings.fence = Fence::None;
        settings.peer_listen = None;
        settings.peer_key = vec![1; 31];
        settings.lease = ms(10);
        settings.hold_max = ms(1);
        settings.announce_refresh = ms(1);
    });
    let keys = found.iter().map(|text| text.split(':').next().unwrap()).collect::<Vec<_>>();
    let expected = ["interface", "fence", "peer_listen", "peer_key_file", "lease", "hold_max", "hold_max"];
    let expected = expected.iter().chain(&["announce_refresh"]).map(|key| format!("vip.{key}"));
    assert_eq!(keys, expected.collect::<Vec<_>>());
}

#[test]
fn no_fence_needs_force() {
    assert_eq!(mistakes(|settings| settings.fence = Fence::None).len(), 1);
    assert!(mistakes(|settings| (settings.fence, settings.force) = (Fence::None, true)).is_empty());
}

#[test]
fn registry_mode_needs_no_peers() {
    let alone = |settings: &mut Settings| {
        settings.mode = Mode::Registry;
        settings.peer_listen = None;
        settings.peer_key = Vec::new();
    };
    assert!(mistakes(alone).is_empty());
    assert_eq!(mistakes(|settings| settings.peer_listen = Some("0.0.0.0:7001".parse().unwrap())).len(), 1);
}

#[test]
fn addresses_are_unicast_and_there_once() {
    for ip in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "::ffff:1.2.3.4",
        "10.0.0.1",
    ] {
        let found = mistakes(|settings| settings.addresses[0].ip = ip.parse().unwrap());
        assert!(found.len() == 1 && found[0].starts_with("vip.address[0].ip: "), "{ip}: {found:?}");
    }
    let twice = mistakes(|settings| settings.addresses.push(settings.addresses[0].clone()));
    assert_eq!(twice, ["vip.address[1].ip: 10.0.0.200 is there twice; remove one"]);
    let odd = mistakes(|settings| {
        settings.addresses[0].weight = 0;
        settings.addresses[0].gateways = vec!["gw 1".to_owned(), "a".to_owned(), "a".to_owned()];
    });
    assert_eq!(odd.len(), 3, "{odd:?}");
}

#[test]
fn lifetime_counts_whole_seconds() {
    assert_eq!(mistakes(|settings| settings.fence = Fence::Lifetime).len(), 1);
}

#[test]
fn key_is_not_printed() {
    assert!(!format!("{:?}", settings().build().unwrap()).contains("peer_key"));
}
