//! What workers tell the control plane of endpoints.

use std::sync::Arc;

use healthcheck::outlier::Cause;
use tokio::sync::mpsc;

use crate::reason::Reason;
use crate::table::PooledEndpoint;

/// An endpoint has failed as often in a row as its app allows.
#[derive(Debug)]
pub struct Suspicion {
    pub endpoint: Arc<PooledEndpoint>,
    pub cause: Cause,
    /// What the last of the failures was.
    pub last: Option<Reason>,
}

/// Reports that wait to be judged. One that finds no room is repeated by the failures that follow.
const MAX_WAITING: usize = 1024;

/// From all workers to the one who judges.
pub fn suspicions() -> (mpsc::Sender<Suspicion>, mpsc::Receiver<Suspicion>) {
    mpsc::channel(MAX_WAITING)
}
