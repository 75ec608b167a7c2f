//! What a former lease held, made again under the present one.

use bytes::Bytes;
use tonic::Code;

use super::Shared;
use super::connection::Connection;
use super::write::{Failure, Target};
use crate::registry::{Expect, Key, Lifetime};
use crate::remote::MAX_ATTEMPTS;

pub(super) async fn restore(shared: &Shared, connection: &Connection) -> Result<(), Failure> {
    let take = |key, value| take(shared, connection.clone(), key, value);
    shared.registrations.restore(connection.lease, take, is_its_own).await
}

/// Failures that are the key's own fault, and would be again.
fn is_its_own(failure: &Failure) -> bool {
    let Failure::Client(etcd_client::Error::GRpcStatus(status)) = failure else { return false };
    status.code() == Code::PermissionDenied
}

/// Whether the key is this session's now, or somebody else's.
async fn take(shared: &Shared, mut connection: Connection, key: Key, value: Bytes) -> Result<bool, Failure> {
    let target = Target::new(&key, shared.root.path(&key));
    for _ in 0..MAX_ATTEMPTS {
        let expect = match target.read(&mut connection).await? {
            None => Expect::Absent,
            // An earlier lease of ours that the servers still keep: as it is, the key would go with it.
            Some(found) if shared.registrations.is_ours(found.lease) => Expect::Version(found.entry.version),
            Some(_) => return Ok(false),
        };
        match target.put(&mut connection, &value, expect, Lifetime::Session).await {
            // The earlier lease expired in between, or somebody made the key: look again.
            Err(Failure::Conflict(_)) => {}
            outcome => return outcome.map(|_| true),
        }
    }
    Err(Failure::Contended)
}
