//! What a connection holds: little while its peer is slow, nothing while it waits.

use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::scratch::MAX_SEND_BYTES;
use super::super::{Stream, TlsStream};
use super::both_roles::pattern;
use super::peers::{VERSIONS, client_config, server_config, sockets, we_serve};

fn tls(stream: &Stream) -> &TlsStream {
    match stream {
        Stream::Tls(tls) => tls,
        Stream::Plain(_) => panic!("no TLS"),
    }
}

/// Writes until the stream takes no more.
async fn stuff(stream: &mut Stream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    std::future::poll_fn(|context| {
        while let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, &bytes[sent..]) {
            sent += written.unwrap();
        }
        Poll::Ready(sent)
    })
    .await
}

#[tokio::test]
async fn a_slow_reader_makes_us_hold_one_write() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
        let bytes = pattern(64 << 20);
        let sent = stuff(&mut ours, &bytes).await;
        assert!(sent < bytes.len(), "the kernel took it all");
        let most = MAX_SEND_BYTES + 5 * 256;
        assert!((1..=most).contains(&tls(&ours).held_bytes()), "{}", tls(&ours).held_bytes());
        let mut received = vec![0; sent];
        let (flushed, read) = tokio::join!(ours.flush(), theirs.read_exact(&mut received));
        flushed.unwrap();
        read.unwrap();
        assert!(received == bytes[..sent]);
        assert_eq!(tls(&ours).held_bytes(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_waits_holds_nothing() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
        for _ in 0..3 {
            theirs.write_all(&pattern(20_000)).await.unwrap();
            ours.read_exact(&mut vec![0; 20_000]).await.unwrap();
            ours.write_all(&pattern(100_000)).await.unwrap();
            theirs.read_exact(&mut vec![0; 100_000]).await.unwrap();
            assert_eq!(tls(&ours).held_bytes(), 0);
        }
    }
}

#[tokio::test]
async fn a_small_room_makes_us_hold_one_record_opened() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
        let bytes = pattern(60_000);
        theirs.write_all(&bytes).await.unwrap();
        theirs.flush().await.unwrap();
        let mut received = Vec::new();
        let mut room = [0; 700];
        while received.len() < bytes.len() {
            let read = ours.read(&mut room).await.unwrap();
            received.extend_from_slice(&room[..read]);
            assert!(tls(&ours).held_bytes() <= 3 * (18 << 10), "{}", tls(&ours).held_bytes());
            assert_eq!(ours.has_unread(), received.len() < bytes.len());
        }
        assert!(received == bytes);
    }
}
