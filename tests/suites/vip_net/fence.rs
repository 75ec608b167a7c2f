//! What gets through the fence, and until when.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tests::{DEADLINE, eventually};
use vip::net::{Error, FRESHNESS, Fence, Hold};

use crate::prober::{Prober, echo};
use crate::{LONG, Lab, TABLE, VIP4, vip4, vip6, vips};

fn both_until(until: Instant) -> Vec<Hold> {
    vips().iter().map(|ip| (*ip, until)).collect()
}

/// Everybody who asks for both addresses, by resolution and by traffic.
fn probers(lab: &Lab) -> Vec<(&'static str, IpAddr, Prober)> {
    vips()
        .into_iter()
        .flat_map(|ip| {
            let server = echo(&lab.gateway, ip);
            [
                ("resolution", ip, Prober::resolving(&lab.client, ip)),
                ("traffic", ip, Prober::asking(&lab.client, server)),
            ]
        })
        .collect()
}

/// A client that knows where the addresses are, whatever it is answered.
fn make_known(lab: &Lab) {
    let mac = lab.gateway.mac().map(|byte| format!("{byte:02x}")).join(":");
    for ip in vips() {
        lab.client.ip(&format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent"));
    }
}

#[test]
fn what_is_not_held_answers_nobody_and_what_is_held_does() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let mut fence = lab.fenced();
    let probers = probers(&lab);
    // The gateway's own addresses answer meanwhile.
    let own = Prober::asking(&lab.client, echo(&lab.gateway, "10.77.0.1".parse().unwrap()));
    eventually(DEADLINE, "the gateway's own address answers", || own.count() > 200);
    for (what, ip, prober) in &probers {
        assert_eq!(prober.count(), 0, "{what} of {ip} passed the fence");
    }

    fence.refresh(&both_until(Instant::now() + LONG)).unwrap();
    for (what, ip, prober) in &probers {
        eventually(DEADLINE, &format!("{what} of {ip} passes"), || prober.count() > 10);
    }

    fence.close(&vips()).unwrap();
    let closed = Instant::now();
    let before = own.count();
    eventually(DEADLINE, "the gateway's own address answers", || own.count() > before + 200);
    for (what, ip, prober) in &probers {
        // What was on its way.
        let late = prober.last().unwrap().saturating_duration_since(closed);
        assert!(late < Duration::from_millis(100), "{what} of {ip} passed {late:?} after the fence closed");
    }
}

#[test]
fn a_fence_that_nobody_refreshes_closes_by_itself_and_never_late() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let mut fence = lab.fenced();
    let probers = probers(&lab);
    let mut worst = Vec::new();
    for _ in 0..5 {
        let counts: Vec<_> = probers.iter().map(|(_, _, prober)| prober.count()).collect();
        let until = Instant::now() + Duration::from_millis(300);
        fence.refresh(&both_until(until)).unwrap();
        eventually(DEADLINE, "the lease is over", || Instant::now() > until + Duration::from_millis(200));
        for ((what, ip, prober), before) in probers.iter().zip(counts) {
            assert!(prober.count() > before, "{what} of {ip} never passed");
            let last = prober.last().unwrap();
            let early = until.saturating_duration_since(last);
            let late = last.saturating_duration_since(until);
            worst.push((early, late));
            // The prober looks once in a millisecond, or when it gets a core.
            assert!(late < Duration::from_millis(100), "{what} of {ip} passed {late:?} late");
        }
    }
    let early: Vec<_> = worst.iter().map(|(early, _)| early.as_millis()).collect();
    let late = worst.iter().map(|(_, late)| *late).max().unwrap();
    println!("closed early by {early:?} ms, late by {late:?} at most");
}

