//! What is done to the process itself: SIGHUP, certificates that change, and hand-overs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tests::{Config, DEADLINE, Gateway, Process};

use super::Trouble;
use crate::soak::site::CERTIFICATES;
use crate::soak::watch::Generations;

/// Between two SIGHUPs or certificates.
const PAUSE: Duration = Duration::from_secs(6);
/// One SIGHUP in so many finds a configuration that is wrong.
const BROKEN: usize = 4;

/// When hand-overs happen: in a row, then none for a long while, in which what one process gathers would show, and
/// then in a row again.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub total: Duration,
    /// From one hand-over to the next, about.
    pub period: Duration,
}

/// Of the whole time: when the one long generation begins and ends.
const LONG_FROM: f64 = 0.35;
const LONG_TO: f64 = 0.65;

impl Plan {
    /// Every 75 seconds of a soak of 20 minutes; a shorter one has no fewer of them, down to one in 12 seconds.
    pub fn of(total: Duration) -> Self {
        Self { total, period: (total / 16).max(Duration::from_secs(12)) }
    }

    /// When the one after `now` is.
    fn next(&self, now: Duration, rng: &mut Rng) -> Duration {
        let next = now + self.period.mul_f64(0.8 + 0.4 * rng.f64());
        let (from, to) = (self.total.mul_f64(LONG_FROM), self.total.mul_f64(LONG_TO));
        // Whoever takes over around the begin of the long stretch has all of it.
        if next > from && next < to { to } else { next }
    }

    /// How long a process may go on after its hand-over for what it has under way.
    pub fn longest_tunnel(&self) -> Duration {
        self.period.mul_f64(0.8)
    }
}

/// Everything that needs the gateway itself, one after the other: as an operator would.
///
/// Returns the gateway, for its end.
pub fn run(
    trouble: &Trouble,
    rng: &mut Rng,
    plan: Plan,
    mut gateway: Gateway,
    config: &Config,
    generations: &Generations,
) -> Gateway {
    let mut next = plan.next(Duration::ZERO, rng);
    let mut serial = 0;
    while trouble.pause(rng, PAUSE) {
        generations.reap(trouble);
        let now = trouble.journal.elapsed();
        // What begins now has to be over at the end.
        if now >= next && now + plan.period / 2 < plan.total {
            hand_over(trouble, rng, &mut gateway, generations);
            next = plan.next(trouble.journal.elapsed(), rng);
        } else if rng.bool() {
            reload(trouble, rng, &mut gateway, config);
        } else {
            serial = (serial + 1) % CERTIFICATES;
            certify(trouble, serial);
        }
    }
    gateway
}

fn hand_over(trouble: &Trouble, rng: &mut Rng, gateway: &mut Gateway, generations: &Generations) {
    let _whole = crate::soak::lock(&trouble.whole);
    generations.note_reasons(&gateway.metrics());
    let former: Process = if rng.bool() {
        trouble.journal.event("hand-over by sluice upgrade");
        gateway.upgrade()
    } else {
        trouble.journal.event("hand-over by sluice run --takeover");
        gateway.hand_over()
    };
    generations.follow(trouble, gateway.pid(), former);
}

fn reload(trouble: &Trouble, rng: &mut Rng, gateway: &mut Gateway, config: &Config) {
    let is_broken = rng.usize(..BROKEN) == 0;
    let given = if is_broken { config.clone().gateway("wrokers = 2") } else { config.clone() };
    let is_in_force = gateway.reconfigure(&given);
    trouble.journal.event(if is_broken { "SIGHUP, configuration refused" } else { "SIGHUP" });
    if is_in_force == is_broken {
        trouble
            .journal
            .broken(format!("a configuration that is {is_broken} broken is {is_in_force} in force"));
    }
    if is_broken {
        // The next process reads it too.
        gateway.put_config(config);
    }
}

/// Another certificate, which the next handshakes get without anybody being told.
fn certify(trouble: &Trouble, serial: usize) {
    if let Err(error) = trouble.addresses.save("tls/soak.pem", &trouble.site.certificates[serial]) {
        return trouble.journal.broken(format!("cannot change a certificate: {error:#}"));
    }
    trouble.journal.event("certificate changed");
    trouble.expect(DEADLINE * 2, "the new certificate is served", || {
        trouble.load.last_seen.load(Ordering::Acquire) == serial
    });
}
