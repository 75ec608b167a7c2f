//! Hosts, paths and matches: what was chosen and what lost.

use topology::PathMatch;

use super::MAX_ROWS;
use super::view::{HostStep, MatchStep, RouteStep};
use crate::filter::Asked;
use crate::proxy::matching;
use crate::table::{Claim, CompiledApp, CompiledMatch, Covering, HostRoutes, RoutingTable};

/// The patterns that cover `host`, and the routes of the one that is chosen.
pub(super) fn walk(
    table: &RoutingTable,
    listener: &str,
    host: &str,
    path: &[u8],
) -> (Vec<HostStep>, Vec<RouteStep>) {
    let (mut hosts, mut routes) = (Vec::new(), Vec::new());
    let mut is_chosen = false;
    for (covering, of_host) in table.covering(host) {
        let pattern = match covering {
            Covering::Exact => host.to_owned(),
            Covering::Wildcard(parent) => format!("*.{parent}"),
            Covering::Any => "*".to_owned(),
        };
        let is_usable = of_host.serve(listener);
        let verdict = match (is_usable, is_chosen) {
            (false, _) => "other_listener",
            (true, false) => "chosen",
            (true, true) => "less_specific",
        };
        if verdict == "chosen" {
            routes.extend(claims(&pattern, &of_host, listener, path));
        } else {
            routes.extend(passed_over(&pattern, &of_host, listener, path, is_chosen));
        }
        is_chosen |= is_usable;
        hosts.push(HostStep { pattern, verdict });
    }
    (hosts, routes)
}

fn claims(host: &str, routes: &HostRoutes, listener: &str, path: &[u8]) -> Vec<RouteStep> {
    let mut steps = Vec::new();
    let mut winner: Option<(&PathMatch, &CompiledApp)> = None;
    for (route, app, claim) in routes.claims(listener, path) {
        let (verdict, why) = match (claim, winner) {
            (Claim::OtherPath, _) => ("other_path", format!("the path is not {}", below(route))),
            (Claim::OtherListener, _) => ("other_listener", other_listener(app, listener)),
            (Claim::Holds, None) => {
                winner = Some((route, app));
                ("chosen", format!("the first of this host that the path is {}", below(route)))
            }
            (Claim::Holds, Some((won, by))) if won == route => {
                ("claimed_later", format!("app {} claimed it first", by.id))
            }
            (Claim::Holds, Some((won, by))) if by.has_own_name() && !app.has_own_name() => {
                ("claimed_later", format!("the host is app {}'s own name, at {won}", by.id))
            }
            (Claim::Holds, Some((won, _))) => ("shorter", format!("{won} is more specific")),
        };
        let is_worth_a_row = verdict == "chosen" || steps.len() < MAX_ROWS;
        if is_worth_a_row {
            steps.push(step(host, route, app, verdict, why));
        }
    }
    steps
}

/// Of other patterns, the routes that would have taken the request or would on another listener.
fn passed_over(
    host: &str,
    routes: &HostRoutes,
    listener: &str,
    path: &[u8],
    is_chosen: bool,
) -> Vec<RouteStep> {
    let holds = routes.claims(listener, path).filter(|(_, _, claim)| *claim != Claim::OtherPath);
    let steps = holds.map(|(route, app, claim)| match claim {
        Claim::OtherListener => step(host, route, app, "other_listener", other_listener(app, listener)),
        _ if is_chosen => {
            let why = "a more specific host is claimed, whatever its paths".to_owned();
            step(host, route, app, "less_specific_host", why)
        }
        _ => step(host, route, app, "other_path", "no route of this host is served here".to_owned()),
    });
    steps.take(MAX_ROWS).collect()
}

fn step(host: &str, path: &PathMatch, app: &CompiledApp, verdict: &'static str, why: String) -> RouteStep {
    RouteStep { host: host.to_owned(), path: path.to_string(), app: app.id.to_string(), verdict, why }
}

fn below(route: &PathMatch) -> String {
    match route {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(_) => format!("at or below {route}"),
    }
}

fn other_listener(app: &CompiledApp, listener: &str) -> String {
    let names = app.spec.listeners.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
    format!("the app is served on {}, not on {listener}", names.join(", "))
}

pub(super) fn matches(app: &CompiledApp, taken: Option<usize>, asked: &Asked<'_>) -> Vec<MatchStep> {
    let entries = app.matches.iter().flat_map(|matches| matches.iter()).enumerate();
    let step = |(position, entry): (usize, &CompiledMatch)| {
        let unmet = matching::unmet(entry, asked).map(ToString::to_string);
        let verdict = match taken {
            Some(taken) if taken == position => "chosen",
            Some(taken) if taken < position && unmet.is_none() => "not_reached",
            _ => "not_met",
        };
        MatchStep { name: entry.name().to_owned(), verdict, unmet, effect: entry.spec().effect.to_string() }
    };
    entries.map(step).collect()
}
