//! What gateways say to one another, and leave to their guards.

use vip::peer::{LastWords, MAX_LAST_WORDS_BYTES, MAX_MESSAGE_BYTES, Message, PeerKey};

/// `input` is the signed part of a datagram, a whole datagram, and a line of last words.
///
/// # Panics
/// When a message has two forms, when a datagram without its tag is taken, or when last words are not read back as
/// they are written.
pub fn peer_messages(input: &[u8]) {
    let key = PeerKey::new(&[7; 32]);
    if let Some(message) = Message::parse(input) {
        let datagram = message.encode(&key);
        assert!(datagram.len() <= MAX_MESSAGE_BYTES);
        assert!(datagram.starts_with(input), "two forms: {}", super::shown(input));
        assert_eq!(Message::decode(&datagram, &key).as_ref(), Ok(&message));
        assert!(Message::decode(&datagram, &PeerKey::new(&[8; 32])).is_err());
    }
    // Nobody finds a tag by chance.
    assert!(Message::decode(input, &key).is_err());
    if let Ok(words) = LastWords::from_line(input) {
        let line = words.to_line();
        assert!(line.len() <= MAX_LAST_WORDS_BYTES);
        assert_eq!(LastWords::from_line(line.trim_ascii_end()).ok(), Some(words));
    }
}
