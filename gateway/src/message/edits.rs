//! What filters change in a head on its way: a short list, applied while the head is written, in
//! whatever version.

/// Names of fields, compared without regard to case; and an underscore is a hyphen, since CGI and its
/// heirs make both the same variable: whoever removes `X-User` means `X_User` too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// A bit per length modulo 64, so that most fields are told apart by a shift.
    lengths: u64,
    names: Vec<Box<[u8]>>,
}

/// What nothing is compared with.
pub static NO_NAMES: Names = Names { lengths: 0, names: Vec::new() };

impl Names {
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths >> (name.len() % 64) & 1 == 1 && self.names.iter().any(|known| is_same(known, name))
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl<'n> FromIterator<&'n str> for Names {
    fn from_iter<I: IntoIterator<Item = &'n str>>(names: I) -> Self {
        let mut names: Vec<Box<[u8]>> =
            names.into_iter().map(|name| name.bytes().map(fold).collect()).collect();
        names.sort();
        names.dedup();
        let lengths = names.iter().fold(0, |bits, name| bits | 1 << (name.len() % 64));
        Self { lengths, names }
    }
}

fn is_same(folded: &[u8], name: &[u8]) -> bool {
    folded.len() == name.len() && folded.iter().zip(name).all(|(known, byte)| *known == fold(*byte))
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// Changes to a request's head.
#[derive(Debug, Clone, Copy)]
pub struct RequestEdits<'a> {
    /// What the client says in these fields goes nowhere.
    pub strips: &'a Names,
    /// Field lines, each ended by CR LF.
    pub added: &'a [u8],
    /// Path and query that are asked for instead; begins with a slash.
    pub target: Option<&'a [u8]>,
    /// Sent as Host.
    pub host: Option<&'a [u8]>,
}

/// Changes to a response's head.
#[derive(Debug, Clone, Copy)]
pub struct ResponseEdits<'a> {
    /// What the endpoint says in these fields goes nowhere.
    pub strips: &'a Names,
    /// Field lines, each ended by CR LF.
    pub added: &'a [u8],
    pub recoding: Option<&'a Recoding>,
}

impl ResponseEdits<'_> {
    /// Changes nothing.
    pub const NONE: Self = Self { strips: &NO_NAMES, added: &[], recoding: None };
}

/// What a response's head says otherwise because of the coding of its content.
#[derive(Debug, Default)]
pub struct Recoding {
    /// The content is coded anew on its way: how long it becomes is not known, and it has no parts that one
    /// could ask for by their places.
    pub is_recoded: bool,
    /// An entity tag that one of `lines` has.
    pub replaces_tag: bool,
    /// Field lines, each ended by CR LF.
    pub lines: Vec<u8>,
}

impl Recoding {
    /// Whether the endpoint's field of that name is passed on.
    pub fn passes(&self, name: &[u8]) -> bool {
        !(self.is_recoded && name.eq_ignore_ascii_case(b"accept-ranges")
            || self.replaces_tag && name.eq_ignore_ascii_case(b"etag"))
    }
}

/// Appends a field line. A value that could end its line is cut there: nothing that a filter copies from
/// outside becomes a field of its own.
pub fn push_line(name: &[u8], value: &[u8], lines: &mut Vec<u8>) {
    lines.extend_from_slice(name);
    lines.extend_from_slice(b": ");
    let end = value.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)).unwrap_or(value.len());
    lines.extend_from_slice(&value[..end]);
    lines.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_whatever_their_case_and_hyphens() {
        let names: Names = ["X-User", "Cookie", "x-user"].into_iter().collect();
        for same in ["x-user", "X_USER", "cookie"] {
            assert!(names.contains(same.as_bytes()), "{same}");
        }
        for other in ["X-Users", "X-Use", "", "Cookje"] {
            assert!(!names.contains(other.as_bytes()), "{other}");
        }
        assert!(!Names::default().contains(b"x-user"));
    }

    #[test]
    fn a_value_cannot_leave_its_line() {
        let mut lines = Vec::new();
        push_line(b"A", b"b\r\nC: d", &mut lines);
        assert_eq!(lines, b"A: b\r\n");
    }
}
