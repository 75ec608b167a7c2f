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
