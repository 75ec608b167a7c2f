//! A watch on everything below the prefix, from one revision on.

use std::time::Duration;

use etcd_client::{Error, Event, WatchClient, WatchOptions, WatchResponse, WatchStream};

use super::read::{Found, key, range};
use super::write::{is_too_large, words};
use crate::registry::Key;
use crate::remote::root::Root;

pub(super) struct Watch {
    stream: WatchStream,
    /// How long it may say nothing.
    patience: Duration,
}

/// What a watch tells.
pub(super) enum Told {
    /// All changes of these revisions.
    Changes { revision: i64, changes: Vec<(Key, Option<Found>)> },
    /// Changes were missed, or are too many for one answer: read everything again.
    Behind(String),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the watch broke: {}", words(.0))]
    Client(#[from] Error),
    #[error("the watch does not answer within {0:?}")]
    Silent(Duration),
    #[error("the server ended the watch: {0}")]
    Cancelled(String),
}

impl Watch {
    /// Returns when the server watches.
    pub(super) async fn begin(
        client: &mut WatchClient,
        root: &Root,
        from: i64,
        patience: Duration,
    ) -> Result<Self, WatchError> {
        let (first, end) = range(root);
        let options = WatchOptions::new().with_range(end).with_start_revision(from);
        let begin = async {
            let mut stream = client.watch(first, Some(options)).await?;
            match stream.message().await? {
                Some(answer) if !answer.canceled() => Ok(Self { stream, patience }),
                answer => Err(cancelled(answer.as_ref())),
            }
        };
        tokio::time::timeout(patience, begin).await.unwrap_or(Err(WatchError::Silent(patience)))
    }

    /// The next changes, for however long there are none. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, root: &Root) -> Result<Told, WatchError> {
        let mut asked = false;
        loop {
            let answer = match tokio::time::timeout(self.patience, self.stream.message()).await {
                Ok(answer) => answer,
                Err(_) if asked => return Err(WatchError::Silent(self.patience)),
                Err(_) => {
                    // The answer proves that the watch is there, and no more: before etcd 3.4.25 and 3.5.8
                    // its revision could be ahead of events still to come (etcd issue 15220).
                    asked = true;
                    self.stream.request_progress().await?;
                    continue;
                }
            };
            asked = false;
            let answer = match answer {
                Err(error) if is_too_large(&error) => return Ok(Told::Behind(words(&error))),
                answer => answer?,
            };
            match answer {
                Some(answer) if answer.canceled() && answer.compact_revision() > 0 => {
                    return Ok(Told::Behind(format!("compacted up to {}", answer.compact_revision())));
                }
                Some(answer) if !answer.canceled() && answer.events().is_empty() => {}
                Some(answer) if !answer.canceled() => return Ok(changes(root, &answer)),
                answer => return Err(cancelled(answer.as_ref())),
            }
        }
    }
}

fn cancelled(answer: Option<&WatchResponse>) -> WatchError {
    let reason = answer.map_or("", WatchResponse::cancel_reason);
    WatchError::Cancelled(if reason.is_empty() { "it does not say why" } else { reason }.to_owned())
}

/// The last change of each key counts; `None`: it was deleted. The header's revision would not do: of a
/// watch that catches up it is ahead.
fn changes(root: &Root, answer: &WatchResponse) -> Told {
    let pairs = answer.events().iter().filter_map(Event::kv);
    let revision = pairs.clone().map(|pair| pair.mod_revision()).max().unwrap_or(0);
    let changes = pairs.filter_map(|pair| {
        let key = key(root, pair.key())?;
        // A deletion's pair has no version. The client's own word for it panics at kinds that it does not
        // know.
        Some((key, (pair.version() > 0).then(|| Found::of(pair.clone()))))
    });
    Told::Changes { revision, changes: changes.collect() }
}
