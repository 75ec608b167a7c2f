//! Who is out of the table and still has requests under way: whoever stops an instance has to wait for them.
//!
//! A request holds its endpoint from when that is chosen to its log line, and so does a tunnel; workers let go of a former
//! table within a tick. So an endpoint that nobody holds any more has nothing under way, and nothing is counted while requests
//! are served.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::table::CompiledApp;
use crate::table::live::EndpointLive;

/// Endpoints that changes have taken out of the table.
#[derive(Debug, Default)]
pub struct Departed(Mutex<Vec<(String, Weak<EndpointLive>)>>);

impl Departed {
    /// Remembers whom `now` has not, of those that `former` had.
    pub fn note(&self, former: &CompiledApp, now: Option<&CompiledApp>) {
        let stays = |live: &Arc<EndpointLive>, key| {
            now.and_then(|now| now.endpoint(key)).is_some_and(|new| Arc::ptr_eq(&new.live, live))
        };
        let gone = former.endpoints.iter().filter(|endpoint| !stays(&endpoint.live, &endpoint.key));
        let named = gone.map(|endpoint| {
            let name = format!("{}/{}/{}", former.id, endpoint.key.version, endpoint.key.instance);
            (name, Arc::downgrade(&endpoint.live))
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(named);
    }

    /// Those that somebody holds, `most` of their names in order, and how many there are. Forgets the others.
    pub fn busy(&self, most: usize) -> (Vec<String>, usize) {
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        departed.retain(|(_, live)| live.strong_count() > 0);
        let mut names: Vec<String> = departed.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        let total = names.len();
        names.truncate(most);
        (names, total)
    }
}
