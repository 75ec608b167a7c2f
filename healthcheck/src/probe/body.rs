//! Looks for a marker in a body that comes in parts.

/// A ping's body is a word. One up to this size is looked through, and read to keep the connection; beyond it a
/// new connection is cheaper than reading on.
pub(super) const MAX_BODY_BYTES: usize = 64 << 10;

pub(super) struct Search<'w> {
    wanted: &'w [u8],
    /// As much of the end of what came as may be the marker's beginning.
    tail: Vec<u8>,
    read: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Yes,
    NotYet,
    /// The bound is reached.
    No,
}

impl<'w> Search<'w> {
    pub(super) fn new(wanted: &'w str) -> Self {
        Self { wanted: wanted.as_bytes(), tail: Vec::new(), read: 0 }
    }

    pub(super) fn add(&mut self, part: &[u8]) -> Found {
        let part = &part[..part.len().min(MAX_BODY_BYTES - self.read)];
        self.read += part.len();
        self.tail.extend_from_slice(part);
        if self.wanted.is_empty() || self.tail.windows(self.wanted.len()).any(|window| window == self.wanted)
        {
            return Found::Yes;
        }
        let surplus = self.tail.len().saturating_sub(self.wanted.len() - 1);
        self.tail.drain(..surplus);
        if self.read < MAX_BODY_BYTES { Found::NotYet } else { Found::No }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_marker_is_found_however_the_body_is_cut(
            body in "[ab]{0,60}", wanted in "[ab]{1,6}", cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([0, body.len()]).collect();
            cuts.sort_unstable();
            let mut search = Search::new(&wanted);
            let found = cuts.windows(2).any(|cut| search.add(&body.as_bytes()[cut[0]..cut[1]]) == Found::Yes);
            prop_assert_eq!(found, body.contains(&wanted));
        }
    }

    #[test]
    fn what_lies_beyond_the_bound_is_not_looked_at() {
        let mut search = Search::new("end");
        assert_eq!(search.add(&[b'x'; MAX_BODY_BYTES - 2]), Found::NotYet);
        assert_eq!(search.add(b"end"), Found::No);
        assert_eq!(search.read, MAX_BODY_BYTES);
        let mut search = Search::new("end");
        search.add(&[b'x'; MAX_BODY_BYTES - 3]);
        assert_eq!(search.add(b"end"), Found::Yes);
    }
}
