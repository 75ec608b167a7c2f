//! Requests that wait for room: a queue per app and worker.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::Wanted;
use super::places::{Admitted, TenantPlace};
use crate::reason::Reason;
use crate::table::limits::Gate;
use crate::worker::Worker;

/// One worker's queues, by app.
#[derive(Debug, Default)]
pub struct Queues(RefCell<HashMap<u64, Rc<RefCell<Queue>>, FixedState>>);

#[derive(Debug, Default)]
struct Queue {
    /// In the order of their numbers.
    waiting: VecDeque<(u64, Option<Waker>)>,
    next: u64,
}

impl Queue {
    fn wake_first(&self) {
        if let Some((_, Some(waker))) = self.waiting.front() {
            waker.wake_by_ref();
        }
    }
}

impl Queues {
    /// Has the first of every queue look again: health may have changed, or limits, or an endpoint come.
    /// Once per tick; costs nothing while nobody waits.
    pub fn look_again(&self) {
        let mut queues = self.0.borrow_mut();
        if queues.is_empty() {
            return;
        }
        queues.retain(|_, queue| {
            let queue = queue.borrow();
            queue.wake_first();
            !queue.waiting.is_empty()
        });
    }

    fn of(&self, app: u64) -> Rc<RefCell<Queue>> {
        self.0.borrow_mut().entry(app).or_default().clone()
    }
}

/// A request's place in the queue of its app; it leaves by being dropped.
#[derive(Debug)]
pub struct Waiter {
    gate: Arc<Gate>,
    queue: Rc<RefCell<Queue>>,
    number: u64,
    worker: usize,
    tenant: Option<TenantPlace>,
    patience: Duration,
}

impl Waiter {
    /// # Errors
    /// [`Reason::AppOverloaded`] or [`Reason::TenantOverloaded`] when the queue is full.
    pub(super) fn join(
        gate: &Arc<Gate>,
        tenant: Option<TenantPlace>,
        worker: usize,
        queues: &Queues,
    ) -> Result<Self, Reason> {
        // Without limits of its own an app has nothing to wait for.
        let Some(limits) = &gate.limits else { return Err(Reason::AppOverloaded) };
        if !gate.entrance.waiting.try_take(limits.queue) {
            return Err(Reason::AppOverloaded);
        }
        if let Some(tenant) = &gate.tenant
            && !tenant.waiting.try_take(tenant.limits.queue.unwrap_or(u32::MAX))
        {
            gate.entrance.waiting.give_back();
            return Err(Reason::TenantOverloaded);
        }
        gate.entrance.count_waiting(worker, true);
        let queue = queues.of(gate.entrance.id);
        let number = {
            let mut queue = queue.borrow_mut();
            queue.next += 1;
            let number = queue.next;
            queue.waiting.push_back((number, None));
            number
        };
        Ok(Self { gate: gate.clone(), queue, number, worker, tenant, patience: limits.queue_timeout })
    }

    /// How long it waits.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Ready with a place, or with the reason why there will be none. Only the first in the queue looks.
    pub fn poll(
        &mut self,
        context: &Context<'_>,
        worker: &Worker,
        wanted: Wanted<'_>,
    ) -> Poll<Result<Admitted, Reason>> {
        if !self.is_first(context.waker()) {
            return Poll::Pending;
        }
        // Before it looks, so that what becomes free while it looks wakes it.
        self.gate.entrance.set_first(self.worker, context.waker());
        match worker.try_enter(&self.gate, wanted) {
            None => Poll::Pending,
            Some(tried) => {
                Poll::Ready(tried.map(|(endpoint, place)| Admitted::new(endpoint, place, self.tenant.take())))
            }
        }
    }

    /// Whether nobody is before it; keeps `waker` for the time when it becomes so.
    fn is_first(&self, waker: &Waker) -> bool {
        let mut queue = self.queue.borrow_mut();
        let Ok(position) = queue.waiting.binary_search_by_key(&self.number, |(number, _)| *number) else {
            return false;
        };
        match &mut queue.waiting[position].1 {
            Some(known) => known.clone_from(waker),
            unknown => *unknown = Some(waker.clone()),
        }
        position == 0
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        {
            let mut queue = self.queue.borrow_mut();
            let found = queue.waiting.binary_search_by_key(&self.number, |(number, _)| *number);
            if let Ok(position) = found {
                queue.waiting.remove(position);
            }
            if found == Ok(0) {
                queue.wake_first();
            }
        }
        let entrance = &self.gate.entrance;
        entrance.count_waiting(self.worker, false);
        entrance.waiting.give_back();
        self.gate.tenant.iter().for_each(|tenant| tenant.waiting.give_back());
        // Several places may have become free while it was the only one to be woken.
        entrance.wake_one();
    }
}
