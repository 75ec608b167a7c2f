//! The right to open one more connection to an endpoint, where an app limits them.

use std::task::Poll;
use std::time::Duration;

use super::dial::DialError;
use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::worker::{Deadline, Full, Slot, Ticks, Worker, take_slot};

/// For idle connections of all workers to be given up, which takes two ticks; and for one that is being
/// closed.
const PATIENCE: Duration = Duration::from_secs(1);

/// `None`: nobody counts. Waits while all are open and idle ones are being given up.
///
/// # Errors
/// [`DialError::Full`] when none became free in time.
pub async fn wait(
    worker: &Worker,
    endpoint: &PooledEndpoint,
    deadline: &Deadline,
) -> Result<Option<Box<Slot>>, DialError> {
    let (wanted, reason) = match take_slot(endpoint, false) {
        Ok(slot) => return Ok(slot),
        Err(Full { meter, reason }) => (meter.want(), reason),
    };
    deadline.set(const { Ticks::of(PATIENCE) });
    let waiting = deadline.bound(|context| {
        // Before it looks, so that what is given up while it looks wakes it.
        worker.slots.wait(context);
        if let Some(gate) = &endpoint.gate {
            gate.entrance.set_slot_waiter(worker.index, context.waker());
        }
        take_slot(endpoint, true).map_or(Poll::Pending, Poll::Ready)
    });
    let waited = waiting.await.map_err(|_| DialError::Full(reason));
    drop(wanted);
    worker.slots.look_again();
    waited
}

/// Until the next tick.
///
/// # Errors
/// [`DialError::Full`], with `reason`, when the deadline has passed.
pub async fn tick(worker: &Worker, deadline: &Deadline, reason: Reason) -> Result<(), DialError> {
    let mut has_waited = false;
    let waiting = deadline.bound(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        worker.slots.wait(context);
        Poll::Pending
    });
    waiting.await.map_err(|_| DialError::Full(reason))
}
