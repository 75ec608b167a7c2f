//! What the registry says of one app.

use std::collections::BTreeMap;
use std::sync::Arc;

use topology::{AppSpec, Endpoint, InstanceKey, OperatorWord};

/// The last good values of an app's keys, with the revisions at which the keys were created.
#[derive(Debug, Default)]
pub(super) struct RegisteredApp {
    pub spec: Option<(Arc<AppSpec>, u64)>,
    /// Why the spec's value as it stands cannot be used.
    pub spec_fault: Option<Arc<str>>,
    /// Ordered by key, each key once.
    endpoints: Vec<(Endpoint, u64)>,
    /// What operators say; shared with the snapshot.
    pub words: Arc<BTreeMap<InstanceKey, OperatorWord>>,
}

impl RegisteredApp {
    pub(super) fn put_endpoint(&mut self, endpoint: Endpoint, created: u64) {
        match self.position(&endpoint.key) {
            Ok(at) => self.endpoints[at] = (endpoint, created),
            Err(at) => {
                // By an eighth, where a vector doubles: of ten thousand apps with ten endpoints each that is ten megabytes.
                if self.endpoints.len() == self.endpoints.capacity() {
                    self.endpoints.reserve_exact(self.endpoints.len() / 8 + 1);
                }
                self.endpoints.insert(at, (endpoint, created));
            }
        }
    }

    pub(super) fn remove_endpoint(&mut self, key: &InstanceKey) {
        if let Ok(at) = self.position(key) {
            self.endpoints.remove(at);
        }
    }

    fn position(&self, key: &InstanceKey) -> Result<usize, usize> {
        self.endpoints.binary_search_by(|(endpoint, _)| endpoint.key.cmp(key))
    }

    /// Whether the registry says nothing of the app that could be used. What operators say of its endpoints makes no app.
    pub(super) fn is_unknown(&self) -> bool {
        self.spec.is_none() && self.endpoints.is_empty()
    }

    /// Whether the registry says nothing of the app at all.
    pub(super) fn is_empty(&self) -> bool {
        self.is_unknown() && self.spec_fault.is_none() && self.words.is_empty()
    }

    /// When the app first claimed its hosts: its spec's creation, or else its oldest address's.
    pub(super) fn claimed(&self) -> u64 {
        match &self.spec {
            Some((_, created)) => *created,
            None => self.endpoints.iter().map(|(_, created)| *created).min().unwrap_or(0),
        }
    }

    /// The endpoints of both, by key; of two with one key, the file's. All with what operators say of them.
    pub(super) fn endpoints_with(&self, from_file: &[Endpoint]) -> Vec<Endpoint> {
        let mut merged = Vec::with_capacity(self.endpoints.len() + from_file.len());
        let mut from_file = from_file.iter().peekable();
        for (endpoint, _) in &self.endpoints {
            while let Some(earlier) = from_file.next_if(|file| file.key < endpoint.key) {
                merged.push(earlier.clone());
            }
            if from_file.peek().is_none_or(|file| file.key != endpoint.key) {
                merged.push(endpoint.clone());
            }
        }
        merged.extend(from_file.cloned());
        if !self.words.is_empty() {
            for endpoint in &mut merged {
                endpoint.word = self.words.get(&endpoint.key).copied().unwrap_or_default();
            }
        }
        merged.shrink_to_fit();
        merged
    }
}
