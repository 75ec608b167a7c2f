//! Whether anybody accepts connections at an address, and proves to be who is wanted there.

use std::net::SocketAddr;
use std::sync::Arc;

use topology::Protocol;

use super::{Deadline, ProbeError, ProbeStream, ProbeTls, connect};

pub(crate) async fn probe(
    address: SocketAddr,
    tls: Option<&Arc<dyn ProbeTls>>,
    deadline: Deadline,
) -> Result<(), ProbeError> {
    let socket = connect(address, deadline).await?;
    ProbeStream::secure(socket, tls, Protocol::Tcp, deadline).await.map(drop)
}
