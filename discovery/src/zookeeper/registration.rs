//! What a former session held, made again in the present one.

use bytes::Bytes;
use zookeeper_client::{Client, Error};

use super::Shared;
use super::node::unsigned;
use super::write::{Failure, Target};
use crate::registry::{Expect, Key, Lifetime};
use crate::remote::MAX_ATTEMPTS;

pub(super) async fn restore(shared: &Shared, client: &Client) -> Result<(), Failure> {
    let take = |key, value| take(shared, client, key, value);
    shared.registrations.restore(client.session_id().0, take, is_its_own).await
}

/// Failures that are the key's own fault, and would be again.
fn is_its_own(failure: &Failure) -> bool {
    use Error::{NoAuth, NoChildrenForEphemerals, NotEmpty};
    matches!(failure, Failure::Client(NoAuth | NotEmpty | NoChildrenForEphemerals))
}

/// Whether the key is this session's now, or somebody else's.
async fn take(shared: &Shared, client: &Client, key: Key, value: Bytes) -> Result<bool, Failure> {
    let target = Target::new(&key, shared.root.path(&key), shared.settings.acl);
    for _ in 0..MAX_ATTEMPTS {
        let expect = match target.stat(client).await? {
            None => Expect::Absent,
            // An earlier session of ours that the servers still keep: as it is, the key would go when
            // they notice.
            Some(stat) if shared.registrations.is_ours(stat.ephemeral_owner) => {
                Expect::Version(unsigned(stat.mzxid))
            }
            Some(_) => return Ok(false),
        };
        match target.put(client, &value, expect, Lifetime::Session).await {
            // The earlier session ended in between, or somebody made the key: look again.
            Err(Failure::Conflict(_)) => {}
            outcome => return outcome.map(|_| true),
        }
    }
    Err(Failure::Contended)
}
