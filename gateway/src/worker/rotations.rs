//! A worker's place in every rotation, and whom it has just seen refuse.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::deadlines::{Deadlines, TICK};
use crate::balance::{Candidate, SmoothRotation};
use crate::table::{CompiledApp, Pool, PooledEndpoint, Spread};

/// How long a worker avoids an endpoint that refused a connection, if it has another: long enough that
/// retries stay rare until the probes decide, short enough that a restart is not noticed.
const SUSPECT_TICKS: u32 = (1_000 / TICK.as_millis()) as u32;
/// Rotations that nobody has used for this long are forgotten.
const FORGET_TICKS: u32 = (600_000 / TICK.as_millis()) as u32;

#[derive(Debug)]
struct View {
    stamp: (u64, u64),
    /// Positions in the pool's list, as the rotation has them.
    eligible: Vec<u32>,
    rotation: SmoothRotation,
    used: u32,
}

#[derive(Debug)]
pub struct Rotations {
    views: RefCell<HashMap<u64, View, FixedState>>,
    suspects: RefCell<HashMap<u64, u32, FixedState>>,
    deadlines: Rc<Deadlines>,
    /// So that not every worker starts with the same endpoint.
    offset: usize,
}

impl Rotations {
    pub fn new(deadlines: Rc<Deadlines>, offset: usize) -> Self {
        Self { views: RefCell::default(), suspects: RefCell::default(), deadlines, offset }
    }

    /// The endpoint for the next request of `app`: the split's version first, then any other that has
    /// somebody. `tried` are endpoints that this request has been to.
    pub fn pick(&self, app: &CompiledApp, spread: &Spread, tried: &[u64]) -> Option<Arc<PooledEndpoint>> {
        spread.choose(&app.live).find_map(|pool| self.pick_from(app, pool, tried))
    }

    fn pick_from(&self, app: &CompiledApp, pool: &Pool, tried: &[u64]) -> Option<Arc<PooledEndpoint>> {
        let mut views = self.views.borrow_mut();
        let stamp = pool.stamp(&app.live);
        let view = views.entry(pool.id).or_insert_with(|| View {
            stamp: (0, 0),
            eligible: Vec::new(),
            rotation: SmoothRotation::starting_at(self.offset),
            used: 0,
        });
        if view.stamp != stamp {
            view.refresh(pool, stamp);
        }
        view.used = self.deadlines.now();
        let endpoint = |position: usize| &pool.endpoints[view.eligible[position] as usize];
        let is_tried = |id: u64| tried.contains(&id);
        if !tried.is_empty() {
            let other = view.rotation.pick_other(|id| is_tried(id) || self.is_suspect(id));
            return other.or_else(|| view.rotation.pick_other(is_tried)).map(endpoint).cloned();
        }
        let position = view.rotation.pick()?;
        if self.is_suspect(endpoint(position).live.id)
            && let Some(other) = view.rotation.pick_other(|id| self.is_suspect(id))
        {
            return Some(endpoint(other).clone());
        }
        Some(endpoint(position).clone())
    }

    /// `endpoint` refused a connection: others are preferred for a moment.
    pub fn suspect(&self, endpoint: u64) {
        self.suspects.borrow_mut().insert(endpoint, self.deadlines.now() + SUSPECT_TICKS);
    }

    fn is_suspect(&self, endpoint: u64) -> bool {
        let suspects = self.suspects.borrow();
        !suspects.is_empty() && suspects.get(&endpoint).is_some_and(|until| self.deadlines.now() < *until)
    }

    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.suspects.borrow_mut().retain(|_, until| now < *until);
        self.views.borrow_mut().retain(|_, view| now - view.used < FORGET_TICKS);
    }
}

impl View {
    fn refresh(&mut self, pool: &Pool, stamp: (u64, u64)) {
        let up = || pool.endpoints.iter().zip(0u32..).filter(|(endpoint, _)| endpoint.live.health.is_up());
        self.eligible = up().map(|(_, position)| position).collect();
        // Health may turn between the two passes; the second one follows the first one's list.
        let candidates = self.eligible.iter().map(|position| {
            let endpoint = &pool.endpoints[*position as usize];
            Candidate { id: endpoint.live.id, weight: endpoint.weight }
        });
        self.rotation.update(candidates);
        self.stamp = stamp;
    }
}
