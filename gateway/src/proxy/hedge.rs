//! Hedging: a request that can be repeated, and whose endpoint is slow to answer, is sent to a second one as
//! well. Who answers first is passed on; the other one's connection is closed, or its stream reset.
//!
//! The second endpoint is asked by an [`Attempt`] like the first, whose client is a [`Bystander`]: it has
//! nothing to send and is told nothing. So it is the first one's to notice that the client goes, even when it
//! has nothing else left to do.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use topology::Hedge;

use super::answer::Answer;
use super::attempt::{Answered, Attempt, Failure};
use super::client::Client;
use super::facts::{After, Facts, Heads};
use super::relay::{Decoder, FRAMED_READ, Relay};
use super::retry::Route;
use super::wire::{Gone, Reply, Sent, Sink, Source, Upward, Wire};
use crate::listener::HttpListener;
use crate::message::{Framing, Method};
use crate::metrics::HedgeResult;
use crate::reason::Reason;

/// A request's right to a second endpoint.
#[derive(Debug)]
pub struct Hedging {
    after: Duration,
    heads: Heads,
}

/// How a race ended.
struct Raced {
    winner: Winner,
    loser: Loser,
}

enum Winner {
    /// The first endpoint's attempt; where both have failed, too.
    Own(Result<Answered, Failure>),
    Other(Answered),
}

/// What became of the one that does not count.
enum Loser {
    /// It was still under way.
    Cancelled,
    /// `None`: its endpoint said so itself.
    Failed(Option<Reason>),
}

impl Hedging {
    /// Only for what can be sent twice: safe methods without a body that stay HTTP.
    pub fn of(hedge: &Hedge, facts: &Facts, heads: &Heads) -> Option<Self> {
        let is_safe = matches!(facts.method, Method::Get | Method::Head | Method::Options);
        let is_whole = !facts.has_body() && facts.upgrade.is_none();
        let heads = || Heads { http1: heads.http1.clone(), http2: heads.http2.clone() };
        (is_safe && is_whole).then(|| Self { after: hedge.after, heads: heads() })
    }

    /// As [`Attempt::ask`].
    pub async fn ask<W: Wire>(
        self,
        attempt: &mut Attempt<'_, W>,
        route: &mut Route<'_>,
    ) -> Result<Answered, Failure> {
        let Client { worker, origin, deadline, .. } = &*attempt.client;
        let (worker, origin, limit) = (worker.clone(), origin.clone(), deadline.the_limit());
        let (facts, endpoint) = (attempt.facts, attempt.outcome().endpoint.clone());
        let heard = Rc::new(Cell::new(false));
        attempt.heard = Some(heard.clone());
        let rival = Rival::default();
        let mut stand_in;
        let mut other;
        let raced = {
            let mut own = pin!(ask_first(attempt, &rival));
            let mut delay = pin!(tokio::time::sleep(self.after));
            let early = poll_fn(|context| match own.as_mut().poll(context) {
                Poll::Ready(asked) => Poll::Ready(Some(asked)),
                // An endpoint that has sent an interim response is at work.
                Poll::Pending if heard.get() => Poll::Pending,
                Poll::Pending => delay.as_mut().poll(context).map(|()| None),
            });
            if let Some(asked) = early.await {
                return asked;
            }
            let Some(second) = route.beside(&endpoint) else { return own.await };
            let deadline = origin.listener.ending.deadline().await;
            deadline.limit_as(limit);
            stand_in = Client { worker: worker.clone(), origin, deadline, wire: Bystander };
            other = Attempt::new(&mut stand_in, facts, second, 0, self.heads, None);
            race(own, other.ask(), &rival, &heard).await
        };
        attempt.heard = None;
        let (asked, result) = match (raced.winner, &raced.loser) {
            (Winner::Own(asked), Loser::Cancelled) => (asked, HedgeResult::Lost),
            (Winner::Own(asked), Loser::Failed(_)) => (asked, HedgeResult::Failed),
            (Winner::Other(answered), _) => {
                attempt.take_over(&mut other);
                (Ok(answered), HedgeResult::Won)
            }
        };
        let mut lost = other.into_outcome();
        route.leave(&lost.endpoint);
        match raced.loser {
            Loser::Failed(failure) => {
                lost.failure = failure;
                route.observe(&lost);
            }
            Loser::Cancelled if matches!(result, HedgeResult::Won) => {
                route.observe_overtaken(&lost);
            }
            Loser::Cancelled => {}
        }
        endpoint.metrics.cells(worker.index).hedges[result as usize].increment();
        asked
    }
}

