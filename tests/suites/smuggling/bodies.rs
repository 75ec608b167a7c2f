//! Chunked bodies with more than one reading: RFC 9112 section 7.1.

use crate::{Case, case};

const BAD: &[u16] = &[400];

macro_rules! chunked {
    ($name:literal, $body:literal) => {
        case(
            $name,
            // `concat!` makes no byte strings, so every body is text; bytes above ASCII are left to heads.
            concat!("POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes(),
            BAD,
        )
    };
}

pub const CASES: &[Case] = &[
    chunked!("negative size", "-3\r\nabc\r\n0\r\n\r\n"),
    chunked!("size with a plus", "+3\r\nabc\r\n0\r\n\r\n"),
    chunked!("size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    chunked!("size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
    chunked!("no digit", "g\r\nabc\r\n0\r\n\r\n"),
    chunked!("empty size", "\r\nabc\r\n0\r\n\r\n"),
    chunked!("extension without a size", ";a=b\r\nabc\r\n0\r\n\r\n"),
    chunked!("space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
    chunked!("space after the size", "3 \r\nabc\r\n0\r\n\r\n"),
    chunked!("tab after the size", "3\t\r\nabc\r\n0\r\n\r\n"),
    chunked!("space within the size", "0 3\r\nabc\r\n0\r\n\r\n"),
    chunked!("size in full-width digits", "\u{ff13}\r\nabc\r\n0\r\n\r\n"),
    chunked!("size of 2^64 + 3", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    chunked!("size of 2^68 - 1", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    chunked!("size of forty digits", "0000000000000000000000000000000000000003\r\nabc\r\n0\r\n\r\n"),
    chunked!("bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
    chunked!("bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
    chunked!("two CR after the size", "3\r\r\nabc\r\n0\r\n\r\n"),
    chunked!("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
    chunked!("bare CR after the data", "3\r\nabc\r0\r\n\r\n"),
    chunked!("nothing after the data", "3\r\nabc0\r\n\r\n"),
    chunked!("more data than said", "3\r\nabcd\r\n0\r\n\r\n"),
    chunked!("two other bytes after the data", "3\r\nabcxx0\r\n\r\n"),
    chunked!("bare LF after the last size", "3\r\nabc\r\n0\n\r\n"),
    chunked!("bare LF as the end", "3\r\nabc\r\n0\r\n\n"),
    chunked!("bare LFs from the last size on", "3\r\nabc\r\n0\n\n"),
    chunked!("bare LF ends an extension", "3;a\nabc\r\n0\r\n\r\n"),
    chunked!("bare LF within an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    chunked!("bare CR within an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    chunked!("NUL within an extension", "3;a\0b\r\nabc\r\n0\r\n\r\n"),
    chunked!("bare LF in an extension of the last chunk", "0;a\n\r\n"),
    chunked!("space before a trailer's colon", "0\r\nX : y\r\n\r\n"),
    chunked!("trailer without a colon", "0\r\nnothing\r\n\r\n"),
    chunked!("trailer without a name", "0\r\n: y\r\n\r\n"),
    chunked!("folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
    chunked!("bare LF after a trailer", "0\r\nX: y\n\r\n"),
    chunked!("bare LF as the trailers' end", "0\r\nX: y\r\n\n"),
    chunked!("bare CR in a trailer", "0\r\nX: y\rz\r\n\r\n"),
    chunked!("NUL in a trailer", "0\r\nX: y\0z\r\n\r\n"),
];
