//! A second endpoint for requests whose first one is slow, over streams.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use tests::{App, Config, Gateway};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::run;

#[test]
fn the_stream_that_loses_is_reset_and_its_connection_stays() {
    run(async {
        let turn = Arc::new(AtomicUsize::new(0));
        let (resets, mut reset) = mpsc::unbounded_channel();
        let serve = move |mut exchange: crate::endpoint::Exchange| {
            let (turn, resets) = (Arc::clone(&turn), resets.clone());
            async move {
                if turn.fetch_add(1, Ordering::AcqRel) % 2 == 1 {
                    return exchange.answer(200, &[], b"second");
                }
                let reason = poll_fn(|context| exchange.respond.poll_reset(context)).await;
                resets.send(reason.expect("the stream ends before its connection")).ok();
            }
        };
        let (first, second) = (Endpoint::start(serve.clone()).await, Endpoint::start(serve).await);
        let app = App::new("all").host("*").line(r#"hedge = { after = "50ms" }"#);
        let app = app.http2_endpoint("v1", "c1", first.address());
        let app = app.http2_endpoint("v1", "c2", second.address());
        let gateway = Gateway::start(&Config::with_workers(1).app(&app));
        let client = Client::connect(gateway.web()).await;
        for count in 1..=4 {
            assert_eq!(client.get("a.test", "/").await.text(), "second");
            assert_eq!(reset.recv().await, Some(Reason::CANCEL));
            assert_eq!(gateway.metrics().count("sluice_hedges_total", &[("result", "won")]), count);
        }
        assert_eq!((first.accepted(), second.accepted()), (1, 1));
    });
}
