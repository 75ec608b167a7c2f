//! Requests, as hyper's server reads them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Response, Uri, Version};

use super::wire::{Wire, drive};
use super::{Body, MAX_FIELDS, read};

#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub fields: HeaderMap,
    pub body: Body,
}

/// Every request whose head hyper accepts.
pub fn requests(pieces: &[&[u8]]) -> Vec<Request> {
    let seen: Rc<RefCell<Vec<Request>>> = Rc::default();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, incoming) = request.into_parts();
            let index = seen.borrow().len();
            seen.borrow_mut().push(Request {
                method: head.method,
                uri: head.uri,
                version: head.version,
                fields: head.headers,
                body: Body::default(),
            });
            read(incoming, |change| change(&mut seen.borrow_mut()[index].body)).await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    // Without it the end of the input would cancel the request that it completes.
    let mut builder = http1::Builder::new();
    builder.half_close(true).max_headers(MAX_FIELDS).auto_date_header(false);
    // An error is hyper's refusal, which shows in what it has seen.
    let _ = drive(builder.serve_connection(Wire::speaking(pieces), service));
    seen.take()
}
