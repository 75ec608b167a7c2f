//! Whether anybody accepts connections at an address, and proves to be who is wanted there.

use topology::Protocol;

use super::{Outcome, Pass, ProbeStream, Way, connect};

pub(crate) async fn probe(way: Way<'_>, protocol: Protocol) -> Outcome {
    let socket = connect(way.address, way.deadline).await?;
    ProbeStream::secure(socket, way.tls, protocol, way.deadline).await.map(|_| Pass::Whole)
}
