//! The first bytes of a TLS connection: ours, and rustls's reading of them.

use std::io::Cursor;

use gateway::listener::client_hello::{FirstBytes, Hello, MAX_HELLO_BYTES, read_client_hello};
use rustls::server::Acceptor;

use crate::pieces::cut;
use crate::shown;

/// `input` is what a client sends first.
///
/// # Panics
/// When rustls finds another name or other protocols than we do, when a name is none, or when an answer
/// depends on how much has arrived.
pub fn client_hello(input: &[u8]) {
    let whole = read_client_hello(input);
    is_the_same_in_pieces(&whole, input);
    let FirstBytes::Hello(ours) = &whole else { return };
    assert!(ours.alpn().all(|name| !name.is_empty()));
    if let Some(name) = &ours.server_name {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        assert!(
            (1..=253).contains(&name.len()) && name.bytes().all(plain) && !name.ends_with('.'),
            "{name:?}"
        );
    }
    agrees_with_rustls(ours, input);
}

fn is_the_same_in_pieces(whole: &FirstBytes, input: &[u8]) {
    let mut received = Vec::new();
    for piece in cut(input, 1) {
        received.extend_from_slice(piece);
        let now = read_client_hello(&received);
        if now == FirstBytes::NeedMore {
            assert!(received.len() < MAX_HELLO_BYTES, "nobody is waited for beyond the bound");
        } else {
            assert_eq!(&now, whole, "after {} bytes of {}", received.len(), shown(input));
        }
    }
}

/// One-sided: rustls refuses what it does not implement.
fn agrees_with_rustls(ours: &Hello, input: &[u8]) {
    let mut acceptor = Acceptor::default();
    let mut unread = Cursor::new(input);
    let accepted = loop {
        if !matches!(acceptor.read_tls(&mut unread), Ok(1..)) {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err(_) => return,
        }
    };
    let theirs = accepted.client_hello();
    let name = theirs.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    assert_eq!(ours.server_name, name, "{}", shown(input));
    let protocols: Vec<&[u8]> = theirs.alpn().into_iter().flatten().collect();
    assert_eq!(ours.alpn().collect::<Vec<_>>(), protocols, "{}", shown(input));
}
