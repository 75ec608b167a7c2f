//! Requests whose cookie names their endpoint go there, whatever the policy would say.

use std::sync::Arc;

use super::admission::Wanted;
use super::rotations::Rotations;
use crate::table::PooledEndpoint;

impl Rotations {
    /// The endpoint that the request's client was with, if it may have one more. Costs one branch where there is none.
    #[inline]
    pub(super) fn home(
        &self,
        wanted: Wanted<'_>,
        take: impl FnOnce(&PooledEndpoint) -> bool,
    ) -> Option<Arc<PooledEndpoint>> {
        self.come_home(wanted, wanted.home?, take)
    }

    #[inline(never)]
    fn come_home(
        &self,
        wanted: Wanted<'_>,
        endpoint: &Arc<PooledEndpoint>,
        take: impl FnOnce(&PooledEndpoint) -> bool,
    ) -> Option<Arc<PooledEndpoint>> {
        if !endpoint.keeps_sessions(&wanted.app.live) || self.is_suspect(endpoint.live.id) {
            return None;
        }
        // Backups are left as soon as enough others are back.
        if endpoint.is_backup && !self.has_turned_to_backups(wanted) || !take(endpoint) {
            return None;
        }
        self.deposit(wanted);
        Some(endpoint.clone())
    }
}
