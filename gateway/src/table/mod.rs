//! A snapshot of the topology, compiled for requests.
//!
//! Immutable: a change makes the next table, which shares all that did not change, and one swap puts it
//! in force. What must outlive a table (health, counters, cursors) it points to, see [`live`].

mod app;
pub mod compile;
mod hosts;
pub mod limits;
pub mod live;
mod matches;
mod ranks;
mod sessions;
mod standing;
mod tally;

use std::sync::Arc;

pub use app::{CompiledApp, Nearness, Pool, PooledEndpoint, Spread, Upstream};
pub use compile::compile;
use hosts::HostIndex;
pub use hosts::{Claim, Covering, HostRoutes};
use imbl::OrdMap;
pub use matches::{CompiledMatch, Matches, Way};
pub use ranks::{Place, Rank, Ranks};
pub use sessions::{Home, Sessions, Stay};
pub use standing::{Level, Out, Stage, Strength};
pub use tally::Tally;
use topology::{AppId, Snapshot};

/// What a request's host and path lead to.
#[derive(Debug)]
pub enum Match<'a> {
    App(&'a Arc<CompiledApp>),
    /// Nobody claims the host on this listener.
    UnknownHost,
    /// The host is claimed, the path is not.
    UnknownPath,
}

impl<'a> Match<'a> {
    pub fn app(&self) -> Option<&'a Arc<CompiledApp>> {
        match self {
            Self::App(app) => Some(app),
            Self::UnknownHost | Self::UnknownPath => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct RoutingTable {
    /// What it was compiled from.
    pub snapshot: Snapshot,
    pub apps: OrdMap<AppId, Arc<CompiledApp>>,
    hosts: HostIndex,
}

impl RoutingTable {
    /// The host decides first: exact, then the longest wildcard, then `*`. Then, among the paths of that
    /// host: exact, then the longest prefix. `host` and `path` are normalized.
    pub fn find(&self, listener: &str, host: &str, path: &[u8]) -> Match<'_> {
        let Some(routes) = self.hosts.find(host, |routes| routes.serve(listener)) else {
            return Match::UnknownHost;
        };
        routes.find(listener, path).map_or(Match::UnknownPath, Match::App)
    }

    /// The patterns that cover `host`, the most specific first, whether [`Self::find`] uses them or not.
    pub fn covering<'h>(&self, host: &'h str) -> Vec<(Covering<'h>, Arc<HostRoutes>)> {
        let mut found = Vec::new();
        self.hosts.walk(host, |covering, routes| {
            found.push((covering, routes.clone()));
            false
        });
        found
    }

    pub fn app(&self, id: &AppId) -> Option<&Arc<CompiledApp>> {
        self.apps.get(id)
    }

    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// Every claimed host, in no particular order.
    pub fn hosts(&self) -> impl Iterator<Item = (String, &Arc<HostRoutes>)> {
        self.hosts.iter()
    }

    /// The routes of exactly this pattern.
    pub fn routes_of(&self, pattern: &topology::HostPattern) -> Option<&Arc<HostRoutes>> {
        self.hosts.of(pattern)
    }
}

#[cfg(test)]
mod tests;
