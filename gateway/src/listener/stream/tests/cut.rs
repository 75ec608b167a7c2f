//! TCP may cut a stream of records anywhere, and join them.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::both_roles::{exchange, pattern};
use super::peers::{VERSIONS, client_config, server_config, sockets, we_ask, we_serve};

/// Carries bytes in pieces of the given sizes, again and again.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    sizes: Vec<usize>,
) {
    let mut sizes = sizes.into_iter().cycle();
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let mut left = &bytes[..read];
        while !left.is_empty() {
            let (piece, rest) = left.split_at(sizes.next().unwrap().min(left.len()));
            if to.write_all(piece).await.is_err() {
                return;
            }
            left = rest;
            // The other tasks of this thread, and the news of this piece, come first.
            tokio::task::yield_now().await;
        }
    }
    let _ = to.shutdown().await;
}

/// As [`sockets`], with somebody between them who cuts what he carries.
async fn cutting(sizes: &[usize]) -> (TcpStream, TcpStream) {
    let (client, near) = sockets().await;
    let (far, server) = sockets().await;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::spawn(carry(near_in, far_out, sizes.to_vec()));
    tokio::spawn(carry(far_in, near_out, sizes.to_vec()));
    (client, server)
}

async fn talk(sizes: &[usize], bytes: usize) {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (theirs, ours) = we_serve(cutting(sizes).await, client.clone(), server.clone()).await;
        exchange(theirs, ours, &pattern(bytes)).await;
        let (ours, theirs) = we_ask(cutting(sizes).await, client, server).await;
        exchange(ours, theirs, &pattern(bytes)).await;
    }
}

#[tokio::test]
async fn every_byte_may_come_alone() {
    talk(&[1], 1000).await;
}

#[tokio::test]
async fn a_header_may_be_cut() {
    talk(&[4, 1, 2, 3], 20_000).await;
}

#[tokio::test]
async fn messages_may_be_cut_into_records_and_those_anywhere() {
    for version in VERSIONS {
        let (mut client, mut server) = (client_config(version), server_config(version));
        std::sync::Arc::make_mut(&mut client).max_fragment_size = Some(64);
        let (theirs, ours) = we_serve(cutting(&[3, 100, 7]).await, client.clone(), server.clone()).await;
        assert!(ours.peer_certificates().is_some());
        exchange(theirs, ours, &pattern(5000)).await;
        let client = client_config(version);
        std::sync::Arc::make_mut(&mut server).max_fragment_size = Some(64);
        let (ours, theirs) = we_ask(cutting(&[3, 100, 7]).await, client, server).await;
        exchange(ours, theirs, &pattern(5000)).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_same_bytes(
        sizes in prop::collection::vec(prop_oneof![1..40_usize, 1..20_000_usize], 1..12),
        bytes in 0..200_000_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sizes = if sizes.iter().sum::<usize>() < 200 { [sizes, vec![3000]].concat() } else { sizes };
        runtime.block_on(talk(&sizes, bytes));
    }
}
