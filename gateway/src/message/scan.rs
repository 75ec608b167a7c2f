//! Where a head ends.

use super::Malformed;

/// Finds the end of a head that arrives in pieces, looking at every byte once.
#[derive(Debug, Default, Clone)]
pub struct HeadScan {
    /// Bytes already looked at.
    seen: usize,
    /// Where the current line begins.
    line_start: usize,
}

impl HeadScan {
    /// `received` is everything since the head's first byte. Returns the head's length, with its empty
    /// line, once that is there.
    ///
    /// # Errors
    /// [`Malformed::BareLineFeed`]: some recipients end a line there and others do not, which is how
    /// requests are smuggled, so the liberty that RFC 9112 section 2.2 gives is not taken.
    pub fn find_end(&mut self, received: &[u8]) -> Result<Option<usize>, Malformed> {
        for offset in memchr::memchr_iter(b'\n', &received[self.seen..]) {
            let line_feed = self.seen + offset;
            if line_feed == 0 || received[line_feed - 1] != b'\r' {
                return Err(Malformed::BareLineFeed);
            }
            let is_empty_line = self.line_start + 1 == line_feed;
            if is_empty_line {
                return Ok(Some(line_feed + 1));
            }
            self.line_start = line_feed + 1;
        }
        self.seen = received.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_whatever_the_pieces() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 0..head.len() {
            let mut scan = HeadScan::default();
            let first = scan.find_end(&head[..cut]).unwrap();
            let found = first.or(scan.find_end(head).unwrap());
            assert_eq!(found, Some(head.len() - 4), "cut at {cut}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_anywhere() {
        for bad in
            ["\n", "GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\n\n", "GET / HTTP/1.1\r\n\n"]
        {
            assert_eq!(HeadScan::default().find_end(bad.as_bytes()), Err(Malformed::BareLineFeed), "{bad:?}");
        }
    }
}
