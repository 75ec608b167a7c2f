//! The Date field of what the gateway says itself (RFC 9110 section 6.6.1).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    /// The last second and its text: a flood of refusals formats one date per second and worker.
    static LAST: RefCell<(u64, String)> = RefCell::default();
}

/// Appends the field line; nothing where the clock is before 1970, since a wrong date is worse than none.
pub fn push(out: &mut Vec<u8>) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
    LAST.with_borrow_mut(|(second, line)| {
        if *second != now.as_secs() {
            (*second, *line) = (now.as_secs(), field_line(now.as_secs()));
        }
        out.extend_from_slice(line.as_bytes());
    });
}

/// In IMF-fixdate, the only format that RFC 9110 section 5.6.7 lets a sender generate.
fn field_line(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let utc = at.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    utc.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_9110_shows_it() {
        assert_eq!(field_line(784_111_777), "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(field_line(951_782_400), "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n");
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
