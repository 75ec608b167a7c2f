//! Endpoints that die and come back. Of each app only one is dead at a time, and the others have been back for a
//! while: a gateway can always find somebody who lives.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::Trouble;
use crate::soak::site::Mortal;

/// From one death to the next, over all apps.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest that one stays dead.
const DEAD: Duration = Duration::from_secs(4);
/// After a return, before another one of the same app dies: more than a probe's interval and an ejection take.
const REST: Duration = Duration::from_secs(8);

/// One that is dead, and until when.
struct Dead<'a> {
    mortal: &'a Mortal,
    instance: usize,
    until: Instant,
}

pub fn run(trouble: &Trouble, rng: &mut Rng) {
    let mortals = &trouble.site.mortals;
    let mut dead: Vec<Dead<'_>> = Vec::new();
    let mut rested = vec![Instant::now(); mortals.len()];
    while trouble.pause(rng, PAUSE) {
        let back = dead.extract_if(.., |dead| dead.until <= Instant::now()).collect::<Vec<_>>();
        for one in back {
            one.mortal.instances[one.instance].come_back();
            trouble.journal.event("endpoint returns");
            let at = mortals.iter().position(|mortal| mortal.id == one.mortal.id);
            at.into_iter().for_each(|at| rested[at] = Instant::now() + REST);
        }
        let at = rng.usize(..mortals.len());
        let mortal = &mortals[at];
        if dead.iter().any(|dead| dead.mortal.id == mortal.id) || rested[at] > Instant::now() {
            continue;
        }
        let instance = rng.usize(..mortal.instances.len());
        let death = trouble.journal.dies(mortal.id, instance);
        mortal.instances[instance].die();
        trouble.journal.has_died(death);
        trouble.journal.event("endpoint dies");
        dead.push(Dead { mortal, instance, until: Instant::now() + DEAD.mul_f64(rng.f64()) });
    }
    dead.iter().for_each(|dead| dead.mortal.instances[dead.instance].come_back());
}
