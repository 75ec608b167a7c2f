//! Which failures of a soak are on purpose: what a client is told, or sees break off, because its endpoint died, and
//! nothing else.

use std::time::Duration;

use super::journal::{Death, Failure, Kind, What};

/// A gateway learns of a death from its sockets, on a machine without an idle core.
const NOTICE: Duration = Duration::from_millis(500);

/// Why a failure was on purpose; `None`: it was not.
pub fn purpose(failure: &Failure, deaths: &[Death]) -> Option<&'static str> {
    let is_meanwhile = |death: &Death| {
        let to = death.to.saturating_add(NOTICE);
        death.app == failure.app && death.from <= failure.at && failure.since <= to
    };
    if !deaths.iter().any(is_meanwhile) {
        return None;
    }
    match (&failure.what, failure.kind) {
        // What may have been begun is not repeated, and the client is told.
        (What::Answer { status: 502, reason }, Kind::Post | Kind::Http2Post)
            if is(reason, "upstream_reset") =>
        {
            Some("a POST whose endpoint died")
        }
        (What::Answer { status: 502, reason }, Kind::WebSocket) if is(reason, "upstream_reset") => {
            Some("a switch of protocols whose endpoint died")
        }
        (What::Cut(_), Kind::Body | Kind::Stream) => Some("a response whose endpoint died in its middle"),
        (What::Cut(_), Kind::WebSocket | Kind::Tcp) => Some("a tunnel whose endpoint died"),
        _ => None,
    }
}

fn is(reason: &Option<String>, wanted: &str) -> bool {
    reason.as_deref() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(kind: Kind, what: What) -> Failure {
        Failure { kind, app: "shop", since: SECOND * 10, at: SECOND * 12, what }
    }

    fn death(app: &'static str, from: u32) -> Death {
        Death { app, instance: 0, from: SECOND * from, to: SECOND * from + SECOND / 2 }
    }

    fn answer(status: u16, reason: &str) -> What {
        What::Answer { status, reason: Some(reason.to_owned()) }
    }

    #[test]
    fn only_a_death_of_its_own_endpoint_excuses_a_write() {
        let post = failure(Kind::Post, answer(502, "upstream_reset"));
        assert!(purpose(&post, &[death("shop", 11)]).is_some());
        for elsewhere in [death("grid", 11), death("shop", 8), death("shop", 13)] {
            assert_eq!(purpose(&post, &[elsewhere]), None);
        }
    }

    #[test]
    fn a_read_has_no_excuse_and_neither_has_a_wrong_answer() {
        let deaths = [death("shop", 11)];
        for (kind, what) in [
            (Kind::Keepalive, answer(502, "upstream_reset")),
            (Kind::Http2, answer(502, "upstream_reset")),
            (Kind::Post, answer(503, "no_healthy_endpoint")),
            (Kind::Post, What::Unanswered(String::new())),
            (Kind::Stream, What::Wrong(String::new())),
            (Kind::Stream, What::Unanswered(String::new())),
        ] {
            assert_eq!(purpose(&failure(kind, what), &deaths), None, "{kind:?}");
        }
        assert!(purpose(&failure(Kind::Stream, What::Cut(String::new())), &deaths).is_some());
    }
}
