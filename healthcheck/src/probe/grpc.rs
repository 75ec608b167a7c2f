//! `grpc.health.v1.Health/Check` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, header};

use super::{Outcome, Pass, ProbeError, USER_AGENT, Way, http2};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// A flag and a length before each message.
const PREFIX_BYTES: usize = 5;
/// The answer is one number; what a later version of the protocol may add is not read.
const MAX_ANSWER_BYTES: usize = 4 << 10;
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
const OK: u32 = 0;
const NOT_FOUND: u32 = 5;
const UNIMPLEMENTED: u32 = 12;

/// One call on a connection of its own. `service` is empty for the server as a whole.
pub(crate) async fn probe(way: Way<'_>, service: &Arc<str>) -> Outcome {
    let scheme = if way.tls.is_some() { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{}{METHOD}", way.address))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(question(service)))
        .map_err(|_| ProbeError::BadPath(METHOD.to_owned()))?;
    http2::exchange(way, request, |response| judge(response, service)).await
}

/// A `HealthCheckRequest`: field 1 is the service's name.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

async fn judge(response: Response<Incoming>, service: &Arc<str>) -> Outcome {
    let status = response.status();
    if !status.is_success() {
        return Err(ProbeError::Status(status));
    }
    // Where there is no message the trailers stand in the head.
    if let Some(code) = grpc_status(response.headers()) {
        verdict(code, service)?;
    }
    let (mut body, mut answer, mut code) = (response.into_body(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ProbeError::from_exchange)?;
        if let Some(data) = frame.data_ref() {
            if answer.len() + data.len() > MAX_ANSWER_BYTES {
                return Err(ProbeError::BadAnswer("HealthCheckResponse of a sane size"));
            }
            answer.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            code = grpc_status(trailers);
        }
    }
    verdict(code.ok_or(ProbeError::BadAnswer("gRPC response: it has no grpc-status"))?, service)?;
    serving(&answer)
}

fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn verdict(code: u32, service: &Arc<str>) -> Result<(), ProbeError> {
    match code {
        OK => Ok(()),
        NOT_FOUND => Err(ProbeError::UnknownService(Arc::clone(service))),
        UNIMPLEMENTED => Err(ProbeError::Unimplemented),
        other => Err(ProbeError::GrpcStatus(other)),
    }
}

/// What a framed `HealthCheckResponse` says: field 1 is the status, 0 where it is absent.
fn serving(answer: &[u8]) -> Outcome {
    const BAD: ProbeError = ProbeError::BadAnswer("HealthCheckResponse");
    let (prefix, message) = answer.split_at_checked(PREFIX_BYTES).ok_or(BAD)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    // Compressed only where we had said that we read that.
    if prefix[0] != 0 || length as usize != message.len() {
        return Err(BAD);
    }
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let tag = varint(&mut rest).ok_or(BAD)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest).ok_or(BAD)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => skip(&mut rest, 8).ok_or(BAD)?,
            2 => {
                let length = varint(&mut rest).ok_or(BAD)?;
                skip(&mut rest, length).ok_or(BAD)?;
            }
            5 => skip(&mut rest, 4).ok_or(BAD)?,
            _ => return Err(BAD),
        }
    }
    match status {
        1 => Ok(Pass::Whole),
        2 => Err(ProbeError::NotServing("NOT_SERVING")),
        3 => Err(ProbeError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(ProbeError::NotServing("UNKNOWN")),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip(bytes: &mut &[u8], count: u64) -> Option<()> {
    *bytes = bytes.get(usize::try_from(count).ok()?..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ProbeResult;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = (message.len() as u32).to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    #[test]
    fn a_question_names_the_service() {
        assert_eq!(&*question(""), framed(b""));
        assert_eq!(&*question("test.Echo"), framed(b"\x0a\x09test.Echo"));
        let long = "x".repeat(200);
        assert_eq!(&*question(&long), framed(&[b"\x0a\xc8\x01", long.as_bytes()].concat()));
    }

    #[test]
    fn only_serving_passes() {
        for (message, wanted) in [
            (&b"\x08\x01"[..], "pass"),
            // A later version's fields are passed over.
            (b"\x12\x03abc\x08\x01\x1d1234\x2112345678", "pass"),
            (b"", "answered UNKNOWN"),
            (b"\x08\x00", "answered UNKNOWN"),
            (b"\x08\x02", "answered NOT_SERVING"),
            (b"\x08\x03", "answered SERVICE_UNKNOWN"),
            (b"\x08", "the answer is no HealthCheckResponse"),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", "the answer is no HealthCheckResponse"),
            (b"\x0b", "the answer is no HealthCheckResponse"),
        ] {
            let said =
                serving(&framed(message)).map_or_else(|error| error.to_string(), |_| "pass".to_owned());
            assert_eq!(said, wanted, "{message:?}");
        }
        for bad in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x02\x08\x01", b"\0\0\0\0\x03\x08\x01"] {
            assert_eq!(ProbeResult::of(&serving(bad)), ProbeResult::BadResponse, "{bad:?}");
        }
    }

    #[test]
    fn not_serving_not_there_and_not_known_are_told_apart() {
        let service: Arc<str> = "shop.v1.Cart".into();
        let result = |code| verdict(code, &service).map_err(|error| error.result());
        assert_eq!(result(OK), Ok(()));
        assert_eq!(result(UNIMPLEMENTED), Err(ProbeResult::Unimplemented));
        assert_eq!(result(NOT_FOUND), Err(ProbeResult::UnknownService));
        assert_eq!(result(14), Err(ProbeResult::Status));
        let text = verdict(NOT_FOUND, &service).unwrap_err().to_string();
        assert!(text.contains("shop.v1.Cart") && text.contains("health.service"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_within_its_bounds(answer in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = serving(&answer);
            let _ = serving(&framed(&answer));
        }
    }
}
