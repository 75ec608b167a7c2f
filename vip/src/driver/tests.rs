//! Three drivers over real sockets, with a registry in memory and a kernel that counts holders.

mod lab;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lab::{Lab, eventually, id, vip};

use super::CommandError;
use crate::config::Mode;
use crate::eligibility::{Check, Thresholds};
use crate::metrics::AddressMetrics;

#[test]
fn one_of_three_holds_and_the_others_grant() {
    let lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    let status = lab.status(holder, vip(0));
    assert_eq!(status.holder, Some(id(holder)));
    assert_eq!(status.grantors.len(), 2);
    assert!(status.holding.is_some());
    lab.finish();
}

#[test]
fn killed_holder_is_replaced() {
    let mut lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    lab.kill(holder);
    let next = lab.settled(vip(0));
    assert_ne!(next, holder);
    lab.finish();
}

#[test]
fn holder_whose_guard_speaks_is_replaced_while_its_lease_would_run() {
    let lease = Duration::from_secs(4);
    let mut lab = Lab::start_with(2, |config| (config.lease, config.registry_lease) = (lease, lease), &[]);
    let holder = lab.settled(vip(0));
    let words = lab.handle(holder).last_words();
    eventually("it knows the other", || words.borrow().0.len() == 1);
    lab.kill(holder);
    lab.mourn(holder, &words.borrow());
    eventually("the other holds", || lab.holder(vip(0)) == Some(1 - holder));
    let (_, vacant) = lab.metrics(1 - holder, vip(0), AddressMetrics::takeovers);
    assert!(vacant < lease.as_secs_f64(), "nobody held for {vacant} s");
    lab.finish();
}

#[test]
fn holder_that_is_cut_off_lets_go_before_another_takes_over() {
    let lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    lab.isolate(holder, true);
    eventually("another holds", || lab.holder(vip(0)).is_some_and(|other| other != holder));
    lab.isolate(holder, false);
    lab.settled(vip(0));
    lab.finish();
}

#[test]
fn holder_that_is_frozen_is_replaced_and_does_not_come_back() {
    let lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    lab.freeze(holder, true);
    eventually("another holds", || lab.holder(vip(0)).is_some_and(|other| other != holder));
    let epoch = lab.register_epoch(vip(0));
    lab.freeze(holder, false);
    eventually("the frozen one has seen it", || lab.status(holder, vip(0)).epoch >= epoch);
    assert!(lab.status(holder, vip(0)).holding.is_none());
    lab.finish();
}

#[test]
fn registry_that_is_away_costs_nothing_in_peer_mode() {
    let lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    let dropped = lab.drops(holder);
    lab.registry_answers(false);
    // Several leases, by the heartbeats that were answered meanwhile.
    let refreshed = lab.refreshes(holder);
    eventually("the lease is extended many times", || lab.refreshes(holder) > refreshed + 60);
    assert_eq!(lab.holder(vip(0)), Some(holder));
    assert_eq!(lab.drops(holder), dropped);
    lab.registry_answers(true);
    lab.finish();
}

#[test]
fn registry_mode_needs_no_peers() {
    let mut lab = Lab::start_with(2, |config| config.mode = Mode::Registry, &[]);
    let holder = lab.settled(vip(0));
    lab.kill(holder);
    assert_ne!(lab.settled(vip(0)), holder);
    lab.finish();
}

#[test]
fn address_moves_where_it_is_told_to() {
    let lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    let target = (holder + 1) % 3;
    assert_eq!(lab.move_to(holder, vip(0), target), Ok(()));
    eventually("the target holds", || lab.holder(vip(0)) == Some(target));
    lab.settled(vip(0));
    let other = lab.move_to(holder, vip(0), target);
    assert!(matches!(other, Err(CommandError::NotHolder { .. })), "{other:?}");
    let unknown = lab.move_to(target, IpAddr::from([192, 0, 2, 1]), holder);
    assert!(matches!(unknown, Err(CommandError::UnknownAddress(_))));
    lab.finish();
}

#[test]
fn drained_gateways_hand_over_and_the_last_one_stays() {
    let lab = Lab::start(2);
    let holder = lab.settled(vip(0));
    lab.handle(holder).drain();
    let other = 1 - holder;
    eventually("the other holds", || lab.holder(vip(0)) == Some(other));
    let drops = lab.drops(other);
    lab.handle(other).drain();
    let refreshed = lab.refreshes(other);
    eventually("it goes on", || lab.refreshes(other) > refreshed + 10);
    assert_eq!((lab.holder(vip(0)), lab.drops(other)), (Some(other), drops));
    lab.handle(holder).undrain();
    eventually("the first has it again", || lab.holder(vip(0)) == Some(holder));
    lab.finish();
}

#[test]
fn gateway_that_fails_its_probe_hands_over() {
    let checks = [(Check::Probe, Thresholds { rise: 1, fall: 2 })];
    let lab = Lab::start_with(2, |_| {}, &checks);
    (0..2).for_each(|node| lab.handle(node).report(Check::Probe, true));
    let holder = lab.settled(vip(0));
    lab.handle(holder).report(Check::Probe, false);
    lab.handle(holder).report(Check::Probe, false);
    eventually("the other holds", || lab.holder(vip(0)) == Some(1 - holder));
    lab.finish();
}

#[test]
fn stopped_gateway_lets_go_at_once() {
    let mut lab = Lab::start(3);
    let holder = lab.settled(vip(0));
    let epoch = lab.register_epoch(vip(0));
    lab.stop(holder);
    assert!(lab.was_released(vip(0), epoch), "the register says that it is released");
    lab.settled(vip(0));
    lab.finish();
}

#[test]
fn kernel_that_refuses_is_no_holder() {
    let lab = Lab::start(2);
    let holder = lab.settled(vip(0));
    lab.refuse(holder, true);
    eventually("the other holds", || lab.holder(vip(0)) == Some(1 - holder));
    assert!(lab.metrics(holder, vip(0), |metrics| metrics.fence_refresh_errors.load(Ordering::Relaxed)) > 0);
    lab.refuse(holder, false);
    lab.finish();
}

#[test]
fn strangers_are_counted_and_change_nothing() {
    let lab = Lab::start(2);
    let holder = lab.settled(vip(0));
    lab.send_garbage(holder);
    eventually("it is counted", || {
        lab.handle(holder).metrics().messages_refused.load(Ordering::Relaxed) >= 3
    });
    assert_eq!(lab.holder(vip(0)), Some(holder));
    lab.finish();
}

#[test]
fn addresses_are_where_hashing_puts_them() {
    let lab = Lab::start(3);
    for number in 0..4 {
        let holder = lab.settled(vip(number));
        eventually("all know of all", || lab.status(holder, vip(number)).order.len() == 3);
    }
    lab.finish();
}

#[test]
fn contested_address_is_announced_again() {
    let lab = Lab::start(2);
    let holder = lab.settled(vip(0));
    let announced = lab.announcements(holder);
    lab.contest(holder, vip(0));
    eventually("it is announced", || lab.announcements(holder) > announced);
    assert_eq!(lab.metrics(holder, vip(0), |metrics| metrics.conflicts.load(Ordering::Relaxed)), 1);
    lab.finish();
}

#[test]
fn second_process_of_the_same_name_on_a_machine_does_not_start() {
    let lab = Lab::start(1);
    assert!(lab.start_again(0).is_err());
    lab.finish();
}
