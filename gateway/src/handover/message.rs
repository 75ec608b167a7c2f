//! What the two processes say to each other, and how it lies on the wire: eight bytes of head, then JSON.
//!
//! The other side is a process of the same user, but of another release, perhaps a broken one: whatever
//! arrives is bounded, and a message that cannot be read ends the hand-over.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::listener::Transport;

/// Counted up when a message changes its meaning. Fields that a side does not know are ignored, so a new
/// one needs no new number.
pub const PROTOCOL: u32 = 1;
/// Begins every message: whoever connects by mistake is known at once.
const MAGIC: [u8; 4] = *b"SLUH";
pub const HEAD_BYTES: usize = 8;
/// A hundred listeners and as many draining processes take 40 KiB.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Of one message: the kernel refuses more than 253 (SCM_MAX_FD).
pub const MAX_FDS: usize = 250;
/// Of one hand-over: 100 listeners times 256 workers, the most that a configuration can have.
pub const MAX_SOCKETS: usize = 100 * 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The first one, of whoever connects.
    Hello { protocol: u32, version: String, wants: Wants },
    /// To [`Wants::Status`].
    Status(Status),
    /// To [`Wants::Takeover`]. The sockets follow in [`Message::Sockets`], in the order in which they are named.
    Welcome(Box<Welcome>),
    /// Comes with that many descriptors.
    Sockets { count: usize },
    /// The newer process is ready to open the registry.
    ReleaseRegistry,
    /// It is closed.
    RegistryReleased,
    /// Every worker of the newer process accepts.
    Serving,
    /// The older process stops accepting now. What follows is about its drain.
    Yours,
    /// The end of it, by the older process.
    Refused { why: String },
    /// Of the older process, while it drains.
    Draining { connections: u64 },
    /// Of the newer process: log files were rotated.
    ReopenLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    Takeover,
    Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub pid: u32,
    pub generation: u64,
    pub version: String,
}

/// All that the newer process is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
    pub generation: u64,
    /// Hand-overs that this line of processes has begun and not finished.
    pub failed: u64,
    /// The directory of the embedded registry, if it has one open.
    pub registry: Option<String>,
    /// Where the service manager listens (`NOTIFY_SOCKET`).
    pub notify: Option<String>,
    /// How often it wants to hear that we live.
    pub watchdog_micros: Option<u64>,
    pub listeners: Vec<PassedListener>,
    /// The admin listener's address as configured; one socket.
    pub admin: Option<SocketAddr>,
    /// Earlier processes that still drain; one socket each. Before theirs comes the hand-over socket.
    pub draining: Vec<PassedDrainer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedListener {
    pub name: String,
    pub configured: SocketAddr,
    pub transport: PassedTransport,
    pub sockets: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassedTransport {
    Stream,
    Datagram,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedDrainer {
    pub pid: u32,
    pub generation: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("it speaks something else")]
    Foreign,
    #[error("a message of {0} bytes is above the limit of {MAX_MESSAGE_BYTES}")]
    TooLong(usize),
    #[error("a message cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("{0} sockets are above the limit of {MAX_SOCKETS}")]
    TooManySockets(usize),
}

impl From<Transport> for PassedTransport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Stream => Self::Stream,
            Transport::Datagram => Self::Datagram,
        }
    }
}

impl From<PassedTransport> for Transport {
    fn from(passed: PassedTransport) -> Self {
        match passed {
            PassedTransport::Stream => Self::Stream,
            PassedTransport::Datagram => Self::Datagram,
        }
    }
}

impl Welcome {
    /// How many sockets follow.
    ///
    /// # Errors
    /// [`MessageError::TooManySockets`].
    pub fn sockets(&self) -> Result<usize, MessageError> {
        let of_listeners = self.listeners.iter().fold(0_usize, |sum, one| sum.saturating_add(one.sockets));
        let others = usize::from(self.admin.is_some()) + 1 + self.draining.len();
        let count = of_listeners.saturating_add(others);
        // What is beyond the listeners is bounded by the message's length.
        if of_listeners > MAX_SOCKETS { Err(MessageError::TooManySockets(count)) } else { Ok(count) }
    }
}

