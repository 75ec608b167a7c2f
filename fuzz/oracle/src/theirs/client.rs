//! A response, as hyper's client reads it.

use std::cell::RefCell;

use bytes::Bytes;
use futures::future::join;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, StatusCode};

use super::wire::{Wire, drive};
use super::{Body, MAX_FIELDS, read};

#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Body,
}

/// The final response to a request of `method`; `None` when hyper refuses it or something before it.
pub fn response(method: Method, pieces: &[&[u8]]) -> Option<Response> {
    drive(async {
        let mut builder = http1::Builder::new();
        let wire = Wire::answering(pieces);
        let (sender, connection) =
            builder.max_headers(MAX_FIELDS).handshake(wire).await.expect("nothing was read or written yet");
        let (response, _) = join(exchange(sender, method), connection).await;
        response
    })
}

async fn exchange(mut sender: http1::SendRequest<Empty<Bytes>>, method: Method) -> Option<Response> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    let (head, incoming) = sender.send_request(request).await.ok()?.into_parts();
    let body = RefCell::new(Body::default());
    read(incoming, |change| change(&mut body.borrow_mut())).await;
    Some(Response { status: head.status, fields: head.headers, body: body.into_inner() })
}
