//! What gateways say to one another: one datagram per message, authenticated, bound to who says it to whom.
//!
//! ```text
//!  0     2       3    4         20      36  44    52   60     61 77    78       79     80
//!  magic version kind from_boot to_boot seq epoch beat family ip flags from_len to_len from to tag (32)
//! ```
//!
//! All numbers are big-endian. The tag is HMAC-SHA256 under the key that all gateways share, over all that
//! precedes it. A message names both runs, so what was recorded in an earlier run of either is refused,
//! and a sequence number, so what was recorded in this one is too ([`Inbox`]).

mod inbox;
mod last_words;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::hmac;

use crate::identity::{BootId, GatewayId, MAX_ID_BYTES};

pub use inbox::{Inbox, Verdict};
pub use last_words::{LastWord, LastWords, MAX_LAST_WORDS_BYTES};

const MAGIC: [u8; 2] = *b"SV";
const VERSION: u8 = 1;
const TAG_BYTES: usize = 32;
const HEAD_BYTES: usize = 80;
/// Nothing longer is a message of ours; fits every MTU.
pub const MAX_MESSAGE_BYTES: usize = HEAD_BYTES + 2 * MAX_ID_BYTES + TAG_BYTES;

const SERVES: u8 = 1;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub from: GatewayId,
    pub from_boot: BootId,
    pub to: GatewayId,
    /// The run it is for; [`BootId::NONE`] while that is unknown, which only a greeting may say.
    pub to_boot: BootId,
    /// Grows with every message of the sender's run.
    pub seq: u64,
    /// The sender could take over an address.
    pub serves: bool,
    pub body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// I am here.
    Hello,
    /// I hold `ip` in this epoch: grant me a lease. `beat` grows with every one for this address.
    Heartbeat { ip: IpAddr, epoch: u64, beat: u64 },
    /// I shall not take `ip` over for L′: the answer to that heartbeat.
    Grant { ip: IpAddr, epoch: u64, beat: u64 },
    /// I know of this later epoch.
    Refuse { ip: IpAddr, epoch: u64, beat: u64 },
    /// My run is over, and my host answers for none of our addresses: written by the run itself, for its guard to
    /// send once that is so. True for ever, so a recorded one does no harm.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("not a message of this version, or not a whole one")]
    Malformed,
    #[error("its tag is wrong: another key, or forged")]
    Tag,
}

/// The key that gateways share.
pub struct PeerKey(hmac::Key);

impl PeerKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PeerKey")
    }
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Heartbeat { .. } => 2,
            Self::Grant { .. } => 3,
            Self::Refuse { .. } => 4,
            Self::Ended => 5,
        }
    }

    fn of(kind: u8, subject: Option<IpAddr>, epoch: u64, beat: u64) -> Option<Self> {
        match (kind, subject) {
            (1, None) if (epoch, beat) == (0, 0) => Some(Self::Hello),
            (2, Some(ip)) => Some(Self::Heartbeat { ip, epoch, beat }),
            (3, Some(ip)) => Some(Self::Grant { ip, epoch, beat }),
            (4, Some(ip)) => Some(Self::Refuse { ip, epoch, beat }),
            (5, None) if (epoch, beat) == (0, 0) => Some(Self::Ended),
            _ => None,
        }
    }

    fn subject(&self) -> (Option<IpAddr>, u64, u64) {
        match *self {
            Self::Hello | Self::Ended => (None, 0, 0),
            Self::Heartbeat { ip, epoch, beat }
            | Self::Grant { ip, epoch, beat }
            | Self::Refuse { ip, epoch, beat } => (Some(ip), epoch, beat),
        }
    }
}

impl Message {
    pub fn encode(&self, key: &PeerKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_MESSAGE_BYTES);
        let (subject, epoch, beat) = self.body.subject();
        bytes.extend(MAGIC);
        bytes.extend([VERSION, self.body.kind()]);
        bytes.extend(self.from_boot.as_bytes());
        bytes.extend(self.to_boot.as_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(beat.to_be_bytes());
        let (family, address) = address_bytes(subject);
        bytes.push(family);
        bytes.extend(address);
        bytes.push(if self.serves { SERVES } else { 0 });
        // No id is longer than 128.
        bytes.push(u8::try_from(self.from.as_str().len()).unwrap_or(u8::MAX));
        bytes.push(u8::try_from(self.to.as_str().len()).unwrap_or(u8::MAX));
        bytes.extend(self.from.as_str().bytes());
        bytes.extend(self.to.as_str().bytes());
        let tag = hmac::sign(&key.0, &bytes);
        bytes.extend(tag.as_ref());
        bytes
    }

    /// # Errors
    /// For what [`encode`](Self::encode) could not have made under this key. Nothing of an unauthenticated message is
    /// looked at but its length.
    pub fn decode(bytes: &[u8], key: &PeerKey) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::Malformed);
        }
        let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(MessageError::Malformed)?;
        if !signed.starts_with(&MAGIC) || signed.get(2) != Some(&VERSION) {
            return Err(MessageError::Malformed);
        }
        hmac::verify(&key.0, signed, tag).map_err(|_| MessageError::Tag)?;
        Self::parse(signed).ok_or(MessageError::Malformed)
    }

    /// What is left once the tag is right. Total: any bytes give a message or nothing.
    pub fn parse(signed: &[u8]) -> Option<Self> {
        let mut rest = signed;
        let [magic @ .., version, kind] = take::<4>(&mut rest)?;
        if magic != MAGIC || version != VERSION {
            return None;
        }
        let from_boot = BootId::from_bytes(take(&mut rest)?);
        let to_boot = BootId::from_bytes(take(&mut rest)?);
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let epoch = u64::from_be_bytes(take(&mut rest)?);
        let beat = u64::from_be_bytes(take(&mut rest)?);
        let [family] = take(&mut rest)?;
        let subject = parse_address(family, take(&mut rest)?)?;
        let [flags, from_len, to_len] = take(&mut rest)?;
        if flags & !SERVES != 0 || rest.len() != usize::from(from_len) + usize::from(to_len) {
            return None;
        }
        let (from, to) = rest.split_at_checked(usize::from(from_len))?;
        let body = Body::of(kind, subject, epoch, beat)?;
        let unknown_run = from_boot == BootId::NONE || (to_boot == BootId::NONE && body != Body::Hello);
        (!unknown_run).then_some(())?;
        Some(Self {
            from: parse_id(from)?,
            from_boot,
            to: parse_id(to)?,
            to_boot,
            seq,
            serves: flags & SERVES != 0,
            body,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn parse_id(bytes: &[u8]) -> Option<GatewayId> {
    GatewayId::parse(std::str::from_utf8(bytes).ok()?).ok()
}

fn address_bytes(subject: Option<IpAddr>) -> (u8, [u8; 16]) {
    let mut bytes = [0; 16];
    match subject {
        None => (0, bytes),
        Some(IpAddr::V4(ip)) => {
            bytes[..4].copy_from_slice(&ip.octets());
            (4, bytes)
        }
        Some(IpAddr::V6(ip)) => (6, ip.octets()),
    }
}

/// One address has one form: what an IPv4 address leaves over is zero.
fn parse_address(family: u8, bytes: [u8; 16]) -> Option<Option<IpAddr>> {
    let [a, b, c, d, unused @ ..] = bytes;
    match family {
        0 if bytes == [0; 16] => Some(None),
        4 if unused == [0; 12] => Some(Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))),
        6 => Some(Some(IpAddr::V6(Ipv6Addr::from(bytes)))),
        _ => None,
    }
}
