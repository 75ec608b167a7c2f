use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lease::Entry;
use crate::register::Versioned;

fn id(name: &str) -> GatewayId {
    GatewayId::parse(name).unwrap()
}

fn run(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing::new(ms(300), ms(330), ms(1000), ms(60_000), ms(20))
}

fn register(holder: &str, boot: u8, epoch: u64, grantors: &[&str]) -> Register {
    Register {
        holder: id(holder),
        boot_id: run(boot),
        epoch,
        released: false,
        successor: None,
        grantors: grantors.iter().map(|name| id(name)).collect(),
    }
}

fn entry(version: u64, register: Register) -> Entry {
    Entry::Register(Versioned { version, register })
}

/// `a` in its run 1, that wants to hold, with the peers `b` and `c`, and has read the register.
fn machine(found: Option<Entry>) -> Machine {
    let mut machine = Machine::new(id("a"), run(1), Mode::Peer, timing(), at(0));
    machine.handle(at(0), Event::Turn);
    let peers = Arc::new([id("b"), id("c")].into_iter().collect::<BTreeSet<_>>());
    let surroundings = Surroundings { peers, successor: true, rank: 0 };
    machine.handle(at(0), Event::Surroundings(surroundings));
    machine.handle(at(0), Event::Wish(Wish::Hold));
    machine.handle(at(0), Event::Read { request: 1, found: Some(found) });
    machine
}

/// The same, holding in registry mode since 2,000 ms with version 7, its first heartbeat sent.
fn holder() -> Machine {
    let mut machine = machine(None);
    let claim = machine.handle(at(2000), Event::Turn);
    let Some(Action::Write { request, .. }) = claim.last() else { panic!("{claim:?}") };
    let taken =
        machine.handle(at(2000), Event::Written { request: *request, outcome: WriteOutcome::Done(7) });
    assert_eq!(taken[0], Action::Hold { until: at(3000) });
    machine
}

fn granted(from: &str, seq: u64) -> Event {
    Event::Granted { from: id(from), boot: run(1), epoch: 1, seq }
}

fn written(actions: &[Action]) -> Option<(u64, &Register)> {
    actions.iter().find_map(|action| match action {
        Action::Write { request, register, .. } => Some((*request, register)),
        _ => None,
    })
}

fn asked(from: &str, boot: u8, epoch: u64, seq: u64) -> Event {
    Event::Heartbeat { from: id(from), boot: run(boot), epoch, seq }
}

fn grants(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Grant { .. }))
}

#[test]
fn register_that_nobody_has_made_is_claimed_after_the_registry_grace() {
    let mut machine = machine(None);
    assert_eq!(machine.next_wake(), Some(at(1100)));
    assert_eq!(machine.handle(at(1099), Event::Turn), []);
    let actions = machine.handle(at(1100), Event::Turn);
    assert_eq!(written(&actions).unwrap().1, &register("a", 1, 1, &[]));
}

#[test]
fn peers_that_answer_join_together_and_their_grants_are_the_lease() {
    let mut machine = holder();
    let one = machine.handle(at(2001), granted("b", 1));
    assert_eq!(written(&one), None);
    let both = machine.handle(at(2001), granted("c", 1));
    // The lease is shorter before the write is sent.
    assert_eq!(both[0], Action::Hold { until: at(2300) });
    let (request, joined) = written(&both).unwrap();
    assert_eq!(joined, &register("a", 1, 1, &["b", "c"]));
    machine.handle(at(2003), Event::Written { request, outcome: WriteOutcome::Done(8) });
    machine.handle(at(2050), Event::Turn);
    assert_eq!(machine.handle(at(2051), granted("b", 2)), []);
    assert_eq!(machine.handle(at(2051), granted("c", 2)), [Action::Hold { until: at(2350) }]);
}

fn peer_holder() -> Machine {
    let mut machine = holder();
    machine.handle(at(2001), granted("b", 1));
    let joins = machine.handle(at(2001), granted("c", 1));
    let (request, _) = written(&joins).unwrap();
    machine.handle(at(2003), Event::Written { request, outcome: WriteOutcome::Done(8) });
    machine
}

#[test]
fn silent_grantor_is_removed_after_half_a_lease_and_counts_until_that_is_known() {
    let mut machine = peer_holder();
    for (beat, now) in [(2, 2050), (3, 2100)] {
        machine.handle(at(now), Event::Turn);
        machine.handle(at(now), granted("b", beat));
    }
    let removal = machine.handle(at(2150), Event::Turn);
    let (request, without) = written(&removal).unwrap();
    assert_eq!(without, &register("a", 1, 1, &["b"]));
    assert_eq!(machine.view().holding, Some(at(2300)));
    let done = machine.handle(at(2155), Event::Written { request, outcome: WriteOutcome::Done(9) });
    assert_eq!(done[0], Action::Hold { until: at(2400) });
}

