//! What a gateway leaves for its guard to say: that it has ended.
//!
//! The guard has no key and no part in the protocol. It is handed finished datagrams, again whenever the peers or
//! their runs change, and sends the newest ones when it has closed the fence.

use std::io;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::MAX_MESSAGE_BYTES;
use super::inbox::MAX_PEERS;

/// The longest line of [`LastWords::to_line`]: 256 peers, and up to four characters per byte.
pub const MAX_LAST_WORDS_BYTES: usize = MAX_PEERS * (MAX_MESSAGE_BYTES * 4 + 128);

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWord {
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
}

/// One for each peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords(pub Vec<LastWord>);

impl LastWords {
    /// As the guard reads them, with the end of the line.
    pub fn to_line(&self) -> Vec<u8> {
        // Numbers and addresses can be written always.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// # Errors
    /// For what [`to_line`](Self::to_line) does not write.
    pub fn from_line(line: &[u8]) -> io::Result<Self> {
        let words: Self = serde_json::from_slice(line)?;
        let fits =
            words.0.len() <= MAX_PEERS && words.0.iter().all(|word| word.datagram.len() <= MAX_MESSAGE_BYTES);
        fits.then_some(words).ok_or_else(|| io::Error::other("more last words than there are peers"))
    }
}
