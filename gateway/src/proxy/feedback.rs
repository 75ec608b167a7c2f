//! What an attempt says of its endpoint.
//!
//! Only what is the endpoint's own doing: a client that goes, or a body that it never sends, says nothing.
//! A success costs two loads that every worker shares and none writes.

use std::sync::Arc;

use healthcheck::outlier::{Cause, Fault};

use super::facts::Outcome;
use crate::reason::Reason;
use crate::table::{CompiledApp, PooledEndpoint};
use crate::worker::{Suspicion, Worker};

/// An attempt is over, whatever came of it.
pub fn observe(worker: &Worker, app: &CompiledApp, outcome: &Outcome) {
    let endpoint = &outcome.endpoint;
    match verdict(outcome) {
        Verdict::Nothing => return,
        Verdict::Good => endpoint.live.streak.succeed(),
        Verdict::Bad(fault) => count(worker, app, endpoint, fault, outcome.failure),
    }
    if let Some(tally) = endpoint.live.tally.get() {
        let failed = outcome.failure.is_some() || outcome.status >= 500;
        let latency = outcome.responded.filter(|_| !outcome.is_tunnel).map(|at| at - outcome.attempted);
        tally.cells(worker.index).count(failed, latency);
    }
}

/// As [`observe`], of a TCP listener's connection: all that is known of an endpoint's service is whether it
/// accepts.
pub fn observe_dial(
    worker: &Worker,
    app: &CompiledApp,
    endpoint: &Arc<PooledEndpoint>,
    failure: Option<Reason>,
) {
    match failure {
        None => endpoint.live.streak.succeed(),
        Some(reason) if is_of_endpoint(reason) => count(worker, app, endpoint, Fault::NoAnswer, failure),
        Some(_) => {}
    }
}

enum Verdict {
    Nothing,
    Good,
    Bad(Fault),
}

fn verdict(outcome: &Outcome) -> Verdict {
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
