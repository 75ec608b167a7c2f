//! OCSP responses to staple: `x.ocsp` beside `x.pem` (RFC 6960).
//!
//! The signature is the client's to verify. What we check keeps us from sending what harms: a response
//! that is none, is about another certificate, says anything but "good", or is out of date.

use std::path::{Path, PathBuf};

use x509_parser::asn1_rs::{Any, Class, FromDer, GeneralizedTime, Tag};

use super::{files, show_time};

#[derive(Debug)]
pub(super) struct Staple {
    pub(super) der: Vec<u8>,
    this_update: i64,
    /// RFC 6960 section 4.2.2.1: without it newer information is available all the time.
    next_update: Option<i64>,
}

impl Staple {
    pub(super) fn is_fresh(&self, now: i64) -> bool {
        self.complaint(now).is_none()
    }

    pub(super) fn complaint(&self, now: i64) -> Option<String> {
        match self.next_update {
            _ if now < self.this_update => {
                Some(format!("is not valid before {}; is the clock right?", show_time(self.this_update)))
            }
            Some(next) if now > next => Some(format!("is out of date since {}", show_time(next))),
            _ => None,
        }
    }
}

pub(super) fn path_beside(pem: &Path) -> PathBuf {
    pem.with_extension("ocsp")
}

/// # Errors
/// In words: why the file's response is not to be stapled to the certificate with that serial number.
pub(super) fn read(path: &Path, serial: &[u8], now: i64) -> Result<Staple, String> {
    let staple = parse(files::read(path)?, serial)?;
    match staple.complaint(now) {
        Some(why) => Err(why),
        None => Ok(staple),
    }
}

pub(super) fn parse(der: Vec<u8>, serial: &[u8]) -> Result<Staple, String> {
    let (this_update, next_update) = {
        let basic = basic_response(&der)?;
        single_response(basic, serial)?
    };
    Ok(Staple { der, this_update, next_update })
}

const NO_RESPONSE: &str = "is no OCSP response in DER";

/// Takes one element of the wanted kind off `input`; returns what it holds.
fn take<'a>(input: &mut &'a [u8], class: Class, tag: u32) -> Option<&'a [u8]> {
    let (rest, any) = Any::from_der(input).ok()?;
    if any.class() != class || any.tag() != Tag(tag) {
        return None;
    }
    *input = rest;
    Some(any.data)
}

fn take_universal<'a>(input: &mut &'a [u8], tag: Tag) -> Option<&'a [u8]> {
    take(input, Class::Universal, tag.0)
}

fn take_time(input: &mut &[u8]) -> Option<i64> {
    let data = take_universal(input, Tag::GeneralizedTime)?;
    Some(GeneralizedTime::from_bytes(data).ok()?.utc_datetime().ok()?.unix_timestamp())
}

/// The contents of BasicOCSPResponse, of a response whose status is successful.
fn basic_response(der: &[u8]) -> Result<&[u8], String> {
    let mut input = der;
    let mut response = take_universal(&mut input, Tag::Sequence).ok_or(NO_RESPONSE)?;
    let status = take_universal(&mut response, Tag::Enumerated).ok_or(NO_RESPONSE)?;
    if !input.is_empty() {
        return Err(NO_RESPONSE.to_owned());
    }
    if status != [0] {
        return Err(format!("the responder did not answer: its status is {status:?}"));
    }
    response_bytes(response).ok_or_else(|| NO_RESPONSE.to_owned())
}

/// RFC 6960 section 4.2.1: whatever its type says, a basic response is the only one in use.
fn response_bytes(mut response: &[u8]) -> Option<&[u8]> {
    let mut tagged = take(&mut response, Class::ContextSpecific, 0)?;
    let mut bytes = take_universal(&mut tagged, Tag::Sequence)?;
    take_universal(&mut bytes, Tag::Oid)?;
    let mut basic = take_universal(&mut bytes, Tag::OctetString)?;
    take_universal(&mut basic, Tag::Sequence)
}

/// thisUpdate and nextUpdate of what is said about the certificate.
fn single_response(mut basic: &[u8], serial: &[u8]) -> Result<(i64, Option<i64>), String> {
    let mut data = take_universal(&mut basic, Tag::Sequence).ok_or(NO_RESPONSE)?;
    let _version = take(&mut data, Class::ContextSpecific, 0);
    let by_name = take(&mut data, Class::ContextSpecific, 1);
    by_name.or_else(|| take(&mut data, Class::ContextSpecific, 2)).ok_or(NO_RESPONSE)?;
    take_time(&mut data).ok_or(NO_RESPONSE)?;
    let mut responses = take_universal(&mut data, Tag::Sequence).ok_or(NO_RESPONSE)?;
    while !responses.is_empty() {
        let mut single = take_universal(&mut responses, Tag::Sequence).ok_or(NO_RESPONSE)?;
        if serial_of(&mut single).ok_or(NO_RESPONSE)? == serial {
            return verdict(single);
        }
    }
    Err("is about another certificate; fetch it anew".to_owned())
}

