//! Waiting for an endpoint that has room. What is waited for, and who is first, is decided in
//! [`crate::worker`]; here a client is watched meanwhile.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::client::Client;
use super::wire::Wire;
use crate::reason::Reason;
use crate::worker::{Admitted, Entry, Ticks, Waiter, Wanted};

/// The endpoint for a request, and its right to be sent there.
///
/// # Errors
/// Why it goes nowhere.
pub async fn admit<W: Wire>(client: &mut Client<W>, wanted: Wanted<'_>) -> Result<Admitted, Reason> {
    match client.worker.enter(wanted) {
        Entry::Admitted(admitted) => Ok(admitted),
        Entry::Refused(reason) => Err(reason),
        // Boxed: nearly no request waits.
        Entry::Wait(waiter) => Box::pin(wait(client, wanted, waiter)).await,
    }
}

async fn wait<W: Wire>(
    client: &mut Client<W>,
    wanted: Wanted<'_>,
    mut waiter: Box<Waiter>,
) -> Result<Admitted, Reason> {
    client.deadline.set(Ticks::of(waiter.patience()));
    let mut watches_client = true;
    poll_fn(|context| {
        if watches_client {
            match poll_gone(client, context) {
                Poll::Ready(true) => return Poll::Ready(Err(Reason::ClientAbort)),
                Poll::Ready(false) => watches_client = false,
                Poll::Pending => {}
            }
        }
        match waiter.poll(context, &client.worker, wanted) {
            Poll::Pending if client.is_aborting() => Poll::Ready(Err(Reason::Shutdown)),
            Poll::Pending if client.deadline.is_over() => Poll::Ready(Err(Reason::RequestTimeout)),
            Poll::Pending if client.deadline.has_passed() => Poll::Ready(Err(Reason::QueueTimeout)),
            polled => polled,
        }
    })
    .await
}

fn poll_gone<W: Wire>(client: &mut Client<W>, context: &mut Context<'_>) -> Poll<bool> {
    client.wire.poll_gone(context)
}
