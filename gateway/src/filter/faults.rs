//! Failures on purpose.

use topology::filters::Fault;

use super::{Asked, Changes, Decision};
use crate::message::edits::push_line;
use crate::reason::Reason;
use crate::worker::request_ids::RequestId;

/// What was done to a request on purpose is said of it, in every response to it.
const MARK: &[u8] = b"X-Sluice-Fault";

/// The first that hits a request decides.
#[derive(Debug)]
pub struct Faults(pub Box<[Fault]>);

impl Faults {
    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let hit = self.0.iter().enumerate().find(|(at, fault)| {
            is_taken(&fault.matches, asked.taken_by) && is_among(asked.id, *at as u32, fault.percent)
        });
        let Some((_, fault)) = hit else { return Decision::Pass };
        changes.delay = fault.delay;
        if fault.delay.is_some() {
            push_line(MARK, b"delay", &mut changes.always);
        }
        let Some(status) = fault.abort else { return Decision::Pass };
        push_line(MARK, b"abort", &mut changes.always);
        changes.status = Some(status);
        Decision::Refuse(Reason::FaultInjected)
    }

    pub fn describe(&self) -> String {
        let describe = |fault: &Fault| {
            let mut parts = vec![format!("{} %", fault.percent)];
            parts.extend((!fault.matches.is_empty()).then(|| format!("of {}", fault.matches.join(", "))));
            parts.extend(fault.delay.map(|delay| format!("wait {} ms", delay.as_millis())));
            parts.extend(fault.abort.map(|status| format!("get {status}")));
            parts.join(" ")
        };
        self.0.iter().map(describe).collect::<Vec<_>>().join("; ")
    }
}

/// Whether one of `matches` took the request; with none named, any request will do.
pub fn is_taken(matches: &[std::sync::Arc<str>], taken_by: Option<&str>) -> bool {
    matches.is_empty() || taken_by.is_some_and(|name| matches.iter().any(|known| **known == *name))
}

/// Whether a request is in a share of all. Ids are numbers that a multiplication has spread evenly, so a
/// share is as even as can be, over any stretch of a worker's requests. `turn` turns the circle of them: who is
/// in one share need not be in the next.
pub fn is_among(id: &RequestId, turn: u32, percent: u8) -> bool {
    /// A third of the way around, near enough, that no few turns come back to where they were.
    const TURN: u32 = 0x55a1_93c7;
    let digits = id[16..24].iter().map(|digit| (*digit as char).to_digit(16).unwrap_or(0));
    let place = digits.fold(0u32, |place, digit| place << 4 | digit).wrapping_add(turn.wrapping_mul(TURN));
    u64::from(place) * 100 < u64::from(percent) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::request_ids::RequestIds;

    #[test]
    fn a_share_is_even_over_any_stretch_of_requests() {
        let ids = RequestIds::default();
        for turn in [0, 1, 7] {
            let hits: Vec<_> = (0..2_000).map(|_| is_among(&ids.next(), turn, 10)).collect();
            for window in hits.windows(200) {
                let count = window.iter().filter(|hit| **hit).count();
                assert!((17..=23).contains(&count), "{count}");
            }
        }
        assert!((0..1_000).all(|_| is_among(&ids.next(), 3, 100)));
    }

    #[test]
    fn a_match_is_asked_for_by_its_name() {
        let names = ["a".into(), "b".into()];
        assert!(is_taken(&[], None) && is_taken(&[], Some("x")));
        assert!(is_taken(&names, Some("b")) && !is_taken(&names, Some("x")) && !is_taken(&names, None));
    }
}
