//! Texts and times within a line.

use std::io::Write;
use std::time::Duration;

use crate::message::encode::push_decimal;

/// Whether `text` can stand in a line as it is. Looks at every byte, whatever it finds: a loop without an
/// early end becomes vector instructions, and hardly any text has something to find.
pub fn is_plain(text: &[u8]) -> bool {
    let is_special = |byte: u8| (byte.wrapping_sub(b' ') > b'~' - b' ') | (byte == b'"') | (byte == b'\\');
    !text.iter().fold(false, |found, byte| found | is_special(*byte))
}

/// Appends what is known to be plain, or escapes it.
pub(super) fn push_text(text: &[u8], is_plain: bool, line: &mut Vec<u8>) {
    if is_plain { line.extend_from_slice(text) } else { escape(text, line) }
}

/// What clients send cannot end a string or a line, in either format. Bytes outside ASCII are written
/// as the code points of the same number.
pub(super) fn escape(text: &[u8], line: &mut Vec<u8>) {
    if is_plain(text) {
        return line.extend_from_slice(text);
    }
    for byte in text {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => line.push(*byte),
            _ => write!(line, "\\u{byte:04x}").expect("writing to a Vec never fails"),
        }
    }
}

/// Microseconds are what a proxy's part of a request is counted in.
pub(super) fn push_seconds(duration: Duration, line: &mut Vec<u8>) {
    push_decimal(duration.as_secs(), line);
    let mut digits = *b".000000";
    let mut rest = duration.subsec_micros();
    for digit in digits[1..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let mut line = Vec::new();
        escape(b"a\"b\\c\n\x7f\xe4", &mut line);
        assert_eq!(line, br#"a\"b\\c\u000a\u007f\u00e4"#);
    }

    #[test]
    fn exactly_the_bytes_that_need_no_escape_are_plain() {
        for byte in 0..=u8::MAX {
            // Somewhere in the middle of what one vector holds, and beyond it.
            let text = [&[b'a'; 19][..], &[byte], &[b'a'; 19]].concat();
            let wanted = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            assert_eq!(is_plain(&text), wanted, "{byte}");
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn seconds_have_six_places() {
        for (micros, wanted) in [(1_000_250, "1.000250"), (0, "0.000000"), (59_999_999, "59.999999")] {
            let mut line = Vec::new();
            push_seconds(Duration::from_micros(micros), &mut line);
            assert_eq!(line, wanted.as_bytes());
        }
    }
}