#[test]
fn deadline_is_looked_at_before_the_event() {
    let mut machine = peer_holder();
    let actions = machine.handle(at(2300), granted("b", 1));
    assert_eq!(actions[0], Action::Drop { reason: DropReason::LeaseEnded });
}

#[test]
fn hand_over_lets_go_before_it_is_written() {
    let mut machine = holder();
    let event = Event::HandOver { successor: Some(id("c")), why: DropReason::Moved };
    let actions = machine.handle(at(2010), event);
    assert_eq!(actions[0], Action::Drop { reason: DropReason::Moved });
    let released = Register { released: true, successor: Some(id("c")), ..register("a", 1, 1, &[]) };
    let (request, written) = written(&actions).unwrap();
    assert_eq!(written, &released);
    // Not known to have happened, and treated as if it had.
    let unknown = machine.handle(at(2510), Event::Written { request, outcome: WriteOutcome::Unknown });
    assert!(!unknown.iter().any(|action| matches!(action, Action::Hold { .. })), "{unknown:?}");
}

#[test]
fn what_is_released_is_claimed_at_once_by_its_successor() {
    for (successor, due) in [(Some("a"), 5), (None, 5), (Some("c"), 335)] {
        let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
        let successor = successor.map(id);
        let released = Register { released: true, successor, ..register("b", 2, 4, &[]) };
        let first = machine.handle(at(5), Event::Watched(Some(entry(4, released))));
        let now = written(&first).map(|_| at(5)).or(machine.next_wake());
        assert_eq!(now, Some(at(due)));
    }
}

#[test]
fn grantor_waits_after_its_grant_and_after_a_version() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    assert_eq!(machine.next_wake(), Some(at(330)));
    assert!(grants(&machine.handle(at(100), asked("b", 2, 4, 1))));
    assert_eq!(machine.next_wake(), Some(at(430)));
    machine.handle(at(200), Event::Watched(Some(entry(4, register("b", 2, 4, &["a", "c"])))));
    assert_eq!(machine.next_wake(), Some(at(530)));
}

#[test]
fn outsider_waits_longer_than_hold_max() {
    let machine = machine(Some(entry(3, register("b", 2, 4, &["c"]))));
    assert!(machine.next_wake().unwrap() >= at(66_000));
}

fn ended(from: &str, boot: u8) -> Event {
    Event::Ended { from: id(from), boot: run(boot) }
}

#[test]
fn end_of_the_holders_run_ends_every_wait_for_it() {
    // For a grantor that has promised, for one that is none, and in registry mode.
    for grantors in [&["a"][..], &["c"], &[]] {
        let mut machine = machine(Some(entry(3, register("b", 2, 4, grantors))));
        machine.handle(at(10), asked("b", 2, 4, 1));
        assert_eq!(machine.handle(at(20), ended("b", 1)), [], "of another run");
        assert_eq!(machine.handle(at(20), ended("c", 2)), [], "of another gateway");
        let claim = machine.handle(at(20), ended("b", 2));
        assert_eq!(written(&claim).unwrap().1, &register("a", 1, 5, &[]));
    }
}

#[test]
fn end_is_remembered_until_the_register_names_that_run_and_does_not_outlast_it() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    machine.handle(at(10), ended("c", 7));
    let late = machine.handle(at(20), Event::Watched(Some(entry(4, register("c", 7, 5, &[])))));
    assert_eq!(written(&late).unwrap().1, &register("a", 1, 6, &[]));
    let mut machine = machine_that_knows_ends();
    machine.handle(at(20), Event::Watched(Some(entry(4, register("c", 8, 5, &["a"])))));
    assert_eq!(machine.next_wake(), Some(at(350)));
}

fn machine_that_knows_ends() -> Machine {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    for boot in 10..100 {
        machine.handle(at(10), ended("c", boot));
    }
    machine
}

#[test]
fn end_of_a_run_says_nothing_where_the_register_is_gone() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    let reads = machine.handle(at(10), Event::Watched(None));
    let Some(Action::Read { request }) = reads.first() else { panic!("{reads:?}") };
    machine.handle(at(11), Event::Read { request: *request, found: Some(None) });
    assert_eq!(machine.handle(at(20), ended("b", 2)), []);
}

#[test]
fn own_earlier_run_is_somebody_else() {
    let machine = machine(Some(entry(3, register("a", 9, 4, &[]))));
    assert!(!machine.view().registered);
    assert_eq!(machine.next_wake(), Some(at(1100)));
}

