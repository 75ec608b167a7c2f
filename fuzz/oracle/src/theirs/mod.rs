//! hyper's reading of the same bytes, without a socket, a thread or a clock.

mod client;
mod server;
mod wire;

pub use client::response;
pub use server::{Request, requests};

use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};

/// More than ours: a bound of hyper's own must not look like a disagreement.
const MAX_FIELDS: usize = 512;

#[derive(Debug, Default)]
pub struct Body {
    pub payload: Vec<u8>,
    pub trailers: HeaderMap,
    pub is_complete: bool,
}

/// Reads `incoming`, telling `body` of every frame, so that a broken body's start is known as well.
async fn read(mut incoming: Incoming, mut body: impl FnMut(&mut dyn FnMut(&mut Body))) {
    loop {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut incoming).poll_frame(context));
        let Some(frame) = frame.await else {
            return body(&mut |body| body.is_complete = true);
        };
        let Ok(frame) = frame else { return };
        body(&mut |body| {
            if let Some(data) = frame.data_ref() {
                body.payload.extend_from_slice(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                body.trailers = trailers.clone();
            }
        });
    }
}
