//! Names as they are served, and as they are written to other servers.

use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use axum::extract::{Query, State};
use axum::response::Response;
use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{AdminState, MAX_ROWS, build};
use crate::dns::cells::{AddressState, UpdateCells};
use crate::dns::names::absolute;
use crate::dns::zone::{Target, Zone};
use crate::dns::{DnsDesk, Published};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Names up to this one are left out: the last one of an answer that was not whole.
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct DnsView {
    /// Who says so.
    gateway: String,
    zone: String,
    serial: u32,
    /// Up to which the registry's changes are in it.
    registry_revision: u64,
    listens: Vec<SocketAddr>,
    addresses: Vec<AddressView>,
    updates: Vec<UpdateView>,
    /// Of the zone.
    names: usize,
    items: Vec<NameView>,
    /// There are more, after the last one.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct AddressView {
    ip: IpAddr,
    good: bool,
    judged_by: &'static str,
}

#[derive(Debug, Serialize)]
struct UpdateView {
    server: String,
    zone: String,
    /// This gateway is the one that writes.
    leads: bool,
    names: u64,
    conflicts: u64,
    /// Some of them.
    in_the_way: Vec<ConflictView>,
    /// Seconds since 1970; absent: never.
    in_step_at: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct ConflictView {
    name: String,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct NameView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// Those that are given out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpAddr>,
    /// Those that are left out while others are good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<IpAddr>,
}

pub async fn show(
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let desk = state.sources.dns.clone();
    let none = || Problem::not_found("this gateway has no names: its configuration has no [dns]");
    let published = desk.published().ok_or_else(none)?;
    let after = wanted
        .after
        .as_deref()
        .map(|text| absolute(text).ok_or_else(|| Problem::malformed("after", "is no name")));
    let (after, gateway) = (after.transpose()?, state.gateway_id.clone());
    Ok(build(move || view(gateway, &published, &desk, after)).await)
}

fn view(gateway: String, published: &Published, desk: &DnsDesk, after: Option<Name>) -> DnsView {
    let zone = &published.zone;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut items: Vec<_> = zone.names.range((from, Bound::Unbounded)).take(MAX_ROWS + 1).collect();
    let truncated = items.len() > MAX_ROWS;
    items.truncate(MAX_ROWS);
    DnsView {
        gateway,
        zone: shown(&zone.apex.origin),
        serial: zone.serial,
        registry_revision: zone.revision,
        listens: published.listens.to_vec(),
        addresses: published.addresses.iter().map(AddressView::from).collect(),
        updates: desk.cells.updates().iter().map(|cells| UpdateView::from(&**cells)).collect(),
        names: zone.names.len(),
        items: items.into_iter().map(|(name, target)| NameView::new(zone, name, target)).collect(),
        truncated,
    }
}

fn shown(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').map_or_else(|| text.clone(), str::to_owned)
}

impl NameView {
    fn new(zone: &Zone, name: &Name, target: &Target) -> Self {
        let addresses: Vec<_> = zone.serving(target).into_iter().copied().collect();
        let (alias, all) = match target {
            Target::Alias(to) => (Some(shown(to)), [].as_slice()),
            Target::Addresses(all) | Target::Fixed(all) => (None, &**all),
        };
        let left_out = all.iter().copied().filter(|ip| !addresses.contains(ip)).collect();
        Self { name: shown(name), alias, addresses, left_out }
    }
}

impl From<&AddressState> for AddressView {
    fn from(state: &AddressState) -> Self {
        Self { ip: state.ip, good: state.is_good, judged_by: state.by }
    }
}

impl From<&UpdateCells> for UpdateView {
    fn from(cells: &UpdateCells) -> Self {
        let named = cells.in_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        let in_the_way = named.iter().map(|(name, why)| ConflictView { name: name.clone(), why }).collect();
        Self {
            server: cells.server.clone(),
            zone: cells.zone.clone(),
            leads: cells.leads.load(Ordering::Relaxed) > 0,
            names: cells.owned.load(Ordering::Relaxed),
            conflicts: cells.conflicts.load(Ordering::Relaxed),
            in_the_way,
            in_step_at: Some(cells.in_step_at.load(Ordering::Relaxed)).filter(|at| *at > 0),
            error: cells.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
