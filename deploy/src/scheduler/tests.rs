use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::model::Strategy;

const GIB: u64 = 1 << 30;

fn app(id: &str) -> AppId {
    AppId::parse(id).unwrap()
}

fn seat(id: &str, gib: u64, cpu: u32) -> Seat {
    let host = Host {
        address: "10.0.0.1".parse().unwrap(),
        memory: gib * GIB,
        cpu,
        labels: BTreeMap::new(),
        ports: 25_000..=25_099,
        endpoint: None,
        cordoned: false,
        drained: false,
    };
    let id = HostId::parse(id).unwrap();
    Seat { id, host, ledger: Ledger::default(), reachable: true, load: None, foreign_ports: BTreeSet::new() }
}

fn room(memory: u64, cpu: u32) -> Reservation {
    Reservation { memory, cpu, ..Reservation::default() }
}

fn wish<'w>(app: &'w AppId, placement: &'w Placement) -> Wish<'w> {
    Wish { app, resources: room(GIB, 500), placement, avoid: &[], shunned_by: &[] }
}

fn chosen(strategy: Strategy, seats: &[Seat]) -> String {
    let placement = Placement { strategy, ..Placement::default() };
    choose(&wish(&app("shop"), &placement), seats, 0).unwrap().host.to_string()
}

#[test]
fn each_strategy_takes_the_host_that_it_names() {
    let mut seats = [seat("big", 16, 2_000), seat("fast", 8, 8_000), seat("full", 8, 4_000)];
    seats[0].take("shop/a".into(), room(GIB, 1_000), 25_000);
    seats[1].take("shop/b".into(), room(GIB, 1_000), 25_000);
    seats[2].take("blog/a".into(), room(6 * GIB, 1_000), 25_000);
    assert_eq!(chosen(Strategy::MostFreeMemory, &seats), "big");
    assert_eq!(chosen(Strategy::LeastCpu, &seats), "fast");
    assert_eq!(chosen(Strategy::Spread, &seats), "full");
    assert_eq!(chosen(Strategy::Pack, &seats), "full");
    seats[1].load = Some(900);
    assert_eq!(chosen(Strategy::LeastCpu, &seats), "full", "what is measured counts where it is more");
}

#[test]
fn every_host_says_why_it_will_not_do() {
    let mut seats: Vec<_> =
        ["down", "cordoned", "other", "twice", "apart", "alone", "small", "slow", "ports"]
            .map(|id| seat(id, 8, 4_000))
            .into();
    for seat in &mut seats[3..] {
        seat.host.labels.insert("zone".into(), "a".into());
        seat.take("cache/1".into(), Reservation::default(), 25_000);
    }
    seats[0].reachable = false;
    seats[1].host.cordoned = true;
    seats[2].host.labels.insert("zone".into(), "b".into());
    seats[3].take("shop/1".into(), Reservation::default(), 25_001);
    seats[4].take("noisy/1".into(), Reservation::default(), 25_001);
    seats[5].ledger.given.clear();
    seats[6].take("x/1".into(), room(7 * GIB + 1, 0), 25_001);
    seats[7].take("x/1".into(), room(0, 3_600), 25_001);
    seats[8].host.ports = 25_000..=25_001;
    seats[8].foreign_ports.insert(25_001);
    let placement = Placement {
        require: [("zone".to_owned(), "a".to_owned())].into(),
        apart: vec![app("noisy")],
        near: vec![app("cache")],
        one_per_host: true,
        ..Placement::default()
    };
    let shop = app("shop");
    let refused = choose(&wish(&shop, &placement), &seats, 0).unwrap_err();
    let why: BTreeMap<String, String> = refused
        .verdicts
        .iter()
        .map(|verdict| (verdict.host.to_string(), verdict.refusal.as_ref().unwrap().to_string()))
        .collect();
    for (host, told) in [
        ("down", "its runtime does not answer"),
        ("cordoned", "is cordoned"),
        ("other", "has the label zone = \"b\", not \"a\""),
        ("twice", "runs one already, and one_per_host is set"),
        ("apart", "runs noisy, which is to be apart"),
        ("alone", "runs no cache, which is to be near"),
        ("small", "has 1073741823B of memory free, 1GiB are wanted"),
        ("slow", "has 0.4 processors free, 0.5 are wanted"),
        ("ports", "has no free port in its range"),
    ] {
        assert_eq!(why[host], told);
    }
    assert!(
        refused.to_string().starts_with("none of 9 hosts will do (apart 1, cordoned 1, cpu 1"),
        "{refused}"
    );
    assert_eq!(choose(&wish(&shop, &placement), &[], 0).unwrap_err().to_string(), "there is no host");
}

