//! What the scheduler would do, and why.

use std::collections::BTreeMap;
use std::fmt;

use topology::HostId;

use super::filter::{Refusal, refusal};
use super::score::{compare, cpu_load};
use super::{Seat, Wish};

/// Shown in one line; the whole list is in [`Unplaceable::verdicts`].
const MAX_SHOWN: usize = 4;

/// What would become of a wish on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub host: HostId,
    pub refusal: Option<Refusal>,
    pub free_memory: u64,
    /// In thousandths of a processor.
    pub free_cpu: u32,
    /// In thousandths of the host.
    pub load: u64,
    /// Of the same app.
    pub instances: usize,
}

/// No host will do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unplaceable {
    pub verdicts: Vec<Verdict>,
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdicts.is_empty() {
            return formatter.write_str("there is no host");
        }
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for refusal in self.verdicts.iter().filter_map(|verdict| verdict.refusal.as_ref()) {
            *counts.entry(refusal.code()).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(code, count)| format!("{code} {count}")).collect();
        write!(formatter, "none of {} hosts will do ({})", self.verdicts.len(), counts.join(", "))?;
        for verdict in self.verdicts.iter().take(MAX_SHOWN) {
            if let Some(refusal) = &verdict.refusal {
                write!(formatter, "; {} {refusal}", verdict.host)?;
            }
        }
        Ok(())
    }
}

pub(super) fn verdicts(wish: &Wish<'_>, seats: &[Seat]) -> Vec<Verdict> {
    let mut judged: Vec<_> = seats.iter().map(|seat| (seat, refusal(wish, seat))).collect();
    judged.sort_by(|(one, refused), (other, also)| {
        refused.is_some().cmp(&also.is_some()).then_with(|| compare(wish, one, other))
    });
    let verdict = |(seat, refusal): (&Seat, Option<Refusal>)| Verdict {
        host: seat.id.clone(),
        refusal,
        free_memory: seat.free_memory(),
        free_cpu: seat.free_cpu(),
        load: cpu_load(seat),
        instances: seat.ledger.count(wish.app),
    };
    judged.into_iter().map(verdict).collect()
}
