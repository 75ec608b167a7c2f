//! Deadlines that cost a store each.
//!
//! A proxy sets several timeouts per request and almost none of them fires. So a connection owns one
//! slot, setting a deadline writes a number into it, and a sweep a few times a second looks for those
//! that have passed. A deadline therefore fires up to two ticks late, never early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

/// Late by at most two of these. A sweep of 10,000 connections reads 320 KiB, tens of microseconds, so it
/// costs well under a thousandth of a core at this rate.
pub const TICK: Duration = Duration::from_millis(100);

/// A span of time as deadlines count it, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u32);

impl Ticks {
    /// What is longer than 13 years is 13 years.
    pub const fn of(span: Duration) -> Self {
        let ticks = span.as_millis().div_ceil(TICK.as_millis());
        Self(if ticks < LONGEST as u128 { ticks as u32 } else { LONGEST })
    }
}

impl Ticks {
    pub const fn span(self) -> Duration {
        Duration::from_millis(self.0 as u64 * TICK.as_millis() as u64)
    }
}

impl From<Duration> for Ticks {
    fn from(span: Duration) -> Self {
        Self::of(span)
    }
}

/// So that no sum with the time since the start overflows.
const LONGEST: u32 = u32::MAX / 2;
/// The limit of what has none: no worker runs for 13 years.
const NEVER: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Slot {
    /// The tick at which it fires; 0: not set.
    due: u32,
    /// Whom it ends with; see [`Deadline::join`]. 0: only with the worker.
    group: u32,
    waker: Option<Waker>,
}

/// All deadlines of one worker.
#[derive(Debug, Default)]
pub struct Deadlines {
    slots: RefCell<Slab<Slot>>,
    now: Cell<u32>,
}

impl Deadlines {
    /// Moves time on, to `now` ticks after the start, and wakes the tasks whose deadline has passed.
    pub fn advance(&self, now: u32) {
        self.now.set(now);
        for (_, slot) in self.slots.borrow().iter() {
            if slot.due != 0 && slot.due <= now {
                wake(slot);
            }
        }
    }

    /// Lets every deadline pass now, those not set too.
    pub fn expire_all(&self) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            slot.due = 1;
            wake(slot);
        }
    }

    /// As [`Self::expire_all`], for one group.
    pub fn expire_group(&self, group: u32) {
        for (_, slot) in self.slots.borrow_mut().iter_mut().filter(|(_, slot)| slot.group == group) {
            slot.due = 1;
            wake(slot);
        }
    }

    /// As [`Self::wake_all`], for one group.
    pub fn wake_group(&self, group: u32) {
        self.slots.borrow().iter().filter(|(_, slot)| slot.group == group).for_each(|(_, slot)| wake(slot));
    }

    /// Wakes every task, so that it looks at the worker's state.
    pub fn wake_all(&self) {
        self.slots.borrow().iter().for_each(|(_, slot)| wake(slot));
    }

    /// Whole ticks since the worker started.
    pub fn now(&self) -> u32 {
        self.now.get()
    }
}

fn wake(slot: &Slot) {
    if let Some(waker) = &slot.waker {
        waker.wake_by_ref();
    }
}

/// One connection's slot. All that the connection awaits must be polled by the one task that called
/// [`Deadline::claim`].
#[derive(Debug)]
pub struct Deadline {
    owner: Rc<Deadlines>,
    key: usize,
    /// The tick past which nothing that is set reaches.
    limit: Cell<u32>,
}

impl Deadline {
    /// A slot for the task that awaits this.
    pub async fn claim(owner: Rc<Deadlines>) -> Self {
        poll_fn(move |context| {
            let slot = Slot { due: 0, group: 0, waker: Some(context.waker().clone()) };
            let key = owner.slots.borrow_mut().insert(slot);
            Poll::Ready(Self { owner: owner.clone(), key, limit: Cell::new(NEVER) })
        })
        .await
    }

    /// Ends with `group` from now on: its listener's connections are woken, and cut, together.
    pub(super) fn join(&self, group: u32) {
        self.owner.slots.borrow_mut()[self.key].group = group;
    }

