//! How a connection ends: in agreement, half, cut, refused.

use std::io::ErrorKind;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::super::Stream;
use super::peers::{
    VERSIONS, client_config, distrustful_client, host, server_config, sockets, we_ask, we_serve,
};

fn reason(error: &std::io::Error) -> &rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
        theirs.write_all(b"last words").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut heard = Vec::new();
        ours.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
        ours.write_all(b"answer").await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(ours.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        heard.clear();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"answer");
    }
}

#[tokio::test]
async fn a_cut_is_not_an_end() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (mut theirs, mut ours) = we_serve(sockets().await, client.clone(), server.clone()).await;
        theirs.write_all(b"beginning").await.unwrap();
        drop(theirs.into_inner().0);
        let mut heard = Vec::new();
        assert_eq!(ours.read_to_end(&mut heard).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(heard, b"beginning");
        let (mut ours, theirs) = we_ask(sockets().await, client, server).await;
        drop(theirs.into_inner().0);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn what_is_no_tls_is_answered_with_an_alert() {
    let (mut plain, accepted) = sockets().await;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = Stream::accept(accepted, server_config(VERSIONS[1])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    assert!(matches!(reason(&refused), rustls::Error::InvalidMessage(_)), "{refused:?}");
    let mut answer = [0; 7];
    plain.read_exact(&mut answer).await.unwrap();
    assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert");
}

#[tokio::test]
async fn both_sides_learn_why_a_handshake_failed() {
    let (connected, accepted) = sockets().await;
    let connecting = TlsConnector::from(distrustful_client()).connect(host(), connected);
    let (_, refused) = tokio::join!(connecting, Stream::accept(accepted, server_config(VERSIONS[1])));
    let refused = refused.unwrap_err();
    assert_eq!(*reason(&refused), rustls::Error::AlertReceived(AlertDescription::UnknownCA));

    let (connected, accepted) = sockets().await;
    let accepting = tokio_rustls::TlsAcceptor::from(server_config(VERSIONS[1])).accept(accepted);
    let (refused, theirs) = tokio::join!(Stream::connect(connected, distrustful_client(), host()), accepting);
    assert!(matches!(reason(&refused.unwrap_err()), rustls::Error::InvalidCertificate(_)));
    assert_eq!(
        *reason(&theirs.unwrap_err()),
        rustls::Error::AlertReceived(AlertDescription::UnknownCA),
        "our alert arrives",
    );
}

#[tokio::test]
async fn a_client_that_leaves_the_handshake_is_no_success() {
    let (connected, accepted) = sockets().await;
    drop(connected);
    let left = Stream::accept(accepted, server_config(VERSIONS[0])).await.unwrap_err();
    assert_eq!(left.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_record_that_was_changed_ends_the_connection_with_an_alert() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (theirs, mut ours) = we_serve(sockets().await, client, server).await;
        let (mut socket, mut session) = theirs.into_inner();
        socket.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
        socket.write_all(&[7; 32]).await.unwrap();
        let refused = ours.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(*reason(&refused), rustls::Error::DecryptError);
        assert_eq!(*reason(&ours.read(&mut [0; 8]).await.unwrap_err()), rustls::Error::DecryptError);
        assert_eq!(*reason(&ours.write(b"x").await.unwrap_err()), rustls::Error::DecryptError);
        ours.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        session.read_tls(&mut &answer[..]).unwrap();
        assert_eq!(
            session.process_new_packets().unwrap_err(),
            rustls::Error::AlertReceived(AlertDescription::BadRecordMac),
        );
    }
}

#[tokio::test]
async fn key_updates_without_end_are_refused() {
    let (client, server) = (client_config(VERSIONS[1]), server_config(VERSIONS[1]));
    let (mut theirs, mut ours) = we_serve(sockets().await, client, server).await;
    for _ in 0..64 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
    }
    theirs.flush().await.unwrap();
    let refused = ours.read(&mut [0; 8]).await.unwrap_err();
    assert!(matches!(reason(&refused), rustls::Error::PeerMisbehaved(_)), "{refused:?}");
}

#[tokio::test]
async fn a_record_that_was_cut_is_no_end() {
    let (client, server) = (client_config(VERSIONS[1]), server_config(VERSIONS[1]));
    let (theirs, mut ours) = we_serve(sockets().await, client, server).await;
    let (mut socket, _session) = theirs.into_inner();
    socket.write_all(&[23, 3, 3, 64, 0, 1, 2, 3]).await.unwrap();
    socket.shutdown().await.unwrap();
    let cut = ours.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_record_larger_than_any_is_refused_by_its_header() {
    for version in VERSIONS {
        let (client, server) = (client_config(version), server_config(version));
        let (theirs, mut ours) = we_serve(sockets().await, client, server).await;
        let (mut socket, _session) = theirs.into_inner();
        socket.write_all(&[23, 3, 3, 0xff, 0xff]).await.unwrap();
        let refused = ours.read(&mut [0; 8]).await.unwrap_err();
        assert!(matches!(reason(&refused), rustls::Error::InvalidMessage(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_handshake_message_without_end_is_refused() {
    let (mut plain, accepted) = sockets().await;
    // A ClientHello of 16 MiB, in whole records.
    let record = |first: &[u8]| {
        let mut record = vec![22, 3, 1, 64, 0];
        record.extend_from_slice(first);
        record.resize(5 + (16 << 10), 0);
        record
    };
    let feeding = async {
        let mut sent = plain.write_all(&record(&[1, 0xff, 0xff, 0xff])).await;
        for _ in 0..64 {
            sent = sent.and(plain.write_all(&record(&[])).await);
        }
        let mut answer = Vec::new();
        // A reset after the refusal is as good.
        let _ = plain.read_to_end(&mut answer).await;
    };
    let accepting = async { Stream::accept(accepted, server_config(VERSIONS[1])).await.unwrap_err() };
    let (refused, ()) = tokio::join!(accepting, feeding);
    assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused:?}");
}
