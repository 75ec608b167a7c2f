//! What is said arrives, and what the handshake found out can be asked.

use std::io::IoSlice;

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::peers::{HOST, PKI, VERSIONS, client_config, server_config, sockets, we_ask, we_serve};

/// Sends `bytes` each way at the same time.
pub async fn exchange(
    left: impl AsyncRead + AsyncWrite + Unpin,
    right: impl AsyncRead + AsyncWrite + Unpin,
    bytes: &[u8],
) {
    let (mut left_in, mut left_out) = tokio::io::split(left);
    let (mut right_in, mut right_out) = tokio::io::split(right);
    let send = async |out: &mut (dyn AsyncWrite + Unpin)| {
        out.write_all(bytes).await.unwrap();
        out.shutdown().await.unwrap();
    };
    let receive = async |input: &mut (dyn AsyncRead + Unpin)| {
        let mut received = Vec::new();
        input.read_to_end(&mut received).await.unwrap();
        assert!(received == bytes, "{} of {} bytes, or others", received.len(), bytes.len());
    };
    tokio::join!(send(&mut left_out), send(&mut right_out), receive(&mut left_in), receive(&mut right_in));
}

/// No two records of it are the same.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[tokio::test]
async fn bytes_travel_both_ways_at_once() {
    for version in VERSIONS {
        for bytes in [1, 16 << 10, (16 << 10) + 1, 3_000_000] {
            let (client, server) = (client_config(version), server_config(version));
            let (theirs, ours) = we_serve(sockets().await, client.clone(), server.clone()).await;
            exchange(theirs, ours, &pattern(bytes)).await;
            let (ours, theirs) = we_ask(sockets().await, client, server).await;
            exchange(ours, theirs, &pattern(bytes)).await;
        }
    }
}

#[tokio::test]
async fn the_handshake_tells_name_protocol_version_and_certificates() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (_theirs, ours) = we_serve(sockets().await, client.clone(), server.clone()).await;
        assert_eq!(ours.server_name(), Some(HOST));
        assert_eq!(ours.alpn(), Some(&b"http/1.1"[..]));
        assert_eq!(ours.protocol_version(), Some(version.version));
        assert_eq!(ours.peer_certificates(), Some(&PKI.client.0[..]));
        let (ours, _theirs) = we_ask(sockets().await, client, server).await;
        assert_eq!(ours.server_name(), None);
        assert_eq!(ours.alpn(), Some(&b"http/1.1"[..]));
        assert_eq!(ours.protocol_version(), Some(version.version));
        assert_eq!(ours.peer_certificates(), Some(&PKI.server.0[..]));
    }
}

#[tokio::test]
async fn the_second_connection_resumes_the_first() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut theirs, mut ours) = we_serve(sockets().await, client.clone(), server.clone()).await;
            assert_eq!(ours.handshake_kind(), Some(expected));
            assert_eq!((ours.server_name(), ours.peer_certificates().is_some()), (Some(HOST), true));
            // Tickets of TLS 1.3 come with the first bytes.
            ours.write_all(b"x").await.unwrap();
            theirs.read_exact(&mut [0]).await.unwrap();
        }
        let client = client_config(version);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut ours, mut theirs) = we_ask(sockets().await, client.clone(), server.clone()).await;
            assert_eq!(ours.handshake_kind(), Some(expected));
            theirs.write_all(b"x").await.unwrap();
            ours.read_exact(&mut [0]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn tickets_reach_a_client_that_waits_for_us_to_speak() {
    let (client, server) = (client_config(VERSIONS[1]), server_config(VERSIONS[1]));
    let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
    let waits = async {
        let mut byte = [0];
        ours.read_exact(&mut byte).await.unwrap();
        byte
    };
    let hears = async {
        while theirs.get_ref().1.tls13_tickets_received() == 0 {
            let reading = std::future::poll_fn(|context| {
                let mut nothing = [0; 1];
                let polled = std::pin::Pin::new(&mut theirs)
                    .poll_read(context, &mut tokio::io::ReadBuf::new(&mut nothing));
                assert!(polled.is_pending());
                std::task::Poll::Ready(())
            });
            reading.await;
            tokio::task::yield_now().await;
        }
        theirs.write_all(b"!").await.unwrap();
    };
    assert_eq!(tokio::join!(waits, hears).0, *b"!");
}

#[tokio::test]
async fn keys_can_be_changed_by_either_side() {
    let (client, server) = (client_config(VERSIONS[1]), server_config(VERSIONS[1]));
    let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
    for round in 0..4 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(&[round]).await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), round);
        // In it lies our own key update.
        ours.write_all(&[round]).await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), round);
    }
}

#[tokio::test]
async fn pieces_that_fit_travel_in_one_record() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
        let body = pattern(70_000);
        let whole = [&b"head"[..], &body, b"tail"].concat();
        let mut sent = 0;
        while sent < whole.len() {
            let (head, rest) = whole[sent..].split_at((whole.len() - sent).min(4));
            let slices = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(rest), IoSlice::new(&[])];
            sent += ours.write_vectored(&slices).await.unwrap();
        }
        let mut received = vec![0; whole.len()];
        theirs.read_exact(&mut received).await.unwrap();
        assert!(received == whole);
    }
}