impl Message {
    /// Head and body.
    ///
    /// # Errors
    /// [`MessageError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let mut bytes = [&MAGIC[..], &[0; 4]].concat();
        serde_json::to_writer(&mut bytes, self)?;
        let length = bytes.len() - HEAD_BYTES;
        if length > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLong(length));
        }
        bytes[MAGIC.len()..HEAD_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(bytes)
    }

    /// The length of the body that follows this head.
    ///
    /// # Errors
    /// [`MessageError::Foreign`] or [`MessageError::TooLong`].
    pub fn body_length(head: [u8; HEAD_BYTES]) -> Result<usize, MessageError> {
        let [m0, m1, m2, m3, l0, l1, l2, l3] = head;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(MessageError::Foreign);
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_MESSAGE_BYTES { Err(MessageError::TooLong(length)) } else { Ok(length) }
    }

    /// # Errors
    /// [`MessageError::Unreadable`].
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        Ok(serde_json::from_slice(body)?)
    }

    /// For mistakes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Status(_) => "status",
            Self::Welcome(_) => "welcome",
            Self::Sockets { .. } => "sockets",
            Self::ReleaseRegistry => "release_registry",
            Self::RegistryReleased => "registry_released",
            Self::Serving => "serving",
            Self::Yours => "yours",
            Self::Refused { .. } => "refused",
            Self::Draining { .. } => "draining",
            Self::ReopenLog => "reopen_log",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        let (head, body) = bytes.split_first_chunk().ok_or(MessageError::Foreign)?;
        let length = Message::body_length(*head)?;
        Message::decode(body.get(..length).ok_or(MessageError::Foreign)?)
    }

    fn welcome(sockets: Vec<usize>) -> Welcome {
        let listener = |sockets| PassedListener {
            name: "web".into(),
            configured: "[::1]:80".parse().unwrap(),
            transport: PassedTransport::Datagram,
            sockets,
        };
        Welcome {
            protocol: PROTOCOL,
            version: "1".into(),
            pid: 7,
            generation: 2,
            failed: 1,
            registry: Some("/var/lib".into()),
            notify: None,
            watchdog_micros: Some(1),
            listeners: sockets.into_iter().map(listener).collect(),
            admin: Some("127.0.0.1:0".parse().unwrap()),
            draining: vec![PassedDrainer { pid: 3, generation: 1 }],
        }
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let hello = Message::Hello { protocol: 1, version: "0.1".into(), wants: Wants::Takeover };
        let messages = [
            hello,
            Message::Welcome(Box::new(welcome(vec![2, 3]))),
            Message::Sockets { count: 250 },
            Message::ReleaseRegistry,
            Message::Serving,
            Message::Refused { why: "\u{0}\"é".into() },
            Message::Draining { connections: u64::MAX },
        ];
        for message in messages {
            assert_eq!(decode(&message.encode().unwrap()).unwrap(), message);
        }
    }

    #[test]
    fn a_field_of_a_later_release_is_ignored() {
        let text = br#"{"type":"draining","connections":7,"colour":"red"}"#;
        assert_eq!(Message::decode(text).unwrap(), Message::Draining { connections: 7 });
        assert_eq!(Message::decode(br#"{"type":"serving","colour":"red"}"#).unwrap(), Message::Serving);
    }

    #[test]
    fn what_a_peer_can_make_us_hold_is_bounded() {
        let head = |length: u32| [MAGIC, length.to_be_bytes()].concat().try_into().unwrap();
        assert!(matches!(Message::body_length(head(u32::MAX)), Err(MessageError::TooLong(_))));
        assert!(matches!(Message::body_length(*b"GET / HT"), Err(MessageError::Foreign)));
        assert_eq!(welcome(vec![2, 3]).sockets().unwrap(), 2 + 3 + 1 + 1 + 1);
        for counts in [vec![usize::MAX, 2], vec![MAX_SOCKETS + 1]] {
            assert!(matches!(welcome(counts).sockets(), Err(MessageError::TooManySockets(_))));
        }
        let long = Message::Refused { why: "x".repeat(MAX_MESSAGE_BYTES) };
        assert!(matches!(long.encode(), Err(MessageError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = decode(&[&MAGIC[..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()) {
                prop_assert_eq!(decode(&message.encode().unwrap()).unwrap(), message);
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_message_is_read_or_refused(at in 0_usize..400, byte: u8) {
            let mut bytes = Message::Welcome(Box::new(welcome(vec![1]))).encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(message) = decode(&bytes) {
                prop_assert_eq!(decode(&message.encode().unwrap()).unwrap(), message);
            }
        }
    }
}
