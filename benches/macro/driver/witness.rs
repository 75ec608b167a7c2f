//! An endpoint that knows when it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tests::{Endpoint, Reply};

use crate::clock::Moment;

/// Answers everything, and `/_ping` without counting it.
pub struct Witness {
    endpoint: Endpoint,
    asked: Arc<Mutex<Asked>>,
}

/// When the first and the last request came since [`Witness::forget`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    pub first: Option<Moment>,
    pub last: Option<Moment>,
}

impl Witness {
    pub fn start(id: &str) -> Self {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let (body, shared) = (id.to_owned(), Arc::clone(&asked));
        let endpoint = Endpoint::behaving(id, move |_| {
            let now = Moment::now();
            let mut asked = lock(&shared);
            asked.first.get_or_insert(now);
            asked.last = Some(now);
            Reply::ok(body.clone())
        });
        Self { endpoint, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    pub fn asked(&self) -> Asked {
        *lock(&self.asked)
    }

    pub fn forget(&self) {
        *lock(&self.asked) = Asked::default();
    }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}
