//! Parameters of a query, as forms and links write them: pairs between `&`, percent-encoded once, with `+`
//! for a space (the `application/x-www-form-urlencoded` of the URL standard).
//!
//! A name or value with a `%` that no two hexadecimal digits follow has no meaning that two readers
//! would agree on, so it equals nothing.

/// Pairs that are looked at in one query: as for [`super::cookies::MAX_PAIRS`].
pub const MAX_PAIRS: usize = 256;

/// Part of a query, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'q>(pub &'q [u8]);

impl<'q> Encoded<'q> {
    pub fn equals(self, wanted: &[u8]) -> bool {
        let mut left = wanted.iter();
        let is_alike = self.bytes().all(|byte| byte.is_some_and(|byte| left.next() == Some(&byte)));
        is_alike && left.next().is_none()
    }

    pub fn starts_with(self, wanted: &[u8]) -> bool {
        let mut bytes = self.bytes();
        let starts = wanted.iter().all(|wanted| bytes.next().flatten() == Some(*wanted));
        starts && bytes.all(|byte| byte.is_some())
    }

    /// Whether it means anything.
    pub fn is_valid(self) -> bool {
        self.bytes().all(|byte| byte.is_some())
    }

    /// Decoded once; `None` in place of a broken escape.
    fn bytes(self) -> impl Iterator<Item = Option<u8>> + use<'q> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (first, tail) = rest.split_first()?;
            rest = tail;
            Some(match first {
                b'+' => Some(b' '),
                b'%' => match tail {
                    [high, low, after @ ..] => {
                        rest = after;
                        digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
                    }
                    _ => None,
                },
                byte => Some(*byte),
            })
        })
    }
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Names and values in their order; a pair without `=` has an empty value.
pub fn parameters(path_and_query: &[u8]) -> impl Iterator<Item = (Encoded<'_>, Encoded<'_>)> {
    let query = memchr::memchr(b'?', path_and_query).map(|mark| &path_and_query[mark + 1..]);
    let pairs = query.unwrap_or_default().split(|byte| *byte == b'&').take(MAX_PAIRS);
    pairs.filter(|pair| !pair.is_empty()).map(|pair| match memchr::memchr(b'=', pair) {
        Some(equals) => (Encoded(&pair[..equals]), Encoded(&pair[equals + 1..])),
        None => (Encoded(pair), Encoded(b"")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_once() {
        let query = b"/p?a=1&b%5B0%5D=x+y%2Bz&c&&=d&e=%2541";
        let found: Vec<_> = parameters(query).collect();
        assert_eq!(found.len(), 5);
        assert!(found[0].0.equals(b"a") && found[0].1.equals(b"1"));
        assert!(found[1].0.equals(b"b[0]") && found[1].1.equals(b"x y+z"));
        assert!(found[2].0.equals(b"c") && found[2].1.equals(b""));
        assert!(found[3].0.equals(b"") && found[3].1.equals(b"d"));
        assert!(found[4].1.equals(b"%41"), "not twice");
        assert_eq!(parameters(b"/p").count() + parameters(b"/p?").count(), 0);
    }

    #[test]
    fn a_prefix_is_of_the_whole_value() {
        assert!(Encoded(b"ab%63d").starts_with(b"abc") && Encoded(b"abc").starts_with(b"abc"));
        assert!(!Encoded(b"ab").starts_with(b"abc") && !Encoded(b"").starts_with(b"a"));
        assert!(!Encoded(b"abcd").equals(b"abc") && !Encoded(b"ab").equals(b"abc"));
    }

    #[test]
    fn a_broken_escape_equals_nothing() {
        for bad in ["%", "%4", "%4g", "a%", "%%41", "abc%zz"] {
            let bad = Encoded(bad.as_bytes());
            assert!(!bad.is_valid() && !bad.equals(bad.0) && !bad.starts_with(b""), "{bad:?}");
        }
    }

    #[test]
    fn more_parameters_than_anybody_sends_are_not_looked_at() {
        let query = format!("/?{}b=2", "a=1&".repeat(MAX_PAIRS));
        assert!(parameters(query.as_bytes()).all(|(name, _)| name.equals(b"a")));
    }
}