fn serial_of<'a>(single: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut id = take_universal(single, Tag::Sequence)?;
    take_universal(&mut id, Tag::Sequence)?;
    take_universal(&mut id, Tag::OctetString)?;
    take_universal(&mut id, Tag::OctetString)?;
    take_universal(&mut id, Tag::Integer)
}

fn verdict(mut single: &[u8]) -> Result<(i64, Option<i64>), String> {
    if take(&mut single, Class::ContextSpecific, 0).is_none() {
        return Err("does not say that the certificate is good; replace the certificate".to_owned());
    }
    let this_update = take_time(&mut single).ok_or(NO_RESPONSE)?;
    let next_update = match take(&mut single, Class::ContextSpecific, 0) {
        Some(mut next) => Some(take_time(&mut next).ok_or(NO_RESPONSE)?),
        None => None,
    };
    Ok((this_update, next_update))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &[u8] = &[0x12, 0x34];

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            ..0x80 => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        element(0x30, &parts.concat())
    }

    fn time(text: &str) -> Vec<u8> {
        element(0x18, text.as_bytes())
    }

    /// As RFC 6960 section 4.2.1 has it.
    fn response(status: u8, serial: &[u8], certificate_status: u8, next: Option<&str>) -> Vec<u8> {
        let id = sequence(&[&sequence(&[]), &element(4, b"name"), &element(4, b"key"), &element(2, serial)]);
        let next = next.map(|next| element(0xa0, &time(next))).unwrap_or_default();
        let verdict = element(certificate_status, &[]);
        let single = sequence(&[&id, &verdict, &time("20260101000000Z"), &next]);
        let responder = element(0xa2, &element(4, b"hash"));
        let data = sequence(&[&responder, &time("20260101000000Z"), &sequence(&[&single])]);
        let basic = sequence(&[&data, &sequence(&[]), &element(3, b"\0signature")]);
        let bytes = sequence(&[&element(6, &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]), &element(4, &basic)]);
        sequence(&[&element(10, &[status]), &element(0xa0, &bytes)])
    }

    /// 2026-01-01.
    const THEN: i64 = 1_767_225_600;
    const GOOD: u8 = 0x80;

    #[test]
    fn a_response_holds_from_one_update_to_the_next() {
        let staple = parse(response(0, SERIAL, GOOD, Some("20260108000000Z")), SERIAL).unwrap();
        let week = 7 * 86_400;
        for (now, wanted) in [(THEN - 1, false), (THEN, true), (THEN + week, true), (THEN + week + 1, false)]
        {
            assert_eq!(staple.is_fresh(now), wanted, "{now}");
        }
        let staple = parse(response(0, SERIAL, GOOD, None), SERIAL).unwrap();
        assert!(staple.is_fresh(THEN + 100 * week));
    }

    #[test]
    fn whatever_says_nothing_good_of_the_certificate_is_refused() {
        for (der, words) in [
            (response(6, SERIAL, GOOD, None), "did not answer"),
            (response(0, b"other", GOOD, None), "about another certificate"),
            (response(0, SERIAL, 0xa1, None), "does not say that the certificate is good"),
            (response(0, SERIAL, 0x82, None), "does not say that the certificate is good"),
            (response(0, SERIAL, GOOD, Some("tomorrow")), "no OCSP response"),
            (b"-----BEGIN".to_vec(), "no OCSP response"),
            (Vec::new(), "no OCSP response"),
        ] {
            let error = parse(der, SERIAL).unwrap_err();
            assert!(error.contains(words), "{words:?} in {error:?}");
        }
    }

    #[test]
    fn no_cut_or_changed_response_panics_and_none_that_is_cut_passes() {
        let good = response(0, SERIAL, GOOD, Some("20260108000000Z"));
        for end in 0..good.len() {
            assert!(parse(good[..end].to_vec(), SERIAL).is_err(), "{end}");
        }
        for at in 0..good.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = good.clone();
                changed[at] = byte;
                let _ = parse(changed, SERIAL);
            }
        }
        assert!(parse([&good[..], b"x"].concat(), SERIAL).is_err());
    }
}
