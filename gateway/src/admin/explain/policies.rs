//! What holds for a request on its way: times, sizes, retries, how its endpoint is spoken to.

use std::collections::BTreeMap;

use topology::{ProxyVersion, RetryCause};

use super::view::{PoliciesView, UpstreamTlsView};
use crate::listener::Limits;
use crate::message::RequestHead;
use crate::proxy::patience::Patience;
use crate::proxy::{BodyLimits, grpc_deadline, is_grpc, timeouts};
use crate::table::CompiledApp;
use crate::worker::Ticks;

pub(super) fn of(
    app: &CompiledApp,
    body: BodyLimits,
    (parsed, head): (&RequestHead, &[u8]),
    listener: &Limits,
) -> PoliciesView {
    let spec = &app.spec;
    let retries = spec.retries();
    let tls = spec.tls.as_ref().map(|tls| UpstreamTlsView {
        profile: tls.profile.to_string(),
        server_name: app.upstream.tls().map(|tls| tls.server_name.to_str().into_owned()),
    });
    let protocols = [(app.speaks_http1, "http1"), (app.speaks_http2, "h2")];
    PoliciesView {
        timeouts: times(app, (parsed, head), listener),
        limits: limits(app, body),
        tenant: spec.tenant().map_or_else(|| app.id.to_string(), ToString::to_string),
        attempts: retries.attempts,
        retry_on: RetryCause::ALL
            .iter()
            .filter(|on| retries.on.contains(**on))
            .map(|on| on.as_str())
            .collect(),
        is_idempotent: parsed.method.is_idempotent(),
        hedge_after: spec.hedge.as_ref().map(|hedge| hedge.after.as_secs_f64()),
        upstream_protocols: protocols
            .into_iter()
            .filter(|(speaks, _)| *speaks)
            .map(|(_, name)| name)
            .collect(),
        upstream_tls: tls,
        proxy_protocol: spec.proxy_protocol.map(|version| match version {
            ProxyVersion::V1 => "v1",
            ProxyVersion::V2 => "v2",
        }),
    }
}

fn times(
    app: &CompiledApp,
    (parsed, head): (&RequestHead, &[u8]),
    listener: &Limits,
) -> BTreeMap<&'static str, f64> {
    let said = app.spec.timeouts.as_deref();
    let patience = match is_grpc(parsed, head) {
        true => Patience::of_grpc(said, grpc_deadline(parsed, head)),
        false => Patience::of(said),
    };
    let seconds = |ticks: Ticks| ticks.span().as_secs_f64();
    let connect = patience.connect.map_or(timeouts::CONNECT.as_secs_f64(), seconds);
    let mut times = BTreeMap::from([
        ("header", listener.header_timeout.as_secs_f64()),
        ("connect", connect),
        ("upload", seconds(patience.upload)),
        ("first_byte", seconds(patience.first_byte)),
        ("between_bytes", seconds(patience.between_bytes)),
        ("tunnel_idle", seconds(patience.tunnel)),
        ("upstream_idle", seconds(patience.kept)),
    ]);
    times.extend(patience.request.map(|request| ("request", seconds(request))));
    if let Some(capacity) = app.spec.capacity().filter(|capacity| capacity.limits_anything()) {
        times.insert("queue", capacity.queue_timeout.as_secs_f64());
    }
    times
}

fn limits(app: &CompiledApp, body: BodyLimits) -> BTreeMap<&'static str, u64> {
    let mut limits = BTreeMap::new();
    limits.extend((body.max < u64::MAX).then_some(("max_body", body.max)));
    limits.extend((body.min_rate > 0).then_some(("min_body_rate", u64::from(body.min_rate))));
    if let Some(capacity) = app.spec.capacity() {
        let named = [
            ("in_flight", capacity.in_flight),
            ("in_flight_per_endpoint", capacity.in_flight_per_endpoint),
            ("connections", capacity.connections),
            ("connections_per_endpoint", capacity.connections_per_endpoint),
            ("queue", capacity.limits_anything().then_some(capacity.queue)),
        ];
        limits.extend(named.into_iter().filter_map(|(name, most)| Some((name, u64::from(most?)))));
    }
    limits
}
