//! Sharing of strings that recur in thousands of apps.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use topology::{App, AppSpec, Endpoint, InstanceId, PathMatch, VersionId};

/// Versions and paths in use at once are few; what does not recur is not worth a place.
const MAX_POOLED: usize = 1024;

/// Gives equal strings of different apps one allocation: `v1`, `c1`, `/_ping`. A full pool starts
/// anew, which costs sharing with what came before, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    versions: HashSet<VersionId>,
    instances: HashSet<InstanceId>,
    texts: HashSet<Arc<str>>,
    implied: Option<Arc<AppSpec>>,
}

impl Interner {
    /// Shares what `app` and others have in common. `spec` must not be shared yet, or stays as it is.
    pub(crate) fn share_app(&mut self, app: &mut App) {
        if let Some(spec) = Arc::get_mut(&mut app.spec) {
            self.share_spec(spec);
        }
        app.endpoints.shrink_to_fit();
        app.endpoints.iter_mut().for_each(|endpoint| self.share_endpoint(endpoint));
    }

    pub(crate) fn share_spec(&mut self, spec: &mut AppSpec) {
        for path in &mut spec.paths {
            let (PathMatch::Exact(text) | PathMatch::Prefix(text)) = path;
            share(&mut self.texts, text);
        }
        let listeners = spec.listeners.iter_mut().flatten();
        let probe = spec.health.iter_mut().map(|health| &mut Arc::make_mut(health).path);
        listeners.chain(probe).for_each(|text| share(&mut self.texts, text));
    }

    pub(crate) fn share_endpoint(&mut self, endpoint: &mut Endpoint) {
        share(&mut self.versions, &mut endpoint.key.version);
        share(&mut self.instances, &mut endpoint.key.instance);
        endpoint.zone.iter_mut().for_each(|zone| share(&mut self.texts, zone));
    }

    /// One spec for all apps that have none.
    pub(crate) fn implied_spec(&mut self) -> Arc<AppSpec> {
        Arc::clone(self.implied.get_or_insert_with(|| Arc::new(AppSpec::implied())))
    }
}

fn share<T: Clone + Eq + Hash>(pool: &mut HashSet<T>, value: &mut T) {
    if let Some(pooled) = pool.get(value) {
        value.clone_from(pooled);
        return;
    }
    if pool.len() >= MAX_POOLED {
        pool.clear();
    }
    pool.insert(value.clone());
}
