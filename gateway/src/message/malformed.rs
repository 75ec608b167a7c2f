//! What can be wrong with received bytes.

/// A message that is refused. `Display` says which rule it breaks; it is written to the log and, for a
/// request, to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a line does not end in CR LF (RFC 9112 section 2.2)")]
    BareLineFeed,
    #[error("the start line or a field line breaks the grammar (RFC 9112 sections 3 to 5)")]
    Grammar,
    #[error("the head has too many fields")]
    TooManyFields,
    #[error("the head is too long")]
    HeadTooLong,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the request target has bytes that no URI has, or no known form (RFC 9112 section 3.2)")]
    Target,
    #[error("the path climbs above the root")]
    PathAboveRoot,
    #[error("the protocol version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    #[error("HTTP/1.1 needs exactly one Host field (RFC 9112 section 3.2)")]
    HostCount,
    #[error("the Host field or the target's authority is no host and port")]
    Host,
    #[error("the Host field names another host than :authority (RFC 9113 section 8.3.1)")]
    HostAndAuthority,
    #[error("a field that concerns one connection only has no place in HTTP/2 (RFC 9113 section 8.2.2)")]
    ConnectionField,
    #[error("Content-Length announces a body that does not come (RFC 9113 section 8.1.1)")]
    LengthWithoutBody,
    #[error("Content-Length is given more than once or is no number below 2^63 (RFC 9112 section 6.3)")]
    ContentLength,
    #[error("Content-Length and Transfer-Encoding are both given (RFC 9112 section 6.1)")]
    LengthAndCoding,
    #[error("Transfer-Encoding does not end in chunked, exactly once (RFC 9112 section 6.1)")]
    TransferEncoding,
    #[error("Transfer-Encoding names a coding other than chunked")]
    UnknownCoding,
    #[error("Transfer-Encoding is given in an HTTP/1.0 message (RFC 9112 section 6.1)")]
    CodingInHttp10,
    #[error("an expectation other than 100-continue (RFC 9110 section 10.1.1)")]
    Expectation,
    #[error("a chunk breaks the chunked coding (RFC 9112 section 7.1)")]
    Chunk,
    #[error("the trailer section is malformed or too long")]
    Trailer,
    #[error("the status code is out of range or not allowed here")]
    Status,
}