/// What the first attempt knows of the second one, and leaves to it.
#[derive(Debug, Default)]
struct Rival {
    is_under_way: Cell<bool>,
    /// How the first one has failed, as long as the second one may still mend that.
    left_to_it: RefCell<Option<Failure>>,
}

impl Rival {
    fn is_alone(&self) -> bool {
        self.left_to_it.borrow().is_some()
    }
}

/// As [`Attempt::ask`]. What another endpoint may mend is left to the rival where there is one; from then on
/// this only waits for the client to go.
async fn ask_first<W: Wire>(attempt: &mut Attempt<'_, W>, rival: &Rival) -> Result<Answered, Failure> {
    match attempt.ask().await {
        Err(failure) if failure.cause.is_some() && rival.is_under_way.get() => {
            *rival.left_to_it.borrow_mut() = Some(failure);
            Err(attempt.abandoned().await)
        }
        asked => asked,
    }
}

/// Polls both until one has answered, both have failed, or the client has gone.
async fn race(
    mut own: Pin<&mut impl Future<Output = Result<Answered, Failure>>>,
    other: impl Future<Output = Result<Answered, Failure>>,
    rival: &Rival,
    heard: &Cell<bool>,
) -> Raced {
    let mut other = pin!(other);
    let mut other_failure = None;
    rival.is_under_way.set(true);
    poll_fn(|context| {
        if let Poll::Ready(asked) = own.as_mut().poll(context) {
            let loser = other_failure.take().map_or(Loser::Cancelled, Loser::Failed);
            return Poll::Ready(Raced { winner: Winner::Own(asked), loser });
        }
        // A client that is being told of an interim response must not be interrupted.
        let is_waited_for = rival.is_alone() || !heard.get();
        if other_failure.is_none()
            && is_waited_for
            && let Poll::Ready(asked) = other.as_mut().poll(context)
        {
            let own_failure = rival.left_to_it.take();
            match asked {
                Ok(answered) if answered.is_usable() => {
                    let failed = own_failure.map(|failure| Some(failure.reason));
                    let loser = failed.map_or(Loser::Cancelled, Loser::Failed);
                    return Poll::Ready(Raced { winner: Winner::Other(answered), loser });
                }
                asked => {
                    rival.is_under_way.set(false);
                    let failed = asked.err().map(|failure| failure.reason);
                    if let Some(failure) = own_failure {
                        let loser = Loser::Failed(failed);
                        return Poll::Ready(Raced { winner: Winner::Own(Err(failure)), loser });
                    }
                    other_failure = Some(failed);
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// Stands where the client is, for an attempt that the client knows nothing of.
#[derive(Debug)]
struct Bystander;

impl Wire for Bystander {
    const READ: usize = FRAMED_READ;

    fn source(&mut self) -> Source<'_> {
        Source::Ended
    }

    fn sink(&mut self) -> Sink<'_> {
        Sink::Closed
    }

    fn upload(&self, framing: Framing, to: Upward) -> Relay {
        Relay::upward(Decoder::of(framing), framing, to)
    }

    /// The first attempt looks.
    fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<bool> {
        Poll::Pending
    }

    fn respond(
        &mut self,
        _reply: &Reply<'_>,
        _keep_alive: bool,
        _facts: &Facts,
        _listener: &HttpListener,
    ) -> Result<Relay, Gone> {
        Err(Gone)
    }

    fn switch(&mut self, _reply: Option<&Reply<'_>>, _facts: &Facts) -> Result<Relay, Gone> {
        Err(Gone)
    }

    /// Whether this attempt's response will be the one that counts is not known yet.
    async fn interim(_client: &mut Client<Self>, _reply: &Reply<'_>, _facts: &Facts) -> Result<Sent, Gone> {
        Ok(Sent::default())
    }

    async fn answer(
        _client: &mut Client<Self>,
        _answer: Answer,
        _facts: &Facts,
        _keep_alive: bool,
    ) -> Result<Sent, Gone> {
        Err(Gone)
    }

    fn after_last(&self, _has_body: bool, _facts: &Facts) -> After {
        After::Close
    }

    fn decline(&mut self) -> bool {
        false
    }

    fn abort(&mut self, _facts: &Facts, _reason: Reason) {}
}
