//! What befalls a holder, and what must come of it.

use std::time::Duration;

use rustix::process::Signal;
use tests::{DEADLINE, eventually};

use crate::lab::{Holding, Kind, Lab, name};

/// What befalls the gateway that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All of its processes, as the death of a machine is.
    Kill,
    /// The gateway and not its guard.
    KillProxy,
    Stop,
    LinkDown,
    /// Nothing passes any more, and its link stays up.
    Cut,
    Terminate,
}

impl Fault {
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::KillProxy, Self::Stop, Self::LinkDown, Self::Cut, Self::Terminate];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::KillProxy => "proxy alone killed",
            Self::Stop => "SIGSTOP",
            Self::LinkDown => "link down",
            Self::Cut => "silent partition",
            Self::Terminate => "SIGTERM",
        }
    }

    pub fn begin(self, lab: &mut Lab, holder: usize) {
        match self {
            Self::Kill => lab.kill_with_guard(holder),
            Self::KillProxy => lab.kill(holder),
            Self::Stop => lab.signal(holder, Signal::STOP),
            Self::LinkDown => lab.switch.pull(lab.host(holder)),
            Self::Cut => lab.switch.cut(lab.host(holder)),
            Self::Terminate => lab.signal(holder, Signal::TERM),
        }
    }

    pub fn end(self, lab: &mut Lab, holder: usize) {
        match self {
            Self::Kill | Self::KillProxy => lab.relaunch(holder),
            Self::Stop => lab.signal(holder, Signal::CONT),
            Self::LinkDown => lab.switch.plug(lab.host(holder)),
            Self::Cut => lab.switch.mend(lab.host(holder)),
            Self::Terminate => {
                assert!(lab.process(holder).wait(DEADLINE).success());
                lab.relaunch(holder);
            }
        }
    }
}

/// One round: whoever holds is struck, somebody else answers, and when all is well again nobody has answered beside or
/// after his successor. Returns how long nobody answered the client, and how many successions there were: one, where the machine has
/// no other work.
pub fn round(lab: &mut Lab, fault: Fault) -> (Duration, u64) {
    let before = lab.settled(0);
    lab.service.clear();
    lab.link.clear();
    lab.hear(20);
    let old = (name(before.by), lab.host(before.by).mac());
    fault.begin(lab, before.by);
    eventually(DEADLINE * 2, &format!("somebody else answers after {}", fault.name()), || {
        lab.service.has_heard(|name| *name != old.0) && lab.link.has_heard(|mac| *mac != old.1)
    });
    fault.end(lab, before.by);
    let mut after = lab.settled(0);
    loop {
        // Whatever the old one still had to say, it would have said by now.
        lab.hear(20);
        let now = lab.settled(0);
        if std::mem::replace(&mut after, now) == now {
            break;
        }
    }
    judge(lab, fault.name(), before, after);
    (lab.service.downtime().expect("somebody else has answered"), after.epoch - before.epoch)
}

/// As many successions as there were epochs, and not one more: two who answer at a time, or one who answers
/// after its successor, are more.
pub fn judge(lab: &Lab, what: &str, before: Holding, after: Holding) {
    let successions = usize::try_from(after.epoch - before.epoch).expect("a few");
    for (kind, changes) in [("datagrams", lab.service.changes()), ("ARP", lab.link.changes())] {
        assert!(
            changes <= successions,
            "{what}: who answers {kind} changed {changes} times in {successions} successions ({before:?} to {after:?}):\n{:?}\n{:?}",
            lab.service.seen(),
            lab.link.seen(),
        );
    }
}

fn rounds(fault: Fault) {
    let Some(mut lab) = Lab::start(Kind::ZooKeeper(1), &[0], &[]) else { return };
    let downtimes: Vec<_> = (0..2).map(|_| round(&mut lab, fault).0.as_millis()).collect();
    println!("{}: nobody answered for {downtimes:?} ms", fault.name());
}

#[test]
fn killed_holder_is_replaced() {
    rounds(Fault::Kill);
}

#[test]
fn killed_holder_whose_guard_lives_is_replaced() {
    rounds(Fault::KillProxy);
}

#[test]
fn stopped_holder_is_replaced_and_says_nothing_when_it_goes_on() {
    rounds(Fault::Stop);
}

#[test]
fn holder_without_a_link_is_replaced() {
    rounds(Fault::LinkDown);
}

#[test]
fn holder_that_is_cut_off_is_replaced_and_says_nothing_when_it_is_back() {
    rounds(Fault::Cut);
}

#[test]
fn holder_that_is_told_to_end_hands_over() {
    rounds(Fault::Terminate);
}

#[test]
fn registry_that_is_away_moves_nothing() {
    let Some(mut lab) = Lab::start(Kind::ZooKeeper(1), &[0], &[]) else { return };
    let before = lab.settled(0);
    lab.service.clear();
    lab.link.clear();
    lab.with_registry(|registry| registry.kill(0));
    // Ten leases and more.
    lab.hear(300);
    lab.with_registry(|registry| registry.restart(0));
    let after = lab.settled(0);
    assert_eq!(after, before);
    judge(&lab, "the registry was away", before, after);
    println!("the registry was away: the longest time without an answer was {:?}", lab.service.longest_gap());
    // And it is used again.
    round(&mut lab, Fault::Kill);
}
