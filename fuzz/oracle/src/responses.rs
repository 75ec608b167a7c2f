//! Responses: ours, hyper's, and what we send downstream for them.

use gateway::message::Method;

use crate::ours::{BodyEnd, Response};
use crate::pieces::cut;
use crate::requests::{same_body, same_fields};
use crate::{ours, roundtrip, shown, theirs};

/// A response's end depends on whether HEAD was asked.
const METHODS: [Method; 2] = [Method::Get, Method::Head];

/// `input` is what an endpoint sends after one request, up to its close.
///
/// # Panics
/// When hyper refuses or frames differently what we accept, or when what we make of it for a client is
/// not the same response.
pub fn responses(input: &[u8]) {
    for method in METHODS {
        let (interims, last) = ours::response(input, method);
        for (head, parsed) in &interims {
            roundtrip::interim(parsed, head, method);
        }
        let Some(last) = last else { continue };
        agree(&last, method, input);
        if last.body.end == BodyEnd::Complete {
            roundtrip::response(&last, method);
        }
    }
}

/// hyper sees `accepted` in `bytes`.
pub fn agree(accepted: &Response, method: Method, bytes: &[u8]) {
    let asked = if method == Method::Head { hyper::Method::HEAD } else { hyper::Method::GET };
    let Some(theirs) = theirs::response(asked, &cut(bytes, 1)) else {
        panic!("hyper refuses the response: {}", shown(bytes));
    };
    assert_eq!(accepted.parsed.status, theirs.status.as_u16(), "{}", shown(bytes));
    same_fields(&accepted.parsed.fields, &accepted.head, &theirs.fields);
    same_body(&accepted.body, &theirs.body, bytes);
}
