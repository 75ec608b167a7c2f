//! What an attempt says of its endpoint.
//!
//! Only what is the endpoint's own doing: a client that goes, or a body that it never sends, says nothing.
//! A success costs two loads that every worker shares and none writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use healthcheck::outlier::{Cause, Fault};
use topology::Balance;

use super::facts::Outcome;
use crate::balance::PeakEwma;
use crate::reason::Reason;
use crate::table::live::uptime;
use crate::table::{CompiledApp, PooledEndpoint};
use crate::worker::{Suspicion, Worker};

/// An attempt is over, whatever came of it.
pub fn observe(worker: &Worker, app: &CompiledApp, outcome: &Outcome) {
    let endpoint = &outcome.endpoint;
    let verdict = verdict(outcome);
    if let Some((latency, decay)) = expectation(app, endpoint) {
        expect(latency, decay, &verdict, outcome);
    }
    match verdict {
        Verdict::Nothing => return,
        Verdict::Good => endpoint.live.streak.succeed(),
        Verdict::Bad(fault) => count(worker, app, endpoint, fault, outcome.failure),
    }
    if let Some(tally) = endpoint.live.tally.get() {
        let failed = !outcome.is_tunnel && (outcome.failure.is_some() || outcome.status >= 500);
        let latency = outcome.responded.filter(|_| !outcome.is_tunnel).map(|at| at - outcome.asked);
        tally.cells(worker.index).count(failed, latency);
    }
}

/// Another endpoint has answered before this one, which was asked earlier: that long it took at least.
pub fn observe_overtaken(worker: &Worker, app: &CompiledApp, outcome: &Outcome) {
    if let Some((latency, decay)) = expectation(app, &outcome.endpoint) {
        latency.at_least(outcome.asked.elapsed(), uptime(), decay);
    }
    if let Some(tally) = outcome.endpoint.live.tally.get() {
        tally.cells(worker.index).count(false, Some(outcome.asked.elapsed()));
    }
}

/// As [`observe`], of a TCP listener's connection: all that is known of an endpoint's service is whether it
/// accepts, and how soon.
pub fn observe_dial(
    worker: &Worker,
    app: &CompiledApp,
    endpoint: &Arc<PooledEndpoint>,
    asked: Instant,
    failure: Option<Reason>,
) {
    if let Some((latency, decay)) = expectation(app, endpoint) {
        match failure {
            None => latency.observe(asked.elapsed(), uptime(), decay),
            Some(reason) if is_of_endpoint(reason) => latency.fail(asked.elapsed(), uptime(), decay),
            Some(_) => {}
        }
    }
    match failure {
        None => endpoint.live.streak.succeed(),
        Some(reason) if is_of_endpoint(reason) => count(worker, app, endpoint, Fault::NoAnswer, failure),
        Some(_) => {}
    }
}

/// Where it is kept how soon the endpoint answers, and for how long; `None` where nobody balances by that.
fn expectation<'e>(app: &CompiledApp, endpoint: &'e PooledEndpoint) -> Option<(&'e PeakEwma, Duration)> {
    let Balance::PeakEwma { decay } = app.spec.balance else { return None };
    endpoint.counted().map(|load| (&load.latency, decay))
}

/// What an attempt says of how soon its endpoint answers.
fn expect(latency: &PeakEwma, decay: Duration, verdict: &Verdict, outcome: &Outcome) {
    let now = uptime();
    let is_failed = matches!(verdict, Verdict::Bad(_)) || outcome.status >= 500;
    match outcome.responded {
        _ if is_failed => latency.fail(outcome.asked.elapsed(), now, decay),
        Some(responded) => latency.observe(responded - outcome.asked, now, decay),
        // Whoever gave up waiting, the client or we, has waited for so long.
        None if matches!(outcome.failure, Some(Reason::ClientAbort | Reason::RequestTimeout)) => {
            latency.at_least(outcome.asked.elapsed(), now, decay);
        }
        None => {}
    }
}

enum Verdict {
    Nothing,
    Good,
    Bad(Fault),
}

fn verdict(outcome: &Outcome) -> Verdict {
    if outcome.is_tunnel {
        // It agreed to it. How a tunnel ends is the business of those at its two ends.
        return Verdict::Good;
    }
    match outcome.failure {
        // A kept connection that its endpoint had just closed (RFC 9112 section 9.3.1) is nobody's fault.
        Some(Reason::UpstreamReset) if outcome.is_reused => Verdict::Nothing,
        Some(reason) if is_of_endpoint(reason) => Verdict::Bad(Fault::NoAnswer),
        Some(_) => Verdict::Nothing,
        None if matches!(outcome.status, 502..=504) => Verdict::Bad(Fault::GatewayError),
        None => Verdict::Good,
    }
}

fn is_of_endpoint(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::UpstreamReset
            | Reason::UpstreamBadResponse
            | Reason::UpstreamTruncated
            | Reason::UpstreamTlsFailed
            | Reason::UpstreamTimeout
            | Reason::UpstreamStalled
    )
}

#[cold]
fn count(
    worker: &Worker,
    app: &CompiledApp,
    endpoint: &Arc<PooledEndpoint>,
    fault: Fault,
    last: Option<Reason>,
) {
    if !endpoint.live.streak.fail(fault, &app.spec.outliers()) {
        return;
    }
    let cause = match fault {
        Fault::NoAnswer => Cause::Failures,
        Fault::GatewayError => Cause::GatewayErrors,
    };
    // A judge with no time to listen hears of it again if it goes on.
    let _ = worker.shared.suspicions.try_send(Suspicion { endpoint: endpoint.clone(), cause, last });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_endpoints_doing_is_held_against_it() {
        let held = |reason: &Reason| is_of_endpoint(*reason);
        let held: Vec<_> = Reason::ALL.iter().filter(|reason| held(reason)).map(|r| r.as_str()).collect();
        let wanted = [
            "connect_failed",
            "upstream_reset",
            "upstream_bad_response",
            "upstream_truncated",
            "upstream_tls_failed",
            "connect_timeout",
            "upstream_timeout",
            "upstream_stalled",
        ];
        assert_eq!(held, wanted);
    }
}