#[test]
fn nothing_is_granted_while_a_claim_may_happen() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    let claim = machine.handle(at(330), Event::Turn);
    let (request, _) = written(&claim).unwrap();
    assert!(!grants(&machine.handle(at(331), asked("b", 2, 4, 1))));
    let reads = machine.handle(at(830), Event::Written { request, outcome: WriteOutcome::Unknown });
    assert!(!grants(&reads));
    assert!(!grants(&machine.handle(at(840), asked("b", 2, 4, 2))));
    // The version has moved: the claim can not happen any more.
    machine.handle(at(850), Event::Watched(Some(entry(5, register("b", 2, 4, &[])))));
    assert!(grants(&machine.handle(at(860), asked("b", 2, 4, 3))));
}

#[test]
fn claim_that_is_found_counts_from_its_sending() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    let claim = machine.handle(at(330), Event::Turn);
    let (_, mine) = written(&claim).unwrap();
    let found = machine.handle(at(900), Event::Watched(Some(entry(4, mine.clone()))));
    assert_eq!(found[0], Action::Hold { until: at(1330) });
}

#[test]
fn repeated_heartbeats_and_older_epochs_are_not_granted() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    assert!(grants(&machine.handle(at(10), asked("b", 2, 4, 7))));
    assert!(!grants(&machine.handle(at(20), asked("b", 2, 4, 7))));
    assert!(!grants(&machine.handle(at(20), asked("b", 2, 4, 6))));
    assert!(!grants(&machine.handle(at(20), asked("c", 3, 4, 1))));
    let older = machine.handle(at(20), asked("c", 3, 3, 2));
    assert!(matches!(older[..], [Action::Refuse { epoch: 4, .. }]), "{older:?}");
}

#[test]
fn register_that_cannot_be_read_is_left_alone_and_ends_holding() {
    let mut machine = holder();
    let unreadable = Entry::Unreadable { version: 9, why: String::new() };
    let actions = machine.handle(at(2010), Event::Watched(Some(unreadable)));
    assert_eq!(actions[0], Action::Drop { reason: DropReason::RegisterGone });
    assert_eq!(machine.handle(at(200_000), Event::Turn), []);
}

#[test]
fn ineligible_grantor_frees_what_it_cannot_hold() {
    let mut machine = machine(Some(entry(3, register("b", 2, 4, &["a"]))));
    machine.handle(at(0), Event::Wish(Wish::Yield));
    assert_eq!(machine.next_wake(), Some(at(660)));
    let actions = machine.handle(at(660), Event::Turn);
    let freed = written(&actions).unwrap().1;
    assert!(freed.released && freed.epoch == 5);
}

#[test]
fn holder_that_cannot_write_lets_go_after_hold_max() {
    let mut machine = peer_holder();
    let mut dropped = None;
    for beat in 2..1400 {
        let now = 2000 + (beat - 1) * 50;
        let turn = machine.handle(at(now), Event::Turn);
        let more = ["b", "c"].map(|peer| machine.handle(at(now), granted(peer, beat)));
        let reason = turn.iter().chain(more.iter().flatten()).find_map(|action| match action {
            Action::Drop { reason } => Some((now, *reason)),
            _ => None,
        });
        dropped = dropped.or(reason);
    }
    // 60 s after the sending of the write at 2,001 ms, seen at the next heartbeat.
    assert_eq!(dropped, Some((62_050, DropReason::HoldMax)));
}

#[test]
fn kernel_that_refuses_to_hold_is_told_to_stop_though_the_same_turn_would_have() {
    let mut machine = holder();
    machine.handle(at(2250), Event::Turn);
    let renewal = machine.handle(at(2260), Event::Turn);
    assert_eq!(written(&renewal), None);
    machine.handle(at(2265), Event::HandOver { successor: Some(id("c")), why: DropReason::Moved });
    // The renewal is done: a turn that holds longer, lets go and releases. The first of that fails.
    let turn = machine.handle(at(2270), Event::Written { request: 3, outcome: WriteOutcome::Done(8) });
    assert!(matches!(turn[..], [Action::Hold { .. }, Action::Drop { .. }, Action::Write { .. }]), "{turn:?}");
    let failed = machine.handle(at(2270), Event::HoldFailed);
    assert!(matches!(failed[0], Action::Drop { .. }), "{failed:?}");
}

#[test]
fn kernel_that_cannot_let_go_delays_the_release() {
    let mut machine = holder();
    let event = Event::HandOver { successor: None, why: DropReason::Moved };
    let actions = machine.handle(at(2010), event);
    let (request, _) = written(&actions).unwrap();
    machine.handle(at(2010), Event::DropFailed);
    let undone = machine.handle(at(2010), Event::Written { request, outcome: WriteOutcome::NotDone });
    assert_eq!(written(&undone), None);
    assert!(machine.next_wake().is_some_and(|wake| wake > at(2010)));
}
