//! Tells secondaries that there is a new serial (RFC 1996), so that they need not wait until they ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::access::Secondary;
use super::desk::DnsDesk;
use super::publish::unix_seconds;
use super::tsig::{Chain, Signed};
use super::zone::Zone;

/// RFC 1996 section 3.6 has a minute and five attempts; a secondary on the same continent answers within a second.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 5;

/// Tells one secondary, until `cancel`.
pub async fn keep_told(
    secondary: Secondary,
    from: Arc<[SocketAddr]>,
    desk: Arc<DnsDesk>,
    cancel: CancellationToken,
) {
    let Some(to) = secondary.notify else { return };
    let mut changes = desk.changes();
    let mut told = None;
    loop {
        changes.borrow_and_update();
        let zone = desk.published().map(|published| published.zone.clone());
        if let Some(zone) = zone.filter(|zone| told != Some(zone.serial)) {
            let telling = tell(&secondary, to, &from, &zone);
            match cancel.run_until_cancelled(telling).await {
                None => return,
                Some(true) => desk.cells.notifies_answered.add(),
                Some(false) => {
                    desk.cells.notifies_failed.add();
                    tracing::warn!(%to, serial = zone.serial, "a secondary does not answer NOTIFY; it will ask by itself");
                }
            }
            told = Some(zone.serial);
        }
        match cancel.run_until_cancelled(changes.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

async fn tell(secondary: &Secondary, to: SocketAddr, from: &[SocketAddr], zone: &Zone) -> bool {
    for attempt in 0..ATTEMPTS {
        let patience = PATIENCE * (1 << attempt);
        let begun = tokio::time::Instant::now();
        match timeout(patience, ask(secondary, to, from, zone)).await {
            Ok(Ok(())) => return true,
            // One that cannot be reached yet is not asked in a circle.
            Ok(Err(_)) => tokio::time::sleep_until(begun + patience).await,
            Err(_) => {}
        }
    }
    false
}

/// Returns when the secondary has said that it has heard.
async fn ask(secondary: &Secondary, to: SocketAddr, from: &[SocketAddr], zone: &Zone) -> std::io::Result<()> {
    // Secondaries believe their primary's address, which is where it answers.
    let own = from.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == to.is_ipv4());
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((own.unwrap_or(any), 0)).await?;
    socket.connect(to).await?;
    let id = fastrand::u16(..);
    let mut message = Message::new(id, MessageType::Query, OpCode::Notify);
    message.metadata.authoritative = true;
    message.add_query(Query::query(zone.apex.origin.clone(), RecordType::SOA));
    message.add_answer(zone.soa(zone.apex.ttl));
    let mut bytes = message.to_vec().map_err(std::io::Error::other)?;
    let mut chain = Chain::default();
    if let Some(key) = &secondary.key {
        key.sign(&mut bytes, &mut chain, unix_seconds());
        chain = chain.asked();
    }
    socket.send(&bytes).await?;
    let mut received = [0; 1 << 12];
    loop {
        let count = socket.recv(&mut received).await?;
        if is_answer(&received[..count], id, secondary, &chain) {
            return Ok(());
        }
    }
}

fn is_answer(bytes: &[u8], id: u16, secondary: &Secondary, chain: &Chain) -> bool {
    let Ok(signed) = Signed::read(bytes) else { return false };
    let plain = match (&secondary.key, &signed) {
        (Some(key), Some(signed)) => {
            if key.verify(signed, &mut chain.clone(), unix_seconds()).is_err() {
                return false;
            }
            signed.message()
        }
        (Some(_), None) => return false,
        (None, _) => bytes,
    };
    let Ok(message) = Message::from_vec(plain) else { return false };
    let metadata = &message.metadata;
    metadata.id == id && metadata.message_type == MessageType::Response && metadata.op_code == OpCode::Notify
}
