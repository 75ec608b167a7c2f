//! Telling the link where an address is now: when, and by what.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::error::Result;
use super::interface::{Interface, Mac};
use super::packet::{PacketSocket, announcement};

/// When an address is announced after it was taken. At once, since clients wait for it; again for what was lost by
/// a full queue (50 ms), a switch port that has just begun to forward (1.1 s, 2.2 s) or one that learns slowly (5 s).
/// RFC 5227 section 2.3 asks for two, two seconds apart.
const AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(1100),
    Duration::from_millis(2200),
    Duration::from_secs(5),
];

/// When to announce one address: a plan without a clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    refresh: Duration,
    /// From when the plan runs, and how many of its steps are over. `None`: not held.
    running: Option<(Instant, usize)>,
    next: Option<Instant>,
}

impl Schedule {
    /// Nothing to announce yet. `refresh` is how often the address is announced after the first seconds, for
    /// switches that forget; it is at least a second.
    pub fn new(refresh: Duration) -> Self {
        Self { refresh: refresh.max(Duration::from_secs(1)), running: None, next: None }
    }

    /// The address is held as of `now`, or has to be announced anew: after a conflict, for instance.
    pub fn begin(&mut self, now: Instant) {
        self.running = Some((now, 0));
        self.next = Some(now);
    }

    /// The address is not held any more.
    pub fn end(&mut self) {
        self.running = None;
        self.next = None;
    }

    /// The link has come up: whoever is at its other end may know nothing. Nothing where the address is not held.
    pub fn link_up(&mut self, now: Instant) {
        if self.running.is_some() {
            self.begin(now);
        }
    }

    /// When [`Self::take_due`] will be true. `None`: never, as things are.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether to announce the address now. Steps that were missed are made up for by one.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let (Some((since, mut over)), Some(next)) = (self.running, self.next) else { return false };
        if now < next {
            return false;
        }
        while AFTER.get(over).is_some_and(|after| since + *after <= now) {
            over += 1;
        }
        self.running = Some((since, over));
        self.next = Some(AFTER.get(over).map_or(now + self.refresh, |after| since + *after));
        true
    }
}

/// Sends announcements on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: PacketSocket,
    mac: Mac,
}

impl Announcer {
    /// # Errors
    /// The system's; CAP_NET_RAW is named where it is missing.
    pub fn open(interface: &Interface) -> Result<Self> {
        Ok(Self { socket: PacketSocket::sender(interface)?, mac: interface.mac })
    }

    /// Announces `ip` as being here: returns how many frames went out. Goes past the fence, so it is for who holds
    /// the address.
    ///
    /// # Errors
    /// The system's: the interface is down or gone, or its queue is full. The next announcement may succeed.
    pub fn announce(&self, ip: IpAddr) -> io::Result<usize> {
        let frames = announcement(ip, self.mac);
        frames.iter().try_for_each(|frame| self.socket.send(frame))?;
        Ok(frames.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What is announced when somebody looks whenever he is told to.
    fn times(schedule: &mut Schedule, start: Instant, until: Duration) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(next) = schedule.next().filter(|next| *next <= start + until) {
            assert!(schedule.take_due(next));
            times.push((next - start).as_millis());
        }
        times
    }

    #[test]
    fn a_taken_address_is_announced_five_times_and_then_every_minute() {
        let (mut schedule, start) = (Schedule::new(MINUTE), Instant::now());
        assert!(schedule.next().is_none() && !schedule.take_due(start));
        schedule.begin(start);
        let times = times(&mut schedule, start, Duration::from_secs(130));
        assert_eq!(times, [0, 50, 1100, 2200, 5000, 65_000, 125_000]);
    }

    #[test]
    fn a_link_that_comes_up_is_told_again_and_only_of_what_is_held() {
        let (mut schedule, start) = (Schedule::new(MINUTE), Instant::now());
        schedule.link_up(start);
        assert!(schedule.next().is_none());
        schedule.begin(start);
        times(&mut schedule, start, MINUTE);
        let up = start + MINUTE;
        schedule.link_up(up);
        assert_eq!(times(&mut schedule, up, Duration::from_secs(5)), [0, 50, 1100, 2200, 5000]);
        schedule.end();
        schedule.link_up(up);
        assert!(schedule.next().is_none() && !schedule.take_due(up + MINUTE));
    }

    #[test]
    fn missed_announcements_are_made_up_for_by_one() {
        let (mut schedule, start) = (Schedule::new(MINUTE), Instant::now());
        schedule.begin(start);
        assert!(schedule.take_due(start + Duration::from_millis(1500)));
        assert_eq!(schedule.next(), Some(start + Duration::from_millis(2200)));
        assert!(schedule.take_due(start + MINUTE));
        assert_eq!(schedule.next(), Some(start + MINUTE + MINUTE));
    }

    proptest! {
        /// Whenever it is looked at: never twice within what the plan says, and never silent for longer.
        #[test]
        fn looking_at_any_moments_announces_as_often_as_planned(waits in prop::collection::vec(1u64..4_000, 1..200)) {
            let (mut schedule, start) = (Schedule::new(MINUTE), Instant::now());
            schedule.begin(start);
            let mut now = start;
            for wait in waits {
                now += Duration::from_millis(wait);
                let next = schedule.next().unwrap();
                prop_assert_eq!(schedule.take_due(now), next <= now);
                let next = schedule.next().unwrap();
                prop_assert!(next > now && next <= now + MINUTE);
                prop_assert!(!schedule.take_due(now));
            }
        }
    }
}
