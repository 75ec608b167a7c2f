//! Whether anybody accepts connections at an address.

use std::net::SocketAddr;

use super::{Deadline, ProbeError, connect};

pub(crate) async fn probe(address: SocketAddr, deadline: Deadline) -> Result<(), ProbeError> {
    connect(address, deadline).await.map(drop)
}
