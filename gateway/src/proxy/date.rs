//! The Date field of what the gateway says itself, and of what it passes on without one (RFC 9110 section
//! 6.6.1).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    /// The last second and its text: a flood of refusals formats one date per second and worker.
    static LAST: RefCell<(u64, String)> = RefCell::default();
}

/// Appends the field line; nothing where the clock is before 1970, since a wrong date is worse than none.
pub fn push(out: &mut Vec<u8>) {
    with_text(|text| {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// As [`push`], where `head` has none.
pub fn add(head: &mut http::Response<()>) {
    if let http::header::Entry::Vacant(place) = head.headers_mut().entry(http::header::DATE)
        && let Some(date) = value()
    {
        place.insert(date);
    }
}

/// The field's value, as [`push`] writes it.
pub fn value() -> Option<HeaderValue> {
    with_text(|text| HeaderValue::from_str(text).ok()).flatten()
}

fn with_text<T>(read: impl FnOnce(&str) -> T) -> Option<T> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(LAST.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            (*second, *text) = (now.as_secs(), imf_fixdate(now.as_secs()));
        }
        read(text)
    }))
}

/// In IMF-fixdate, the only format that RFC 9110 section 5.6.7 lets a sender generate.
fn imf_fixdate(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let utc = at.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    utc.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_9110_shows_it() {
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(imf_fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn the_second_time_is_the_same_text() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        push(&mut first);
        push(&mut second);
        assert_eq!(first.len(), second.len());
        assert!(second.starts_with(b"Date: ") && second.ends_with(b" GMT\r\n"));
    }
}
