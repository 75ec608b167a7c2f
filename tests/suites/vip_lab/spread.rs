//! Several addresses over several gateways.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use tests::{DEADLINE, eventually};
use vip::identity::GatewayId;
use vip::placement::{Candidate, order};

use crate::lab::{GATEWAYS, Kind, Lab, name, vip};

/// Four addresses that hashing spreads as evenly as four on three can be: hashing is fair on the whole, not for any four.
fn evenly() -> Vec<u8> {
    let all: Vec<_> = (0..GATEWAYS).collect();
    let mut room = [2, 1, 1];
    let mut picked = Vec::new();
    for number in 0..50 {
        let holder = wanted(&[vip(number)], &all)[0];
        if picked.len() < 4 && room[holder] > 0 {
            room[holder] -= 1;
            picked.push(number);
        }
    }
    assert_eq!(picked.len(), 4, "none of three gateways is left out of fifty addresses");
    picked
}

/// Where hashing puts each address among these gateways.
fn wanted(vips: &[Ipv4Addr], among: &[usize]) -> Vec<usize> {
    let id = |at: usize| GatewayId::parse(&name(at)).expect("a name");
    let candidates: BTreeSet<_> = among.iter().map(|at| Candidate { gateway: id(*at), weight: 1 }).collect();
    let first = |ip: IpAddr| order(ip, &candidates).first().cloned().expect("there are some");
    let of = |ip: IpAddr| among.iter().copied().find(|at| id(*at) == first(ip)).expect("one of them");
    vips.iter().map(|ip| of((*ip).into())).collect()
}

#[test]
fn four_addresses_spread_over_three_gateways_and_only_those_of_a_lost_one_move() {
    let lines = ["preempt = true", "rebalance_every = \"5s\""];
    let Some(mut lab) = Lab::start(Kind::ZooKeeper(1), &evenly(), &lines) else { return };
    let all: Vec<_> = (0..GATEWAYS).collect();
    let spread = wanted(lab.vips(), &all);
    eventually(DEADLINE * 4, "each is where it belongs", || lab.holders(&all).as_ref() == Some(&spread));

    let lost = spread[0];
    let left: Vec<_> = all.iter().copied().filter(|at| *at != lost).collect();
    let acquired = |lab: &Lab| {
        let of = |at: usize| {
            let ips = lab.vips().iter();
            ips.map(|ip| {
                let labels = [("address", &*ip.to_string()), ("reason", "acquired")];
                lab.metric(at, "sluice_vip_transitions_total", &labels)
            })
            .sum::<u64>()
        };
        left.iter().map(|at| of(*at)).sum::<u64>()
    };
    let before = acquired(&lab);
    lab.kill(lost);
    let without = wanted(lab.vips(), &left);
    let moved = spread.iter().filter(|holder| **holder == lost).count() as u64;
    // What was not the lost one's stays.
    let kept = spread.iter().zip(&without).filter(|(was, _)| **was != lost).all(|(was, is)| was == is);
    assert!(kept, "{spread:?} {without:?}");
    eventually(DEADLINE * 4, "those of the lost one are where they belong", || {
        lab.holders(&left).as_ref() == Some(&without)
    });
    // Where a busy machine keeps the first in line from claiming within its 15 ms, the second one does, and gives back
    // later; how often is told.
    println!("{moved} addresses had to move; {} takeovers by those left", acquired(&lab) - before);

    lab.relaunch(lost);
    eventually(DEADLINE * 8, "what belongs to it goes back to it", || {
        lab.holders(&all).as_ref() == Some(&spread)
    });
    println!("{} takeovers by those left once all had gone back", acquired(&lab) - before);
}
