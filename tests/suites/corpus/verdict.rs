//! Whether what happened is what a case promises.

use crate::client::{End, Transcript};
use crate::endpoint::Stream;
use crate::format::{Answer, Case, Fate, Upstream, show};
use crate::reference::{self, Message, Reading};

/// What the endpoint sees of the request that follows a case.
const NEXT_UPSTREAM: &[u8] = b"GET /next HTTP/1.1\r\nHost: next.test\r\n\r\n";

/// `Sun, 06 Nov 1994 08:49:37 GMT`: RFC 9110 section 5.6.7.
const DATE_BYTES: usize = 29;

/// # Errors
/// How the client was answered otherwise.
pub fn of_client(case: &Case, transcript: &Transcript) -> Result<(), String> {
    let (answers, is_whole) = answers(case, transcript)?;
    let fate = match (transcript.end, is_whole) {
        (End::Answered, true) => Fate::Open,
        (End::Closed, true) => Fate::Closed,
        (End::Closed | End::Reset, false) => Fate::Cut,
        // Before its first byte.
        (End::Reset, true) if answers.is_empty() => Fate::Cut,
        (end, _) => return Err(format!("the conversation ended as {end:?} after {answers:?}")),
    };
    if fate != case.fate {
        return Err(format!("{fate:?} instead of {:?} after {answers:?}", case.fate));
    }
    let is_expected = |(given, expected): (&Answer, &Answer)| {
        (given.status, &given.reason) == (expected.status, &expected.reason)
            && (expected.content.is_none() || given.content == expected.content)
    };
    if answers.len() != case.answers.len() || !answers.iter().zip(&case.answers).all(is_expected) {
        return Err(format!("answered {answers:?}\n    instead of {:?}", case.answers));
    }
    match &case.exact {
        Some(exact) if *exact != without_dates(&transcript.bytes) => {
            Err(format!("instead of\n      {}", show(exact)))
        }
        _ => Ok(()),
    }
}

/// Without the lines in which the gateway says when a response came, which no case can foresee.
fn without_dates(bytes: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\r\nDate: ";
    let (mut kept, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(at) = rest.windows(NAME.len()).position(|window| window == NAME) {
        kept.extend_from_slice(&rest[..at]);
        rest = rest.get(at + NAME.len() + DATE_BYTES..).unwrap_or_default();
    }
    kept.extend_from_slice(rest);
    kept
}

/// The whole responses, and whether nothing follows them.
fn answers(case: &Case, transcript: &Transcript) -> Result<(Vec<Answer>, bool), String> {
    let mut rest = &transcript.bytes[..];
    let mut answers = Vec::new();
    let has_ended = transcript.end == End::Closed;
    while !rest.is_empty() {
        match reference::response(rest, case.asks_for_heads(), has_ended)? {
            Reading::Partial => return Ok((answers, false)),
            Reading::Whole { message: (status, message), length } => {
                let reason = message.field("x-sluice-reason").map(str::to_owned);
                let date = message.field("date").unwrap_or_default();
                if reason.is_some() && !(date.len() == DATE_BYTES && date.ends_with(" GMT")) {
                    return Err(format!("an answer of the gateway's own has the date {date:?}"));
                }
                // RFC 9110 section 6.6.1: what comes without one gains one.
                if status >= 200 && date.is_empty() {
                    return Err("a response without a date".to_owned());
                }
                answers.push(Answer { status, reason, content: Some(message.content) });
                rest = &rest[length..];
            }
        }
    }
    Ok((answers, true))
}

/// `fresh` is what each connection brought during the case.
///
/// # Errors
/// What the endpoint got otherwise.
pub fn of_upstream(case: &Case, fresh: &[Stream]) -> Result<(), String> {
    let mut given = Vec::new();
    for stream in fresh {
        given.extend(messages(stream)?);
    }
    let mut expected = match &case.upstream {
        Upstream::Nothing
            if fresh.iter().any(|stream| !stream.bytes.is_empty()) && case.fate != Fate::Open =>
        {
            return Err("it got something".to_owned());
        }
        Upstream::Nothing | Upstream::Incomplete => Vec::new(),
        Upstream::Messages(messages) => messages.clone(),
    };
    if case.fate == Fate::Open && case.is_followed() {
        expected.push(NEXT_UPSTREAM.to_vec());
    }
    let count = given.len();
    if count != expected.len() {
        return Err(format!("it got {count} messages instead of {}", expected.len()));
    }
    given.iter().zip(&expected).try_for_each(|(given, expected)| compare(given, expected))
}

/// All whole messages of a stream.
///
/// # Errors
/// For one with two meanings, and for a beginning whose connection goes on.
pub fn messages(stream: &Stream) -> Result<Vec<Message>, String> {
    let mut rest = &stream.bytes[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        match reference::request(rest).map_err(|why| format!("AMBIGUOUS: {why}"))? {
            Reading::Whole { message, length } => {
                messages.push(message);
                rest = &rest[length..];
            }
            Reading::Partial if stream.has_ended => break,
            Reading::Partial => return Err("half a message, and its connection stays".to_owned()),
        }
    }
    Ok(messages)
}

/// Byte for byte, less the fields that the gateway adds to every request.
fn compare(given: &Message, expected: &[u8]) -> Result<(), String> {
    let lines: Vec<String> = expected
        .split(|byte| *byte == b'\n')
        .map(|line| line.iter().filter(|byte| **byte != b'\r').map(|byte| char::from(*byte)).collect())
        .collect();
    for (name, is_own) in OWN {
        let own = given.lines.iter().filter(|line| value_of(line, name).is_some_and(is_own)).count();
        let all = given.fields.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name)).count();
        // Via is a list that we continue; of all others there must be no second.
        if own != 1 || all != 1 && *name != "Via" {
            return Err(format!("{name} is there {all} times, {own} of them ours"));
        }
    }
    let forwarded_hosts = given.fields.iter().filter(|(name, _)| name == "x-forwarded-host").count();
    if forwarded_hosts > 1 || forwarded_hosts == 1 && given.field("x-forwarded-host") != given.field("host") {
        return Err("X-Forwarded-Host is not Host".to_owned());
    }
    let is_added = |line: &str| {
        value_of(line, "X-Forwarded-Host").is_some()
            || OWN.iter().any(|(name, is_own)| value_of(line, name).is_some_and(is_own))
    };
    let rendered = given.render(|line| lines.iter().any(|expected| expected == line) || !is_added(line));
    if rendered == expected {
        return Ok(());
    }
    Err(format!("it got\n      {}\n    instead of\n      {}", show(&rendered), show(expected)))
}

fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(": ")
}

/// A field's name, and whether a value is one of ours.
type Own = (&'static str, fn(&str) -> bool);

/// What the gateway adds, and how its values look.
const OWN: &[Own] = &[
    ("X-Forwarded-For", |value| value == "127.0.0.1"),
    ("X-Forwarded-Proto", |value| value == "http"),
    ("Forwarded", |value| value.starts_with("for=127.0.0.1;") && value.ends_with("proto=http")),
    ("X-Request-Id", |value| value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit())),
    ("Via", |value| matches!(value, "1.0 gw-test" | "1.1 gw-test")),
];
