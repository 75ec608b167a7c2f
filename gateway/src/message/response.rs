//! A response's head, as an endpoint sent it.

use std::mem::MaybeUninit;

use super::framing::{self, Coding};
use super::request::MAX_FIELDS;
use super::{FieldKind, Fields, Framing, Malformed, Method, Span, Version};

/// As for requests; an endpoint that sends more is broken, or somebody's open relay.
pub const MAX_HEAD_BYTES: usize = 32 << 10;

#[derive(Debug)]
pub struct ResponseHead {
    pub status: u16,
    /// As received, possibly empty.
    pub phrase: Span,
    pub fields: Fields,
    pub framing: Framing,
    /// Whether the endpoint keeps the connection open.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// `head` is complete, with its empty line; `method` is what was asked.
    ///
    /// # Errors
    /// The first rule of RFC 9112 that it breaks: the response cannot be forwarded.
    pub fn parse(head: &[u8], method: Method) -> Result<Self, Malformed> {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Malformed::Grammar),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
            Err(httparse::Error::Version) => return Err(Malformed::Version),
            Err(_) => return Err(Malformed::Grammar),
        }
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Malformed::Grammar);
        };
        // RFC 9110 section 15: codes outside 100 to 599 are invalid.
        if !(100..600).contains(&status) {
            return Err(Malformed::Status);
        }
        let version = Version::from_minor(minor);
        let fields = Fields::of(parsed.headers, head);
        Ok(Self {
            status,
            phrase: phrase_span(head),
            framing: framing(&fields, head, version, status, method)?,
            keep_alive: framing::keeps_alive(&fields, head, version),
            fields,
        })
    }

    /// 1xx: the final response is still to come.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    pub fn connection_names(&self, head: &[u8], name: &[u8]) -> bool {
        framing::has_connection_option(&self.fields, head, name)
    }
}

/// Whether a response to `method` with `status` has no body, whatever its fields say (RFC 9112 section 6.3).
pub fn is_bodiless(status: u16, method: Method) -> bool {
    method == Method::Head || status < 200 || status == 204 || status == 304
}

/// After `HTTP/1.x NNN `. `httparse` has the phrase only if it is ASCII.
fn phrase_span(head: &[u8]) -> Span {
    const STATUS_END: usize = "HTTP/1.1 200".len();
    let line_end = memchr::memchr(b'\r', head).unwrap_or(STATUS_END);
    Span::new((STATUS_END + 1).min(line_end), line_end)
}

/// RFC 9112 section 6.3. Equal repetitions of Content-Length become one (RFC 9110 section 8.6), which
/// old application servers need; anything ambiguous is refused.
fn framing(
    fields: &Fields,
    head: &[u8],
    version: Version,
    status: u16,
    method: Method,
) -> Result<Framing, Malformed> {
    let mut length = None;
    for field in fields.all(FieldKind::ContentLength) {
        for item in field.value.within(head).split(|byte| *byte == b',') {
            let given = framing::content_length(item.trim_ascii())?;
            if length.is_some_and(|former| former != given) {
                return Err(Malformed::ContentLength);
            }
            length = Some(given);
        }
    }
    let coding = framing::coding(fields, head, version)?;
    if is_bodiless(status, method) {
        return Ok(Framing::None);
    }
    match (coding, length) {
        (Coding::Chunked, Some(_)) => Err(Malformed::LengthAndCoding),
        (Coding::Chunked, None) => Ok(Framing::Chunked),
        (Coding::Absent, Some(length)) => Ok(Framing::Length(length)),
        (Coding::Absent, None) => Ok(Framing::UntilClose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(status: &str, fields: &str, method: Method) -> Result<Framing, Malformed> {
        let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
        ResponseHead::parse(head.as_bytes(), method).map(|response| response.framing)
    }

    #[test]
    fn the_body_ends_where_section_6_3_says() {
        let get = Method::Get;
        assert_eq!(framing_of("200 OK", "Content-Length: 5\r\n", get), Ok(Framing::Length(5)));
        assert_eq!(
            framing_of("200 OK", "Content-Length: 5\r\nContent-Length: 5, 5\r\n", get),
            Ok(Framing::Length(5))
        );
        assert_eq!(framing_of("200 OK", "Transfer-Encoding: Chunked\r\n", get), Ok(Framing::Chunked));
        assert_eq!(framing_of("200 OK", "", get), Ok(Framing::UntilClose));
        assert_eq!(framing_of("204 No Content", "", get), Ok(Framing::None));
        assert_eq!(framing_of("304 Not Modified", "Content-Length: 9\r\n", get), Ok(Framing::None));
        assert_eq!(framing_of("200 OK", "Content-Length: 9\r\n", Method::Head), Ok(Framing::None));
    }

    #[test]
    fn an_ambiguous_response_is_refused() {
        let get = Method::Get;
        assert_eq!(
            framing_of("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", get),
            Err(Malformed::ContentLength)
        );
        assert_eq!(framing_of("200 OK", "Content-Length: 5,\r\n", get), Err(Malformed::ContentLength));
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(framing_of("200 OK", both, get), Err(Malformed::LengthAndCoding));
        assert_eq!(
            framing_of("200 OK", "Transfer-Encoding: gzip\r\n", get),
            Err(Malformed::TransferEncoding)
        );
        assert_eq!(framing_of("099 X", "", get), Err(Malformed::Status));
        assert_eq!(framing_of("600 X", "", get), Err(Malformed::Status));
    }

    #[test]
    fn a_phrase_may_be_empty_or_missing() {
        for (line, wanted) in [("200 OK then", "OK then"), ("200 ", ""), ("200", "")] {
            let head = format!("HTTP/1.1 {line}\r\n\r\n");
            let response = ResponseHead::parse(head.as_bytes(), Method::Get).unwrap();
            assert_eq!(response.phrase.within(head.as_bytes()), wanted.as_bytes());
        }
    }
}
