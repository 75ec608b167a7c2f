//! Versions, their shares and their candidates.

use std::collections::BTreeMap;

use topology::{Balance, MatchEffect, VersionId};

use super::MAX_ROWS;
use super::view::{CandidateView, ChoiceView, SessionView, VersionView};
use crate::admin::views;
use crate::filter::Asked;
use crate::message::RequestHead;
use crate::proxy::{hashing, sticky};
use crate::table::{CompiledApp, CompiledMatch, Pool, Spread};

/// What the request's endpoint is chosen by, where the app hashes.
pub(super) fn key(app: &CompiledApp, asked: &Asked<'_>) -> Option<u64> {
    match &app.spec.balance {
        Balance::Hash(hashing) => hashing::key(asked, hashing),
        _ => None,
    }
}

pub(super) fn balance(app: &CompiledApp, spread: &Spread, key: Option<u64>) -> ChoiceView {
    let hashes = matches!(app.spec.balance, Balance::Hash(_));
    let first = spread.pools.iter().find(|pool| has_candidate(pool));
    let prefers = key.zip(first).and_then(|(key, pool)| {
        let eligible = pool.eligible();
        let is_eligible = |place: &usize| eligible.iter().any(|position| *position as usize == *place);
        // As many looks as requests take.
        let Balance::Hash(hashing) = &app.spec.balance else { return None };
        let place = pool.key_table(hashing.algorithm).owners(key).take(1_024).find(is_eligible)?;
        let key = &pool.endpoints[place].key;
        Some(format!("{}/{}", key.version, key.instance))
    });
    ChoiceView {
        policy: views::balance_view(&app.spec.balance),
        has_key: hashes.then_some(key.is_some()),
        prefers,
    }
}

/// What the request's cookie says, and whether it is followed.
pub(super) fn session(
    app: &CompiledApp,
    spread: &Spread,
    head: (&RequestHead, &[u8]),
) -> Option<SessionView> {
    let sessions = app.sessions.as_deref()?;
    let cookie = sessions.settings.cookie.to_string();
    let none = |why: &str| SessionView {
        cookie: cookie.clone(),
        endpoint: None,
        is_kept: false,
        why: why.to_owned(),
    };
    let session = match sticky::session(sessions, head) {
        Ok(session) => session,
        Err(true) => return Some(none("the cookie is none of ours, or of another app, or of a former key")),
        Err(false) => return Some(none("the request has no such cookie")),
    };
    let Some(endpoint) = sessions.endpoint(&session) else {
        return Some(none("its endpoint is gone; its version is kept where it takes requests"));
    };
    let name = format!("{}/{}", endpoint.key.version, endpoint.key.instance);
    let (is_kept, why) = match sessions.home(spread, &session) {
        None => (false, "its version takes no requests of this kind".to_owned()),
        Some(_) if endpoint.keeps_sessions() => (true, "it may go on there".to_owned()),
        Some(_) => (false, endpoint.out().map_or_else(|| "it is out".to_owned(), |out| views::why(&out))),
    };
    Some(SessionView { cookie, endpoint: Some(name), is_kept, why })
}

fn has_candidate(pool: &Pool) -> bool {
    pool.eligible().iter().any(|position| pool.endpoints[*position as usize].weight > 0)
}

/// Whether anybody may be picked.
pub(super) fn has_somebody(spread: &Spread) -> bool {
    spread.pools.iter().any(|pool| has_candidate(pool))
}

/// Where a request goes that the match at `taken` has taken, or none.
pub(super) fn versions(app: &CompiledApp, taken: Option<usize>) -> Vec<VersionView> {
    let (sharing, standing_in) = app.way(taken).0.parts();
    let shares = shares(app, taken);
    let total: u32 = shares.iter().map(|(_, share)| u32::from(*share)).sum();
    let share_of = |pool: &Pool| {
        let version = pool.version.as_ref()?;
        shares.iter().find(|(of, _)| of == version).map(|(_, share)| *share)
    };
    let view = |pool: &Pool, stands_in: bool| {
        let share = share_of(pool).filter(|_| !stands_in);
        let percent = share.map(|share| 100.0 * f64::from(share) / f64::from(total.max(1)));
        version(app, pool, (share, percent, stands_in))
    };
    let own = sharing.iter().map(|pool| view(pool, false));
    own.chain(standing_in.iter().map(|pool| view(pool, true))).collect()
}

/// By version, where something splits.
fn shares(app: &CompiledApp, taken: Option<usize>) -> Vec<(VersionId, u16)> {
    let effect =
        taken.and_then(|taken| app.match_at(taken)).map(|entry: &CompiledMatch| &entry.spec().effect);
    match effect {
        Some(MatchEffect::Split { split, .. }) => split.shares().to_vec(),
        Some(MatchEffect::Version { version, .. }) => vec![(version.clone(), 1)],
        Some(MatchEffect::Default | MatchEffect::Refuse) | None => {
            app.spec.split.as_ref().map(|split| split.shares().to_vec()).unwrap_or_default()
        }
    }
}

fn version(
    app: &CompiledApp,
    pool: &Pool,
    (share, percent, stands_in): (Option<u16>, Option<f64>, bool),
) -> VersionView {
    let ranks = pool.ranks();
    let eligible = ranks.first;
    let weight: u64 = eligible.iter().map(|at| u64::from(pool.endpoints[*at as usize].weight)).sum();
    let mut states = BTreeMap::new();
    let mut endpoints = Vec::new();
    for (position, endpoint) in (0u32..).zip(&pool.endpoints) {
        *states.entry(endpoint.state()).or_default() += 1;
        if endpoints.len() == MAX_ROWS {
            continue;
        }
        let is_candidate = endpoint.weight > 0 && eligible.binary_search(&position).is_ok();
        let part = if is_candidate { 100.0 * f64::from(endpoint.weight) / weight as f64 } else { 0.0 };
        let view = views::endpoint(app, endpoint);
        let stands_by = ranks.backups.binary_search(&position).is_ok();
        endpoints.push(CandidateView { is_candidate, stands_by, percent: part, endpoint: view });
    }
    VersionView {
        version: pool.version.as_ref().map(ToString::to_string),
        share,
        percent,
        stands_in,
        eligible: eligible.len(),
        states,
        endpoints_truncated: pool.endpoints.len() > endpoints.len(),
        endpoints,
    }
}
