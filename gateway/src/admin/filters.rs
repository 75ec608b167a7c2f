//! Every app's filters, in the order in which they act.

use serde::Serialize;
use topology::AppId;
use utoipa::ToSchema;

use super::views::{Page, page};
use crate::filter::Kind;
use crate::table::RoutingTable;

/// One filter of an app.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilterView {
    app: String,
    /// From 1 on, within the app.
    order: usize,
    phase: &'static str,
    filter: &'static str,
    settings: String,
    passed: u64,
    /// Or answered.
    refused: u64,
}

pub fn view(table: &RoutingTable, only: Option<&AppId>, most: usize) -> Page<FilterView> {
    let apps = table.apps.values().filter(|app| only.is_none_or(|only| app.id == *only));
    let chains = apps.filter_map(|app| Some((app, app.filters.as_ref()?)));
    let mut rows = Vec::new();
    let mut total = 0;
    for (app, chain) in chains {
        total += chain.request.len();
        for (at, filter) in chain.request.iter().enumerate().take(most - rows.len()) {
            let kind: Kind = filter.kind();
            let (passed, refused) = chain.metrics.totals(kind);
            rows.push(FilterView {
                app: app.id.to_string(),
                order: at + 1,
                phase: kind.phase().as_str(),
                filter: kind.as_str(),
                settings: filter.describe(),
                passed,
                refused,
            });
        }
    }
    page(table, total, rows)
}
