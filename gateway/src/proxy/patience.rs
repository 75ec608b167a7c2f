//! How long one request is waited for, phase by phase: what its app says, else what [`timeouts`] argues.

use std::time::Duration;

use topology::Timeouts;

use super::timeouts;
use crate::worker::Ticks;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection to an endpoint can be used, all steps together; `None`: each has its own time.
    pub connect: Option<Ticks>,
    /// For the next piece of the request's body, while no response has begun.
    pub upload: Ticks,
    /// For the response's head, once the endpoint is who is waited for.
    pub first_byte: Ticks,
    /// Between two pieces of the response's body.
    pub between_bytes: Ticks,
    /// For all of it; `None`: the phases are bound enough.
    pub request: Option<Ticks>,
    /// Without a byte either way, once HTTP is left.
    pub tunnel: Ticks,
    /// For which the connection to the endpoint is kept for the next request.
    pub kept: Ticks,
}

impl Patience {
    /// With an app that says nothing.
    pub const DEFAULT: Self = Self {
        connect: None,
        upload: Ticks::of(timeouts::BODY),
        first_byte: Ticks::of(timeouts::RESPONSE),
        between_bytes: Ticks::of(timeouts::BODY),
        request: None,
        tunnel: Ticks::of(timeouts::TUNNEL),
        kept: Ticks::of(timeouts::UPSTREAM_IDLE),
    };

    pub fn of(app: Option<&Timeouts>) -> Self {
        app.map_or(Self::DEFAULT, |app| Self::DEFAULT.as_said_by(app))
    }

    /// A gRPC call lasts as long as its client's deadline says, streams without a word included; the
    /// client, which counts from earlier, ends it first. What the app says holds for calls too: whichever
    /// is earlier.
    pub fn of_grpc(app: Option<&Timeouts>, deadline: Option<Duration>) -> Self {
        let longest = timeouts::TUNNEL;
        let call = deadline.map_or(longest, |deadline| (deadline + timeouts::GRPC_GRACE).min(longest));
        let call = Ticks::of(call);
        let own = Self { upload: call, first_byte: call, between_bytes: longest.into(), ..Self::DEFAULT };
        let Some(app) = app else { return own };
        let said = own.as_said_by(app);
        Self { first_byte: said.first_byte.min(call), ..said }
    }

    fn as_said_by(self, app: &Timeouts) -> Self {
        let or = |said: Option<Duration>, own| said.map_or(own, Ticks::of);
        Self {
            connect: app.connect.map(Ticks::of),
            upload: self.upload,
            first_byte: or(app.first_byte, self.first_byte),
            between_bytes: or(app.between_bytes, self.between_bytes),
            request: app.request.map(Ticks::of),
            tunnel: or(app.tunnel_idle, self.tunnel),
            kept: or(app.upstream_idle, self.kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_app_says_what_it_wants_and_nothing_else_changes() {
        assert_eq!(Patience::of(None), Patience::DEFAULT);
        assert_eq!(Patience::of(Some(&Timeouts::default())), Patience::DEFAULT);
        let app = Timeouts { first_byte: Some(SECOND), request: Some(SECOND * 2), ..Timeouts::default() };
        let wanted = Patience { first_byte: Ticks(10), request: Some(Ticks(20)), ..Patience::DEFAULT };
        assert_eq!(Patience::of(Some(&app)), wanted);
    }

    #[test]
    fn of_a_call_and_its_app_the_earlier_wins() {
        let app =
            Timeouts { first_byte: Some(SECOND * 5), between_bytes: Some(SECOND), ..Timeouts::default() };
        let first_byte = |app, deadline| Patience::of_grpc(app, deadline).first_byte;
        assert_eq!(first_byte(None, Some(SECOND)), Ticks(20));
        assert_eq!(first_byte(None, None), Ticks::of(timeouts::TUNNEL));
        assert_eq!(first_byte(Some(&app), Some(SECOND)), Ticks(20));
        assert_eq!(first_byte(Some(&app), Some(SECOND * 60)), Ticks(50));
        assert_eq!(Patience::of_grpc(Some(&app), None).between_bytes, Ticks(10));
        assert_eq!(Patience::of_grpc(None, None).between_bytes, Ticks::of(timeouts::TUNNEL));
    }
}
