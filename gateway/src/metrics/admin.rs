//! Who used the admin API, and whom it refused.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::MetricFamily;

use super::families::Family;
use crate::admin::auth::{Denied, Role};

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Control plane only.
#[derive(Debug, Default)]
pub struct AdminMetrics {
    /// By role and class of status.
    requests: [[AtomicU64; CLASSES.len()]; Role::NAMES.len()],
    denied: [AtomicU64; Denied::REASONS.len()],
    changes: [AtomicU64; 2],
}

impl AdminMetrics {
    pub fn request(&self, role: &Role, status: u16) {
        let role = Role::NAMES.iter().position(|name| *name == role.as_str()).unwrap_or_default();
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.requests[role][class].fetch_add(1, Ordering::Relaxed);
    }

    pub fn denied(&self, denied: Denied) {
        self.denied[denied.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A change of the configuration was made, or refused.
    pub fn change(&self, is_made: bool) {
        self.changes[usize::from(!is_made)].fetch_add(1, Ordering::Relaxed);
    }
}

pub fn collect(metrics: &AdminMetrics, families: &mut Vec<MetricFamily>) {
    let mut requests = Family::counter(
        "sluice_admin_requests_total",
        "Requests of the admin API that were let in, by role and class of status.",
    );
    for (role, cells) in Role::NAMES.iter().zip(&metrics.requests) {
        for (class, cell) in CLASSES.iter().zip(cells) {
            requests.sample(&[("role", role), ("status", class)], cell.load(Ordering::Relaxed) as f64);
        }
    }
    let mut denied = Family::counter(
        "sluice_admin_denied_total",
        "Requests of the admin API that were not let in, and why.",
    );
    for (reason, cell) in Denied::REASONS.iter().zip(&metrics.denied) {
        denied.sample(&[("reason", reason)], cell.load(Ordering::Relaxed) as f64);
    }
    let mut changes = Family::counter(
        "sluice_admin_changes_total",
        "Changes of the configuration by this gateway's API: made, or refused with all that was wrong.",
    );
    for (result, cell) in ["made", "refused"].iter().zip(&metrics.changes) {
        changes.sample(&[("result", result)], cell.load(Ordering::Relaxed) as f64);
    }
    families.extend([requests, denied, changes].into_iter().filter_map(Family::finish));
}
