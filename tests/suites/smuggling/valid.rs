//! Requests that look odd and mean one thing only. Each asks for `/case`.

use crate::{Case, case};

const OK: &[u16] = &[200];

pub const CASES: &[Case] = &[
    case("empty line before the request", b"\r\nGET /case HTTP/1.1\r\nHost: a\r\n\r\n", OK),
    case("coding in capitals", b"POST /case HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n", OK),
    case("no space after a colon", b"POST /case HTTP/1.1\r\nHost:a\r\nContent-Length:3\r\n\r\nabc", OK),
    case("spaces and tabs around a length", b"POST /case HTTP/1.1\r\nHost: a\r\nContent-Length: \t 3 \t \r\n\r\nabc", OK),
    case("spaces and tabs around a coding", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\t chunked \t\r\n\r\n0\r\n\r\n", OK),
    case("length of zero", b"GET /case HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", OK),
    case("GET with a body", b"GET /case HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", OK),
    case("chunk extensions", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d e\";f\r\nabc\r\n0;g\r\n\r\n", OK),
    case("capital digits in a size", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", OK),
    case("leading zeros in a size", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n003\r\nabc\r\n000\r\n\r\n", OK),
    case("CRLF in chunk data", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", OK),
    case("trailers", b"POST /case HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-Other:\r\n\r\n", OK),
    case("empty value", b"GET /case HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", OK),
    case("obs-text in a value", b"GET /case HTTP/1.1\r\nHost: a\r\nX: \xfc\r\n\r\n", OK),
    case("tab in a value", b"GET /case HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", OK),
    case("every token character in a name", b"GET /case HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: y\r\n\r\n", OK),
    case("method of another protocol", b"M-SEARCH /case HTTP/1.1\r\nHost: a\r\n\r\n", OK),
    case("TRACE", b"TRACE /case HTTP/1.1\r\nHost: a\r\n\r\n", OK),
    case("Host with a port", b"GET /case HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", OK),
    case("Host with an empty port", b"GET /case HTTP/1.1\r\nHost: a.test:\r\n\r\n", OK),
    case("Host with a trailing dot", b"GET /case HTTP/1.1\r\nHost: a.test.\r\n\r\n", OK),
    case("Host in capitals", b"GET /case HTTP/1.1\r\nHOST: A.TEST\r\n\r\n", OK),
    case("Host of IPv6", b"GET /case HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", OK),
    case("absolute target and another Host", b"GET http://a.test/case HTTP/1.1\r\nHost: b.test\r\n\r\n", OK),
    case("scheme in capitals", b"GET HTTP://a.test/case HTTP/1.1\r\nHost: a.test\r\n\r\n", OK),
];
