//! What differential fuzzing against hyper found (docs/fuzzing.md).

use super::{Malformed, Method, RequestHead, ResponseHead};

fn request(field: &str) -> Option<Malformed> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    RequestHead::parse(head.as_bytes()).err()
}

fn response(field: &str) -> Option<Malformed> {
    let head = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n");
    ResponseHead::parse(head.as_bytes(), Method::Get).err()
}

#[test]
fn a_length_that_signed_numbers_cannot_hold_is_refused() {
    for length in ["9223372036854775808", "18446744073709551614", "18446744073709551615"] {
        let field = format!("Content-Length: {length}");
        assert_eq!(request(&field), Some(Malformed::ContentLength), "{length}");
        assert_eq!(response(&field), Some(Malformed::ContentLength), "{length}");
    }
    assert_eq!(request("Content-Length: 9223372036854775807"), None);
}

#[test]
fn an_empty_item_among_the_transfer_codings_is_refused() {
    for value in ["chunked,", ",chunked", "chunked, ,", ","] {
        let field = format!("Transfer-Encoding: {value}");
        assert_eq!(request(&field), Some(Malformed::TransferEncoding), "{value}");
        assert_eq!(response(&field), Some(Malformed::TransferEncoding), "{value}");
    }
}
