//! Which of two hosts that will do is the better one.

use std::cmp::{Ordering, Reverse};

use super::{Seat, Wish};
use crate::model::Strategy;

/// Less is better. Preferred labels count before the strategy, and a host where one like it has just failed comes last.
pub(super) fn compare(wish: &Wish<'_>, one: &Seat, other: &Seat) -> Ordering {
    let first = |seat: &Seat| (wish.avoid.contains(&seat.id), Reverse(preferred(wish, seat)));
    let tie = |seat: &Seat| (seat.ledger.count(wish.app), seat.ledger.given.len());
    first(one)
        .cmp(&first(other))
        .then_with(|| by_strategy(wish, one, other))
        .then_with(|| tie(one).cmp(&tie(other)))
        .then_with(|| one.id.cmp(&other.id))
}

fn preferred(wish: &Wish<'_>, seat: &Seat) -> usize {
    let has = |(name, wanted): &(&String, &String)| seat.host.labels.get(*name) == Some(*wanted);
    wish.placement.prefer.iter().filter(has).count()
}

fn by_strategy(wish: &Wish<'_>, one: &Seat, other: &Seat) -> Ordering {
    let both = [one, other];
    match wish.placement.strategy {
        Strategy::MostFreeMemory => other.free_memory().cmp(&one.free_memory()),
        Strategy::LeastCpu => {
            let [one, other] = both.map(cpu_load);
            one.cmp(&other)
        }
        Strategy::Spread => {
            let [one, other] = both.map(|seat| (seat.ledger.count(wish.app), seat.ledger.given.len()));
            one.cmp(&other)
        }
        Strategy::Pack => {
            let [one, other] = both.map(|seat| (seat.free_memory(), seat.free_cpu()));
            one.cmp(&other).then_with(|| both[1].ledger.given.len().cmp(&both[0].ledger.given.len()))
        }
    }
}

/// In thousandths of the host: what is given out, and what is measured where that is more. A measurement alone would send all of
/// a batch to the host that was idle a minute ago.
pub(super) fn cpu_load(seat: &Seat) -> u64 {
    let given = u64::from(seat.ledger.cpu()) * 1000 / u64::from(seat.host.cpu.max(1));
    given.max(u64::from(seat.load.unwrap_or(0)))
}