#[test]
fn an_app_that_wants_to_be_apart_is_heeded_by_those_who_come_later() {
    let mut seats = [seat("a", 8, 4_000), seat("b", 4, 4_000)];
    seats[0].take("quiet/1".into(), room(0, 0), 25_000);
    let (shop, placement, quiet) = (app("shop"), Placement::default(), [app("quiet")]);
    let wish = Wish { shunned_by: &quiet, ..wish(&shop, &placement) };
    assert_eq!(choose(&wish, &seats, 0).unwrap().host.as_str(), "b");
}

#[test]
fn preferred_labels_win_and_a_host_that_has_just_failed_comes_last() {
    let mut seats = [seat("a", 8, 4_000), seat("b", 4, 4_000)];
    seats[1].host.labels.insert("disk".into(), "ssd".into());
    let placement =
        Placement { prefer: [("disk".to_owned(), "ssd".to_owned())].into(), ..Placement::default() };
    let (shop, avoid) = (app("shop"), [HostId::parse("b").unwrap()]);
    assert_eq!(choose(&wish(&shop, &placement), &seats, 0).unwrap().host.as_str(), "b");
    let wish = Wish { avoid: &avoid, ..wish(&shop, &placement) };
    assert_eq!(choose(&wish, &seats, 0).unwrap().host.as_str(), "a");
    assert_eq!(choose(&wish, &seats[1..], 0).unwrap().host.as_str(), "b", "better than nowhere");
}

proptest! {
    #[test]
    fn nothing_is_given_out_twice_and_a_refusal_is_true(
        hosts in prop::collection::vec((1..8_u64, 1..8_u32, 1..6_u16, any::<bool>()), 0..6),
        wishes in prop::collection::vec((0..3_usize, 0..3_u64, 0..3_u32, 0..4_usize, any::<bool>(), any::<u64>()), 0..40),
    ) {
        let mut seats: Vec<Seat> = hosts.iter().enumerate().map(|(at, (gib, cpu, ports, reachable))| {
            let mut seat = seat(&format!("h{at}"), *gib, cpu * 1_000);
            seat.host.ports = 25_000..=25_000 + (ports - 1);
            seat.reachable = *reachable;
            seat
        }).collect();
        let strategies = [Strategy::MostFreeMemory, Strategy::LeastCpu, Strategy::Spread, Strategy::Pack];
        for (at, (name, gib, cpu, strategy, alone, lot)) in wishes.into_iter().enumerate() {
            let app = app(["a", "b", "c"][name]);
            let placement = Placement { strategy: strategies[strategy], one_per_host: alone, ..Placement::default() };
            let resources = room(gib * GIB, cpu * 1_000);
            let wish = Wish { app: &app, resources, placement: &placement, avoid: &[], shunned_by: &[] };
            match choose(&wish, &seats, lot) {
                Ok(Seating { host, port }) => {
                    let seat = seats.iter_mut().find(|seat| seat.id == host).unwrap();
                    prop_assert!(seat.reachable);
                    prop_assert!(!alone || seat.ledger.count(&app) == 0);
                    prop_assert!(seat.ledger.given.values().all(|share| share.port != port));
                    prop_assert!(seat.host.ports.contains(&port));
                    seat.take(format!("{app}/{at}"), resources, port);
                    prop_assert!(seat.ledger.memory() <= seat.host.memory && seat.ledger.cpu() <= seat.host.cpu);
                }
                Err(Unplaceable { verdicts }) => {
                    prop_assert_eq!(verdicts.len(), seats.len());
                    for verdict in verdicts {
                        let seat = seats.iter().find(|seat| seat.id == verdict.host).unwrap();
                        let full = resources.memory > seat.free_memory() || resources.cpu > seat.free_cpu()
                            || seat.ledger.given.len() == seat.host.ports.len();
                        prop_assert!(full || !seat.reachable || (alone && seat.ledger.count(&app) > 0));
                        prop_assert!(verdict.refusal.is_some());
                    }
                }
            }
        }
    }
}

/// Prints how long it takes; what it asserts is that all are placed, and evenly.
#[test]
fn a_thousand_instances_find_their_places_on_fifty_hosts() {
    let mut seats: Vec<Seat> = (0..50).map(|at| seat(&format!("host-{at:02}"), 64, 32_000)).collect();
    let placement = Placement::default();
    let mut longest = std::time::Duration::ZERO;
    let began = Instant::now();
    for at in 0..1_000_u64 {
        let app = app(&format!("app-{}", at % 40));
        let before = Instant::now();
        let seating = choose(&wish(&app, &placement), &seats, at * 7).unwrap();
        longest = longest.max(before.elapsed());
        let seat = seats.iter_mut().find(|seat| seat.id == seating.host).unwrap();
        seat.take(format!("{app}/{at}"), room(GIB, 500), seating.port);
    }
    println!("1,000 placements on 50 hosts: {:?}, the longest {longest:?}", began.elapsed());
    assert!(seats.iter().all(|seat| seat.ledger.given.len() == 20));
}
