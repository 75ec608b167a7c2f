//! `[[gateway.tenant]]`: what all apps of a tenant together may use.

use std::sync::Arc;

use discovery::document::Table;
use topology::AppId;

use crate::table::limits::TenantLimits;

/// As many as there are apps on the largest gateways.
const MAX_TENANTS: usize = 10_000;
/// More than one gateway has sockets for.
const MAX_PLACES: u32 = 1_000_000;

pub(super) fn read_tenants(gateway: &Table<'_>) -> Vec<(Arc<str>, TenantLimits)> {
    let mut tenants: Vec<(Arc<str>, TenantLimits)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for section in gateway.tables("tenant", MAX_TENANTS) {
        let name = section.parsed("name", name);
        let name = section.required("name", name, "name = \"acme\", or \"*\" for every other tenant");
        let limits = TenantLimits {
            in_flight: section.integer("in_flight", 1..=MAX_PLACES),
            connections: section.integer("connections", 1..=MAX_PLACES),
            queue: section.integer("queue", 0..=MAX_PLACES),
        };
        if !["in_flight", "connections", "queue"].iter().any(|key| section.has(key)) {
            section.mistake_here("limits nothing; write in_flight = 1000, or remove the section");
        }
        if let Some(name) = name {
            if !seen.insert(name.clone()) {
                section.mistake("name", format!("a tenant {:?} stands above already", &*name));
            }
            tenants.push((name, limits));
        }
        section.finish();
    }
    tenants
}

fn name(text: &str) -> Result<Arc<str>, &'static str> {
    let message = "is no tenant's name; write 1 to 128 of a-z A-Z 0-9 . _ -, or \"*\" for every other tenant";
    if text == "*" || AppId::parse(text).is_ok() { Ok(text.into()) } else { Err(message) }
}