    /// Fires `after` from now, unless it is set again before; within the limit, where there is one.
    pub fn set(&self, after: impl Into<Ticks>) {
        self.set_due((self.tick_after(after.into())).min(self.limit.get()));
    }

    /// Only a limit fires from now on.
    pub fn clear(&self) {
        let limit = self.limit.get();
        self.set_due(if limit == NEVER { 0 } else { limit });
    }

    /// Whatever is set fires `after` from now at the latest, until [`Self::unlimit`].
    pub fn limit(&self, after: Ticks) {
        self.limit.set(self.tick_after(after));
    }

    /// As far as `other`.
    pub fn limit_as(&self, other: Limit) {
        self.limit.set(other.0);
    }

    pub fn the_limit(&self) -> Limit {
        Limit(self.limit.get())
    }

    pub fn unlimit(&self) {
        self.limit.set(NEVER);
    }

    /// Whether it is the limit that has passed.
    pub fn is_over(&self) -> bool {
        self.limit.get() <= self.owner.now.get()
    }

    fn tick_after(&self, after: Ticks) -> u32 {
        self.owner.now.get() + after.0 + 1
    }

    fn set_due(&self, due: u32) {
        self.owner.slots.borrow_mut()[self.key].due = due;
    }

    pub fn has_passed(&self) -> bool {
        let due = self.owner.slots.borrow()[self.key].due;
        due != 0 && due <= self.owner.now.get()
    }

    /// Polls `work` until it is ready or the deadline has passed.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline passed first.
    pub async fn bound<T>(&self, mut work: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Elapsed> {
        poll_fn(|context| match work(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if self.has_passed() => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.owner.slots.borrow_mut().remove(self.key);
    }
}

/// When a [`Deadline`] fires at the latest.
#[derive(Debug, Clone, Copy)]
pub struct Limit(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_fires_once_its_time_has_passed_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let deadlines = Rc::new(Deadlines::default());
            let deadline = Deadline::claim(deadlines.clone()).await;
            deadline.set(TICK * 3);
            for now in 1..=3 {
                deadlines.advance(now);
                assert!(!deadline.has_passed());
            }
            deadlines.advance(4);
            assert!(deadline.has_passed());
            assert_eq!(deadline.bound(|_| Poll::<()>::Pending).await, Err(Elapsed));
            deadline.clear();
            assert!(!deadline.has_passed());
            drop(deadline);
            assert!(deadlines.slots.borrow().is_empty());
        });
    }

    #[test]
    fn nothing_is_set_past_a_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let deadlines = Rc::new(Deadlines::default());
            let deadline = Deadline::claim(deadlines.clone()).await;
            deadline.limit(Ticks(5));
            deadline.set(Ticks(1));
            deadlines.advance(2);
            assert!(deadline.has_passed() && !deadline.is_over());
            deadline.set(Ticks(100));
            deadlines.advance(5);
            assert!(!deadline.has_passed());
            deadlines.advance(6);
            assert!(deadline.has_passed() && deadline.is_over());
            deadline.clear();
            assert!(deadline.has_passed(), "a limit cannot be cleared");
            deadline.unlimit();
            deadline.set(Ticks(1));
            assert!(!deadline.has_passed() && !deadline.is_over());
        });
    }

    #[test]
    fn spans_are_rounded_up_and_never_overflow() {
        assert_eq!(Ticks::of(Duration::from_millis(1)), Ticks(1));
        assert_eq!(Ticks::of(Duration::from_millis(100)), Ticks(1));
        assert_eq!(Ticks::of(Duration::from_secs(1)), Ticks(10));
        assert_eq!(Ticks::of(Duration::MAX), Ticks(LONGEST));
    }

    #[test]
    fn a_group_expires_without_the_others() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let deadlines = Rc::new(Deadlines::default());
            deadlines.advance(1);
            let ending = Deadline::claim(deadlines.clone()).await;
            let staying = Deadline::claim(deadlines.clone()).await;
            ending.join(1);
            staying.join(2);
            deadlines.expire_group(1);
            assert_eq!((ending.has_passed(), staying.has_passed()), (true, false));
        });
    }
}