#[test]
fn a_refresh_leaves_no_gap_at_a_thousand_a_second() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let mut fence = lab.fenced();
    fence.refresh(&both_until(Instant::now() + LONG)).unwrap();
    let server = echo(&lab.gateway, vip4());
    let probers = probers(&lab);
    for (what, ip, prober) in &probers {
        eventually(DEADLINE, &format!("{what} of {ip} passes"), || prober.count() > 10);
    }
    // Each datagram of a client that waits for its answer: a lost one is a gap.
    let socket = lab.client.run(|| std::net::UdpSocket::bind("10.77.0.9:0").unwrap());
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let start = Instant::now();
    let (mut refreshes, mut stalls) = (0, 0);
    let answered = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answered = 0u32;
            while start.elapsed() < Duration::from_secs(3) {
                socket.send(&answered.to_ne_bytes()).unwrap();
                let mut bytes = [0; 4];
                socket
                    .recv(&mut bytes)
                    .unwrap_or_else(|error| panic!("datagram {answered} is lost: {error}"));
                assert_eq!(u32::from_ne_bytes(bytes), answered);
                answered += 1;
            }
            answered
        });
        while !client.is_finished() {
            match fence.refresh(&both_until(Instant::now() + Duration::from_secs(2))) {
                Ok(()) => refreshes += 1,
                Err(Error::Stalled { .. }) => stalls += 1,
                Err(error) => panic!("{error}"),
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        client.join().unwrap()
    });
    let rate = f64::from(refreshes) / start.elapsed().as_secs_f64();
    println!("{refreshes} refreshes, {rate:.0} a second, {stalls} stalled; {answered} datagrams, none lost");
    assert!(refreshes > 300 && answered > 100);
}

#[test]
fn a_moment_that_has_passed_closes_and_others_keep_what_they_have() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let mut fence = lab.fenced();
    let now = Instant::now();
    fence.refresh(&both_until(now + LONG)).unwrap();
    // Less than what a refresh may take counts as passed.
    fence.refresh(&[(vip4(), now + FRESHNESS)]).unwrap();
    let (four, six) = (echo(&lab.gateway, vip4()), echo(&lab.gateway, vip6()));
    let (four, six) = (Prober::asking(&lab.client, four), Prober::asking(&lab.client, six));
    eventually(DEADLINE, "IPv6 is held", || six.count() > 100);
    assert_eq!(four.count(), 0);
    assert!(!fence.reconcile(&[(vip6(), now + LONG)]).unwrap());
    assert!(fence.reconcile(&both_until(now + LONG)).unwrap(), "what is held is missing");
    eventually(DEADLINE, "IPv4 is held", || four.count() > 0);
}

#[test]
fn a_stopped_gateway_says_nothing_more_as_the_virtual_ip() {
    let Some(lab) = Lab::new() else { return };
    let mut fence = lab.fenced();
    // What its kernel sends again of a connection, say; its neighbours would learn from the question before it.
    let sender = lab.gateway.run(|| std::net::UdpSocket::bind((VIP4, 0)).unwrap());
    let claims = Prober::resolving(&lab.client, "10.77.0.250".parse().unwrap());
    let heard = Prober::heard(&lab.client, vip4());
    let target: SocketAddr = "10.77.0.123:9".parse().unwrap();
    assert!(sender.send_to(b"x", target).is_err(), "the fence lets nothing out");
    // A question past the socket: the kernel asks for a neighbour with the address that a packet has.
    lab.gateway.ip("route add 10.77.1.0/24 dev eth0 src 10.77.0.200");
    assert!(sender.send_to(b"x", "10.77.1.5:9").is_err());
    drop(claims);
    assert_eq!(heard.count(), 0);

    fence.refresh(&both_until(Instant::now() + LONG)).unwrap();
    eventually(DEADLINE, "a holder asks as the virtual IP", || {
        sender.send_to(b"x", target).ok();
        heard.count() > 0
    });
}

#[test]
fn whatever_somebody_changes_is_mended() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let mut fence = lab.fenced();
    let holds = [(vip4(), Instant::now() + LONG)];
    fence.refresh(&holds).unwrap();
    assert!(!fence.reconcile(&holds).unwrap(), "nobody has changed anything");
    let changes = [
        "flush ruleset".to_owned(),
        format!("delete table inet {TABLE}"),
        format!("delete table arp {TABLE}"),
        format!("flush chain inet {TABLE} prerouting"),
        format!("add table inet {TABLE} {{ flags dormant; }}"),
        format!("insert rule inet {TABLE} prerouting accept"),
        format!("add rule arp {TABLE} input drop"),
        format!("add chain inet {TABLE} prerouting {{ policy drop; }}"),
        format!("delete element inet {TABLE} vips4 {{ {VIP4} }}"),
        format!("add element inet {TABLE} held6 {{ {} }}", vip6()),
        format!("add element inet {TABLE} held6 {{ {} timeout 1h }}", vip6()),
        format!("flush set inet {TABLE} held4"),
        format!("add element arp {TABLE} vips4 {{ 10.77.0.1 }}"),
    ];
    let (held, other) = (echo(&lab.gateway, vip4()), echo(&lab.gateway, vip6()));
    for change in &changes {
        nft(&lab, change);
        assert!(fence.reconcile(&holds).unwrap(), "not noticed: {change}");
        assert!(!fence.reconcile(&holds).unwrap(), "not mended: {change}");
        let (held, other) = (Prober::asking(&lab.client, held), Prober::asking(&lab.client, other));
        eventually(DEADLINE, &format!("what is held passes after: {change}"), || held.count() > 20);
        assert_eq!(other.count(), 0, "what is not held passes after: {change}");
    }
    // A refresh does not wait for anybody to compare.
    nft(&lab, "flush ruleset");
    fence.refresh(&holds).unwrap();
    assert!(!fence.reconcile(&holds).unwrap());
    // Others' tables are none of ours.
    nft(&lab, "add table inet filter");
    nft(&lab, &format!("add table ip {TABLE}"));
    assert!(!fence.reconcile(&holds).unwrap());
}

