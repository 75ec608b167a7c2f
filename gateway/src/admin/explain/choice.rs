//! Versions, their shares and their candidates.

use std::collections::BTreeMap;

use topology::{Balance, MatchEffect, VersionId};

use super::MAX_ROWS;
use super::view::{CandidateView, ChoiceView, SessionView, VersionView};
use crate::admin::views;
use crate::filter::Asked;
use crate::message::RequestHead;
use crate::proxy::{hashing, sticky};
use crate::table::{CompiledApp, CompiledMatch, Place, Pool, Rank, Spread, Stage};

/// What the request's endpoint is chosen by, where the app hashes.
pub(super) fn key(app: &CompiledApp, asked: &Asked<'_>) -> Option<u64> {
    match &app.spec.balance {
        Balance::Hash(hashing) => hashing::key(asked, hashing),
        _ => None,
    }
}

pub(super) fn balance(app: &CompiledApp, spread: &Spread, key: Option<u64>) -> ChoiceView {
    let stage = app.stage();
    ChoiceView {
        policy: views::balance_view(&app.spec.balance),
        has_key: matches!(app.spec.balance, Balance::Hash(_)).then_some(key.is_some()),
        prefers: key.and_then(|key| owner(app, spread, key)),
        panics: stage == Stage::Panic,
        backups_help: stage == Stage::Helped,
    }
}

/// The candidate that the key belongs to.
fn owner(app: &CompiledApp, spread: &Spread, key: u64) -> Option<String> {
    let Balance::Hash(hashing) = &app.spec.balance else { return None };
    let mut pools = spread.pools.iter().map(|pool| (pool, first(app, pool)));
    let (pool, eligible) = pools.find(|(_, eligible)| !eligible.is_empty())?;
    let is_eligible = |place: &usize| eligible.iter().any(|position| *position as usize == *place);
    // As many looks as requests take.
    let place = pool.key_table(hashing.algorithm).owners(key).take(1_024).find(is_eligible)?;
    let key = &pool.endpoints[place].key;
    Some(format!("{}/{}", key.version, key.instance))
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
        Some(_) if endpoint.keeps_sessions(&app.live) => (true, "it may go on there".to_owned()),
        Some(_) => (false, endpoint.out().map_or_else(|| "it is out".to_owned(), |out| views::why(&out))),
    };
    Some(SessionView { cookie, endpoint: Some(name), is_kept, why })
}

/// Positions of those that are asked first and may be chosen.
fn first(app: &CompiledApp, pool: &Pool) -> Vec<u32> {
    let ranks = pool.ranks(app).ranks;
    let positions = |rank: &Rank| {
        let weighed = rank.eligible.iter().zip(&rank.candidates);
        weighed.filter(|(_, candidate)| candidate.weight > 0).map(|(position, _)| *position).collect()
    };
    ranks.first().map(positions).unwrap_or_default()
}

/// Whether anybody may be picked.
pub(super) fn has_somebody(app: &CompiledApp, spread: &Spread) -> bool {
    spread.pools.iter().any(|pool| !first(app, pool).is_empty())
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
    let ranks = pool.ranks(app).ranks;
    let mut ranked = vec![(None, 0); pool.endpoints.len()];
    for rank in &ranks {
        for (position, candidate) in rank.eligible.iter().zip(&rank.candidates) {
            if candidate.weight > 0 {
                ranked[*position as usize] = (Some(rank.place), candidate.weight);
            }
        }
    }
    let firsts = ranked.iter().filter(|(place, _)| *place == Some(Place::First));
    let whole: u64 = firsts.clone().map(|(_, weight)| u64::from(*weight)).sum();
    let mut states = BTreeMap::new();
    let mut endpoints = Vec::new();
    for (endpoint, (place, weight)) in pool.endpoints.iter().zip(&ranked) {
        *states.entry(endpoint.state()).or_default() += 1;
        if endpoints.len() == MAX_ROWS {
            continue;
        }
        let is_candidate = *place == Some(Place::First);
        endpoints.push(CandidateView {
            is_candidate,
            tier: place.map(Place::as_str),
            percent: if is_candidate { 100.0 * f64::from(*weight) / whole as f64 } else { 0.0 },
            endpoint: views::endpoint(app, endpoint),
        });
    }
    VersionView {
        version: pool.version.as_ref().map(ToString::to_string),
        share,
        percent,
        stands_in,
        eligible: firsts.count(),
        states,
        endpoints_truncated: pool.endpoints.len() > endpoints.len(),
        endpoints,
    }
}
