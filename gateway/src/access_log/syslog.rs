//! What syslog wants to know of a line before the line (RFC 5424 section 6).

use std::sync::Arc;

use super::stamp::Stamp;

/// RFC 5424 section 6.2.1, by the names that syslog daemons' configurations use. The kernel's and those of
/// the daemon itself are not for us.
pub const FACILITIES: [(&str, u8); 14] = [
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("news", 7),
    ("cron", 9),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
/// One of those that are free for whoever runs the machine.
pub const DEFAULT_FACILITY: u8 = 16;

const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

/// What is the same for all lines.
#[derive(Debug, Clone)]
pub struct Envelope(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// `<134>1 `, and for what failed.
    in_order: String,
    failed: String,
    /// Host, program, process and kind of message; no structured data.
    rest: String,
}

impl Envelope {
    pub fn new(facility: u8, host: &str) -> Self {
        let start = |severity| format!("<{}>1 ", u16::from(facility) * 8 + u16::from(severity));
        Self(Arc::new(Parts {
            in_order: start(INFORMATIONAL),
            failed: start(WARNING),
            rest: format!(" {host} sluice {} access - ", std::process::id()),
        }))
    }

    pub(super) fn write(&self, stamp: &Stamp, is_failure: bool, line: &mut Vec<u8>) {
        let start = if is_failure { &self.0.failed } else { &self.0.in_order };
        line.extend_from_slice(start.as_bytes());
        line.extend_from_slice(stamp.iso());
        line.extend_from_slice(self.0.rest.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_introduced_by_its_importance_time_and_origin() {
        let envelope = Envelope::new(DEFAULT_FACILITY, "gw-1");
        let mut line = Vec::new();
        envelope.write(&Stamp::default(), false, &mut line);
        let wanted = format!("<134>1 1970-01-01T00:00:00.000Z gw-1 sluice {} access - ", std::process::id());
        assert_eq!(String::from_utf8_lossy(&line), wanted);
        line.clear();
        envelope.write(&Stamp::default(), true, &mut line);
        assert!(line.starts_with(b"<132>1 "));
    }
}