#[test]
fn the_rules_read_as_they_are_meant() {
    let Some(lab) = Lab::new() else { return };
    let _fence = lab.fenced();
    let shown = nft(&lab, "list ruleset");
    for rule in [
        "arp operation request arp daddr ip @vips4 arp daddr ip != @held4 drop",
        "arp saddr ip @vips4 arp saddr ip != @held4 drop",
        "ip daddr @vips4 ip daddr != @held4 fib daddr type local drop",
        "ip6 daddr @vips6 ip6 daddr != @held6 fib daddr type local drop",
        "ip saddr @vips4 ip saddr != @held4 drop",
        "ip6 saddr @vips6 ip6 saddr != @held6 drop",
        "icmpv6 type nd-neighbor-solicit",
        "icmpv6 type nd-neighbor-advert",
    ] {
        assert!(shown.contains(rule), "no {rule:?} in\n{shown}");
    }
}

#[test]
fn a_fence_is_installed_over_whatever_is_there_and_removed_whatever_is_there() {
    let Some(lab) = Lab::new() else { return };
    let first = lab.fenced();
    drop(first);
    assert!(nft(&lab, "list ruleset").contains(VIP4), "a fence outlives who made it");
    let mut second = lab.gateway.run(|| Fence::install(TABLE, &[vip6()]).unwrap());
    let shown = nft(&lab, "list ruleset");
    assert!(!shown.contains(VIP4) && shown.contains("fd00:77::c8"), "{shown}");
    second.remove().unwrap();
    assert_eq!(nft(&lab, "list ruleset").trim(), "");
    second.remove().unwrap();
    // There is nothing to close either.
    second.close(&vips()).unwrap();
    assert_eq!(nft(&lab, "list ruleset").trim(), "");
}

#[test]
fn a_thousand_addresses_of_each_family_are_held_as_one_is() {
    let Some(lab) = Lab::new() else { return };
    make_known(&lab);
    let many: Vec<IpAddr> = (0..1000u16)
        .flat_map(|at| {
            let [high, low] = at.to_be_bytes();
            let four: IpAddr = [10, 78, high, low].into();
            let six: IpAddr = [0xfd00, 0x78, 0, 0, 0, 0, 0, at].into();
            [four, six]
        })
        .chain(vips())
        .collect();
    drop(lab.fenced());
    let mut fence = lab.gateway.run(|| Fence::install(TABLE, &many).unwrap());
    let probers = probers(&lab);
    let hold = |until| many.iter().map(|ip| (*ip, until)).collect::<Vec<Hold>>();
    let start = Instant::now();
    let until = start + Duration::from_secs(2);
    fence.refresh(&hold(until)).unwrap();
    println!("{} addresses in {:?}", many.len(), start.elapsed());
    for (what, ip, prober) in &probers {
        eventually(DEADLINE, &format!("{what} of {ip} passes"), || prober.count() > 0);
    }
    let holds = hold(until);
    assert!(!fence.reconcile(&holds).unwrap());
    eventually(DEADLINE, "the lease is over", || Instant::now() > until + Duration::from_millis(200));
    for (what, ip, prober) in &probers {
        let late = prober.last().unwrap().saturating_duration_since(until);
        assert!(late < Duration::from_millis(100), "{what} of {ip} passed {late:?} late");
    }
    let too_many = vec![vip4(); 5000];
    assert!(matches!(fence.protect(&too_many, &[]), Err(Error::TooMany { count: 5000, most: 4096 })));
}

/// `nft` in the gateway's namespace: somebody who is not us.
#[track_caller]
fn nft(lab: &Lab, words: &str) -> String {
    let finished = tests::finish(lab.gateway.command("nft").arg(words), "", DEADLINE);
    assert_eq!(finished.code, Some(0), "nft {words}: {}", finished.text());
    finished.stdout
}
